/** Tests how agents write and check rows, against the libraries that declare and read them. */
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { isDeepStrictEqual } from "node:util";
import t from "tap";
import { Compile } from "typebox/compile";
import { Unpackr } from "msgpackr";
import { Batch, renumbered } from "../agent/uplink/batch.ts";
import { MessagePack } from "../agent/uplink/message-pack.ts";
import { Shapes, writerOf } from "../agent/uplink/row-writer.ts";
import { Coverage } from "../protocol/coverage.ts";
import { Observation } from "../protocol/observation.ts";
import { formatRowSchema } from "../scripts/row-schema.ts";
import { random } from "./frames.ts";

const ROOT = path.join(import.meta.dirname, "..");
const SCHEMA = path.join(ROOT, "protocol/row-schema.json");

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
type Holder = { [name: string | number]: Json };

/** Rows as agents make them of the golden captures, of every protocol and failure. */
function goldenRows(): Json[] {
  const folder = path.join(ROOT, "test/golden");
  const files = readdirSync(folder).filter((file) => file.endsWith(".jsonl"));
  const lines = files.flatMap((file) =>
    readFileSync(path.join(folder, file), "utf8").trim().split("\n"),
  );
  return lines.map((line, i) => {
    const { schema: _schema, file: _file, ...record } = JSON.parse(line) as { [n: string]: Json };
    const whole = { flow: `run.1.${i}`, revision: 1, final: true, interface: "veth1" };
    return { ...whole, vantage: "client", isn: [i, null], sampling: 1, record };
  });
}

const COVERAGE: Json = {
  ...{ interface: "veth1", addresses: ["10.0.0.1"], from_ms: 1, to_ms: 2.5, source: "ring" },
  ...{ sampling: 1, delivered: 1, dropped: 0, cut_off: 0, packets: 1 },
  ...{ stopped: { fragment: 2 }, discarded: {}, floods: [{ source: "*", attempts: 3 }] },
  discards: [{ interface: "veth1", from_ms: 0, to_ms: 2.5, observations: 3 }],
};

/** What stands in for a value: near a limit, of another type, or nothing. */
const STRANGE: readonly (Json | undefined)[] = [
  ...[
    null,
    true,
    "",
    "x",
    "yes",
    "mtls",
    "tls",
    -1,
    0,
    0.5,
    1,
    65_535,
    65_536,
    2 ** 32,
    -(2 ** 31),
  ],
  ...[1e308, Number.NaN, Number.POSITIVE_INFINITY, [], [1], ["a"], [null, null, null], {}],
  ...["🂡".repeat(20), "🂡".repeat(40), "a".repeat(45), "a".repeat(46), "a".repeat(5000), undefined],
  ...[Array.from({ length: 300 }, () => "a"), { a: 1 }, { a: "b" }],
];

/** Every place in a value, as the object that holds it and its name there. */
function placesOf(value: Json, places: [Holder, string][] = []): [Holder, string][] {
  if (typeof value !== "object" || value === null) return places;
  for (const name of Object.keys(value)) {
    places.push([value as Holder, name]);
    placesOf((value as Holder)[name]!, places);
  }
  return places;
}

t.test("the schema that agents read is the rows' own", async (t) => {
  t.equal(readFileSync(SCHEMA, "utf8"), formatRowSchema(), "node scripts/row-schema.ts writes it");
});

const unpackr = new Unpackr({ useRecords: true });

/** Writes rows as one list; null where one is refused. */
function written(
  write: ReturnType<typeof writerOf>,
  rows: readonly unknown[],
  to = new MessagePack(1 << 20),
): Buffer | null {
  to.clear();
  to.list(rows.length);
  for (const row of rows) if (!write(to, row)) return null;
  return Buffer.from(to.written);
}

t.test("the writer agrees with the library on rows and on what is nearly one", async (t) => {
  const schema = JSON.parse(readFileSync(SCHEMA, "utf8")) as Record<string, object>;
  const below = random(20_261_122);
  const kinds = [
    { name: "observation", library: Compile(Observation), rows: goldenRows() },
    { name: "coverage", library: Compile(Coverage), rows: [COVERAGE] },
  ] as const;
  for (const { name: kind, library, rows } of kinds) {
    const write = writerOf(schema[kind] as never, new Shapes());
    t.ok(rows.every((row) => library.Check(row)));
    t.strictSame(unpackr.unpack(written(write, rows)!), rows, "all of them in one message");
    let refused = 0;
    for (let round = 0; round < 20_000; round++) {
      const row = structuredClone(rows[below(rows.length)]!);
      const places = placesOf(row);
      const [holder, name] = places[below(places.length)]!;
      const strange = STRANGE[below(STRANGE.length)];
      if (strange === undefined && Array.isArray(holder)) holder.splice(Number(name), 1);
      else if (strange === undefined) delete holder[name];
      else holder[name] = strange;
      const bytes = written(write, [row, row]);
      if (bytes === null) refused++;
      const where = `${name}: ${JSON.stringify(strange)?.slice(0, 80)}`;
      if ((bytes !== null) !== library.Check(row)) t.fail(where);
      if (bytes !== null) isDeepStrictEqual(unpackr.unpack(bytes), [row, row]) || t.fail(where);
    }
    t.ok(refused > 5000 && refused < 19_900, `${refused} of 20,000 were refused`);
  }
});

const NUMBERS = [0, 63, 64, 127, 128, 255, 256, 65_535, 65_536, 2 ** 31, 2 ** 32 - 1, 2 ** 32];

t.test("numbers and texts of every length come back", async (t) => {
  const negative = NUMBERS.slice(1).map((n) => -n);
  const numbers = [...NUMBERS, ...negative, 2 ** 53 - 1, 0.1, -1.5e-9, 1e300];
  const schema = { type: "array", items: { anyOf: [{ type: "number" }, { type: "string" }] } };
  const write = writerOf(schema, new Shapes());
  const lengths = [0, 1, 15, 16, 31, 32, 47, 48, 49, 84, 85, 255, 256, 65_535, 65_536];
  const texts = lengths.flatMap((n) => ["a".repeat(n), "é".repeat(n), `${"a".repeat(n)}🂡`]);
  const many = Array.from({ length: 70_000 }, (_, i) => i);
  for (const rows of [[[], NUMBERS, numbers], [texts], [many]]) {
    t.strictSame(unpackr.unpack(written(write, rows)!), rows);
  }
  t.throws(() => writerOf({ type: "string", pattern: "^a" }, new Shapes()), /is not known/);
});

/** Objects of several shapes, some of them in others. */
const INNER = {
  ...{ type: "object", required: ["b"] },
  properties: { b: { type: "integer" }, c: { type: "string" } },
};
const OUTER = {
  ...{ type: "object", required: ["a"] },
  properties: { a: { type: "integer" }, one: INNER, two: { anyOf: [INNER, { type: "null" }] } },
};

t.test("what is frozen is written once, and only what passed", async (t) => {
  const write = writerOf(OUTER, new Shapes());
  const inner = [Object.freeze({ b: 1 }), Object.freeze({ b: 2, c: "x" }), { b: 3, c: "y" }];
  const outer = inner.flatMap((one) => [
    Object.freeze({ a: 1, one }),
    { a: 2, one, two: null },
    Object.freeze({ a: 3, one, two: one }),
    { a: 4 },
  ]);
  const below = random(20_261_123);
  const to = new MessagePack(1 << 20);
  for (let round = 0; round < 500; round++) {
    const rows = Array.from({ length: 1 + below(6) }, () => outer[below(outer.length)]!);
    t.strictSame(unpackr.unpack(written(write, rows, to)!), rows);
  }
  const bad = Object.freeze({ a: 1, one: Object.freeze({ b: "1" }) });
  t.equal(written(write, [bad]), null);
  t.equal(written(write, [bad]), null, "nor the second time");
  const open = { a: 1 as unknown };
  t.ok(written(write, [open]));
  open.a = "1";
  t.equal(written(write, [open]), null, "what is not frozen may have changed");
});

t.test("more shapes than have numbers", async (t) => {
  const names = ["a", "b", "c", "d", "e", "f", "g"];
  const properties = Object.fromEntries(names.map((name) => [name, { type: "integer" }]));
  const write = writerOf({ type: "object", properties }, new Shapes());
  const rows = Array.from({ length: 128 }, (_, bits) =>
    Object.fromEntries(names.flatMap((name, i) => (bits & (1 << i) ? [[name, i]] : []))),
  );
  const twice = [...rows, ...rows.toReversed()].map((row) => Object.freeze(row));
  t.strictSame(unpackr.unpack(written(write, twice)!), twice);
});

t.test("a batch without the row that was refused in its middle", async (t) => {
  const batch = new Batch();
  const rows = goldenRows().slice(0, 40) as Holder[];
  const bad = structuredClone(rows[3]!);
  ((bad["record"] as Holder)["notes"] as Json) = [1];
  const offer = (row: Holder) => batch.offer(row as never);
  t.equal(offer(bad), "malformed", "the first, which names the shapes");
  for (const row of rows) {
    t.equal(offer(row), "taken");
    t.equal(offer(bad), "malformed");
  }
  t.equal(offer(COVERAGE as Holder), "taken");
  const closed = batch.close(7, 1.5);
  t.equal(closed.rows, 41);
  const said = { type: "batch", clock_ms: 1.5, observations: rows, coverage: [COVERAGE] };
  t.strictSame(unpackr.unpack(closed.bytes), { ...said, seq: 7 });
  t.strictSame(unpackr.unpack(renumbered(closed, 2 ** 40)), { ...said, seq: 2 ** 40 });
  t.strictSame(unpackr.unpack(batch.close(8, 2).bytes), {
    ...{ type: "batch", seq: 8, clock_ms: 2, observations: [], coverage: [] },
  });
});

t.test("a batch is full long before it outgrows the protocol", async (t) => {
  const batch = new Batch();
  const [row] = goldenRows() as Holder[];
  let taken = 0;
  while (batch.offer(row as never) === "taken") taken++;
  t.equal(batch.offer(row as never), "full");
  const { bytes, rows } = batch.close(1, 1);
  t.equal(rows, taken);
  t.ok(bytes.length > 256 << 10 && bytes.length < 512 << 10);
  t.equal(batch.offer(row as never), "taken", "again from nothing");
});

/** Files that a file loads when it is run. */
function loaded(file: string, seen: Set<string>, packages: Set<string>): void {
  if (seen.has(file)) return;
  seen.add(file);
  const text = readFileSync(file, "utf8");
  for (const [, isType, from] of text.matchAll(/^import (type )?[^;]*?"([^"]+)"/gms)) {
    if (isType) continue;
    if (!from!.startsWith(".")) packages.add(from!);
    else if (from!.endsWith(".ts")) loaded(path.join(path.dirname(file), from!), seen, packages);
  }
}

t.test("an agent does not load the library", async (t) => {
  const [seen, packages] = [new Set<string>(), new Set<string>()];
  loaded(path.join(ROOT, "agent/main.ts"), seen, packages);
  t.ok(seen.size > 80 && packages.has("msgpackr"), "its files are found");
  t.notOk([...packages].some((name) => name.startsWith("typebox")));
});
