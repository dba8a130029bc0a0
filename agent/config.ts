/** Reads the agent's settings from flags, environment and defaults. */
import { hostname } from "node:os";
import { ConfigError } from "../protocol/config-error.ts";

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
  /** Whole names of interfaces to watch; null watches what leads into other namespaces. */
  interfaces: RegExp | null;
  /** A recording that is replayed as if it were live, instead of capturing. */
  replay: string | null;
  reportIntervalMs: number;
  coverageIntervalMs: number;
  /** `host:port` of the metrics; null for none. */
  metrics: string | null;
  logLevel: string;
};

/** Every setting: its flag, what it is, and its default. The environment has WIREPROOF_AGENT_…. */
export const AGENT_SETTINGS = [
  ["node <name>", "name of this node, as its certificate says", hostname()],
  ["collector <url>", "the collector's uplink, wss://host:port", null],
  ["key <file>", "private key of the agent, PEM", null],
  ["cert <file>", "certificate of the agent, PEM", null],
  ["ca <file>", "CA that signed the collector's certificate, PEM", null],
  ["trust-domain <domain>", "demand spiffe://DOMAIN/collector instead of the host's name", null],
  ["spool <dir>", "where batches wait for the collector", "/var/lib/wireproof/spool"],
  ["spool-mib <n>", "largest spool, MiB", "256"],
  ["interfaces <regex>", "whole names of interfaces to watch (default: pods' host sides)", null],
  ["replay <file>", "replay a pcapng whose interfaces are named NODE/NAME, in its own pace", null],
  ["report-interval <ms>", "between two reports of a living flow", "30000"],
  ["coverage-interval <ms>", "between two reports of coverage", "10000"],
  ["metrics <host:port>", "serve Prometheus metrics here", null],
  ["log-level <level>", "debug, info, warn, error", "info"],
] as const;

/** Flags as commander hands them over, in camel case. */
export type Flags = Readonly<Record<string, string | undefined>>;

/** The value of a setting: flag, then environment, then default. */
export function settingOf(
  flags: Flags,
  environment: NodeJS.ProcessEnv,
  prefix: string,
  name: string,
  fallback: string | null,
): string | null {
  const camel = name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
  const variable = `${prefix}${name.replaceAll("-", "_").toUpperCase()}`;
  return flags[camel] ?? environment[variable] ?? fallback;
}

export function readAgentConfig(flags: Flags, environment = process.env): AgentConfig {
  const get = (name: string): string | null => {
    const row = AGENT_SETTINGS.find(([flag]) => flag.split(" ")[0] === name);
    return settingOf(flags, environment, "WIREPROOF_AGENT_", name, row?.[2] ?? null);
  };
  const need = (name: string): string => {
    const value = get(name);
    if (value !== null && value !== "") return value;
    throw new ConfigError("CONFIG_MISSING", `agent: --${name} is missing`);
  };
  const number = (name: string, least: number): number => {
    const value = Number(need(name));
    if (Number.isFinite(value) && value >= least) return value;
    throw new ConfigError("CONFIG_NUMBER", `agent: --${name} must be a number of ${least} or more`);
  };
  const pattern = get("interfaces");
  let interfaces: RegExp | null = null;
  try {
    interfaces = pattern === null ? null : new RegExp(`^(?:${pattern})$`);
  } catch (error) {
    throw new ConfigError("CONFIG_REGEX", `agent: --interfaces is no regular expression`, error);
  }
  const logLevel = need("log-level");
  if (!["debug", "info", "warn", "error"].includes(logLevel)) {
    const wanted = "debug, info, warn or error";
    throw new ConfigError("CONFIG_LOG_LEVEL", `agent: --log-level must be ${wanted}`);
  }
  return {
    node: need("node"),
    collector: need("collector"),
    key: need("key"),
    cert: need("cert"),
    ca: need("ca"),
    trustDomain: get("trust-domain"),
    spool: need("spool"),
    spoolMib: number("spool-mib", 1),
    interfaces,
    replay: get("replay"),
    reportIntervalMs: number("report-interval", 100),
    coverageIntervalMs: number("coverage-interval", 100),
    metrics: get("metrics"),
    logLevel,
  };
}
