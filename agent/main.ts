/** Runs the agent: watches the node, and brings observations and coverage to the collector. */
import { randomBytes } from "node:crypto";
import { pino } from "pino";
import { readAgentConfig } from "./config.ts";
import { agentMetrics, serveMetrics } from "./metrics.ts";
import { tlsLink } from "./uplink/link.ts";
import { Uplink } from "./uplink/uplink.ts";
import { RestartingWatcher } from "./restarting-watcher.ts";
import { Workers } from "./workers.ts";
import type { Coverage } from "../protocol/coverage.ts";
import type { Observation } from "../protocol/observation.ts";
import type { Flags } from "../protocol/settings.ts";

const SOFTWARE = "wireproof-agent/0.1.0";

/** Runs until SIGINT or SIGTERM; throws `ConfigError` for the operator's mistakes. */
export async function runAgent(flags: Flags): Promise<void> {
  const config = readAgentConfig(flags);
  const logger = pino({ level: config.logLevel, base: { node: config.node } }, pino.destination(2));
  const log = (level: "info" | "warn" | "error", text: string) => logger[level](text);
  const connect = await tlsLink({
    url: config.collector,
    keyFile: config.key,
    certFile: config.cert,
    caFile: config.ca,
    ...(config.trustDomain === null ? {} : { trustDomain: config.trustDomain }),
  });
  const run = randomBytes(6).toString("hex");
  const offer = (row: Observation | Coverage) => void uplink.offer(row);
  const watching = { config, run, log, onObservation: offer, onCoverage: offer };
  const watcher =
    config.workers > 1
      ? await Workers.open({ ...watching, flags })
      : await RestartingWatcher.open(watching);
  const uplink = await Uplink.open({
    node: config.node,
    software: SOFTWARE,
    sample: config.sampleTold,
    spoolDirectory: config.spool,
    spoolBytesLimit: config.spoolMib << 20,
    connect,
    log,
    batchAgeMs: Math.min(1000, config.coverageIntervalMs),
    backoffMaxMs: 5000,
  });
  const metrics = agentMetrics(watcher, uplink);
  const server = config.metrics === null ? null : await serveMetrics(config.metrics, metrics, log);

  watcher.begin();
  log("info", `agent of ${config.node} started, run ${run}`);
  const { sample } = config;
  if (sample) log("info", `a sample of ${sample.rate} of all flows is read, by --sampling`);
  const timer = setInterval(() => {
    watcher.tellCoverage();
    uplink.tellDiscards(watcher.capture.kind);
  }, config.coverageIntervalMs);
  await new Promise<void>((resolve) => {
    process.once("SIGINT", resolve);
    process.once("SIGTERM", resolve);
  });
  clearInterval(timer);
  log("info", "stopping: open flows are told as they are");
  await watcher.end();
  await uplink.stop();
  server?.close();
}
