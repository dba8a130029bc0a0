/** Tests the agent's check of its rows against the library that declares them. */
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import t from "tap";
import { Compile } from "typebox/compile";
import { checkOf } from "../agent/uplink/row-check.ts";
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

t.test("the check agrees with the library on rows and on what is nearly one", async (t) => {
  const schema = JSON.parse(readFileSync(SCHEMA, "utf8")) as Record<string, object>;
  const below = random(20_261_122);
  const kinds = [
    { own: checkOf(schema["observation"] as never), library: Compile(Observation) },
    { own: checkOf(schema["coverage"] as never), library: Compile(Coverage) },
  ] as const;
  const samples = [goldenRows(), [COVERAGE]];
  for (const [k, { own, library }] of kinds.entries()) {
    const rows = samples[k]!;
    for (const row of rows) if (!own(row) || !library.Check(row)) t.fail(JSON.stringify(row));
    let refused = 0;
    for (let round = 0; round < 20_000; round++) {
      const row = structuredClone(rows[below(rows.length)]!);
      const places = placesOf(row);
      const [holder, name] = places[below(places.length)]!;
      const strange = STRANGE[below(STRANGE.length)];
      if (strange === undefined && Array.isArray(holder)) holder.splice(Number(name), 1);
      else if (strange === undefined) delete holder[name];
      else holder[name] = strange;
      const says = own(row);
      if (!says) refused++;
      if (says !== library.Check(row)) t.fail(`${name}: ${JSON.stringify(strange)?.slice(0, 80)}`);
    }
    t.ok(refused > 5000 && refused < 19_900, `${refused} of 20,000 were refused`);
  }
});

t.test("what is frozen is checked once, and only what passed", async (t) => {
  const check = checkOf({
    ...{ type: "object", required: ["a"], properties: { a: { type: "string" } } },
  });
  const bad = Object.freeze({ a: 1 });
  t.notOk(check(bad) || check(bad));
  const open = { a: "x" as unknown };
  t.ok(check(open));
  open.a = 1;
  t.notOk(check(open), "what is not frozen may have changed");
  t.throws(() => checkOf({ type: "string", pattern: "^a" }), /pattern is not known/);
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
