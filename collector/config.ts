/** Reads the collector's settings from flags, environment, file and defaults. */
import { ConfigError } from "../protocol/config-error.ts";
import { Settings } from "../protocol/settings.ts";
import { readSettingsFile } from "../protocol/settings-file.ts";
import type { Flags, SettingRow } from "../protocol/settings.ts";

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
  edgesDays: number;
  logLevel: string;
};

/** Every setting: its flag, what it is, its default. The environment has WIREPROOF_COLLECTOR_…. */
export const COLLECTOR_SETTINGS: readonly SettingRow[] = [
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
  ["grace <ms>", "both versions must agree for so long after a change of policy", "15000"],
  ["tolerance <share>", "share of unreadable connections that `confirmed` bears", "0.01"],
  ["retention-days <n>", "flows are kept for so long; evidence is never deleted", "7"],
  ["edges-days <n>", "verdicts of edges are kept for so long in the store", "395"],
  ["log-level <level>", "debug, info, warn, error", "info"],
];

/** The collector's settings by name; `--config FILE` names a YAML file with a `collector:` part. */
export function collectorSettings(flags: Flags, environment: Flags = process.env): Settings {
  const file = readSettingsFile(flags["config"]);
  return new Settings("collector", COLLECTOR_SETTINGS, flags, environment, file);
}

export function readCollectorConfig(flags: Flags): CollectorConfig {
  const settings = collectorSettings(flags);
  const uplink = settings.address("uplink");
  const api = settings.address("api");
  const evidenceKey = settings.need("evidence-key");
  const manifests = settings.get("manifests");
  const kubernetes = settings.get("kubernetes");
  if ((manifests === null) === (kubernetes === null)) {
    throw new ConfigError("CONFIG_POLICY", "collector: say either --manifests or --kubernetes");
  }
  const logLevel = settings.need("log-level");
  if (!["debug", "info", "warn", "error"].includes(logLevel)) {
    const wanted = "debug, info, warn or error";
    throw new ConfigError("CONFIG_LOG_LEVEL", `collector: --log-level must be ${wanted}`);
  }
  return {
    uplinkHost: uplink.host,
    uplinkPort: uplink.port,
    key: settings.need("key"),
    cert: settings.need("cert"),
    ca: settings.need("ca"),
    trustDomain: settings.need("trust-domain"),
    data: settings.need("data"),
    evidenceKey,
    evidencePublicKey: evidenceKey.replace(/\.key$/, ".pub"),
    manifests,
    kubernetes,
    apiHost: api.host,
    apiPort: api.port,
    windowMs: settings.number("window", 1000),
    closeMs: settings.number("close", 0),
    graceMs: settings.number("grace", 0),
    tolerance: settings.number("tolerance", 0),
    retentionDays: settings.number("retention-days", 0.01),
    edgesDays: settings.number("edges-days", 0.01),
    logLevel,
  };
}
