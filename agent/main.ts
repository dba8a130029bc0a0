/** Runs the agent: captures, reads flows, and brings observations and coverage to the collector. */
import { randomBytes } from "node:crypto";
import { pino } from "pino";
import type { LiveSource, OnLiveFrame, Watch } from "./capture/frame-source.ts";
import { Replay } from "./capture/replay.ts";
import { openCapture } from "./capture/tiers.ts";
import { readAgentConfig } from "./config.ts";
import { FLOW_TABLE_DEFAULTS } from "./flow/flow-table.ts";
import { Line } from "./line.ts";
import { agentMetrics, serveMetrics } from "./metrics.ts";
import { Sightings } from "./sightings.ts";
import { tlsLink } from "./uplink/link.ts";
import { Uplink } from "./uplink/uplink.ts";
import type { Flags } from "../protocol/settings.ts";

const SOFTWARE = "wireproof-agent/0.1.0";
/** Milliseconds between two looks for interfaces that came or went. */
const RESCAN_MS = 1000;
/** Milliseconds between two looks for flows to end or to report. */
const TICK_MS = 250;

/** A flow that has ended is told as final after so long: late packets are counted to it. */
const ENDED_SECONDS = 2;

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
  const { sample } = config;
  const sampling = sample?.rate ?? 1;
  const sightings = new Sightings(run, (observation) => uplink.offer(observation), {
    ...{ log, sampling },
  });
  const table = {
    ...FLOW_TABLE_DEFAULTS,
    flows: config.flows,
    endedSeconds: ENDED_SECONDS,
    hashSeed: randomBytes(4).readInt32LE(),
  };
  const line = new Line(
    { table, revisions: true, reportIntervalMs: config.reportIntervalMs, sample },
    (record, flow, final) => sightings.tell(line, record, flow, final),
  );
  const { clock } = line;
  const onFrame: OnLiveFrame = (view, at, end, wire, linkType, lane) =>
    line.frameNow(view, at, end, wire, linkType, lane);
  const onWatch = (watch: Watch) => sightings.know(watch, Date.now());
  const capture: LiveSource =
    config.replay === null
      ? openCapture({
          choice: config.capture,
          wanted: config.wanted,
          ringBytes: config.ringMib << 20,
          flows: config.flows,
          ...{ clock, onFrame, onWatch, log, onChange: () => rescan() },
        })
      : await Replay.open(config.replay, `${config.node}/`, clock, onFrame, log);
  capture.watches().forEach(onWatch); // those of a recording
  line.countPassedOver(capture.passedOver);
  const uplink = await Uplink.open({
    node: config.node,
    software: SOFTWARE,
    spoolDirectory: config.spool,
    spoolBytesLimit: config.spoolMib << 20,
    connect,
    log,
    batchAgeMs: Math.min(1000, config.coverageIntervalMs),
    backoffMaxMs: 5000,
  });
  const metrics = agentMetrics(line, uplink, capture, sightings);
  const server = config.metrics === null ? null : await serveMetrics(config.metrics, metrics, log);

  const tellCoverage = (watches: readonly Watch[]) => {
    const nowMs = Date.now();
    for (const watch of watches) uplink.offer(sightings.coverage(watch, line, capture.kind, nowMs));
    const lost = sightings.lostOnAny(capture.droppedOnAny(), capture.kind, nowMs);
    if (lost !== null) uplink.offer(lost);
  };
  const rescan = () => {
    const ended = capture.rescan();
    if (ended.length > 0) tellCoverage(ended);
    for (const watch of ended) sightings.ended(watch, Date.now());
  };
  rescan();
  log("info", `agent of ${config.node} started, run ${run}`);
  if (sample) log("info", `a sample of ${sampling} of all flows is read, by --sampling`);
  const timers = [
    setInterval(rescan, RESCAN_MS),
    setInterval(() => {
      line.advance(Date.now() * 1000);
      line.report(Math.ceil(config.reportIntervalMs / 4 / TICK_MS));
    }, TICK_MS),
    setInterval(() => tellCoverage(capture.watches()), config.coverageIntervalMs),
  ];
  await new Promise<void>((resolve) => {
    process.once("SIGINT", resolve);
    process.once("SIGTERM", resolve);
  });
  timers.forEach(clearInterval);
  log("info", "stopping: open flows are told as they are");
  tellCoverage(capture.watches());
  capture.close();
  line.finish();
  await uplink.stop();
  server?.close();
}
