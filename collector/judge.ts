/** Judges windows as they close, and late ones again; keeps verdicts in store and evidence log. */
import { attribute } from "./attribution/attribute.ts";
import { formatHolder } from "./attribution/holder.ts";
import type { Holder } from "./attribution/holder.ts";
import type { Declaration } from "./declaration.ts";
import { encodeEntry, parseEntry } from "./evidence/entry.ts";
import type { Json, JsonObject } from "./evidence/entry.ts";
import type { EvidenceLog } from "./evidence/log.ts";
import { proveEntry } from "./evidence/verify.ts";
import type { Policy } from "./policy/policy.ts";
import type { Store, VerdictRow } from "./store/store.ts";
import { listDeclaredEdges } from "./verdict/declared-edges.ts";
import type { DeclaredEdges } from "./verdict/declared-edges.ts";
import type { ClusterFinding, Verdict } from "./verdict/verdict.ts";
import { judgeWindow } from "./verdict/window.ts";
import type { WindowJudgement } from "./verdict/window.ts";

export type JudgeOptions = {
  store: Store;
  log: EvidenceLog;
  evidenceDirectory: string;
  declaration: Declaration;
  windowMs: number;
  closeMs: number;
  tolerance: number;
};

/** Windows in the past that late observations may still change. */
const LATE_WINDOWS = 20;
/** Observations looked through at a time for late ones. */
const LATE_BATCH = 5_000;
/** An entry of the log holds at most 65,535 bytes (C2SP); larger objects go by their hash. */
const OBJECT_BYTES_LIMIT = 48 << 10;
/** Agents whose clock differs by more are told. */
const CLOCK_LIMIT_MS = 2_000;

export type Judged = { fromMs: number; toMs: number; judgement: WindowJudgement };

/**
 * Law: the entries of one window are appended under one checkpoint, and end with its `window`
 * entry; so a window that was cut off by a crash is either wholly in the log or not at all, and is
 * not appended again.
 */
export class Judge {
  readonly #options: JudgeOptions;
  /** End of the last window whose entries are in the log. */
  #loggedMs: number;
  #cursorMs: number;
  #late: number;
  readonly #dirty = new Set<number>();
  #declared: { policy: Policy; stamp: string; edges: DeclaredEdges } | null = null;

  constructor(options: JudgeOptions) {
    this.#options = options;
    this.#cursorMs = options.store.cursor("window");
    this.#late = options.store.cursor("late");
    this.#loggedMs = lastLoggedWindow(options.evidenceDirectory, options.log.size);
  }

  /** Judges every window that is due at `nowMs`, and late ones anew; returns what was judged. */
  async step(nowMs: number): Promise<Judged[]> {
    const { windowMs, closeMs } = this.#options;
    const judged: Judged[] = [];
    if (this.#cursorMs === 0) this.#cursorMs = Math.floor(nowMs / windowMs) * windowMs;
    // A clock that stepped back waits until time has caught up with what was judged.
    this.#findLate();
    for (const fromMs of [...this.#dirty].sort((a, b) => a - b)) {
      this.#dirty.delete(fromMs);
      judged.push(await this.#judge(fromMs, true));
    }
    while (this.#cursorMs + windowMs + closeMs <= nowMs) {
      judged.push(await this.#judge(this.#cursorMs, false));
      this.#cursorMs += windowMs;
    }
    return judged;
  }

  /** Marks judged windows in which observations lived that came only now. */
  #findLate(): void {
    const { store, windowMs } = this.#options;
    for (;;) {
      const batch = store.observationsSince(this.#late, LATE_BATCH);
      for (const { id, observation } of batch) {
        this.#late = id;
        const startMs = Date.parse(observation.record.start);
        const endMs = Date.parse(observation.record.end);
        const first = this.#cursorMs - LATE_WINDOWS * windowMs;
        let fromMs = Math.max(first, Math.floor(startMs / windowMs) * windowMs);
        for (; fromMs <= endMs && fromMs < this.#cursorMs; fromMs += windowMs) {
          this.#dirty.add(fromMs);
        }
      }
      if (batch.length < LATE_BATCH) return;
    }
  }

  async #judge(fromMs: number, again: boolean): Promise<Judged> {
    const { store, log, windowMs } = this.#options;
    const toMs = fromMs + windowMs;
    const judgement = this.#judgeWindow(fromMs, toMs);
    judgement.findings.push(...this.#findings(fromMs, toMs));
    const before = new Map(
      store
        .verdicts({ fromMs, toMs, limit: 1_000_000 })
        .filter((row) => row.fromMs === fromMs)
        .map((row) => [`${row.edge}|${row.aspect}`, row]),
    );
    const rows = rowsOf(judgement, fromMs, toMs);
    const isNew = (row: VerdictRow) => {
      const known = before.get(`${row.edge}|${row.aspect}`);
      return known === undefined || gistOf(known.body) !== gistOf(row.body);
    };
    const changed = again ? rows.filter(isNew) : rows;
    const entries = changed.map((row) => this.#entryOf(row, again));
    const isLogged = !again && toMs <= this.#loggedMs;
    if (!isLogged && (entries.length > 0 || !again)) {
      const policy = this.#policyEntries();
      entries.push({
        type: "window",
        from: new Date(fromMs).toISOString(),
        to: new Date(toMs).toISOString(),
        again,
        entries: entries.length,
        unexercised_left_out: judgement.unexercisedCut,
      });
      const { first } = await log.appendAll([...policy, ...entries].map(encodeEntry));
      changed.forEach((row, i) => {
        (row.body as { entry: number | null }).entry = first + policy.length + i;
      });
      if (!again) this.#loggedMs = toMs;
    }
    const cursors = again ? { late: this.#late } : { window: toMs, late: this.#late };
    store.saveVerdicts(changed, cursors);
    return { fromMs, toMs, judgement };
  }

  #judgeWindow(fromMs: number, toMs: number): WindowJudgement {
    const { store, declaration, tolerance } = this.#options;
    const { inventory, history } = declaration;
    const sightings = [];
    for (const { node, observation } of store.flowsBetween(fromMs, toMs)) {
      const attributed = attribute(observation, inventory);
      sightings.push({ id: `${node}/${observation.flow}`, node, attributed });
    }
    const pods = inventory.pods(toMs - 1);
    return judgeWindow({
      fromMs,
      toMs,
      sightings,
      coverage: store.coverageBetween(fromMs, toMs),
      pods,
      nodes: inventory.nodes(toMs - 1),
      expect: (client, server, port, carrier, atMs) =>
        history.expect(client, server, port, carrier, atMs),
      zonesOf: (holder) =>
        history
          .at(toMs - 1)
          .zonesOf(holder)
          .map((zone) => zone.name),
      declared: this.#declaredEdges(pods, fromMs),
      tolerance,
    });
  }

  /** Asked anew only when the policy or the pods have changed. */
  #declaredEdges(pods: readonly Holder[], atMs: number): DeclaredEdges {
    const policy = this.#options.declaration.history.at(atMs);
    const stamp = pods.map((pod) => `${formatHolder(pod)} ${pod.object?.hash}`).join("\n");
    if (this.#declared?.policy !== policy || this.#declared.stamp !== stamp) {
      const edges = listDeclaredEdges(pods, (client, server, port, carrier) =>
        policy.expect(client, server, port, carrier, atMs),
      );
      this.#declared = { policy, stamp, edges };
    }
    return this.#declared.edges;
  }

  /** What is wrong with the agents themselves: lost batches, clocks that differ. */
  #findings(fromMs: number, toMs: number): ClusterFinding[] {
    const { store } = this.#options;
    const from = new Date(fromMs).toISOString();
    const to = new Date(toMs).toISOString();
    const gaps = store
      .gapsSince(0, 10_000)
      .filter((gap) => gap.recordedMs >= fromMs && gap.recordedMs < toMs)
      .map((gap) => ({
        code: "uplink-gap",
        from,
        to,
        subject: `node/${gap.node}`,
        sentence: `the agent of ${gap.node} gave up batches ${gap.from} to ${gap.to} of its spool`,
      }));
    const clocks = store
      .spools()
      .filter((s) => s.heardMs >= fromMs && Math.abs(s.clockOffsetMs) > CLOCK_LIMIT_MS)
      .map((s) => ({
        code: "clock-stepped",
        from,
        to,
        subject: `node/${s.node}`,
        sentence:
          `the clock of ${s.node} differs by ${Math.round(s.clockOffsetMs / 100) / 10} s: ` +
          "its flows may stand in the wrong window",
      }));
    return [...gaps, ...clocks];
  }

  #entryOf(row: VerdictRow, again: boolean): JsonObject {
    const { entry: _, ...body } = row.body as Record<string, unknown>;
    return { type: row.aspect === "transport" ? "verdict" : typeOf(row), again, ...toJson(body) };
  }

  /** Changes of policy objects since the last window, before the verdicts that rest on them. */
  #policyEntries(): JsonObject[] {
    return this.#options.declaration.takeChanges().map(({ version, removed }) => {
      const { object, firstSeenMs, lastSeenMs } = version;
      const told = (ms: number) => (Number.isFinite(ms) ? new Date(ms).toISOString() : null);
      const body = JSON.stringify(object.body);
      return {
        type: "policy",
        removed,
        kind: object.kind,
        namespace: object.namespace,
        name: object.name,
        uid: object.uid,
        resource_version: object.resourceVersion,
        hash: object.hash,
        first_seen: told(firstSeenMs),
        last_seen: told(lastSeenMs),
        object: body.length <= OBJECT_BYTES_LIMIT ? (JSON.parse(body) as Json) : null,
      };
    });
  }
}

function typeOf(row: VerdictRow): string {
  if (row.aspect === "coverage") return "coverage";
  return row.aspect === "finding" ? "finding" : "verdict";
}

/** JSON without what it cannot hold: a field that is undefined is left out. */
function toJson(value: Record<string, unknown>): JsonObject {
  return JSON.parse(JSON.stringify(value)) as JsonObject;
}

function rowsOf(judgement: WindowJudgement, fromMs: number, toMs: number): VerdictRow[] {
  return [
    ...judgement.verdicts.map((verdict) => ({
      fromMs,
      toMs,
      edge: verdict.edge.id,
      aspect: verdict.aspect,
      body: { verdict, entry: null },
    })),
    ...judgement.nodes.map((coverage) => ({
      fromMs,
      toMs,
      edge: `node/${coverage.node}`,
      aspect: "coverage",
      body: { coverage, entry: null },
    })),
    ...judgement.findings.map((finding) => ({
      fromMs,
      toMs,
      edge: `${finding.code}/${finding.subject}`,
      aspect: "finding",
      body: { finding, entry: null },
    })),
  ];
}

/** What must differ for a late judgement to be told anew: the word, the reason, the counts. */
function gistOf(body: unknown): string {
  const { verdict, coverage, finding } = body as {
    verdict?: Verdict;
    coverage?: unknown;
    finding?: ClusterFinding;
  };
  if (verdict) return JSON.stringify([verdict.verdict, verdict.reason, verdict.counts]);
  return JSON.stringify(coverage ?? finding);
}

/** End of the newest window whose entries are in the log; 0 when there is none. */
function lastLoggedWindow(directory: string, size: number): number {
  for (let index = size - 1; index >= 0; index--) {
    const entry = parseEntry(Buffer.from(proveEntry(directory, index).entry));
    if (entry?.["type"] === "window" && entry["again"] === false) {
      return Date.parse(String(entry["to"]));
    }
  }
  return 0;
}
