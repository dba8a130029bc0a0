/** Opens the best live source that the machine allows, or the one that was asked for. */
import { ConfigError } from "../../protocol/config-error.ts";
import type { CaptureChoice, LiveSource, OnFrame, Watch } from "./frame-source.ts";
import { BUDGET_BYTES } from "./flow-cutoff.ts";
import type { Holdings } from "./holdings.ts";
import type { Wanted } from "./interfaces.ts";
import { Libpcap } from "./libpcap.ts";
import { RingCapture } from "./ring-capture.ts";
import type { Fanout } from "./ring-capture.ts";
import type { Draw } from "./sample-program.ts";
import { RefusedCall, SystemCalls } from "./system-calls.ts";

type Tier = Exclude<CaptureChoice, "auto">;

export type CaptureOptions = {
  choice: CaptureChoice;
  wanted: Wanted;
  ringBytes: number;
  /** Room for flows in the cutoff, which may hand over a sample of them alone. */
  flows: number;
  sample?: Draw | null;
  /** Ports of VXLAN beside the usual ones, in which flows are counted too. */
  vxlanPorts?: readonly number[];
  /** Each frame's time is set in `clock[0]`, microseconds since the epoch. */
  clock: Float64Array;
  onFrame: OnFrame;
  /** Called with each new watch, before its first frame. */
  onWatch: (watch: Watch) => void;
  /** Called when interfaces may have come or gone since the last `rescan`, to have it called. */
  onChange: () => void;
  log: (level: "info" | "warn" | "error", text: string) => void;
  /** Shares what comes with other captures, as only a packet ring can. */
  fanout?: Fanout;
  /** Notes what is open, for whoever may have to close it. */
  holdings?: Holdings;
};

const OPEN: Record<Tier, (options: CaptureOptions) => LiveSource> = {
  "ring-cutoff": (options) => {
    const { flows, sample = null } = options;
    const cutoff = { flows, budgetBytes: BUDGET_BYTES, sample };
    return new RingCapture({ ...options, cutoff, calls: new SystemCalls(options.holdings) });
  },
  ring: (options) => {
    const calls = new SystemCalls(options.holdings);
    return new RingCapture({ ...options, cutoff: null, calls });
  },
  libpcap: (options) => new Libpcap(options),
};

/** Throws `ConfigError` when what was asked for is refused; `auto` logs what was, and why. */
export function openCapture(options: CaptureOptions): LiveSource {
  const { choice, log } = options;
  if (choice !== "auto") {
    try {
      return tell(OPEN[choice](options), log);
    } catch (error) {
      if (!(error instanceof RefusedCall)) throw error;
      const told = `agent: --capture ${choice}: ${error.message}`;
      throw new ConfigError("CONFIG_CAPTURE_REFUSED", told, error);
    }
  }
  let refused = "";
  for (const tier of ["ring-cutoff", "ring"] as const) {
    try {
      return tell(OPEN[tier](options), log);
    } catch (error) {
      if (!(error instanceof RefusedCall)) throw error;
      refused = error.message;
      log("warn", `capture by ${tier} is refused: ${refused}`);
    }
  }
  if (options.fanout) {
    throw new ConfigError("CONFIG_WORKERS", `agent: --workers needs a packet ring: ${refused}`);
  }
  return tell(OPEN.libpcap(options), log);
}

function tell(source: LiveSource, log: CaptureOptions["log"]): LiveSource {
  log("info", `capture by ${source.kind}`);
  return source;
}
