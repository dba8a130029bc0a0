/** Checks the house rules of ARCHITECTURE.md on every source file. */
import { readFileSync, globSync, existsSync } from "node:fs";
import path from "node:path";
import t from "tap";

const root = path.resolve(import.meta.dirname, "..");

const readText = (file: string) => readFileSync(path.join(root, file), "utf8");

/** Which rooms a room may import, beside itself. This list is the architecture. */
const ROOMS: Record<string, readonly string[]> = {
  protocol: [],
  "agent/capture": ["protocol"],
  "agent/decode": [],
  "agent/flow": ["agent/decode"],
  "agent/read": [],
  "agent/identify": ["agent/read", "protocol"],
  "agent/tls": ["agent/read"],
  "agent/quic": ["agent/read", "agent/tls"],
  "agent/assess": [
    "agent/decode",
    "agent/flow",
    "agent/identify",
    "agent/quic",
    "agent/tls",
    "agent/read",
    "protocol",
  ],
  "agent/uplink": ["protocol"],
  // The wiring of each half.
  agent: ["protocol", "agent/*"],
  "collector/ingest": ["protocol", "collector/store"],
  "collector/attribution": ["protocol"],
  // Policy's layers know neither each other nor who asks; answers and lint are the commands'.
  ...roomsOf("collector/policy", {
    decision: ["", "manifest"],
    manifest: ["packet", "mesh", "segmentation"], // the shapes of their kinds
    packet: ["", "decision", "manifest"],
    mesh: ["", "decision", "manifest"],
    segmentation: ["", "decision", "manifest"],
    "": ["decision", "manifest", "packet", "mesh", "segmentation"],
    history: ["", "manifest"],
    answer: ["", "decision", "manifest", "packet", "mesh"],
    lint: ["", "decision", "manifest", "packet", "mesh", "segmentation", "answer"],
  }),
  "collector/verdict": [
    "protocol",
    "collector/attribution",
    "collector/policy",
    "collector/policy/history",
  ],
  "collector/evidence": [],
  "collector/store": ["protocol"],
  "collector/api": ["protocol", "collector/store", "collector/evidence", "collector/verdict"],
  // Types alone: the page is built apart, and brings nothing of ours along.
  "collector/ui": ["protocol", "collector/verdict"],
  collector: ["protocol", "collector/*"],
  ".": ["protocol", "agent", "collector", "agent/*", "collector/*", "scripts"],
  scripts: ["protocol", "agent", "collector", "agent/*", "collector/*"],
};

/** Rooms within a room, its own loose files by ""; all of them may import what stands below it. */
function roomsOf(room: string, within: Record<string, readonly string[]>) {
  const below = ["protocol", "collector/attribution"];
  const pathOf = (name: string) => (name === "" ? room : `${room}/${name}`);
  const entries = Object.entries(within).map(
    ([name, allowed]) => [pathOf(name), [...below, ...allowed.map(pathOf)]] as const,
  );
  return Object.fromEntries(entries);
}

/** Files that may meet the outside world: disk, network, clock, environment, randomness. */
const OUTSIDE = [
  /^wireproof\.ts$/,
  /^protocol\/settings-file\.ts$/,
  /^(agent|collector)\/(main|watcher|watcher-worker|restarting-watcher|workers|config|inspect|metrics|declaration|pki)\.ts$/,
  /^agent\/(capture|uplink)\//,
  /^collector\/(ingest|api|store|export|ui)\//,
  /^collector\/attribution\/cluster\.ts$/,
  /^collector\/policy\/manifest\/(declared|git-manifests)\.ts$/,
  /^collector\/evidence\/(log|verify)\.ts$/,
  /^scripts\//,
];
const WORLD =
  /node:(fs|net|tls|http|https|child_process|dgram|os)\b|\bDate\.now\b|\bprocess\.env\b|\bset(Timeout|Interval)\(|\bMath\.random\b|\brandomUUID\b/;

const BANNED_FILES = /(^|\/)(index|utils?|common|helpers?|types|shared|constants)\.tsx?$/;
const BANNED_NAMES =
  /\b(?:class|interface|type|function|const)\s+(?:I[A-Z][a-z]\w+|\w+(?:Impl|Manager|Helper|Util|Handler))\b/;

const files = globSync(["wireproof.ts", "{protocol,agent,collector,scripts}/**/*.{ts,tsx}"], {
  cwd: root,
}).sort();

function roomOf(file: string): string {
  const parts = file.split("/");
  if (parts.length === 1) return ".";
  if (parts[0] === "protocol" || parts[0] === "scripts") return parts[0];
  const depth = file.startsWith("collector/policy/") ? 3 : 2;
  return parts.slice(0, Math.min(depth, parts.length - 1)).join("/");
}

function mayImport(from: string, to: string): boolean {
  if (from === to) return true;
  const allowed = ROOMS[from];
  if (!allowed) return false;
  return allowed.some((a) => a === to || (a.endsWith("/*") && to.startsWith(a.slice(0, -1))));
}

/** Files of ours that a file's text imports, types too; as they are named from the root. */
function importsOf(file: string, text: string): string[] {
  const targets = text.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)"/g);
  return [...targets].map((m) => path.posix.join(path.posix.dirname(file), m[1]!));
}

/**
 * A packet carries a packet, as often as `ENCAP_LIMIT` allows: these decoders call each other. By a
 * table of functions, or a loop around them, they would do the same, hidden and slower.
 */
const CARRIERS = ["ethernet", "ip", "shim", "transport", "tunnel"].map(
  (name) => `agent/decode/${name}.ts`,
);

/**
 * The circles of imports: all files of which each leads to each (Tarjan's strongly connected
 * components), every circle in the order of names.
 */
function circlesOf(imports: ReadonlyMap<string, readonly string[]>): string[][] {
  const circles: string[][] = [];
  const numbers = new Map<string, number>();
  const open: string[] = [];
  /** The lowest number of an open file to which this one leads. */
  const visit = (file: string): number => {
    const own = numbers.size;
    numbers.set(file, own);
    open.push(file);
    let lowest = own;
    for (const next of imports.get(file) ?? []) {
      if (next === file) circles.push([file]);
      else if (!numbers.has(next)) lowest = Math.min(lowest, visit(next));
      else if (open.includes(next)) lowest = Math.min(lowest, numbers.get(next)!);
    }
    if (lowest < own) return lowest;
    const circle = open.splice(open.indexOf(file));
    if (circle.length > 1) circles.push(circle.sort());
    return lowest;
  };
  for (const file of imports.keys()) if (!numbers.has(file)) visit(file);
  return circles;
}

/** Every breach of the house rules in one file's text, as sentences. */
function breaches(file: string, text: string): string[] {
  const found: string[] = [];
  const lines = text.split("\n");
  const room = roomOf(file);
  const pure = !OUTSIDE.some((p) => p.test(file));
  if (lines.length > 501) found.push(`${file}: ${lines.length} lines; the limit is 500`);
  if (BANNED_FILES.test(file)) found.push(`${file}: a file is named for its noun`);
  if (!/^(#!.*\n)?\/\*\*/.test(text))
    found.push(`${file}: opens with one sentence on what it does`);
  if (!(room in ROOMS)) found.push(`${file}: the room ${room} is not in the list of rooms`);
  lines.forEach((line, i) => {
    const at = `${file}:${i + 1}`;
    if (line.length > 100) found.push(`${at}: ${line.length} columns; the limit is 100`);
    if (/^\s*(\*|\/\/|\/\*)/.test(line)) return;
    if (/(:|<|\bas)\s*any\b/.test(line)) found.push(`${at}: any`);
    if (/^\s*(export\s+)?(const\s+)?enum\b/.test(line)) found.push(`${at}: enum`);
    if (/^export\s+(\*|\{[^}]*\}\s+from)/.test(line)) found.push(`${at}: re-export`);
    if (BANNED_NAMES.test(line)) found.push(`${at}: banned name: ${line.trim()}`);
    if (pure && WORLD.test(line))
      found.push(`${at}: the outside world in a pure room: ${line.trim()}`);
    const target = /(?:from|import)\s*\(?\s*"(\.[^"]+)"/.exec(line)?.[1];
    if (target === undefined || /\.(css|svg)$/.test(target)) return;
    const resolved = path.posix.normalize(path.posix.join(path.posix.dirname(file), target));
    if (!existsSync(path.join(root, resolved))) found.push(`${at}: imports ${resolved}, not there`);
    else if (!mayImport(room, roomOf(resolved))) {
      found.push(`${at}: ${room} must not import ${roomOf(resolved)}`);
    } else if (room === "collector/ui" && roomOf(resolved) !== room && !/^import type /.test(line))
      found.push(`${at}: ${room} imports types alone`);
  });
  return found;
}

t.test("every file keeps the house rules", async (t) => {
  t.ok(files.length > 5, "files are found");
  t.strictSame(
    files.flatMap((file) => breaches(file, readText(file))),
    [],
  );
});

t.test("no file is imported by what it imports, but for packets in packets", async (t) => {
  const imports = new Map(files.map((file) => [file, importsOf(file, readText(file))]));
  t.strictSame(circlesOf(imports), [CARRIERS]);
});

t.test("every file is imported by another, or is an entry", async (t) => {
  const entry = /^(wireproof\.ts|scripts\/|collector\/ui\/|agent\/.*-worker\.ts)/;
  const imported = new Set(files.flatMap((file) => importsOf(file, readText(file))));
  t.strictSame(
    files.filter((f) => !entry.test(f) && !imported.has(f)),
    [],
  );
});

t.test("planted breaches are found", async (t) => {
  const planted = (file: string, code: string) =>
    breaches(file, `/** Plants. */\n${code}\n`).length;
  t.equal(planted("collector/verdict/bad.ts", 'import "../../agent/tls/record.ts";'), 1);
  const toLinkerd = 'from "../mesh/linkerd/linkerd.ts";';
  t.equal(planted("collector/policy/packet/bad.ts", `import { LinkerdPolicies } ${toLinkerd}`), 1);
  t.equal(planted("collector/policy/lint/good.ts", `import { LinkerdPolicies } ${toLinkerd}`), 0);
  t.equal(planted("collector/verdict/bad.ts", 'import "../policy/lint/lint.ts";'), 1);
  t.equal(planted("agent/decode/bad.ts", "const x: any = Date.now();"), 2);
  t.equal(planted("agent/decode/utils.ts", "enum X {}"), 2);
  t.equal(planted("agent/decode/good.ts", "const x = 1;"), 0);
  const verdict = 'from "../verdict/verdict.ts";';
  t.equal(planted("collector/ui/good.ts", `import type { Edge } ${verdict}`), 0);
  t.equal(planted("collector/ui/bad.ts", `import { VERDICTS } ${verdict}`), 1);
  const circles = (texts: Record<string, string>) =>
    circlesOf(new Map(Object.entries(texts).map(([file, text]) => [file, importsOf(file, text)])));
  const [toB, toC] = ['import type { B }\n  from "./b.ts";', 'await import("../r/c.ts");'];
  const toA = 'import { a } from "./a.ts";';
  t.strictSame(circles({ "r/a.ts": toB, "r/b.ts": toC, "r/c.ts": "" }), []);
  t.strictSame(circles({ "r/a.ts": toB + toC, "r/b.ts": toC, "r/c.ts": "" }), []);
  const round = { "r/d.ts": toA, "r/a.ts": toB, "r/b.ts": toC, "r/c.ts": toA, "r/e.ts": toC };
  t.strictSame(circles(round), [["r/a.ts", "r/b.ts", "r/c.ts"]]);
  t.strictSame(circles({ "r/b.ts": toB }), [["r/b.ts"]]);
});
