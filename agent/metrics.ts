/** Exposes the agent's counters to Prometheus. */
import type { Server } from "node:http";
import { Counter, Gauge, Registry } from "prom-client";
import type { LiveSource } from "./capture/frame-source.ts";
import type { Line } from "./line.ts";
import type { Sightings } from "./sightings.ts";
import type { Uplink } from "./uplink/uplink.ts";
import { unreadByName } from "./unread.ts";
import { ConfigError } from "../protocol/config-error.ts";
import { metricsOf } from "../protocol/metrics.ts";

/**
 * What Prometheus' libraries tell of any process, and the engine's memory. The library's own
 * defaults also watch the event loop and each collection, which wakes an idle agent.
 */
function tellProcess(registry: Registry): void {
  const add = metricsOf(registry, "");
  const seconds = (microseconds: number) => microseconds / 1e6;
  add(Counter, "process_cpu_seconds_total", "CPU seconds, user and system", () => {
    const { user, system } = process.cpuUsage();
    return seconds(user + system);
  });
  add(Counter, "process_cpu_user_seconds_total", "CPU seconds, user", () =>
    seconds(process.cpuUsage().user),
  );
  add(Counter, "process_cpu_system_seconds_total", "CPU seconds, system", () =>
    seconds(process.cpuUsage().system),
  );
  add(Gauge, "process_start_time_seconds", "When it began, seconds since the epoch", () =>
    Math.round(performance.timeOrigin / 1000),
  );
  add(Gauge, "process_resident_memory_bytes", "Resident memory, the mapped ring with it", () =>
    process.memoryUsage.rss(),
  );
  add(
    Gauge,
    "nodejs_heap_size_total_bytes",
    "The engine's heap",
    () => process.memoryUsage().heapTotal,
  );
  add(
    Gauge,
    "nodejs_heap_size_used_bytes",
    "What is in use of the engine's heap",
    () => process.memoryUsage().heapUsed,
  );
  add(
    Gauge,
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
  /** Times that reading ended by a fault, of one thread or of several. */
  faults?: number;
};

export function agentMetrics(watching: Watching, uplink: Uplink): Registry {
  const registry = new Registry();
  tellProcess(registry);
  const counters = () => watching.line.counters;
  const add = metricsOf(registry, "wireproof_agent_");
  add(
    Counter,
    "bytes_total",
    "Bytes on the wire of the frames delivered",
    () => counters().wireBytes,
  );
  add(Counter, "flows_opened_total", "Flows opened", () => counters().opened);
  add(Counter, "flows_ended_total", "Flows ended", () => counters().ended);
  add(Counter, "flows_evicted_total", "Flows that made room for others", () => counters().evicted);
  add(Counter, "openings_discarded_total", "Openings without a free slot", () => counters().noSlot);
  add(
    Counter,
    "clock_steps_total",
    "Times that the clock was set back",
    () => counters().clockSteps,
  );
  add(
    Counter,
    "worker_faults_total",
    "Times that reading ended by a fault in a thread, and was begun anew",
    () => {
      return watching.faults ?? 0;
    },
  );
  add(Counter, "dropped_on_any_total", "Frames that the kernel dropped on any interface", () =>
    watching.capture.droppedOnAny(),
  );
  add(
    Counter,
    "cutoff_refused_total",
    "Frames handed over for want of room to count their flow",
    () => watching.capture.refused(),
  );
  add(
    Counter,
    "cutoff_raised_total",
    "Times that more was asked of a flow that is still read",
    () => counters().budgetsRaised,
  );
  add(
    Counter,
    "cutoff_spent_total",
    "Sides of which the most was asked that may be",
    () => counters().budgetsSpent,
  );
  add(
    Counter,
    "cutoff_closed_total",
    "Flows of which no more is wanted",
    () => counters().budgetsClosed,
  );
  add(
    Counter,
    "cutoff_unasked_total",
    "Times that what was asked of a flow could not be noted",
    () => counters().budgetsRefused,
  );
  add(Counter, "rows_offered_total", "Rows offered to the uplink", () => uplink.counters.offered);
  add(Counter, "rows_acknowledged_total", "Rows acknowledged", () => uplink.counters.acknowledged);
  add(Gauge, "rows_pending", "Rows not yet on the disk", () => uplink.counters.pending);
  add(
    Gauge,
    "rows_spooled",
    "Rows on the disk, and not yet acknowledged",
    () => uplink.counters.spooled,
  );
  add(
    Counter,
    "rows_discarded_total",
    "Rows given up, by reason",
    () => uplink.counters.discarded,
    "reason",
  );
  add(
    Counter,
    "frames_total",
    "Frames by what became of them: `none` reached a flow",
    () => ({ none: counters().stopped[0]!, ...counters().stoppedByName() }),
    "stop",
  );
  add(
    Counter,
    "frames_unread_total",
    "Frames that are no IP packet, or no packet of a transport that is read, by what they are",
    () => unreadByName(counters()),
    "kind",
  );
  add(Gauge, "flows", "Flows in the table", () => watching.line.table.count);
  add(Gauge, "connected", "1 while the collector is reached", () => (uplink.connected ? 1 : 0));
  add(Gauge, "sampling", "Share of flows that are read", () => watching.sightings.sampling);
  add(
    Gauge,
    "interface_dropped",
    "Frames that the kernel dropped, by interface, since its watch began",
    () => Object.fromEntries(watching.capture.watches().map((w) => [w.name, w.dropped])),
    "interface",
  );
  add(
    Gauge,
    "interface_cut_off",
    "Frames counted and not handed over, by interface, since its watch began",
    () => Object.fromEntries(watching.capture.watches().map((w) => [w.name, w.cutOff])),
    "interface",
  );
  new Gauge({
    name: "wireproof_agent_interface_connections",
    help: "TCP connections by whose packets were seen, where an interface lacked one direction",
    labelNames: ["interface", "seen"],
    registers: [registry],
    collect() {
      this.reset();
      for (const { name, ...counts } of watching.sightings.oneWay()) {
        for (const [seen, n] of Object.entries(counts)) this.set({ interface: name, seen }, n);
      }
    },
  });
  add(
    Gauge,
    "capture",
    "1 for the way in which frames are captured",
    () => ({ [watching.capture.kind]: 1 }),
    "source",
  );
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
