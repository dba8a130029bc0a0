/** Reads the collector's settings from flags, environment and defaults. */
import { ConfigError } from "../protocol/config-error.ts";

export type CollectorConfig = {
  /** Where agents connect. */
  uplinkHost: string;
  uplinkPort: number;
  key: string;
  cert: string;
  ca: string;
  trustDomain: string;
  data: string;
  evidenceKey: string;
  evidencePublicKey: string;
  /** Folder, file or `kubectl get -o json` output; null with `kubernetes`. */
  manifests: string | null;
  /** Follow the live API: `in-cluster`, or a kubeconfig's path. */
  kubernetes: string | null;
  apiHost: string;
  apiPort: number;
  windowMs: number;
  /** How long after its end a window is judged. */
  closeMs: number;
  graceMs: number;
  tolerance: number;
  retentionDays: number;
  logLevel: string;
};

/** Every setting: its flag, what it is, its default. The environment has WIREPROOF_COLLECTOR_…. */
export const COLLECTOR_SETTINGS = [
  ["uplink <host:port>", "where agents connect", "0.0.0.0:7443"],
  ["key <file>", "private key of the collector, PEM", null],
  ["cert <file>", "certificate of the collector, PEM", null],
  ["ca <file>", "CA that signed the agents' certificates, PEM", null],
  ["trust-domain <domain>", "agents are spiffe://DOMAIN/agent/NODE", "wireproof"],
  ["data <dir>", "store and evidence log", "/var/lib/wireproof/collector"],
  ["evidence-key <file>", "signs checkpoints: wireproof evidence keygen", null],
  ["manifests <dir>", "declared policy and inventory, re-read when it changes", null],
  ["kubernetes <kubeconfig>", "follow the live API instead: a kubeconfig, or in-cluster", null],
  ["api <host:port>", "HTTP API and page", "127.0.0.1:7480"],
  ["window <ms>", "length of a verdict window", "60000"],
  ["close <ms>", "how long after its end a window is judged", "15000"],
  ["grace <ms>", "either version counts for so long after a change of policy", "15000"],
  ["tolerance <share>", "share of unreadable connections that `confirmed` bears", "0.01"],
  ["retention-days <n>", "flows are kept for so long; evidence is never deleted", "7"],
  ["log-level <level>", "debug, info, warn, error", "info"],
] as const;

type Flags = Readonly<Record<string, string | undefined>>;

function hostPort(name: string, value: string): { host: string; port: number } {
  const at = value.lastIndexOf(":");
  const port = Number(value.slice(at + 1));
  if (at < 0 || !Number.isInteger(port) || port < 0 || port > 65535) {
    throw new ConfigError("CONFIG_ADDRESS", `collector: --${name} must be host:port, not ${value}`);
  }
  return { host: value.slice(0, at).replace(/^\[|\]$/g, ""), port };
}

export function readCollectorConfig(flags: Flags, environment = process.env): CollectorConfig {
  const get = (name: string): string | null => {
    const row = COLLECTOR_SETTINGS.find(([flag]) => flag.split(" ")[0] === name);
    const camel = name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
    const variable = `WIREPROOF_COLLECTOR_${name.replaceAll("-", "_").toUpperCase()}`;
    return flags[camel] ?? environment[variable] ?? row?.[2] ?? null;
  };
  const need = (name: string): string => {
    const value = get(name);
    if (value !== null && value !== "") return value;
    throw new ConfigError("CONFIG_MISSING", `collector: --${name} is missing`);
  };
  const number = (name: string, least: number): number => {
    const value = Number(need(name));
    if (Number.isFinite(value) && value >= least) return value;
    throw new ConfigError(
      "CONFIG_NUMBER",
      `collector: --${name} must be a number, ${least} or more`,
    );
  };
  const uplink = hostPort("uplink", need("uplink"));
  const api = hostPort("api", need("api"));
  const evidenceKey = need("evidence-key");
  const manifests = get("manifests");
  const kubernetes = get("kubernetes");
  if ((manifests === null) === (kubernetes === null)) {
    throw new ConfigError("CONFIG_POLICY", "collector: say either --manifests or --kubernetes");
  }
  const logLevel = need("log-level");
  if (!["debug", "info", "warn", "error"].includes(logLevel)) {
    const wanted = "debug, info, warn or error";
    throw new ConfigError("CONFIG_LOG_LEVEL", `collector: --log-level must be ${wanted}`);
  }
  return {
    uplinkHost: uplink.host,
    uplinkPort: uplink.port,
    key: need("key"),
    cert: need("cert"),
    ca: need("ca"),
    trustDomain: need("trust-domain"),
    data: need("data"),
    evidenceKey,
    evidencePublicKey: evidenceKey.replace(/\.key$/, ".pub"),
    manifests,
    kubernetes,
    apiHost: api.host,
    apiPort: api.port,
    windowMs: number("window", 1000),
    closeMs: number("close", 0),
    graceMs: number("grace", 0),
    tolerance: number("tolerance", 0),
    retentionDays: number("retention-days", 0.01),
    logLevel,
  };
}
