/** Judges windows as they close, and late ones again; keeps verdicts in store and evidence log. */
import { CLOCK_LIMIT_MS, clocksApart } from "./attribution/clocks.ts";
import { attribute } from "./attribution/attribute.ts";
import { formatHolder } from "./attribution/holder.ts";
import type { Holder } from "./attribution/holder.ts";
import { findInAgents } from "./agent-findings.ts";
import type { Declaration } from "./declaration.ts";
import { encodeEntry, parseEntry } from "./evidence/entry.ts";
import type { JsonObject } from "./evidence/entry.ts";
import type { EvidenceLog } from "./evidence/log.ts";
import { proveEntry } from "./evidence/verify.ts";
import type { Policy } from "./policy/policy.ts";
import { toVersionEntry } from "./policy/history/version-entry.ts";
import type { PolicyRow, SpoolState, Store, VerdictKey, VerdictRow } from "./store/store.ts";
import { listDeclaredEdges } from "./verdict/declared-edges.ts";
import type { DeclaredEdges } from "./verdict/declared-edges.ts";
import { expectOf } from "./verdict/versions.ts";
import { noCounts } from "./verdict/verdict.ts";
import type { ClusterFinding, NodeCoverage, Verdict, VerdictWord } from "./verdict/verdict.ts";
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
  /** Observations are kept for so long: older windows are not judged again. */
  retentionMs: number;
};

/** A flow that lives on, and is told again, changes so many windows before the one to be judged. */
const LIVING_WINDOWS = 20;
/** And so many before its end, however late that comes: it is told more often than this. */
const TOLD_WINDOWS = 2;
/** Most windows judged again before the next one that is due. */
const AGAIN_LIMIT = 8;
/** Observations looked through at a time for late ones. */
const LATE_BATCH = 5_000;

export type Judged = { fromMs: number; toMs: number; judgement: WindowJudgement };

/** What became of windows and of what came late, for metrics. */
export type JudgeCounters = {
  windows: number;
  again: number;
  /** Observations and coverage that came after the last window they could change was closed. */
  tooLate: number;
  verdicts: Record<VerdictWord, number>;
  findings: Record<string, number>;
};

/**
 * Law: the entries of one window are appended under one checkpoint, and end with its `window`
 * entry; so a window that was cut off by a crash is either wholly in the log or not at all, and is
 * not appended again. What the log holds and the store does not is put into the store first.
 */
export class Judge {
  readonly #options: JudgeOptions;
  /** Start of the first window that was not judged; 0 before the first step. */
  #cursorMs: number;
  /** The last rows that were looked at for windows to judge again. */
  readonly #seen: { late: number; "late-coverage": number };
  /** Entries of the log up to here are in the store. */
  #logged: number;
  /** Windows to judge again; the store's cursors follow `#seen` when there is none left. */
  readonly #dirty = new Set<number>();
  #declared: { policy: Policy; stamp: string; edges: DeclaredEdges } | null = null;
  readonly counters: JudgeCounters = {
    ...{ windows: 0, again: 0, tooLate: 0, findings: {} },
    verdicts: noCounts(),
  };

  constructor(options: JudgeOptions) {
    const { store } = options;
    this.#options = options;
    this.#cursorMs = store.cursor("window");
    this.#seen = { late: store.cursor("late"), "late-coverage": store.cursor("late-coverage") };
    this.#logged = store.cursor("logged");
  }

  /** Judges every window that is due at `nowMs`, and late ones anew; returns what was judged. */
  async step(nowMs: number): Promise<Judged[]> {
    const { windowMs, closeMs, store } = this.#options;
    const judged: Judged[] = [];
    this.restore();
    if (this.#cursorMs === 0) {
      // Kept at once: what is received from now on is judged, whenever the process is killed.
      const fromMs = Math.floor(nowMs / windowMs) * windowMs;
      store.saveVerdicts([], { window: fromMs });
      this.#cursorMs = fromMs;
    }
    // A clock that stepped back waits until time has caught up with what was judged.
    while (this.#cursorMs + windowMs + closeMs <= nowMs) {
      // Late ones when a window is due, not whenever a flow that lives on is told again.
      this.#findLate();
      judged.push(...(await this.#judgeAgain()));
      judged.push(await this.#judge(this.#cursorMs, false));
    }
    if (judged.length === 0) judged.push(...(await this.#judgeAgain()));
    return judged;
  }

  /** Some of those that are left, the oldest first: a spool of hours holds up no window of now. */
  async #judgeAgain(): Promise<Judged[]> {
    const judged: Judged[] = [];
    const first = this.#firstWhole();
    for (const fromMs of this.#dirty) if (fromMs < first) this.#dirty.delete(fromMs);
    const next = [...this.#dirty].sort((a, b) => a - b).slice(0, AGAIN_LIMIT);
    for (const fromMs of next) judged.push(await this.#judge(fromMs, true));
    return judged;
  }

  /**
   * Puts into the store what the log holds beyond it: a crash, or a full disk, came between the
   * two. A store that was lost gets all of its verdicts back; the log is never written for it.
   */
  restore(): void {
    const { store, log, evidenceDirectory } = this.#options;
    let rows: VerdictRow[] = [];
    let withdrawn: VerdictKey[] = [];
    let policies: PolicyRow[] = [];
    for (let index = this.#logged; index < log.size; index++) {
      const entry = parseEntry(Buffer.from(proveEntry(evidenceDirectory, index).entry));
      if (entry === null) continue;
      const told = rowOf(entry, index);
      if (told && entry["type"] === "withdrawn") withdrawn.push(told);
      else if (told) rows.push(told);
      else if (entry["type"] === "policy" || entry["type"] === "workload") {
        policies.push({ entry: index, body: entry });
      }
      if (entry["type"] !== "window") continue;
      const fromMs = Date.parse(String(entry["from"]));
      const toMs = Date.parse(String(entry["to"]));
      const inWindow = rows.map((row) => ({ ...row, fromMs, toMs }));
      const window = entry["again"] === true ? this.#cursorMs : Math.max(this.#cursorMs, toMs);
      const gone = withdrawn.map((key) => ({ ...key, fromMs }));
      store.saveVerdicts(inWindow, { window, logged: index + 1 }, gone, policies);
      this.#logged = index + 1;
      this.#cursorMs = window;
      [rows, withdrawn, policies] = [[], [], []];
    }
  }

  /** Marks judged windows that observations or coverage speak of which came only now. */
  #findLate(): void {
    const { store } = this.#options;
    const { apartMs } = this.#clocks();
    for (;;) {
      const batch = store.observationsSince(this.#seen.late, LATE_BATCH);
      for (const { id, observation } of batch) {
        this.#seen.late = id;
        const { start, end } = observation.record;
        this.#mark(Date.parse(start), Date.parse(end), observation.revision, apartMs);
      }
      if (batch.length < LATE_BATCH) break;
    }
    for (;;) {
      const batch = store.coverageSince(this.#seen["late-coverage"], LATE_BATCH);
      for (const { id, coverage } of batch) {
        this.#seen["late-coverage"] = id;
        this.#mark(coverage.from_ms, coverage.to_ms - 1, null, 0);
      }
      if (batch.length < LATE_BATCH) return;
    }
  }

  /** Of a flow which revision it is; of coverage null. */
  #mark(startMs: number, endMs: number, revision: number | null, byMs: number): void {
    const { windowMs, retentionMs, store } = this.#options;
    const windowOf = (ms: number) => Math.floor(ms / windowMs) * windowMs;
    const first = Math.max(windowOf(this.#cursorMs - retentionMs) + windowMs, this.#firstWhole());
    if (endMs < first) this.counters.tooLate++;
    const isAgain = revision !== null && revision > 1;
    const changedMs = Math.min(
      this.#cursorMs - LIVING_WINDOWS * windowMs,
      endMs - TOLD_WINDOWS * windowMs,
    );
    let fromMs = Math.max(first, windowOf(isAgain ? Math.max(startMs, changedMs) : startMs));
    for (; fromMs <= endMs && fromMs < this.#cursorMs; fromMs += windowMs) this.#dirty.add(fromMs);
    // By another node's clock what is new may lie in the window beside, if that was judged.
    const apartMs = revision === 1 ? byMs : 0;
    for (const ms of [startMs - apartMs, endMs + apartMs]) {
      const beside = windowOf(ms);
      if (beside < first || beside >= this.#cursorMs || this.#dirty.has(beside)) continue;
      if (store.verdicts({ fromMs: beside, toMs: beside + 1, limit: 1 }).length > 0) {
        this.#dirty.add(beside);
      }
    }
  }

  async #judge(fromMs: number, again: boolean): Promise<Judged> {
    const { log, windowMs, declaration, store } = this.#options;
    const toMs = fromMs + windowMs;
    const judgement = this.#judgeWindow(fromMs, toMs);
    const whoHad = (address: string) => declaration.inventory.whoHad(address, toMs - 1);
    judgement.findings.push(...findInAgents(store, fromMs, toMs, whoHad));
    const rows = rowsOf(judgement, fromMs, toMs);
    const before = again ? this.#before(fromMs, toMs) : new Map<string, VerdictRow>();
    const changed = rows.filter((row) => {
      const known = before.get(nameOf(row));
      before.delete(nameOf(row));
      return known === undefined || gistOf(known.body) !== gistOf(row.body);
    });
    const withdrawn = [...before.values()];
    const entries = [
      ...changed.map((row) => this.#entryOf(row, again)),
      ...withdrawn.map(({ edge, aspect }) => ({ type: "withdrawn", again, edge, aspect })),
    ];
    if (entries.length > 0 || !again) {
      if (!again) declaration.noteWorkloads(declaration.inventory.pods(toMs - 1), toMs - 1);
      const policy = this.#policyEntries();
      const window = {
        type: "window",
        from: new Date(fromMs).toISOString(),
        to: new Date(toMs).toISOString(),
        again,
        entries: entries.length,
        unexercised_left_out: judgement.unexercisedCut,
      };
      const { first, size } = await log.appendAll([...policy, ...entries, window].map(encodeEntry));
      declaration.logged(policy.length);
      changed.forEach((row, i) => {
        (row.body as { entry: number | null }).entry = first + policy.length + i;
      });
      const policies = policy.map((body, i) => ({ entry: first + i, body }));
      this.#save(fromMs, again, changed, withdrawn, size, policies);
    } else this.#save(fromMs, again, [], [], log.size);
    this.#count(judgement, again);
    return { fromMs, toMs, judgement };
  }

  /** What the store holds of a window, by name. */
  #before(fromMs: number, toMs: number): Map<string, VerdictRow> {
    const rows = this.#options.store.verdicts({ fromMs, toMs, limit: 1_000_000 });
    return new Map(rows.filter((r) => r.fromMs === fromMs).map((row) => [nameOf(row), row]));
  }

  /** Saves with the cursors; only then a window counts as judged. */
  #save(
    fromMs: number,
    again: boolean,
    rows: readonly VerdictRow[],
    withdrawn: readonly VerdictKey[],
    logged: number,
    policies: readonly PolicyRow[] = [],
  ): void {
    const { store, windowMs } = this.#options;
    const window = again ? this.#cursorMs : fromMs + windowMs;
    // While windows are left to be judged again, a new start must find them again.
    const isLast = this.#dirty.size === 0 || (this.#dirty.size === 1 && this.#dirty.has(fromMs));
    const cursors = { window, logged, ...(isLast ? this.#seen : {}) };
    store.saveVerdicts(rows, cursors, withdrawn, policies);
    this.#cursorMs = window;
    this.#logged = logged;
    this.#dirty.delete(fromMs);
  }

  #count(judgement: WindowJudgement, again: boolean): void {
    const { counters } = this;
    if (again) counters.again++;
    else {
      counters.windows++;
      for (const { verdict } of judgement.verdicts) counters.verdicts[verdict]++;
      for (const { code } of judgement.findings) {
        counters.findings[code] = (counters.findings[code] ?? 0) + 1;
      }
    }
  }

  #judgeWindow(fromMs: number, toMs: number): WindowJudgement {
    const { store, declaration, tolerance } = this.#options;
    const { inventory, history } = declaration;
    const sightings = [];
    const { apartMs: clocksApartMs, isOff } = this.#clocks();
    // Of a window of which rows have expired none counts: those that are left may say otherwise.
    const isWhole = fromMs >= this.#firstWhole();
    const [nearMs, untilMs] = isWhole ? [fromMs - clocksApartMs, toMs + clocksApartMs] : [0, 0];
    for (const { node, observation } of store.flowsBetween(nearMs, untilMs)) {
      if (isOff(node)) continue;
      const attributed = attribute(observation, inventory, clocksApartMs);
      sightings.push({ id: `${node}/${observation.flow}`, node, attributed });
    }
    const pods = inventory.pods(toMs - 1);
    return judgeWindow({
      fromMs,
      toMs,
      clocksApartMs,
      sightings,
      coverage: store.coverageBetween(nearMs, untilMs).filter(({ node }) => !isOff(node)),
      pods,
      lives: inventory.podsBetween(fromMs, toMs),
      nodes: inventory.nodes(toMs - 1),
      expect: expectOf(inventory, history, declaration.graceMs),
      actorOf: (holder) => history.at(toMs - 1).actorOf(holder)?.name ?? null,
      zonesOf: (holder) =>
        history
          .at(toMs - 1)
          .zonesOf(holder)
          .map((zone) => zone.name),
      declared: this.#declaredEdges(pods, fromMs),
      tolerance,
    });
  }

  /** Start of the first window of which no row may have expired: of others a part would decide. */
  #firstWhole(): number {
    const { store, windowMs } = this.#options;
    const expired = store.cursor("expired");
    return expired === 0 ? 0 : expired + 2 * CLOCK_LIMIT_MS + windowMs;
  }

  /** How far clocks may be apart, of the agents whose clocks are not off by more than the limit. */
  #clocks(): { apartMs: number; isOff: (node: string) => boolean } {
    const spools = this.#options.store.spools();
    const isNear = ({ clockOffsetMs }: SpoolState) => Math.abs(clockOffsetMs) <= CLOCK_LIMIT_MS;
    // Of each node the spool that was heard last counts: it comes behind its others.
    const latest = new Map(spools.map((spool) => [spool.node, spool]));
    const off = new Set([...latest.values()].filter((s) => !isNear(s)).map(({ node }) => node));
    const near = spools.filter(isNear).map(({ clockOffsetMs }) => clockOffsetMs);
    return { apartMs: clocksApart(near), isOff: (node) => off.has(node) };
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

  #entryOf(row: VerdictRow, again: boolean): JsonObject {
    const { entry: _, ...body } = row.body as Record<string, unknown>;
    return { type: row.aspect === "transport" ? "verdict" : typeOf(row), again, ...toJson(body) };
  }

  /** Changes of policy objects since the last window, before the verdicts that rest on them. */
  #policyEntries(): JsonObject[] {
    return this.#options.declaration.changes.map(({ version, removed, type }) =>
      toJson(toVersionEntry(version, removed, type)),
    );
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
      edge: edgeOfCoverage(coverage),
      aspect: "coverage",
      body: { coverage, entry: null },
    })),
    ...judgement.findings.map((finding) => ({
      fromMs,
      toMs,
      edge: edgeOfFinding(finding),
      aspect: "finding",
      body: { finding, entry: null },
    })),
  ];
}

function nameOf({ edge, aspect }: VerdictKey): string {
  return `${edge}|${aspect}`;
}

/** What must differ for a late judgement to be told anew: the word, the reason, the counts. */
function gistOf(body: unknown): string {
  const { verdict: v, coverage, finding } = body as Record<string, Verdict | undefined>;
  const told = v && { verdict: v.verdict, reason: v.reason, counts: v.counts };
  // Canonical: what was restored from the log has its keys in another order.
  return Buffer.from(encodeEntry(toJson({ told, coverage, finding }))).toString();
}

/** The row that an entry was made of, but for its window; null for entries of other kinds. */
function rowOf(entry: JsonObject, index: number): VerdictRow | null {
  const { type, again: _, ...told } = entry;
  const row = (edge: string, aspect: string): VerdictRow => {
    return { fromMs: 0, toMs: 0, edge, aspect, body: { ...told, entry: index } };
  };
  switch (type) {
    case "verdict": {
      const verdict = told["verdict"] as unknown as Verdict;
      return row(verdict.edge.id, verdict.aspect);
    }
    case "coverage":
      return row(edgeOfCoverage(told["coverage"] as unknown as NodeCoverage), "coverage");
    case "finding":
      return row(edgeOfFinding(told["finding"] as unknown as ClusterFinding), "finding");
    case "withdrawn":
      return row(String(told["edge"]), String(told["aspect"]));
    default:
      return null;
  }
}

const edgeOfCoverage = ({ node }: NodeCoverage) => `node/${node}`;
const edgeOfFinding = ({ code, subject }: ClusterFinding) => `${code}/${subject}`;
