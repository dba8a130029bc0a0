/** Exposes the agent's counters to Prometheus. */
import type { Server } from "node:http";
import { Counter, Gauge, Registry } from "prom-client";
import type { LiveSource } from "./capture/frame-source.ts";
import type { Line } from "./line.ts";
import type { Sightings } from "./sightings.ts";
import type { Uplink } from "./uplink/uplink.ts";
import { ConfigError } from "../protocol/config-error.ts";

/** A counter whose value is kept elsewhere, and only read when it is asked for. */
function readCounter(registry: Registry, name: string, help: string, read: () => number): void {
  new Counter({
    name,
    help,
    registers: [registry],
    collect() {
      this.reset();
      this.inc(read());
    },
  });
}

function readGauge(registry: Registry, name: string, help: string, read: () => number): void {
  new Gauge({
    name,
    help,
    registers: [registry],
    collect() {
      this.set(read());
    },
  });
}

/**
 * What Prometheus' libraries tell of any process, and the engine's memory. The library's own
 * defaults also watch the event loop and each collection, which wakes an idle agent.
 */
function tellProcess(registry: Registry): void {
  const seconds = (microseconds: number) => microseconds / 1e6;
  const cpu = (name: string, help: string, read: (usage: NodeJS.CpuUsage) => number) =>
    readCounter(registry, `process_cpu_${name}`, help, () => seconds(read(process.cpuUsage())));
  cpu("seconds_total", "CPU seconds, user and system", ({ user, system }) => user + system);
  cpu("user_seconds_total", "CPU seconds, user", ({ user }) => user);
  cpu("system_seconds_total", "CPU seconds, system", ({ system }) => system);
  const gauge = (name: string, help: string, read: () => number) =>
    readGauge(registry, name, help, read);
  gauge("process_start_time_seconds", "When it began, seconds since the epoch", () =>
    Math.round(performance.timeOrigin / 1000),
  );
  gauge("process_resident_memory_bytes", "Resident memory, the mapped ring with it", () =>
    process.memoryUsage.rss(),
  );
  gauge("nodejs_heap_size_total_bytes", "The engine's heap", () => process.memoryUsage().heapTotal);
  gauge(
    "nodejs_heap_size_used_bytes",
    "What is in use of the engine's heap",
    () => process.memoryUsage().heapUsed,
  );
  gauge(
    "nodejs_external_memory_bytes",
    "What the engine's heap refers to outside of it",
    () => process.memoryUsage().external,
  );
}

/** What one watcher counts, or several together. */
type Watching = {
  line: { counters: Line["counters"]; table: { readonly count: number } };
  capture: Pick<LiveSource, "kind" | "watches" | "droppedOnAny" | "refused">;
  sightings: Pick<Sightings, "sampling" | "oneWay">;
  /** Threads that ended by a fault, where there are several. */
  faults?: number;
};

export function agentMetrics(watching: Watching, uplink: Uplink): Registry {
  const { line, capture, sightings } = watching;
  const registry = new Registry();
  tellProcess(registry);
  const { counters, table } = line;
  const add = (name: string, help: string, read: () => number) =>
    readCounter(registry, `wireproof_agent_${name}`, help, read);
  add("bytes_total", "Bytes on the wire of the frames delivered", () => counters.wireBytes);
  add("flows_opened_total", "Flows opened", () => counters.opened);
  add("flows_ended_total", "Flows ended", () => counters.ended);
  add("flows_evicted_total", "Flows that made room for others", () => counters.evicted);
  add("openings_discarded_total", "Openings without a free slot", () => counters.noSlot);
  add("clock_steps_total", "Times that the clock was set back", () => counters.clockSteps);
  add("worker_faults_total", "Workers that ended by a fault, and were started anew", () => {
    return watching.faults ?? 0;
  });
  add("dropped_on_any_total", "Frames that the kernel dropped on any interface", () =>
    capture.droppedOnAny(),
  );
  add("cutoff_refused_total", "Frames handed over for want of room to count their flow", () =>
    capture.refused(),
  );
  add(
    "cutoff_raised_total",
    "Times that more was asked of a flow that is still read",
    () => counters.budgetsRaised,
  );
  add(
    "cutoff_spent_total",
    "Sides of which the most was asked that may be",
    () => counters.budgetsSpent,
  );
  add("cutoff_closed_total", "Flows of which no more is wanted", () => counters.budgetsClosed);
  add(
    "cutoff_unasked_total",
    "Times that what was asked of a flow could not be noted",
    () => counters.budgetsRefused,
  );
  add("rows_offered_total", "Rows offered to the uplink", () => uplink.counters.offered);
  add("rows_acknowledged_total", "Rows acknowledged", () => uplink.counters.acknowledged);
  new Counter({
    name: "wireproof_agent_rows_discarded_total",
    help: "Rows given up, by reason",
    labelNames: ["reason"],
    registers: [registry],
    collect() {
      this.reset();
      for (const [reason, n] of Object.entries(uplink.counters.discarded)) this.inc({ reason }, n);
    },
  });
  new Counter({
    name: "wireproof_agent_frames_total",
    help: "Frames by what became of them: `none` reached a flow",
    labelNames: ["stop"],
    registers: [registry],
    collect() {
      this.reset();
      this.inc({ stop: "none" }, counters.stopped[0]!);
      for (const [stop, n] of Object.entries(counters.stoppedByName())) this.inc({ stop }, n);
    },
  });
  readGauge(registry, "wireproof_agent_flows", "Flows in the table", () => table.count);
  readGauge(registry, "wireproof_agent_connected", "1 while the collector is reached", () =>
    uplink.connected ? 1 : 0,
  );
  readGauge(
    registry,
    "wireproof_agent_sampling",
    "Share of flows that are read",
    () => sightings.sampling,
  );
  new Gauge({
    name: "wireproof_agent_interface_dropped",
    help: "Frames that the kernel dropped, by interface, since its watch began",
    labelNames: ["interface"],
    registers: [registry],
    collect() {
      this.reset();
      for (const w of capture.watches()) this.set({ interface: w.name }, w.dropped);
    },
  });
  new Gauge({
    name: "wireproof_agent_interface_cut_off",
    help: "Frames counted by flow and not handed over, by interface, since its watch began",
    labelNames: ["interface"],
    registers: [registry],
    collect() {
      this.reset();
      for (const w of capture.watches()) this.set({ interface: w.name }, w.cutOff);
    },
  });
  new Gauge({
    name: "wireproof_agent_interface_connections",
    help: "TCP connections by whose packets were seen, where an interface lacked one direction",
    labelNames: ["interface", "seen"],
    registers: [registry],
    collect() {
      this.reset();
      for (const { name, ...counts } of sightings.oneWay()) {
        for (const [seen, n] of Object.entries(counts)) this.set({ interface: name, seen }, n);
      }
    },
  });
  new Gauge({
    name: "wireproof_agent_capture",
    help: "1 for the way in which frames are captured",
    labelNames: ["source"],
    registers: [registry],
    collect() {
      this.set({ source: capture.kind }, 1);
    },
  });
  return registry;
}

/** Serves `/metrics` and `/healthz` at `host:port`. */
export async function serveMetrics(
  address: string,
  registry: Registry,
  log: (level: "info" | "warn" | "error", text: string) => void,
): Promise<Server> {
  const at = address.lastIndexOf(":");
  const port = Number(address.slice(at + 1));
  if (at < 0 || !Number.isInteger(port) || port < 0 || port > 65535) {
    throw new ConfigError("CONFIG_METRICS", `--metrics must be host:port, not ${address}`);
  }
  // An import would read every field of the module, and one of them loads an HTTP client: 3 MiB.
  const { createServer } = process.getBuiltinModule("node:http");
  const server = createServer((request, response) => {
    if (request.url === "/healthz") return void response.end("ok\n");
    if (request.url !== "/metrics") return void response.writeHead(404).end();
    registry.metrics().then(
      (text) => response.setHeader("content-type", registry.contentType).end(text),
      () => response.writeHead(500).end(),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) =>
      reject(new ConfigError("CONFIG_METRICS", `cannot serve metrics at ${address}`, error)),
    );
    server.listen(port, address.slice(0, at) || "127.0.0.1", resolve);
  });
  log("info", `metrics at http://${address}/metrics`);
  return server;
}
