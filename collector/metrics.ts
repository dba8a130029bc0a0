/** Exposes the collector's counters to Prometheus. */
import { Counter, Gauge, Registry, collectDefaultMetrics } from "prom-client";
import type { EvidenceLog } from "./evidence/log.ts";
import type { Ingest } from "./ingest/ingest.ts";

export type CollectorMetrics = { registry: Registry; judged: (windows: number) => void };

export function collectorMetrics(ingest: Ingest, evidence: EvidenceLog): CollectorMetrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const windows = new Counter({
    name: "wireproof_collector_windows_judged_total",
    help: "Windows judged, late ones again",
    registers,
  });
  new Gauge({
    name: "wireproof_collector_agents",
    help: "Agents that are connected",
    registers,
    collect() {
      this.set(ingest.nodes().length);
    },
  });
  new Gauge({
    name: "wireproof_collector_evidence_entries",
    help: "Entries in the evidence log",
    registers,
    collect() {
      this.set(evidence.size);
    },
  });
  return { registry, judged: (n) => windows.inc(n) };
}
