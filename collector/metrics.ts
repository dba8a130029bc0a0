/** Exposes the collector's counters to Prometheus. */
import { Counter, Gauge, Registry, collectDefaultMetrics } from "prom-client";
import type { Declaration } from "./declaration.ts";
import type { EvidenceLog } from "./evidence/log.ts";
import type { Ingest } from "./ingest/ingest.ts";
import type { Judge } from "./judge.ts";
import type { Store } from "./store/store.ts";
import { metricsOf } from "../protocol/metrics.ts";

export type Measured = {
  ingest: Pick<Ingest, "counters" | "nodes" | "samples">;
  evidence: Pick<EvidenceLog, "size" | "fatal">;
  judge: Pick<Judge, "counters">;
  store: Pick<Store, "spools">;
  declaration: Pick<Declaration, "problems">;
};

export function collectorMetrics(measured: Measured): Registry {
  const { ingest, evidence, judge, store, declaration } = measured;
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const add = metricsOf(registry, "wireproof_collector_");

  const came = ingest.counters;
  add(Gauge, "agents", "Agents that are connected", () => ingest.nodes().length);
  add(
    Gauge,
    "samples",
    "Different samples of flows that connected agents read: it should be 1",
    () => ingest.samples().length,
  );
  add(Counter, "batches_total", "Batches made durable", () => came.batches);
  add(
    Counter,
    "batches_duplicate_total",
    "Batches that were durable before",
    () => came.duplicates,
  );
  add(Counter, "batches_lost_total", "Batches that agents gave up", () => came.lost);
  add(Counter, "observations_total", "Observations stored", () => came.observations);
  add(Counter, "coverage_total", "Reports of coverage stored", () => came.coverage);
  add(Counter, "refused_total", "Conversations refused, by code", () => came.refused, "code");
  add(
    Counter,
    "handshakes_failed_total",
    "TLS handshakes with agents that failed, by reason",
    () => came.handshakes,
    "reason",
  );
  add(
    Gauge,
    "agent_clock_offset_seconds",
    "The agent's clock less the collector's, at its last hello",
    () => Object.fromEntries(store.spools().map((s) => [s.node, s.clockOffsetMs / 1000])),
    "node",
  );

  const { counters } = judge;
  add(Counter, "windows_judged_total", "Windows judged", () => counters.windows);
  add(
    Counter,
    "windows_judged_again_total",
    "Windows judged again for what came late",
    () => counters.again,
  );
  add(
    Counter,
    "late_rows_total",
    "Observations and coverage that came too late for any window",
    () => counters.tooLate,
  );
  add(
    Counter,
    "verdicts_total",
    "Verdicts of windows judged for the first time, by word",
    () => counters.verdicts,
    "verdict",
  );
  add(
    Counter,
    "findings_total",
    "Findings of such windows, by code: blind-spot, uplink-gap and others",
    () => counters.findings,
    "code",
  );
  add(
    Gauge,
    "policy_problems",
    "Parts of the declared policy that cannot be read now",
    () => declaration.problems.length,
  );
  add(Gauge, "evidence_entries", "Entries in the evidence log", () => evidence.size);
  add(Gauge, "evidence_stopped", "1 when the evidence log has stopped after a failed write", () =>
    evidence.fatal ? 1 : 0,
  );
  return registry;
}
