/**
 * Lives through a world: its agents converse with a collector that stores, judges, writes its log,
 * is killed and begun again, while links are down and rows come late.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { Packr } from "msgpackr";
import { Declaration } from "../../collector/declaration.ts";
import { DeclaredJournal } from "../../collector/declared-journal.ts";
import { DISK, EvidenceLog } from "../../collector/evidence/log.ts";
import { formatKeys } from "../../collector/evidence/note.ts";
import { Conversation, Ingested } from "../../collector/ingest/conversation.ts";
import { Judge } from "../../collector/judge.ts";
import { GRACE_MS } from "../../collector/policy/history/history.ts";
import { openSqlite } from "../../collector/store/sqlite.ts";
import type { Store } from "../../collector/store/store.ts";
import type { Verdict } from "../../collector/verdict/verdict.ts";
import type { Coverage } from "../../protocol/coverage.ts";
import type { Observation } from "../../protocol/observation.ts";
import { UPLINK_VERSION } from "../../protocol/uplink-limits.ts";
import { WINDOW_MS } from "./cluster.ts";
import type { Node } from "./cluster.ts";
import { Draw } from "./draw.ts";
import { changesOf, EPOCH_MS, holdToLaw, isLost } from "./law.ts";
import type { Breach, Held, World } from "./law.ts";

const STEP_MS = 5_000;
const CLOSE_MS = 15_000;
const BATCH_MS = 5_000;
/** A flow that lives for longer is told of before it ends. */
const TOLD_AFTER_MS = 3_000;
/** World's time at which the collector is begun first. */
const BEGIN_MS = -60_000;

const packr = new Packr({ useRecords: true });
const { signer } = formatKeys("world/log", new Uint8Array(32).fill(7));
const silent = () => {};

/** What befalls a collector and the links to it; all times are the world's. */
type Fate = {
  /** [killed, begun again). */
  restarts: readonly (readonly [number, number])[];
  /** By node, spans in which its agent cannot reach the collector. */
  outages: ReadonlyMap<Node, readonly [number, number]>;
  endMs: number;
};

/** Draws of fates are none of the world's. */
const FATES = 1_000_000_007;

function makeFate({ cluster }: World, draw: Draw): Fate {
  const restarts = draw.chance(0.6) ? [draw.between(-30_000, 120_000)] : [];
  const outages = new Map<Node, readonly [number, number]>();
  for (const node of cluster.nodes) {
    if (!draw.chance(0.3)) continue;
    const from = draw.between(-30_000, 70_000);
    outages.set(node, [from, from + draw.pick([10_000, 60_000, 300_000, 1_500_000])]);
  }
  const lateMs = Math.max(0, ...[...outages.values()].map(([, to]) => to));
  return {
    restarts: restarts.map((ms) => [ms, ms + draw.between(STEP_MS, 25_000)] as const),
    outages,
    endMs: Math.max(WINDOW_MS + 90_000, lateMs + WINDOW_MS),
  };
}

type Rows = { observations: Observation[]; coverage: Coverage[] };

/** An agent's spool: batches by the time at which they were closed, sent in order. */
class Agent {
  readonly node: Node;
  readonly #batches: { atMs: number; rows: Rows }[];
  #conversation: Conversation | null = null;
  #acknowledged = 0;

  constructor(node: Node, told: World["told"]) {
    this.node = node;
    const byTime = new Map<number, Rows>();
    const at = (ms: number) => {
      const atMs = Math.ceil((ms - node.offsetMs - EPOCH_MS) / BATCH_MS) * BATCH_MS;
      const rows = byTime.get(atMs) ?? { observations: [], coverage: [] };
      byTime.set(atMs, rows);
      return rows;
    };
    for (const { observation } of told.observations.filter((o) => o.node === node.name)) {
      for (const one of revisionsOf(observation)) {
        at(Date.parse(one.record.end)).observations.push(one);
      }
    }
    for (const { coverage } of told.coverage.filter((c) => c.node === node.name)) {
      at(coverage.to_ms).coverage.push(coverage);
    }
    const sorted = [...byTime].sort(([a], [b]) => a - b);
    this.#batches = sorted.map(([atMs, rows]) => ({ atMs, rows }));
  }

  /** Sends what is closed and was not acknowledged; the last batch once more after a break. */
  async send(all: Ingested, nowMs: number): Promise<void> {
    const { node } = this;
    const clock_ms = EPOCH_MS + nowMs + node.offsetMs;
    if (this.#conversation === null || this.#conversation.closed) {
      this.#conversation = new Conversation(all, node.name, {
        ...{ send: silent, close: silent, terminate: silent },
      });
      const hello = { type: "hello", version: UPLINK_VERSION, node: node.name };
      const spool = { spool: `spool-of-${node.name}`, first_seq: 1, software: "world" };
      await this.#conversation.take(packr.pack({ ...hello, ...spool, clock_ms }));
      this.#acknowledged = Math.max(0, this.#acknowledged - 1);
    }
    for (; this.#acknowledged < this.#batches.length; this.#acknowledged++) {
      const { atMs, rows } = this.#batches[this.#acknowledged]!;
      if (atMs > nowMs) return;
      const seq = this.#acknowledged + 1;
      await this.#conversation.take(packr.pack({ type: "batch", seq, clock_ms, ...rows }));
      if (this.#conversation.closed) throw new Error(`batch ${seq} of ${node.name} was refused`);
    }
  }

  /** The link broke, or the collector is gone. */
  lose(): void {
    this.#conversation?.end();
    this.#conversation = null;
  }
}

/** What an agent tells of a flow while it lives, and at its end. */
function revisionsOf(observation: Observation): Observation[] {
  const { record } = observation;
  const seenMs = Date.parse(record.end) - Date.parse(record.start);
  if (seenMs <= 2 * TOLD_AFTER_MS) return [observation];
  const end = new Date(Date.parse(record.start) + TOLD_AFTER_MS).toISOString();
  const isSilent = record.state === "unanswered";
  const state = isSilent ? "attempted" : record.state === "refused" ? "refused" : "established";
  const early = { ...observation, final: false, record: { ...record, end, state } as const };
  return [early, { ...observation, revision: 2 }];
}

/** Everything of a collector that is gone with its process; the directory is not. */
class Collector {
  readonly store: Store;
  readonly ingested: Ingested;
  readonly declaration: Declaration;
  readonly journal: DeclaredJournal;
  readonly judge: Judge;
  readonly #log: EvidenceLog;

  private constructor(store: Store, log: EvidenceLog, directory: string, now: () => number) {
    this.store = store;
    this.#log = log;
    this.ingested = new Ingested(store, silent, now);
    this.journal = new DeclaredJournal(store);
    this.declaration = new Declaration(GRACE_MS, silent, this.journal);
    this.judge = new Judge({
      ...{ store, log, evidenceDirectory: directory, declaration: this.declaration },
      ...{ windowMs: WINDOW_MS, closeMs: CLOSE_MS, tolerance: 0.01 },
      retentionMs: 86_400_000,
    });
    this.judge.restore();
    this.declaration.restore(store.policies(), store.cursor("window"));
  }

  static async begin(directory: string, now: () => number): Promise<Collector> {
    const evidence = path.join(directory, "evidence");
    mkdirSync(evidence, { recursive: true });
    const store = openSqlite(path.join(directory, "store"));
    // The machine does not fail here: what is written is there.
    const files = { ...DISK, sync: async () => {} };
    const log = await EvidenceLog.open({ directory: evidence, signer, log: silent, files });
    return new Collector(store, log, evidence, now);
  }

  async end(): Promise<void> {
    await this.#log.close();
    await this.store.close();
  }
}

/** All judgements of the world's window, in order: the last is what stands. */
async function live(world: World, fate: Fate, directory: string): Promise<Verdict[][]> {
  let nowMs = BEGIN_MS;
  const clock = () => EPOCH_MS + nowMs;
  const changes = changesOf(world.cluster);
  const agents = world.cluster.nodes.map((node) => new Agent(node, world.told));
  const judgements: Verdict[][] = [];
  const start = async () => {
    const begun = await Collector.begin(directory, clock);
    for (const { object, fromMs, toMs } of changes) {
      if (fromMs <= nowMs && nowMs < toMs) {
        begun.declaration.applyFirst(object, clock(), clock());
      }
    }
    begun.declaration.endFirst(clock());
    return begun;
  };
  const hear = async ({ declaration, ingested }: Collector, sinceMs: number) => {
    for (const { object, fromMs, toMs, isReplaced } of changes) {
      const ends = sinceMs < toMs && toMs <= nowMs && !isReplaced;
      if (ends) declaration.remove(object, EPOCH_MS + toMs);
      if (sinceMs < fromMs && fromMs <= nowMs) declaration.apply(object, EPOCH_MS + fromMs);
    }
    for (const agent of agents) {
      const outage = fate.outages.get(agent.node);
      if (outage && outage[0] <= nowMs && nowMs < outage[1]) agent.lose();
      else await agent.send(ingested, nowMs);
    }
  };
  let collector: Collector | null = await start();
  const restarts = [...fate.restarts];
  for (; nowMs <= fate.endMs; nowMs += STEP_MS) {
    const restart = restarts[0];
    if (collector === null && restart && restart[1] <= nowMs) {
      restarts.shift();
      collector = await start();
    }
    if (collector === null) continue;
    await hear(collector, nowMs - STEP_MS);
    if (restart && restart[0] <= nowMs && nowMs < restart[1]) {
      // Killed with what it had not written yet.
      await collector.end();
      collector = null;
      for (const agent of agents) agent.lose();
      continue;
    }
    collector.journal.flush(clock());
    for (const { fromMs, judgement } of await collector.judge.step(clock())) {
      if (fromMs === EPOCH_MS) judgements.push(judgement.verdicts);
    }
  }
  await collector?.end();
  return judgements;
}

/** Where there is memory in place of a disk: what is synced here need not outlive anything. */
const TEMPORARY = existsSync("/dev/shm") ? "/dev/shm" : os.tmpdir();

/** Every judgement must be true; the last must have lost nothing, and decided enough. */
export async function holdLiveToLaw(world: World): Promise<Held> {
  const fate = makeFate(world, new Draw(world.seed + FATES));
  const directory = mkdtempSync(path.join(TEMPORARY, "wireproof-world-"));
  let judgements: Verdict[][];
  try {
    judgements = await live(world, fate, directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
  if (judgements.length === 0) throw new Error(`world ${world.seed}: its window was never judged`);
  const held = judgements.map((verdicts) => holdToLaw(world, verdicts));
  const last = held.at(-1)!;
  const untrue = held.slice(0, -1).flatMap(({ breaches }) => breaches.filter((b) => !isLost(b)));
  const lost = last.breaches.filter((b) => !isLost(b) || !changedUnseen(world, fate, b));
  return { breaches: [...untrue, ...lost], decided: last.decided };
}

/** Nobody can tell when a policy, or a pod's labels, changed while no collector ran. */
function changedUnseen({ cluster }: World, { restarts }: Fate, { edge }: Breach): boolean {
  const [, client, server] = /^\w+\/([^[]+)\[.* -> \w+\/([^[]+)\[/.exec(edge) ?? [];
  const roles = cluster.pods.filter(({ app }) => app === client || app === server);
  const changes = [
    ...(cluster.rules.get(server ?? "") ?? []),
    ...roles.flatMap((pod) => pod.roles),
  ].map(({ fromMs }) => fromMs);
  return restarts.some(([from, to]) =>
    changes.some((ms) => from - STEP_MS <= ms && ms <= to + STEP_MS),
  );
}

/** What befell the collector and its links, for a person. */
export function formatFate(world: World): string {
  const { restarts, outages } = makeFate(world, new Draw(world.seed + FATES));
  const span = ([from, to]: readonly [number, number]) =>
    `${(from / 1000).toFixed(1)}..${(to / 1000).toFixed(1)} s`;
  const killed = restarts.map((restart) => `killed ${span(restart)}`);
  const cut = [...outages].map(([{ name }, outage]) => `${name} cut off ${span(outage)}`);
  return `  ${[...killed, ...cut].join(", ") || "undisturbed"}`;
}
