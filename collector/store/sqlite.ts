/**
 * Keeps batches, coverage, verdicts in one SQLite file.
 *
 * WAL with `synchronous=FULL`: COMMIT returns after the fsync, so an acknowledgement that follows
 * it is a promise that a power cut does not break. All that waits when a transaction begins goes
 * into it, so many agents share one fsync. The calls block the thread they are made on; a file a
 * day for flows, to make their expiry an unlink, is a change behind this interface.
 */
import { mkdirSync } from "node:fs";
import path from "node:path";
import { DatabaseSync, type SQLOutputValue } from "node:sqlite";
import type { Coverage } from "../../protocol/coverage.ts";
import { ConfigError } from "../../protocol/config-error.ts";
import type { Observation } from "../../protocol/observation.ts";
import type {
  Appended,
  DeclaredRow,
  Gap,
  PolicyRow,
  Received,
  SpoolState,
  Store,
} from "./store.ts";
import type { StoredCoverage, StoredObservation } from "./store.ts";
import type { VerdictKey, VerdictQuery, VerdictRow } from "./store.ts";

const SCHEMA_VERSION = 3;
/** A transaction takes batches until it has this many rows: some 20 ms (measured). */
const GROUP_ROWS = 2000;
/** Most rows that one statement deletes, so that no transaction grows without bound. */
const EXPIRE_ROWS_LIMIT = 10_000;
/** No window is longer than a day. */
const WINDOW_MS_LIMIT = 86_400_000;

// AUTOINCREMENT: an id is not given again after its row has expired, so cursors stay true.
const SCHEMA = `
CREATE TABLE spools (
  node TEXT NOT NULL, spool TEXT NOT NULL, acknowledged INTEGER NOT NULL, heard_ms REAL NOT NULL,
  clock_offset_ms REAL NOT NULL, software TEXT NOT NULL, PRIMARY KEY (node, spool)
) WITHOUT ROWID;
CREATE TABLE gaps (
  id INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT NOT NULL, spool TEXT NOT NULL,
  first INTEGER NOT NULL, last INTEGER NOT NULL, recorded_ms REAL NOT NULL
);
CREATE TABLE observations (
  id INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT NOT NULL, flow TEXT NOT NULL,
  revision INTEGER NOT NULL, start_ms REAL NOT NULL, end_ms REAL NOT NULL,
  received_ms REAL NOT NULL, body TEXT NOT NULL
);
CREATE INDEX observations_flow ON observations (node, flow, revision);
CREATE INDEX observations_end ON observations (end_ms);
CREATE INDEX observations_received ON observations (received_ms);
CREATE TABLE coverage (
  id INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT NOT NULL, from_ms REAL NOT NULL,
  to_ms REAL NOT NULL, received_ms REAL NOT NULL, body TEXT NOT NULL
);
CREATE INDEX coverage_to ON coverage (to_ms);
CREATE INDEX coverage_received ON coverage (received_ms);
CREATE TABLE verdicts (
  from_ms REAL NOT NULL, edge TEXT NOT NULL, aspect TEXT NOT NULL, to_ms REAL NOT NULL,
  body TEXT NOT NULL, PRIMARY KEY (from_ms, edge, aspect)
) WITHOUT ROWID;
CREATE INDEX verdicts_to ON verdicts (to_ms);
CREATE INDEX verdicts_edge ON verdicts (edge, from_ms);
CREATE TABLE cursors (name TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
`;

// Since version 2. What the log holds of policies is read from it again, from its first entry on.
const POLICIES = `
CREATE TABLE policies (entry INTEGER PRIMARY KEY, body TEXT NOT NULL);
UPDATE cursors SET at = 0 WHERE name = 'logged';
`;

// Since version 3: who held which address, and what was declared, whatever becomes of the process.
const DECLARED = `
CREATE TABLE declared (
  id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, at_ms REAL NOT NULL,
  since_ms REAL NOT NULL, removed INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE INDEX declared_key ON declared (key, id);
`;

const SQL = {
  acknowledged: "SELECT acknowledged FROM spools WHERE node = ? AND spool = ?",
  heard: `INSERT INTO spools VALUES (?, ?, 0, ?, ?, ?) ON CONFLICT DO UPDATE SET
    heard_ms = excluded.heard_ms, clock_offset_ms = excluded.clock_offset_ms,
    software = excluded.software`,
  advance: `INSERT INTO spools VALUES (?, ?, ?, ?, 0, '') ON CONFLICT DO UPDATE SET
    acknowledged = excluded.acknowledged, heard_ms = excluded.heard_ms`,
  spools: "SELECT * FROM spools ORDER BY node, heard_ms",
  addGap: "INSERT INTO gaps (node, spool, first, last, recorded_ms) VALUES (?, ?, ?, ?, ?)",
  gapsSince: "SELECT * FROM gaps WHERE id > ? ORDER BY id LIMIT ?",
  addObservation: `INSERT INTO observations
    (node, flow, revision, start_ms, end_ms, received_ms, body) VALUES (?, ?, ?, ?, ?, ?, ?)`,
  observationsSince: "SELECT * FROM observations WHERE id > ? ORDER BY id LIMIT ?",
  observation: `SELECT * FROM observations WHERE node = ? AND flow = ?
    ORDER BY revision DESC, id DESC LIMIT 1`,
  flowsBetween: `SELECT * FROM observations AS o WHERE end_ms >= ? AND start_ms < ? AND NOT EXISTS
    (SELECT 1 FROM observations AS n WHERE n.node = o.node AND n.flow = o.flow
      AND (n.revision > o.revision OR n.revision = o.revision AND n.id > o.id)) ORDER BY id`,
  addCoverage: `INSERT INTO coverage
    (node, from_ms, to_ms, received_ms, body) VALUES (?, ?, ?, ?, ?)`,
  coverageSince: "SELECT * FROM coverage WHERE id > ? ORDER BY id LIMIT ?",
  coverageBetween: "SELECT * FROM coverage WHERE to_ms > ? AND from_ms < ? ORDER BY id",
  cursor: "SELECT at FROM cursors WHERE name = ?",
  moveCursor: "INSERT INTO cursors VALUES (?, ?) ON CONFLICT DO UPDATE SET at = excluded.at",
  saveVerdict: `INSERT INTO verdicts (from_ms, to_ms, edge, aspect, body) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET to_ms = excluded.to_ms, body = excluded.body`,
  dropVerdict: "DELETE FROM verdicts WHERE from_ms = ? AND edge = ? AND aspect = ?",
  // The lower bound of from_ms lets the primary key find the first row.
  verdicts: `SELECT * FROM verdicts WHERE to_ms > ?1 AND from_ms < ?2
    AND from_ms >= ?1 - ${WINDOW_MS_LIMIT} AND (?3 IS NULL OR aspect = ?3)
    ORDER BY from_ms, edge, aspect LIMIT ?4`,
  verdictsOfEdge: `SELECT * FROM verdicts INDEXED BY verdicts_edge WHERE to_ms > ?1
    AND from_ms < ?2 AND from_ms >= ?1 - ${WINDOW_MS_LIMIT} AND edge = ?5
    AND (?3 IS NULL OR aspect = ?3) ORDER BY from_ms, aspect LIMIT ?4`,
  savePolicy: "INSERT INTO policies VALUES (?, ?) ON CONFLICT DO NOTHING",
  policies: "SELECT entry, body FROM policies ORDER BY entry",
  saveDeclared: `INSERT INTO declared (key, at_ms, since_ms, removed, body)
    VALUES (?, ?, ?, ?, ?)`,
  declared: "SELECT * FROM declared ORDER BY id",
  // What came after it, or its own end, was before.
  expireDeclared: `DELETE FROM declared WHERE id IN (SELECT id FROM declared AS d
    WHERE at_ms < ?1 AND (removed = 1 OR EXISTS
      (SELECT 1 FROM declared AS n WHERE n.key = d.key AND n.id > d.id AND n.at_ms < ?1))
    ORDER BY id LIMIT ?2)`,
  newestWindow: `SELECT from_ms, to_ms FROM verdicts WHERE aspect = ?
    ORDER BY from_ms DESC LIMIT 1`,
} as const;

type Row = Record<string, SQLOutputValue>;
type Waiting = {
  received: Received;
  resolve: (appended: Appended) => void;
  reject: (error: unknown) => void;
};

/** Opens the store in `directory`, making it when it is not there. */
export function openSqlite(directory: string): Store {
  const file = path.join(directory, "wireproof.sqlite");
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const database = new DatabaseSync(file, { timeout: 5000 });
    database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
    prepareSchema(database, file);
    return new SqliteStore(database);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const told = `store: cannot open ${file}: ${(error as Error).message}`;
    throw new ConfigError("CONFIG_STORE", told, error);
  }
}

function prepareSchema(database: DatabaseSync, file: string): void {
  const found = Number(database.prepare("PRAGMA user_version").get()!["user_version"]);
  if (found > SCHEMA_VERSION) {
    const told = `store: ${file} was written by a later release (schema ${found})`;
    throw new ConfigError("CONFIG_STORE_VERSION", told);
  }
  if (found === SCHEMA_VERSION) return;
  const steps = [SCHEMA, POLICIES, DECLARED].slice(found).join("");
  database.exec(`BEGIN; ${steps} PRAGMA user_version = ${SCHEMA_VERSION}; COMMIT`);
}

class SqliteStore implements Store {
  readonly #database: DatabaseSync;
  readonly #sql: Record<keyof typeof SQL, ReturnType<DatabaseSync["prepare"]>>;
  #waiting: Waiting[] = [];
  #flushing: Promise<void> | null = null;

  constructor(database: DatabaseSync) {
    this.#database = database;
    const prepared = Object.entries(SQL).map(([name, sql]) => [name, database.prepare(sql)]);
    this.#sql = Object.fromEntries(prepared);
  }

  append(received: Received): Promise<Appended> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ received, resolve, reject });
      this.#flushing ??= this.#flush();
    });
  }

  acknowledged(node: string, spool: string): number {
    const row = this.#sql.acknowledged.get(node, spool);
    return row ? Number(row["acknowledged"]) : 0;
  }

  heard(s: Omit<SpoolState, "acknowledged">): void {
    this.#sql.heard.run(s.node, s.spool, s.heardMs, s.clockOffsetMs, s.software);
  }

  spools(): SpoolState[] {
    return this.#sql.spools.all().map((row) => ({
      node: String(row["node"]),
      spool: String(row["spool"]),
      acknowledged: Number(row["acknowledged"]),
      heardMs: Number(row["heard_ms"]),
      clockOffsetMs: Number(row["clock_offset_ms"]),
      software: String(row["software"]),
    }));
  }

  gapsSince(id: number, limit: number): Gap[] {
    return this.#sql.gapsSince.all(id, limit).map((row) => ({
      id: Number(row["id"]),
      node: String(row["node"]),
      spool: String(row["spool"]),
      from: Number(row["first"]),
      to: Number(row["last"]),
      recordedMs: Number(row["recorded_ms"]),
    }));
  }

  observationsSince(id: number, limit: number): StoredObservation[] {
    return this.#sql.observationsSince.all(id, limit).map(toObservation);
  }

  observation(node: string, flow: string): StoredObservation | null {
    const row = this.#sql.observation.get(node, flow);
    return row ? toObservation(row) : null;
  }

  *flowsBetween(fromMs: number, toMs: number): IterableIterator<StoredObservation> {
    // Its own statement: an iteration under way must not be begun anew by another reader.
    for (const row of this.#database.prepare(SQL.flowsBetween).iterate(fromMs, toMs)) {
      yield toObservation(row);
    }
  }

  coverageSince(id: number, limit: number): StoredCoverage[] {
    return this.#sql.coverageSince.all(id, limit).map(toCoverage);
  }

  coverageBetween(fromMs: number, toMs: number): StoredCoverage[] {
    return this.#sql.coverageBetween.all(fromMs, toMs).map(toCoverage);
  }

  cursor(name: string): number {
    const row = this.#sql.cursor.get(name);
    return row ? Number(row["at"]) : 0;
  }

  saveVerdicts(
    rows: readonly VerdictRow[],
    cursors: Readonly<Record<string, number>>,
    withdrawn: readonly VerdictKey[] = [],
    policies: readonly PolicyRow[] = [],
  ): void {
    this.#transaction(() => {
      for (const { fromMs, edge, aspect } of withdrawn) {
        this.#sql.dropVerdict.run(fromMs, edge, aspect);
      }
      for (const { fromMs, toMs, edge, aspect, body } of rows) {
        this.#sql.saveVerdict.run(fromMs, toMs, edge, aspect, JSON.stringify(body));
      }
      for (const { entry, body } of policies) {
        this.#sql.savePolicy.run(entry, JSON.stringify(body));
      }
      for (const [name, at] of Object.entries(cursors)) this.#sql.moveCursor.run(name, at);
    });
  }

  verdicts({ fromMs, toMs, edge, aspect, limit }: VerdictQuery): VerdictRow[] {
    const asked = [fromMs, toMs, aspect ?? null, limit ?? -1] as const;
    const rows =
      edge === undefined
        ? this.#sql.verdicts.all(...asked)
        : this.#sql.verdictsOfEdge.all(...asked, edge);
    return rows.map((row) => ({
      fromMs: Number(row["from_ms"]),
      toMs: Number(row["to_ms"]),
      edge: String(row["edge"]),
      aspect: String(row["aspect"]),
      body: JSON.parse(String(row["body"])) as unknown,
    }));
  }

  *policies(): IterableIterator<PolicyRow> {
    for (const row of this.#database.prepare(SQL.policies).iterate()) {
      yield { entry: Number(row["entry"]), body: JSON.parse(String(row["body"])) as unknown };
    }
  }

  saveDeclared(rows: readonly DeclaredRow[], knownMs: number): void {
    this.#transaction(() => {
      for (const { key, atMs, sinceMs, removed, body } of rows) {
        this.#sql.saveDeclared.run(key, atMs, sinceMs, Number(removed), JSON.stringify(body));
      }
      this.#sql.moveCursor.run("declared", Math.floor(knownMs));
    });
  }

  *declared(): IterableIterator<DeclaredRow> {
    for (const row of this.#database.prepare(SQL.declared).iterate()) {
      yield {
        key: String(row["key"]),
        atMs: Number(row["at_ms"]),
        sinceMs: Number(row["since_ms"]),
        removed: row["removed"] === 1,
        body: JSON.parse(String(row["body"])) as unknown,
      };
    }
  }

  newestWindow(aspect: string): { fromMs: number; toMs: number } | null {
    const row = this.#sql.newestWindow.get(aspect);
    return row ? { fromMs: Number(row["from_ms"]), toMs: Number(row["to_ms"]) } : null;
  }

  expireFlows(beforeMs: number): number {
    // Before any is gone: what is judged of the rest would be of a part.
    const toldMs = Math.max(this.cursor("expired"), Math.floor(beforeMs));
    this.#sql.moveCursor.run("expired", toldMs);
    return (
      this.#expire("observations", "id", "received_ms", beforeMs) +
      this.#expire("coverage", "id", "received_ms", beforeMs)
    );
  }

  expireVerdicts(beforeMs: number): number {
    return this.#expire("verdicts", "(from_ms, edge, aspect)", "to_ms", beforeMs);
  }

  expireDeclared(beforeMs: number): number {
    return this.#untilNone((limit) => this.#sql.expireDeclared.run(beforeMs, limit));
  }

  async close(): Promise<void> {
    await this.#flushing;
    this.#database.close();
  }

  /** Stores whatever waits, group after group, each in one transaction. */
  async #flush(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve)); // lets more batches come in
    while (this.#waiting.length > 0) {
      const group = this.#nextGroup();
      try {
        const appended = this.#transaction(() => group.map((w) => this.#add(w.received)));
        group.forEach((w, i) => w.resolve(appended[i]!));
      } catch (error) {
        for (const w of group) w.reject(error);
      }
      await new Promise((resolve) => setImmediate(resolve)); // and acknowledgements go out
    }
    this.#flushing = null;
  }

  #nextGroup(): Waiting[] {
    let count = 0;
    for (let rows = 0; rows < GROUP_ROWS && count < this.#waiting.length; count++) {
      const { batch } = this.#waiting[count]!.received;
      rows += 1 + batch.observations.length + batch.coverage.length;
    }
    return this.#waiting.splice(0, count);
  }

  #add({ node, spool, batch, receivedMs }: Received): Appended {
    const acknowledged = this.acknowledged(node, spool);
    if (batch.seq <= acknowledged) return { duplicate: true, gap: null };
    const { observations, coverage, seq } = batch;
    for (const o of observations) {
      const end = timeMs(o.record.end, receivedMs);
      const start = timeMs(o.record.start, end);
      const body = JSON.stringify(o);
      this.#sql.addObservation.run(node, o.flow, o.revision, start, end, receivedMs, body);
    }
    for (const c of coverage) {
      this.#sql.addCoverage.run(node, c.from_ms, c.to_ms, receivedMs, JSON.stringify(c));
    }
    const gap = seq > acknowledged + 1 ? { from: acknowledged + 1, to: seq - 1 } : null;
    if (gap) this.#sql.addGap.run(node, spool, gap.from, gap.to, receivedMs);
    this.#sql.advance.run(node, spool, seq, receivedMs);
    return { duplicate: false, gap };
  }

  #expire(table: string, key: string, column: string, beforeMs: number): number {
    const inner = `SELECT ${key.replace(/[()]/g, "")} FROM ${table} WHERE ${column} < ? LIMIT ?`;
    const some = this.#database.prepare(`DELETE FROM ${table} WHERE ${key} IN (${inner})`);
    return this.#untilNone((limit) => some.run(beforeMs, limit));
  }

  #untilNone(some: (limit: number) => { changes: number | bigint }): number {
    for (let total = 0; ;) {
      const deleted = Number(some(EXPIRE_ROWS_LIMIT).changes);
      total += deleted;
      if (deleted < EXPIRE_ROWS_LIMIT) return total;
    }
  }

  #transaction<T>(work: () => T): T {
    this.#database.exec("BEGIN IMMEDIATE");
    try {
      const result = work();
      this.#database.exec("COMMIT");
      return result;
    } catch (error) {
      // SQLite has rolled back by itself after some errors, such as a full disk.
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      throw error;
    }
  }
}

function toObservation(row: Row): StoredObservation {
  return {
    id: Number(row["id"]),
    node: String(row["node"]),
    receivedMs: Number(row["received_ms"]),
    observation: JSON.parse(String(row["body"])) as Observation,
  };
}

function toCoverage(row: Row): StoredCoverage {
  return {
    id: Number(row["id"]),
    node: String(row["node"]),
    receivedMs: Number(row["received_ms"]),
    coverage: JSON.parse(String(row["body"])) as Coverage,
  };
}

function timeMs(text: string, otherwise: number): number {
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? otherwise : ms;
}
