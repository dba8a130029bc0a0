/** Reads the agent's settings from flags, environment, file and defaults. */
import { createHash } from "node:crypto";
import { hostname } from "node:os";
import { CAPTURES } from "./capture/frame-source.ts";
import type { CaptureChoice } from "./capture/frame-source.ts";
import { WATCH_WORDS } from "./capture/interfaces.ts";
import type { Wanted } from "./capture/interfaces.ts";
import { Sample } from "./flow/sample.ts";
import { parseVxlanPorts } from "./vxlan-ports.ts";
import { ConfigError } from "../protocol/config-error.ts";
import { Settings } from "../protocol/settings.ts";
import { readSettingsFile } from "../protocol/settings-file.ts";
import type { Flags, SettingRow } from "../protocol/settings.ts";
import type { SampleTold } from "../protocol/uplink.ts";

export type AgentConfig = {
  node: string;
  /** `wss://host:port` */
  collector: string;
  key: string;
  cert: string;
  ca: string;
  trustDomain: string | null;
  spool: string;
  spoolMib: number;
  wanted: Wanted;
  capture: CaptureChoice;
  ringMib: number;
  /** Most flows at a time. */
  flows: number;
  /** Threads that read flows, each a share of them. */
  workers: number;
  /** Flows that are read; null reads all. */
  sample: Sample | null;
  /** The same, as the collector is told. */
  sampleTold: SampleTold;
  /** Ports that are looked at as VXLAN's, beside the usual ones. */
  vxlanPorts: readonly number[];
  /** A recording that is replayed as if it were live, instead of capturing. */
  replay: string | null;
  reportIntervalMs: number;
  coverageIntervalMs: number;
  /** `host:port` of the metrics; null for none. */
  metrics: string | null;
  logLevel: string;
};

/** More than a node can have: its memory would not be. */
const FLOWS_LIMIT = 16 << 20;

/** More than read faster: frames are dealt out by addresses. */
const WORKERS_LIMIT = 64;

/** Every setting: its flag, what it is, and its default. The environment has WIREPROOF_AGENT_…. */
export const AGENT_SETTINGS: readonly SettingRow[] = [
  ["node <name>", "name of this node, as its certificate says", hostname()],
  ["collector <url>", "the collector's uplink, wss://host:port", null],
  ["key <file>", "private key of the agent, PEM", null],
  ["cert <file>", "certificate of the agent, PEM", null],
  ["ca <file>", "CA that signed the collector's certificate, PEM", null],
  ["trust-domain <domain>", "demand spiffe://DOMAIN/collector instead of the host's name", null],
  ["spool <dir>", "where batches wait for the collector", "/var/lib/wireproof/spool"],
  ["spool-mib <n>", "largest spool, MiB", "256"],
  [
    "watch <kinds>",
    "of pods, uplinks, tunnels, host: some of them, by commas (default: pods)",
    null,
  ],
  ["interfaces <regex>", "watch the interfaces with these whole names instead", null],
  ["capture <how>", "auto (the best that is allowed), ring-cutoff, ring or libpcap", "auto"],
  ["ring-mib <n>", "memory of the packet ring, MiB", "32"],
  ["flows <n>", "most flows at a time; each takes some 230 bytes", "131072"],
  ["workers <n>", "threads that read flows, each its share of them, with a ring of its own", "1"],
  ["sampling <rate>", "read a sample of all flows: 1/N, or a share up to 1", "1"],
  ["sampling-key <text>", "which flows: the same ones wherever it is the same", "wireproof"],
  ["vxlan-port <ports>", "more ports of VXLAN, by commas: flows in it are counted there too", null],
  ["replay <file>", "replay a pcapng whose interfaces are named NODE/NAME, in its own pace", null],
  ["report-interval <ms>", "between two reports of a living flow", "30000"],
  ["coverage-interval <ms>", "between two reports of coverage", "10000"],
  ["metrics <host:port>", "serve Prometheus metrics here", null],
  ["log-level <level>", "debug, info, warn, error", "info"],
];

/** The agent's settings by name; `--config FILE` names a YAML file with an `agent:` part. */
export function agentSettings(flags: Flags, environment: Flags = process.env): Settings {
  return new Settings(
    "agent",
    AGENT_SETTINGS,
    flags,
    environment,
    readSettingsFile(flags["config"]),
  );
}

/** A sample of fewer says nothing of anything. */
const LEAST_RATE = 1e-6;

export function readAgentConfig(flags: Flags): AgentConfig {
  const settings = agentSettings(flags);
  const logLevel = settings.need("log-level");
  if (!["debug", "info", "warn", "error"].includes(logLevel)) {
    const wanted = "debug, info, warn or error";
    throw new ConfigError("CONFIG_LOG_LEVEL", `agent: --log-level must be ${wanted}`);
  }
  const capture = CAPTURES.find((choice) => choice === settings.need("capture"));
  if (capture === undefined) {
    const wanted = CAPTURES.join(", ");
    throw new ConfigError("CONFIG_CAPTURE", `agent: --capture must be one of ${wanted}`);
  }
  const workers = Math.floor(settings.number("workers", 1, WORKERS_LIMIT));
  if (workers > 1 && (settings.get("replay") !== null || capture === "libpcap")) {
    const told = "agent: --workers needs a packet ring: a replay, or libpcap, has none";
    throw new ConfigError("CONFIG_WORKERS", told);
  }
  return {
    node: settings.need("node"),
    collector: settings.need("collector"),
    key: settings.need("key"),
    cert: settings.need("cert"),
    ca: settings.need("ca"),
    trustDomain: settings.get("trust-domain"),
    spool: settings.need("spool"),
    spoolMib: settings.number("spool-mib", 1),
    wanted: readWanted(settings),
    capture,
    ringMib: settings.number("ring-mib", 1),
    flows: Math.floor(settings.number("flows", 1024, FLOWS_LIMIT)),
    workers,
    ...readSample(settings),
    vxlanPorts: parseVxlanPorts(settings.get("vxlan-port"), "agent"),
    replay: settings.get("replay"),
    reportIntervalMs: settings.number("report-interval", 100),
    coverageIntervalMs: settings.number("coverage-interval", 100),
    metrics: settings.get("metrics"),
    logLevel,
  };
}

/** What to watch: by what interfaces are, or by their names. */
function readWanted(settings: Settings): Wanted {
  const pattern = settings.get("interfaces");
  const words = settings.get("watch");
  if (pattern !== null && words !== null) {
    const told = "agent: --watch and --interfaces cannot both be given: names stand for themselves";
    throw new ConfigError("CONFIG_WATCH", told);
  }
  const kinds = (words ?? "pods").split(",").map((word) => {
    const kind = WATCH_WORDS.get(word.trim());
    if (kind !== undefined) return kind;
    const wanted = [...WATCH_WORDS.keys()].join(", ");
    throw new ConfigError("CONFIG_WATCH", `agent: --watch must be some of ${wanted}, by commas`);
  });
  try {
    return { pattern: pattern === null ? null : new RegExp(`^(?:${pattern})$`), kinds };
  } catch (error) {
    throw new ConfigError("CONFIG_REGEX", `agent: --interfaces is no regular expression`, error);
  }
}

/**
 * The key's two words are the first of its SHA-256, big-endian. What tells keys apart is the hash
 * of something else, so that those words cannot be read from it.
 */
function readSample(settings: Settings): Pick<AgentConfig, "sample" | "sampleTold"> {
  const text = settings.need("sampling");
  const part = /^1\/([1-9]\d*)$/.exec(text);
  const rate = part ? 1 / Number(part[1]) : /^[\d.]+$/.test(text) ? Number(text) : NaN;
  if (!(rate >= LEAST_RATE && rate <= 1)) {
    const told = `agent: --sampling must be 1/N, or a share above 0 and up to 1, not ${text}`;
    throw new ConfigError("CONFIG_SAMPLING", told);
  }
  if (rate === 1) return { sample: null, sampleTold: { rate } };
  const key = settings.need("sampling-key");
  const hash = createHash("sha256").update(key).digest();
  const told = createHash("sha256").update("wireproof sampling key\0").update(key).digest("hex");
  return {
    sample: new Sample(rate, [hash.readInt32BE(0), hash.readInt32BE(4)]),
    sampleTold: { rate, key: told.slice(0, 16) },
  };
}
