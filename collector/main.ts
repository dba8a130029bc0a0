/** Runs the collector: takes what agents send, judges it window by window, keeps the evidence. */
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { KubeConfig } from "@kubernetes/client-node";
import { pino } from "pino";
import { startApi } from "./api/server.ts";
import { Cluster } from "./attribution/cluster.ts";
import type { ClusterEvents } from "./attribution/cluster.ts";
import { readCollectorConfig } from "./config.ts";
import type { CollectorConfig } from "./config.ts";
import { Declaration } from "./declaration.ts";
import { DeclaredJournal } from "./declared-journal.ts";
import type { Log } from "./declaration.ts";
import { EvidenceLog } from "./evidence/log.ts";
import { listen } from "./ingest/ingest.ts";
import { Judge } from "./judge.ts";
import { collectorMetrics } from "./metrics.ts";
import { isKnownKind, isUnreadPolicy, UNREAD_GROUPS } from "./policy/manifest/known-kinds.ts";
import { openSqlite } from "./store/sqlite.ts";
import type { Store } from "./store/store.ts";
import { ConfigError } from "../protocol/config-error.ts";

/** Milliseconds between two looks for windows that are due. */
const STEP_MS = 500;
/** Milliseconds between two looks for changed manifests. */
const MANIFESTS_MS = 2_000;
/** Milliseconds between two rounds of deleting flows past their retention. */
const RETENTION_MS = 600_000;
const DAY_MS = 86_400_000;
/** The built page: beside the sources in a checkout, beside `collector/` in `dist/`. */
const UI_DIRECTORY =
  [
    path.join(import.meta.dirname, "..", "dist", "ui"),
    path.join(import.meta.dirname, "..", "ui"),
  ].find((directory) => existsSync(directory)) ?? "";

/** Runs until SIGINT or SIGTERM; throws `ConfigError` for the operator's mistakes. */
export async function runCollector(flags: Record<string, string | undefined>): Promise<void> {
  const config = readCollectorConfig(flags);
  const logger = pino({ level: config.logLevel, base: {} }, pino.destination(2));
  const log: Log = (level, text) => logger[level](text);
  const evidenceDirectory = path.join(config.data, "evidence");
  const signer = readKey(config.evidenceKey);
  mkdirSync(evidenceDirectory, { recursive: true, mode: 0o700 });
  const store = openSqlite(path.join(config.data, "store"));
  const evidence = await EvidenceLog.open({ directory: evidenceDirectory, signer, log });
  const journal = new DeclaredJournal(store);
  const declaration = new Declaration(config.graceMs, log, journal);
  const judge = new Judge({
    store,
    log: evidence,
    evidenceDirectory,
    declaration,
    windowMs: config.windowMs,
    closeMs: config.closeMs,
    tolerance: config.tolerance,
    retentionMs: config.retentionDays * DAY_MS,
  });
  judge.restore();
  declaration.restore(store.policies(), store.cursor("window"));
  const following = await followDeclared(config, declaration, log);
  const ingest = await listen({
    host: config.uplinkHost,
    port: config.uplinkPort,
    keyFile: config.key,
    certFile: config.cert,
    caFile: config.ca,
    trustDomain: config.trustDomain,
    store,
    log,
  });
  const retention = setInterval(() => void retain(store, declaration, config, log), RETENTION_MS);
  log("info", `agents connect at ${config.uplinkHost}:${ingest.port}`);
  const metrics = collectorMetrics({ ingest, evidence, judge, store, declaration });
  const api = await startApi({
    store,
    evidenceDirectory,
    evidenceKeyFile: config.evidencePublicKey,
    uiDirectory: UI_DIRECTORY,
    host: config.apiHost,
    port: config.apiPort,
    metrics: () => metrics.metrics(),
    samples: () => ingest.samples(),
    log,
  });
  log("info", `page and API at ${api.address}`);
  const judged = (windows: number) => {
    if (windows > 0) api.notify();
  };
  let stopped: Error | null = null;
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort());
  process.once("SIGTERM", () => stop.abort());
  try {
    await judgeUntil(stop.signal, { judge, following, evidence, journal, log, judged });
  } finally {
    clearInterval(retention);
    following.stop();
    await api.close();
    await ingest.close();
    stopped = evidence.fatal;
    await evidence.close();
    await store.close();
  }
  if (stopped) {
    log("error", "the collector ends: it must not go on without its evidence log");
    process.exitCode = 1;
  }

  function readKey(file: string): string {
    try {
      return readFileSync(file, "utf8");
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      const told = `collector: cannot read ${file}: ${code}; wireproof evidence keygen makes one`;
      throw new ConfigError("CONFIG_EVIDENCE_KEY", told, error);
    }
  }
}

/** Deletes what is past its retention, some rows at a time; evidence is never deleted. */
async function retain(
  store: Store,
  declaration: Declaration,
  config: CollectorConfig,
  log: Log,
): Promise<void> {
  const flowsBefore = Date.now() - config.retentionDays * DAY_MS;
  const edgesBefore = Date.now() - config.edgesDays * DAY_MS;
  const breathe = () => new Promise((resolve) => setImmediate(resolve));
  try {
    while (store.expireFlows(flowsBefore) > 0) await breathe();
    while (store.expireVerdicts(edgesBefore) > 0) await breathe();
    while (store.expireDeclared(flowsBefore) > 0) await breathe();
  } catch (error) {
    log("error", `retention: ${(error as Error).message}; tried again later`);
  }
  // What is older than the flows is not judged any more.
  declaration.inventory.forget(flowsBefore);
  declaration.history.forget(flowsBefore);
  declaration.workloads.forget(flowsBefore);
}

/** What is declared is followed until `stop`; `ready` once it is known as a whole. */
type Following = { ready: () => boolean; stop: () => void };

/** Reports whether a kind would make doubtful, as a manifest of it does. */
const isUnread = (kind: string) => isUnreadPolicy(kind) && !isKnownKind(kind);

/** Follows manifests or a cluster. */
async function followDeclared(
  config: CollectorConfig,
  declaration: Declaration,
  log: Log,
): Promise<Following> {
  const { manifests, kubernetes } = config;
  if (manifests !== null) {
    declaration.readManifests(manifests, Date.now());
    const timer = setInterval(() => declaration.readManifests(manifests, Date.now()), MANIFESTS_MS);
    return { ready: () => true, stop: () => clearInterval(timer) };
  }
  const kube = new KubeConfig();
  try {
    if (kubernetes === "in-cluster") kube.loadFromCluster();
    else kube.loadFromFile(kubernetes!);
  } catch (error) {
    const told = `collector: cannot load ${kubernetes}: ${(error as Error).message}`;
    throw new ConfigError("CONFIG_KUBERNETES", told, error);
  }
  const events: ClusterEvents = {
    // What the first list holds was there before: nobody knows since when.
    applied: (object, nowMs, sinceMs) => {
      if (cluster.isSynced) declaration.apply(object, nowMs, sinceMs);
      else declaration.applyFirst(object, nowMs, nowMs);
    },
    removed: (object, nowMs, sinceMs) => declaration.remove(object, nowMs, sinceMs),
    blind: (...trouble) => declaration.setBlind(...trouble),
    log: (line) => log("info", line),
  };
  const unread = { groups: UNREAD_GROUPS, decides: isUnread };
  const cluster: Cluster = new Cluster(kube, events, { unread });
  cluster.start();
  const ready = () => {
    if (!cluster.isSynced) return false;
    declaration.endFirst(Date.now());
    declaration.tellBlind(Date.now());
    return true;
  };
  return { ready, stop: () => void cluster.stop() };
}

type Judging = {
  judge: Judge;
  following: Following;
  evidence: EvidenceLog;
  journal: DeclaredJournal;
  log: Log;
  judged: (windows: number) => void;
};

async function judgeUntil(
  signal: AbortSignal,
  { judge, following, evidence, journal, log, judged }: Judging,
): Promise<void> {
  while (!signal.aborted) {
    try {
      const isReady = following.ready();
      journal.flush(Date.now());
      // Windows wait for the first whole list: half a policy would be judged by half.
      const windows = isReady ? await judge.step(Date.now()) : [];
      judged(windows.length);
      for (const { fromMs, judgement } of windows) {
        const count = judgement.verdicts.length;
        log("info", `judged the window from ${new Date(fromMs).toISOString()}: ${count} verdicts`);
      }
    } catch (error) {
      // A log that may have forgotten must not sign: stop, and be started anew.
      if (evidence.fatal) return;
      log("error", `judging failed, and is tried again: ${(error as Error).stack}`);
    }
    await new Promise((resolve) => setTimeout(resolve, STEP_MS));
  }
}
