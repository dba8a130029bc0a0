/** Tests the judge on a real store and a real log: late rows, crashes, full disks, policy changes. */
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import t from "tap";
import { toClusterObject } from "../../collector/attribution/cluster-object.ts";
import { Declaration } from "../../collector/declaration.ts";
import { DeclaredJournal } from "../../collector/declared-journal.ts";
import { parseEntry } from "../../collector/evidence/entry.ts";
import type { JsonObject } from "../../collector/evidence/entry.ts";
import { createKeys, DISK, EvidenceLog } from "../../collector/evidence/log.ts";
import type { LogFiles } from "../../collector/evidence/log.ts";
import { proveEntry, verifyLog } from "../../collector/evidence/verify.ts";
import { Judge } from "../../collector/judge.ts";
import { collectorMetrics } from "../../collector/metrics.ts";
import { openSqlite } from "../../collector/store/sqlite.ts";
import type { Store, VerdictRow } from "../../collector/store/store.ts";
import type { Verdict } from "../../collector/verdict/verdict.ts";
import { covered, PODS, seen } from "../seen.ts";

const WINDOW_MS = 60_000;
const CLOSE_MS = 15_000;
const RETENTION_MS = 120 * WINDOW_MS;
const FROM = Date.parse("2026-11-22T01:00:00Z");
/** When the window that begins at FROM is due. */
const DUE = FROM + WINDOW_MS + CLOSE_MS;

const temporary = fs.mkdtempSync(path.join(os.tmpdir(), "wireproof-judge-"));
t.teardown(() => fs.rmSync(temporary, { recursive: true, force: true }));
let directories = 0;
function fresh(): string {
  const directory = path.join(temporary, String(++directories));
  fs.mkdirSync(directory);
  createKeys(path.join(directory, "keys"), "test/log");
  return directory;
}

const pods = Object.entries(PODS)
  .filter(([name]) => !name.startsWith("twin"))
  .map(
    ([name, { ip, node, namespace, port }]) =>
      `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${name}, namespace: ${namespace}, ` +
      `labels: {app: ${name}, sidecar.istio.io/inject: "true"}}, spec: {nodeName: ${node}, ` +
      `containers: [{name: c, ports: [{containerPort: ${port}}]}, {name: istio-proxy}]}, ` +
      `status: {podIP: ${ip}}}\n`,
  )
  .join("");
const nodes = ["a", "b"]
  .map((name) => `---\n{apiVersion: v1, kind: Node, metadata: {name: ${name}}}\n`)
  .join("");
const STRICT =
  "---\n{apiVersion: security.istio.io/v1, kind: PeerAuthentication, " +
  "metadata: {name: default, namespace: pay}, spec: {mtls: {mode: STRICT}}}\n";
const PERMISSIVE = STRICT.replace("STRICT", "PERMISSIVE");
const allow = (app: string, from: string, port: number) =>
  "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, " +
  `metadata: {name: ${app}, namespace: pay}, spec: {podSelector: {matchLabels: {app: ${app}}}, ` +
  `ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: ${from}}}}], ` +
  `ports: [{port: ${port}}]}]}}\n`;
const FILES = {
  "pods.yaml": pods + nodes,
  "mesh.yaml": STRICT,
  "net.yaml": allow("ledger", "web", 8443),
};

/** A collector without sockets: everything that judges, on files that outlive it. */
class Bench {
  readonly directory: string;
  readonly said: string[] = [];
  store!: Store;
  log!: EvidenceLog;
  declaration!: Declaration;
  journal!: DeclaredJournal;
  judge!: Judge;
  readonly #seq = new Map<string, number>();

  constructor(directory = fresh()) {
    this.directory = directory;
    this.declare(FILES);
  }

  get evidence(): string {
    return path.join(this.directory, "evidence");
  }

  declare(files: Record<string, string>): void {
    fs.mkdirSync(path.join(this.directory, "manifests"), { recursive: true });
    for (const [name, text] of Object.entries(files)) {
      fs.writeFileSync(path.join(this.directory, "manifests", name), text);
    }
  }

  read(nowMs: number): void {
    this.declaration.readManifests(path.join(this.directory, "manifests"), nowMs);
    this.journal.flush(nowMs);
  }

  /** A new process on the same files. */
  async start(
    options: { files?: LogFiles; storeDirectory?: string; nowMs?: number } = {},
  ): Promise<this> {
    const say = (_: string, text: string) => void this.said.push(text);
    this.store = openSqlite(options.storeDirectory ?? path.join(this.directory, "store"));
    const signer = fs.readFileSync(path.join(this.directory, "keys", "evidence.key"), "utf8");
    fs.mkdirSync(this.evidence, { recursive: true });
    const files = options.files ? { files: options.files } : {};
    this.log = await EvidenceLog.open({ directory: this.evidence, signer, log: say, ...files });
    this.journal = new DeclaredJournal(this.store);
    this.declaration = new Declaration(15_000, say, this.journal);
    this.judge = this.newJudge(this.store);
    this.judge.restore();
    this.declaration.restore(this.store.policies(), this.store.cursor("window"));
    this.read(options.nowMs ?? FROM);
    return this;
  }

  newJudge(store: Store): Judge {
    return new Judge({
      ...{ store, log: this.log, evidenceDirectory: this.evidence, tolerance: 0.01 },
      ...{ declaration: this.declaration, windowMs: WINDOW_MS, closeMs: CLOSE_MS },
      retentionMs: RETENTION_MS,
    });
  }

  async end(): Promise<void> {
    await this.log.close();
    await this.store.close();
  }

  /** Ends without a word, and starts anew. */
  async crash(): Promise<void> {
    await this.end();
    await this.start();
  }

  /** Brings one-liners of traffic and coverage, as batches of their nodes. */
  async bring(lines: readonly string[], coverage: readonly string[] = [], atMs = FROM) {
    const rows = lines.flatMap((line) => seen(line, atMs));
    const words = coverage.map((line) => covered(line, atMs));
    for (const node of ["a", "b"]) {
      const seq = (this.#seq.get(node) ?? 0) + 1;
      this.#seq.set(node, seq);
      const observations = rows.filter((r) => r.node === node).map((r) => r.observation);
      const told = words.filter((w) => w.node === node).map((w) => w.coverage);
      const batch = { type: "batch" as const, seq, clock_ms: atMs, observations, coverage: told };
      await this.store.append({ node, spool: `spool-${node}`, batch, receivedMs: atMs });
    }
  }

  entries(): JsonObject[] {
    return Array.from({ length: this.log.size }, (_, index) => {
      return parseEntry(Buffer.from(proveEntry(this.evidence, index).entry))!;
    });
  }

  /** The log told shortly: `verdict pay… transport confirmed mtls-observed`, `window 01:00`. */
  told(): string[] {
    return this.entries().map((entry) => {
      const again = entry["again"] === true ? " again" : "";
      const type = String(entry["type"]);
      const v = entry["verdict"] as unknown as Verdict | undefined;
      if (v) return `${shorten(v)}${again}`;
      if (type === "window") return `window ${String(entry["from"]).slice(11, 16)}${again}`;
      if (type === "policy") return `policy ${entry["kind"]} ${entry["removed"] ? "-" : "+"}`;
      if (type === "workload") return `workload ${entry["name"]} ${entry["removed"] ? "-" : "+"}`;
      if (type === "withdrawn") return `withdrawn ${entry["edge"]}${again}`;
      const finding = entry["finding"] as { code: string; subject: string } | undefined;
      const coverage = entry["coverage"] as { node: string } | undefined;
      return `${type} ${finding ? `${finding.code} ${finding.subject}` : coverage!.node}${again}`;
    });
  }

  rows(): VerdictRow[] {
    return this.store.verdicts({ fromMs: 0, toMs: Number.MAX_SAFE_INTEGER });
  }

  /** The verdict on web's edge to the ledger in the window that begins at `fromMs`. */
  verdict(aspect: "transport" | "path", fromMs = FROM): string {
    const row = this.rows().find(
      (r) => r.fromMs === fromMs && r.aspect === aspect && r.edge.startsWith(EDGE),
    );
    return row ? shorten((row.body as { verdict: Verdict }).verdict).replace(/^\S+ /, "") : "none";
  }
}

const EDGE = "shop/web[Pod] -> pay/ledger[Pod] : 8443/tcp";
const shorten = (v: Verdict) =>
  `${v.edge.client.name}>${v.edge.server.name} ${v.aspect} ${v.verdict} ${v.reason}`;
const ALL = ["web 0-60", "cart 0-60", "ledger 0-60"];

/** The store says what the log says: every row stands at its entry, the newest of its name. */
function agree(bench: Bench): string[] {
  const entries = bench.entries();
  const wrong: string[] = [];
  for (const { body, edge } of bench.rows()) {
    const { entry, ...told } = body as { entry: number | null };
    const { type: _, again: __, ...logged } = entries[entry ?? -1] ?? {};
    const spell = (value: unknown) => JSON.stringify(sorted(value));
    if (spell(told) !== spell(logged)) wrong.push(`${edge}: entry ${entry}`);
  }
  const report = verifyLog(bench.evidence, path.join(bench.directory, "keys", "evidence.pub"));
  return [...wrong, ...report.problems];
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([k, v]) => [k, sorted(v)]),
  );
}

t.test("a window is judged once, when it is due, after the policy it rests on", async (t) => {
  const bench = await new Bench().start();
  t.strictSame(await bench.judge.step(FROM + 1), []);
  await bench.bring(["web > ledger mtls accepted"], ALL);
  t.strictSame(await bench.judge.step(DUE - 1), []);
  t.equal((await bench.judge.step(DUE)).length, 1);
  t.equal(bench.told().at(-1), "window 01:00");
  const verdicts = bench.told().filter((line) => line.startsWith("web>ledger"));
  t.strictSame(verdicts, [
    "web>ledger path confirmed allowed-and-used",
    "web>ledger transport confirmed mtls-observed",
  ]);
  const entries = bench.entries();
  const kindOf = (entry: JsonObject) => String(entry["type"]);
  t.ok(entries.map(kindOf).lastIndexOf("policy") < entries.map(kindOf).indexOf("verdict"));
  for (const entry of entries.filter((e) => kindOf(e) === "verdict")) {
    for (const { hash, kind } of (entry["verdict"] as unknown as Verdict).because) {
      if (kind === "Pod") continue; // who is meshed; pods are inventory
      t.ok(
        entries.some((e) => kindOf(e) === "policy" && e["hash"] === hash),
        `${kind} is pinned`,
      );
    }
  }
  const policies = entries.filter((e) => kindOf(e) === "policy").length;
  t.equal(policies, bench.declaration.history.versions.at(FROM).length);
  const workloads = bench.told().filter((line) => line.startsWith("workload"));
  t.strictSame(
    workloads.sort(),
    ["cart", "ledger", "web"].map((n) => `workload ${n} +`),
  );
  const own = entries.length - policies - workloads.length - 1;
  t.equal(entries.at(-1)!["entries"], own, "the window counts its own");
  for (const nowMs of [DUE, DUE + 500, DUE + 59_000]) {
    t.strictSame(await bench.judge.step(nowMs), [], "once");
  }
  t.strictSame(agree(bench), []);
  await bench.end();
});

t.test("what comes late judges its window again, and tells only what changed", async (t) => {
  const bench = await new Bench().start();
  await bench.judge.step(FROM);
  await bench.bring(["web > ledger mtls accepted", "cart > ledger rst @c"], ALL);
  await bench.judge.step(DUE);
  const before = bench.told().length;
  await bench.bring(["web > ledger plain accepted"]);
  await bench.bring([], ALL, FROM + WINDOW_MS);
  t.equal((await bench.judge.step(DUE + WINDOW_MS)).length, 2);
  const told = bench.told().slice(before);
  t.strictSame(told.slice(0, 3), [
    "web>ledger path confirmed allowed-and-used again", // its counts changed
    "web>ledger transport violated plaintext-accepted again",
    "window 01:00 again",
  ]);
  t.notOk(told.some((line) => line.startsWith("cart>ledger path") && / again$/.test(line)));
  t.equal(bench.verdict("transport"), "transport violated plaintext-accepted");
  // Coverage of what was watched anyway changes no verdict.
  await bench.bring([], ["web 10-20"]);
  const size = bench.log.size;
  await bench.bring([], ALL, FROM + 2 * WINDOW_MS);
  await bench.judge.step(DUE + 2 * WINDOW_MS);
  t.strictSame(
    bench
      .told()
      .slice(size)
      .filter((line) => / again$/.test(line)),
    ["coverage a again", "window 01:00 again"],
  );
  t.equal(bench.judge.counters.again, 2);
  t.strictSame(agree(bench), []);
  await bench.end();
});

t.test("coverage that comes late takes back a blind spot, and what rested on it", async (t) => {
  const bench = await new Bench().start();
  await bench.judge.step(FROM);
  await bench.bring(["web > ledger mtls accepted"], ["web 0-10"]);
  await bench.judge.step(DUE);
  t.equal(bench.verdict("transport"), "transport unproven partly-watched");
  t.ok(bench.told().includes("finding blind-spot node/b"));
  await bench.bring([], ["web 10-60", "ledger 0-60"]);
  await bench.judge.step(DUE + WINDOW_MS);
  t.equal(bench.verdict("transport"), "transport confirmed mtls-observed");
  t.ok(bench.told().includes("withdrawn blind-spot/node/b again"));
  const inWindow = bench.rows().filter((row) => row.fromMs === FROM);
  t.notOk(
    inWindow.some((row) => row.aspect === "finding"),
    "the finding is gone",
  );
  t.strictSame(agree(bench), []);
  await bench.end();
});

t.test("what a spool brings hours later judges its windows again, some at a time", async (t) => {
  const bench = await new Bench().start();
  await bench.judge.step(FROM);
  const windows = 100;
  for (let i = 0; i < windows; i++) await bench.judge.step(DUE + i * WINDOW_MS);
  for (let i = 0; i < 30; i++) {
    const atMs = FROM + i * WINDOW_MS;
    await bench.bring(["web > ledger plain accepted"], ALL, atMs);
  }
  const dueMs = DUE + windows * WINDOW_MS;
  const first = await bench.judge.step(dueMs);
  t.strictSame(
    [first.length, first.at(-1)!.fromMs],
    [9, FROM + windows * WINDOW_MS],
    "and the new",
  );
  // Killed in between, it begins with the late ones anew, and tells nothing twice.
  await bench.crash();
  for (let i = 0; i < 3; i++) await bench.judge.step(dueMs + WINDOW_MS + i);
  while ((await bench.judge.step(dueMs + WINDOW_MS + 10)).length > 0);
  const violated = bench.rows().filter((row) => {
    const { verdict } = row.body as { verdict?: Verdict };
    return row.aspect === "transport" && verdict?.verdict === "violated";
  });
  t.strictSame(
    violated.map((row) => (row.fromMs - FROM) / WINDOW_MS),
    Array.from({ length: 30 }, (_, i) => i),
  );
  const told = bench.told().filter((line) => line.includes("transport violated"));
  t.equal(told.length, 30);
  t.equal(bench.judge.counters.tooLate, 0);
  t.strictSame(agree(bench), []);
  await bench.end();
});

t.test("what comes too late for any window is counted", async (t) => {
  const bench = await new Bench().start();
  await bench.judge.step(FROM);
  const later = FROM + RETENTION_MS + 2 * WINDOW_MS;
  await bench.judge.step(later + CLOSE_MS);
  await bench.bring(["web > ledger mtls accepted"]);
  await bench.judge.step(later + CLOSE_MS + WINDOW_MS);
  t.equal(bench.judge.counters.tooLate, 2, "its two sightings");
  await bench.end();
});

t.test("a window of which rows have expired is not judged of those that are left", async (t) => {
  const bench = await new Bench().start();
  await bench.judge.step(FROM);
  await bench.bring(["web > ledger plain accepted", "web > ledger mtls accepted"], ALL);
  await bench.judge.step(DUE);
  t.equal(bench.verdict("transport"), "transport violated plaintext-accepted");
  t.ok(bench.store.expireFlows(FROM + 1) > 0);
  // The link to an agent was down: what it brings is a part of what there was.
  await bench.bring(["web > ledger mtls accepted"], ALL);
  await bench.judge.step(DUE + WINDOW_MS);
  t.equal(bench.verdict("transport"), "transport violated plaintext-accepted");
  await bench.end();
  // Nor where it was not judged before: the collector was behind.
  const behind = await new Bench().start();
  await behind.judge.step(FROM);
  await behind.bring(["web > ledger plain accepted"], ALL);
  behind.store.expireFlows(FROM + 1);
  await behind.bring(["web > ledger mtls accepted"], ALL);
  await behind.judge.step(DUE);
  t.equal(behind.verdict("transport"), "transport unproven no-agent");
  await behind.end();
});

t.test("an agent whose clock is far off is not heard, and takes nothing from others", async (t) => {
  const off = { spool: "s", heardMs: FROM + 1, clockOffsetMs: -86_400_000, software: "x" };
  const judged = async (node: string) => {
    const bench = await new Bench().start();
    await bench.judge.step(FROM);
    await bench.bring(["web > ledger plain accepted"], ALL);
    bench.store.heard({ ...off, node });
    await bench.judge.step(DUE);
    const told = bench.told().filter((line) => line.startsWith("finding"));
    const word = bench.verdict("transport");
    await bench.end();
    return [word, ...told];
  };
  t.strictSame(await judged("c"), [
    "transport violated plaintext-accepted",
    "finding clock-stepped node/c",
  ]);
  t.strictSame(await judged("a"), [
    "transport violated plaintext-accepted",
    ...["finding blind-spot node/a", "finding clock-stepped node/a"],
  ]);
});

t.test("a clock that steps back judges nothing twice, and then goes on", async (t) => {
  const bench = await new Bench().start();
  await bench.judge.step(FROM);
  await bench.judge.step(DUE);
  const size = bench.log.size;
  for (const nowMs of [DUE - 3_600_000, FROM, DUE]) {
    t.strictSame(await bench.judge.step(nowMs), []);
  }
  await bench.crash();
  t.strictSame(await bench.judge.step(DUE - 3_600_000), [], "nor after a start");
  t.equal(bench.log.size, size);
  t.equal((await bench.judge.step(DUE + WINDOW_MS)).length, 1);
  t.strictSame(
    bench.told().filter((line) => line.startsWith("window")),
    ["window 01:00", "window 01:01"],
  );
  await bench.end();
});

t.test("what was received before the first window was judged is not lost by a crash", async (t) => {
  const bench = await new Bench().start();
  await bench.judge.step(FROM + 1);
  await bench.bring(["web > ledger mtls accepted"], ALL);
  await bench.crash();
  await bench.judge.step(DUE + 3 * WINDOW_MS);
  t.equal(bench.verdict("transport"), "transport confirmed mtls-observed");
  await bench.end();
});

/** Calls the real store until the nth save, which fails or is never reached. */
function failing(store: Store, from: number, until = Infinity): Store {
  let calls = 0;
  return new Proxy(store, {
    get(target, name) {
      const value = Reflect.get(target, name) as unknown;
      if (typeof value !== "function") return value;
      if (name !== "saveVerdicts") return (value as () => unknown).bind(target);
      return (...args: unknown[]) => {
        calls++;
        if (calls >= from && calls < until) throw new Error("database or disk is full");
        return (value as (...a: unknown[]) => unknown).apply(target, args);
      };
    },
  });
}

/** First judgements in the log: what must be there once, whatever happened. */
const firsts = (bench: Bench) =>
  bench.told().filter((line) => !line.endsWith("again") && !line.startsWith("policy"));

t.test(
  "killed between log and store, at every save: nothing is repeated, nothing lost",
  async (t) => {
    const play = async (bench: Bench, atSave: number, stopsFor: number, isKilled: boolean) => {
      await bench.start();
      bench.judge = bench.newJudge(failing(bench.store, atSave, atSave + stopsFor));
      const step = async (nowMs: number) => {
        try {
          await bench.judge.step(nowMs);
        } catch (error) {
          t.match((error as Error).message, /disk is full/);
          if (isKilled) await bench.crash();
          for (let i = 0; i < stopsFor; i++) await bench.judge.step(nowMs).catch(() => {});
          await bench.judge.step(nowMs);
        }
      };
      await step(FROM);
      await bench.bring(["web > ledger mtls accepted", "cart > ledger rst @c"], ALL);
      await step(DUE);
      // Late for the first window, and again for the second.
      await bench.bring(["web > ledger plain accepted"], ALL, FROM);
      await bench.bring(["web > ledger mtls accepted"], ALL, FROM + WINDOW_MS);
      await step(DUE + WINDOW_MS);
      await bench.bring(["web > ledger resumed accepted"], [], FROM + WINDOW_MS);
      await bench.bring(["cart > ledger plain accepted"], [], FROM);
      await step(DUE + 2 * WINDOW_MS);
      return bench;
    };
    const calm = await play(new Bench(), Infinity, 0, false);
    const wanted = calm.told().filter((line) => !line.startsWith("policy"));
    t.strictSame(
      wanted.filter((line) => / again$/.test(line)),
      [
        "web>ledger path confirmed allowed-and-used again", // its counts
        "web>ledger transport violated plaintext-accepted again",
        ...["coverage a again", "coverage b again"], // told twice over
        "window 01:00 again",
        "cart>ledger path violated denied-and-accepted again",
        "cart>ledger transport violated plaintext-accepted again",
        "window 01:00 again",
        "web>ledger path confirmed allowed-and-used again",
        "web>ledger transport unproven partly-unreadable again",
        "window 01:01 again",
      ],
    );
    const stored = calm.rows().map(({ edge, aspect, fromMs }) => [fromMs, edge, aspect].join());
    t.strictSame(agree(calm), []);
    let saves = 0;
    for (let at = 1; at <= 7; at++) {
      for (const [stops, isKilled] of [
        [1, true],
        [1, false],
        [3, false],
      ] as const) {
        const bench = await play(new Bench(), at, stops, isKilled);
        const why = `save ${at}, ${isKilled ? "killed" : `refused ${stops} times`}`;
        saves++;
        const told = bench.told().filter((line) => !line.startsWith("policy"));
        t.strictSame(told, wanted, why);
        const rows = bench.rows().map(({ edge, aspect, fromMs }) => [fromMs, edge, aspect].join());
        t.strictSame(rows, stored, why);
        t.strictSame(agree(bench), [], why);
        await bench.end();
      }
    }
    t.equal(saves, 21);
    await calm.end();
  },
);

t.test("what comes in while the store is behind is told as late, not passed over", async (t) => {
  const bench = await new Bench().start();
  await bench.judge.step(FROM);
  await bench.bring(["web > ledger mtls accepted"], ALL);
  bench.judge = bench.newJudge(failing(bench.store, 1));
  await t.rejects(bench.judge.step(DUE), /disk is full/);
  await bench.bring(["web > ledger plain accepted"]);
  await bench.crash();
  await bench.judge.step(DUE);
  t.equal(bench.verdict("transport"), "transport confirmed mtls-observed", "as the log has it");
  await bench.judge.step(DUE + WINDOW_MS);
  t.equal(bench.verdict("transport"), "transport violated plaintext-accepted");
  t.ok(bench.told().includes("web>ledger transport violated plaintext-accepted again"));
  t.strictSame(agree(bench), []);
  await bench.end();
});

t.test("a store that was lost gets its verdicts back from the log", async (t) => {
  const bench = await new Bench().start();
  await bench.judge.step(FROM);
  await bench.bring(["web > ledger mtls accepted"], ALL);
  await bench.judge.step(DUE);
  const [rows, told] = [bench.rows(), firsts(bench)];
  await bench.end();
  fs.rmSync(path.join(bench.directory, "store"), { recursive: true });
  await bench.start();
  await bench.judge.step(DUE);
  t.strictSame(sorted(bench.rows()), sorted(rows));
  t.strictSame(firsts(bench), told, "and the window is not told twice");
  await bench.end();
});

t.test("a full disk under the evidence log: it stops signing, and says so", async (t) => {
  let isFull = false;
  const files: LogFiles = {
    ...DISK,
    write: async (fd, bytes, at) => {
      if (isFull) throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
      return DISK.write(fd, bytes, at);
    },
  };
  const bench = await new Bench().start({ files });
  await bench.judge.step(FROM);
  await bench.bring(["web > ledger mtls accepted"], ALL);
  const { checkpoint } = bench.log;
  isFull = true;
  await t.rejects(bench.judge.step(DUE), /the log has stopped, and signs nothing more/);
  t.match(bench.said.join("\n"), /evidence: a write failed.*no space left on device/);
  t.ok(bench.log.fatal);
  isFull = false;
  await t.rejects(bench.judge.step(DUE + 500), /has stopped/, "it does not begin again by itself");
  t.equal(bench.log.checkpoint, checkpoint);
  t.equal(bench.verdict("transport"), "none", "no verdict without its evidence");
  await bench.crash();
  await bench.judge.step(DUE);
  t.equal(bench.verdict("transport"), "transport confirmed mtls-observed");
  t.strictSame(agree(bench), []);
  await bench.end();
});

/** Why no small disk can be mounted here; null where it can. */
function whyNoMount(): string | null {
  if (process.getuid?.() !== 0) return "not root: a small disk cannot be mounted";
  const place = fs.mkdtempSync(path.join(temporary, "mount-"));
  const { status, stderr } = spawnSync("mount", ["-t", "tmpfs", "tmpfs", place]);
  if (status === 0) spawnSync("umount", [place]);
  return status === 0 ? null : `a small disk cannot be mounted: ${stderr}`;
}

t.test(
  "a full disk under the store: nothing is acknowledged, and all of it comes again",
  { skip: whyNoMount() ?? false },
  async (t) => {
    const bench = new Bench();
    const disk = path.join(bench.directory, "disk");
    fs.mkdirSync(disk);
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=600k", "tmpfs", disk]);
    t.equal(mounted.status, 0);
    t.teardown(() => spawnSync("umount", [disk]));
    await bench.start({ storeDirectory: path.join(disk, "store") });
    await bench.judge.step(FROM);
    let durable = 0;
    const lines = ["web > ledger mtls accepted x40"];
    await t.rejects(async () => {
      for (let i = 0; i < 100; i++) {
        await bench.bring(lines);
        durable++;
      }
    }, /disk is full|disk I\/O/);
    const held = bench.store.acknowledged("a", "spool-a");
    t.ok(durable > 0 && held >= durable && held <= durable + 1, "what is durable, and no more");
    const stored = bench.store.observationsSince(0, 1e6).filter((row) => row.node === "a");
    t.equal(stored.length, held * 40, "a batch is stored whole, or not at all");
    await bench.end();
  },
);

// ---- what is declared, and a new start ---------------------------------------------------------

t.test("who held an address, and which policy was in force, outlives the process", async (t) => {
  const bench = await new Bench().start();
  await bench.judge.step(FROM);
  // The ledger goes, and the cart's next pod has its address; the mesh is let loose.
  const moved = FILES["pods.yaml"]
    .replace(/---\n\{apiVersion: v1, kind: Pod, metadata: \{name: ledger.*\n/, "")
    .replace(`podIP: ${PODS.cart.ip}`, `podIP: ${PODS.ledger.ip}`);
  t.notMatch(moved, /name: ledger/);
  bench.declare({ "pods.yaml": moved, "mesh.yaml": PERMISSIVE });
  bench.read(FROM + 30_000);
  await bench.end();
  // No window was judged yet: the evidence log knows nothing of it.
  await bench.start({ nowMs: FROM + 50_000 });
  await bench.bring(["web > ledger plain accepted"], ALL, FROM + 1_000);
  await bench.judge.step(DUE);
  t.equal(bench.verdict("transport"), "transport violated plaintext-accepted");
  t.notOk(bench.told().some((line) => line.startsWith("web>cart")));
  // What went while nobody looked was last there when it was looked for last.
  bench.declare(FILES);
  await bench.end();
  await bench.start({ nowMs: DUE + 90_000 });
  const at = (ms: number) => bench.declaration.inventory.whoHad(PODS.ledger.ip, ms)?.name ?? null;
  t.strictSame(
    [FROM, FROM + 29_999, FROM + 30_000, DUE - 16_000, DUE, DUE + 89_999, DUE + 90_000].map(at),
    ["ledger", "ledger", "cart", "cart", null, null, "ledger"],
  );
  await bench.end();
});

t.test("what the very first list held is in force since ever, also for a new start", async (t) => {
  const policy = toClusterObject(
    {
      ...{ apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy" },
      metadata: { name: "first", namespace: "pay" },
      spec: { podSelector: {} },
    },
    null,
  )!;
  const store = openSqlite(fresh());
  const journal = new DeclaredJournal(store);
  const begin = () => {
    const declaration = new Declaration(15_000, () => {}, journal);
    declaration.restore([], 0);
    return declaration;
  };
  const first = begin();
  first.applyFirst(policy, FROM, FROM);
  first.endFirst(FROM);
  journal.flush(FROM);
  const since = (declaration: Declaration) =>
    declaration.history.versions.of(policy)[0]?.firstSeenMs;
  t.equal(since(first), -Infinity);
  t.equal(since(begin()), -Infinity);
  await store.close();
});

t.test("the journal keeps what still counts, and what is in force", async (t) => {
  const bench = await new Bench().start();
  const names = () => [...bench.store.declared()].map(({ key, atMs }) => `${key} ${atMs}`);
  const mesh = "PeerAuthentication.security.istio.io/pay/default";
  for (const [i, text] of [PERMISSIVE, STRICT, "# none\n", PERMISSIVE].entries()) {
    bench.declare({ "mesh.yaml": text });
    bench.read(FROM + i * 1_000);
  }
  const of = (key: string) => names().filter((name) => name.startsWith(key));
  t.strictSame(
    of(mesh),
    ["-Infinity", ...[0, 1, 2, 3].map((s) => FROM + s * 1_000)].map((at) => `${mesh} ${at}`),
  );
  const pods = of("Pod./").length;
  t.equal(bench.store.expireDeclared(FROM + 1_500), 2);
  t.strictSame(
    of(mesh),
    [1, 2, 3].map((s) => `${mesh} ${FROM + s * 1_000}`),
  );
  t.equal(bench.store.expireDeclared(FROM + 2_500), 2, "an end, and what it ended");
  t.strictSame(of(mesh), [`${mesh} ${FROM + 3_000}`]);
  t.equal(bench.store.expireDeclared(FROM + 9_000), 0, "what is in force stays");
  t.equal(of("Pod./").length, pods);
  // The same content again is not noted again.
  const size = names().length;
  bench.declare({ "mesh.yaml": `${PERMISSIVE}# said otherwise\n` });
  bench.read(FROM + 10_000);
  t.equal(names().length, size);
  await bench.end();
});

// ---- manifests that change while it runs -----------------------------------------------------

t.test("a manifest broken while it runs: told, the rest loads, dependents unproven", async (t) => {
  const bench = await new Bench().start();
  await bench.judge.step(FROM);
  const steps: readonly [string, Record<string, string>, string][] = [
    ["whole", {}, "transport confirmed mtls-observed"],
    ["broken", { "mesh.yaml": "kind: [\n  oops: }\n" }, "transport unproven policy-incomplete"],
    ["mended", { "mesh.yaml": STRICT }, "transport confirmed mtls-observed"],
    ["gone", { "mesh.yaml": "# nothing\n" }, "transport nothing-demanded mtls-undemanded"],
  ];
  for (const [i, [name, files, wanted]] of steps.entries()) {
    const fromMs = FROM + i * WINDOW_MS;
    bench.declare(files);
    bench.said.length = 0;
    bench.read(fromMs);
    if (name === "broken") {
      const told = bench.said.find((line) => line.startsWith("mesh.yaml:"));
      t.match(told, /^mesh\.yaml:\d+:\d+: /, "with file, line and column");
      t.ok(told!.length > "mesh.yaml:1:1: ".length + 10, `and the reason: ${told}`);
      t.equal(bench.declaration.problems.length, 1);
      t.ok(bench.declaration.inventory.whoHad(PODS.web.ip, fromMs), "the rest is loaded");
    } else t.equal(bench.declaration.problems.length, 0, name);
    // What is gone counts for the grace of 15 s, with what was there before.
    await bench.bring(["web > ledger mtls accepted +5"], ALL, fromMs);
    await bench.judge.step(fromMs + WINDOW_MS + CLOSE_MS);
    t.equal(bench.verdict("transport", fromMs), wanted, name);
  }
  t.strictSame(
    bench.told().filter((line) => line.startsWith("policy PeerAuthentication")),
    ["policy PeerAuthentication +", "policy PeerAuthentication -"],
    "what cannot be read was not removed; what is gone was",
  );
  const last = FROM + steps.length * WINDOW_MS;
  await bench.bring(["web > ledger plain accepted"], ALL, last);
  await bench.judge.step(last + WINDOW_MS + CLOSE_MS);
  t.not(bench.verdict("transport", last), "transport violated plaintext-accepted");
  t.strictSame(agree(bench), []);
  await bench.end();
});

t.test(
  "a folder that can no longer be read leaves everything unproven, until it can",
  async (t) => {
    const bench = await new Bench().start();
    await bench.judge.step(FROM);
    const folder = path.join(bench.directory, "manifests");
    fs.renameSync(folder, `${folder}-away`);
    bench.read(FROM);
    t.match(bench.said.at(-1), /manifests: there is no /);
    const said = bench.said.length;
    bench.read(FROM + 2000);
    t.equal(bench.said.length, said, "told once");
    await bench.bring(["web > ledger mtls accepted"], ALL);
    await bench.judge.step(DUE);
    t.equal(bench.verdict("transport"), "transport unproven policy-incomplete");
    fs.renameSync(`${folder}-away`, folder);
    bench.read(DUE);
    await bench.bring(["web > ledger mtls accepted"], ALL, FROM + WINDOW_MS);
    await bench.judge.step(DUE + WINDOW_MS);
    t.equal(bench.verdict("transport", FROM + WINDOW_MS), "transport confirmed mtls-observed");
    await bench.end();
  },
);

t.test("a change of policy is in the log before what rests on it, and has its grace", async (t) => {
  const bench = await new Bench().start();
  bench.declare({ "mesh.yaml": PERMISSIVE });
  bench.read(FROM - 1_000_000);
  await bench.judge.step(FROM);
  bench.declare({ "mesh.yaml": STRICT });
  bench.read(FROM);
  await bench.bring(["web > ledger plain accepted +14"], ALL);
  await bench.judge.step(DUE);
  t.equal(bench.verdict("transport"), "transport unproven policy-changed", "in grace");
  await bench.bring(["web > ledger plain accepted +16"], ALL, FROM);
  await bench.judge.step(DUE + WINDOW_MS);
  t.equal(bench.verdict("transport"), "transport violated plaintext-accepted", "a second later");
  const told = bench.told();
  const policies = bench.entries().filter((e) => e["kind"] === "PeerAuthentication");
  t.strictSame(
    policies.map((e) => JSON.stringify(e["object"]).match(/STRICT|PERMISSIVE/)?.[0]),
    ["STRICT", "PERMISSIVE", "STRICT"],
  );
  t.ok(
    told.findLastIndex((line) => line.startsWith("policy")) <
      told.findIndex((line) => line.startsWith("web>ledger")),
  );
  await bench.end();
});

// ---- metrics -------------------------------------------------------------------------------

t.test("a scrape tells windows, verdicts by word, blind spots, gaps and refusals", async (t) => {
  const bench = await new Bench().start();
  await bench.judge.step(FROM);
  await bench.bring(["web > ledger plain accepted @c", "cart > ledger rst @c"], ["web 0-60"]);
  bench.store.heard({
    ...{ node: "a", spool: "spool-a", heardMs: FROM, clockOffsetMs: 2500, software: "x" },
  });
  await bench.judge.step(DUE);
  const counters = {
    ...{ batches: 7, duplicates: 2, lost: 3, observations: 11, coverage: 5 },
    refused: { "wrong-node": 1, "not-durable": 4 } as never,
    handshakes: { expired: 6 },
  };
  const group = { rate: 0.5, nodes: [] };
  const samples = () => ["k", "l"].map((key) => ({ ...group, key }));
  const registry = collectorMetrics({
    ...bench,
    ...{ ingest: { counters, nodes: () => ["a", "b"], samples }, evidence: bench.log },
    ...{ judge: bench.judge, store: bench.store, declaration: bench.declaration },
  });
  const scrape = async () => {
    const text = await registry.metrics();
    const values = new Map<string, number>();
    for (const line of text.split("\n")) {
      const found = /^wireproof_collector_(\S+) (\S+)$/.exec(line);
      if (found) values.set(found[1]!, Number(found[2]));
    }
    return values;
  };
  const values = await scrape();
  const expected: Record<string, number> = {
    ...{
      agents: 2,
      samples: 2,
      batches_total: 7,
      batches_duplicate_total: 2,
      batches_lost_total: 3,
    },
    ...{ observations_total: 11, coverage_total: 5 },
    'refused_total{code="wrong-node"}': 1,
    'refused_total{code="not-durable"}': 4,
    'handshakes_failed_total{reason="expired"}': 6,
    'agent_clock_offset_seconds{node="a"}': 2.5,
    ...{ windows_judged_total: 1, windows_judged_again_total: 0, late_rows_total: 0 },
    'verdicts_total{verdict="violated"}': 1,
    'verdicts_total{verdict="undecidable"}': 0,
    'findings_total{code="blind-spot"}': 1,
    'findings_total{code="clock-stepped"}': 1,
    ...{ policy_problems: 0, evidence_stopped: 0, evidence_entries: bench.log.size },
  };
  for (const [name, value] of Object.entries(expected)) t.equal(values.get(name), value, name);
  t.strictSame(await scrape(), values, "a second scrape counts nothing twice");
  await bench.end();
});

t.test("a flood that an agent could not keep is a finding about its source", async (t) => {
  const bench = await new Bench().start();
  const told = (floods: { source: string; attempts: number }[], seq: number, line = ALL[0]!) => {
    const { node, coverage } = covered(line, FROM);
    const batch = { type: "batch" as const, seq, clock_ms: FROM, observations: [] };
    const whole = { ...batch, coverage: [{ ...coverage, floods }] };
    return bench.store.append({ node, spool: `flood-${node}`, batch: whole, receivedMs: FROM });
  };
  await bench.judge.step(FROM);
  const web = covered(ALL[0]!, FROM).coverage.addresses[0]!;
  await told(
    [
      { source: web, attempts: 900_000 },
      { source: "*", attempts: 7 },
    ],
    1,
  );
  await told([{ source: web, attempts: 100_000 }], 2, "web 0-30");
  await told([{ source: "203.0.113.9", attempts: 5 }], 3, "web 30-90"); // it ends in the next window
  const [judged] = await bench.judge.step(DUE);
  const floods = judged!.judgement.findings.filter(({ code }) => code === "syn-flood");
  t.strictSame(
    floods.map(({ subject, sentence }) => [subject, sentence.split(" ")[0]]),
    [
      ["shop/web[Pod]", "1000000"],
      ["node/a", "7"],
    ],
  );
  const [next] = await bench.judge.step(DUE + WINDOW_MS);
  const later = next!.judgement.findings.filter(({ code }) => code === "syn-flood");
  t.strictSame(
    later.map(({ subject }) => subject),
    ["203.0.113.9[External]"],
  );
  await bench.end();
});

t.test("a pod that sends under other addresses is a finding about that pod", async (t) => {
  const bench = await new Bench().start();
  const told = (line: string, seq: number, stopped: Record<string, number>) => {
    const { node, coverage } = covered(line, FROM);
    const batch = { type: "batch" as const, seq, clock_ms: FROM, observations: [] };
    const whole = { ...batch, coverage: [{ ...coverage, stopped }] };
    return bench.store.append({ node, spool: `spoof-${node}`, batch: whole, receivedMs: FROM });
  };
  await bench.judge.step(FROM);
  await told("web 0-30", 1, { spoofedSource: 7, misdelivered: 40 });
  await told("web 30-60", 2, { spoofedSource: 5 });
  await told("cart 0-60", 3, { misdelivered: 40, notIp: 3 });
  const [judged] = await bench.judge.step(DUE);
  const spoofs = judged!.judgement.findings.filter(({ code }) => code === "spoofed-source");
  t.strictSame(
    spoofs.map(({ subject, sentence }) => [subject, sentence.split(" ")[0]]),
    [["shop/web[Pod]", "12"]],
  );
  await bench.end();
});
