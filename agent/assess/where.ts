/**
 * Reads the filter of `inspect --where`, and asks it of records:
 *
 *     expression  either { "or" either }          either  each { "and" each }
 *     each        "not" each | "(" expression ")" | FIELD | FIELD op VALUE | FIELD "in" VALUES
 *     op          ==  !=  <  <=  >  >=  ~  !~      VALUES  VALUE | "(" VALUE { "," VALUE } ")"
 *
 * A field is a path into the flow record; the schema says which there are, so that a wrong one is
 * an error and not silence. Alone it asks whether the fact was seen and is not false. `~` asks for
 * a part of the text, in any case, or for a match of /a regular expression/. A list satisfies a
 * comparison when one of its entries does. `!=` and `!~` are the opposite of `==` and `~`: they
 * hold for facts that were not seen as well.
 */
import { ConfigError } from "../../protocol/config-error.ts";
import { parseNetwork } from "../../protocol/address.ts";
import { Flow } from "../../protocol/flow-record.ts";
import type { FlowRecord } from "../../protocol/flow-record.ts";

export type Where = {
  matches: (record: FlowRecord) => boolean;
  /** Every field it asks for. */
  fields: readonly string[];
};

type Kind = "text" | "number" | "boolean" | "list" | "object";
type Field = { kind: Kind; values: readonly string[] | null };

/** What JSON Schema says of one value; the parts that are used here. */
type Schema = {
  type?: string;
  anyOf?: Schema[];
  /** Values, of which there are no others. */
  ["enum"]?: unknown[];
  items?: Schema | Schema[];
  properties?: Record<string, Schema>;
};

/** Walks the record's schema: every path, and what stands there. */
function fieldsOf(schema: Schema, path: string, into: Map<string, Field>): Map<string, Field> {
  const inner = schema.anyOf?.find((s) => s.type !== "null") ?? schema;
  if (inner.properties) {
    if (path !== "") into.set(path, { kind: "object", values: null });
    for (const [name, property] of Object.entries(inner.properties)) {
      fieldsOf(property, path === "" ? name : `${path}.${name}`, into);
    }
  } else if (inner.type === "array") {
    into.set(path, { kind: "list", values: null });
    if (Array.isArray(inner.items)) {
      inner.items.forEach((item, i) => fieldsOf(item, `${path}.${i}`, into));
    }
  } else if (inner.enum) {
    into.set(path, { kind: "text", values: inner.enum.map(String) });
  } else {
    const kind = inner.type === "boolean" ? "boolean" : inner.type === "string" ? "text" : "number";
    into.set(path, { kind, values: null });
  }
  return into;
}

/** Fields of a printed record, by path. */
export const WHERE_FIELDS: ReadonlyMap<string, Field> = fieldsOf(
  Flow as unknown as Schema,
  "",
  new Map<string, Field>([["file", { kind: "text", values: null }]]),
);
const ADDRESSES: ReadonlySet<string> = new Set(["src_ip", "dst_ip"]);

type Token = {
  kind: "word" | "text" | "regex" | "op" | "(" | ")" | "," | "end";
  text: string;
  at: number;
};

function wrong(at: number, what: string): ConfigError {
  return new ConfigError("CONFIG_WHERE", `--where, column ${at + 1}: ${what}`);
}

const OPERATORS = ["==", "!=", "<=", ">=", "!~", "<", ">", "~"];
const WORD = /[\p{L}\p{N}_.:/*+@%-]+/uy;

function tokens(source: string): Token[] {
  const list: Token[] = [];
  let at = 0;
  while (at < source.length) {
    const c = source[at]!;
    if (/\s/.test(c)) {
      at++;
      continue;
    }
    if (c === "(" || c === ")" || c === ",") {
      list.push({ kind: c, text: c, at: at++ });
      continue;
    }
    if (c === '"' || c === "'" || (c === "/" && isMatch(list.at(-1)))) {
      const end = closing(source, at, c);
      if (end < 0) throw wrong(at, `this ${c} is not closed`);
      const inner = source.slice(at + 1, end);
      if (c === "/") list.push({ kind: "regex", text: inner, at });
      else list.push({ kind: "text", text: inner.replaceAll(/\\(.)/g, "$1"), at });
      at = end + 1;
      continue;
    }
    const operator = OPERATORS.find((o) => source.startsWith(o, at));
    if (operator !== undefined) {
      list.push({ kind: "op", text: operator, at });
      at += operator.length;
      continue;
    }
    if (c === "=") throw wrong(at, "one = says nothing; a comparison is ==");
    if (c === "&" || c === "|" || c === "!") {
      throw wrong(at, `${c} says nothing; the words are and, or, not`);
    }
    WORD.lastIndex = at;
    const word = WORD.exec(source)?.[0];
    if (word === undefined) throw wrong(at, `${c} says nothing here; quote text that holds it`);
    list.push({ kind: "word", text: word, at });
    at += word.length;
  }
  list.push({ kind: "end", text: "", at: source.length });
  return list;
}

const isMatch = (token: Token | undefined) => token?.text === "~" || token?.text === "!~";

/** Where a quoted text ends; a backslash keeps the next character from ending it. */
function closing(source: string, at: number, quote: string): number {
  for (let i = at + 1; i < source.length; i++) {
    if (source[i] === "\\") i++;
    else if (source[i] === quote) return i;
  }
  return -1;
}

type Test = (record: FlowRecord) => boolean;

class Parser {
  readonly #tokens: readonly Token[];
  #next = 0;
  readonly fields = new Set<string>();

  constructor(source: string) {
    this.#tokens = tokens(source);
  }

  get #token(): Token {
    return this.#tokens[this.#next]!;
  }

  #is(kind: Token["kind"]): boolean {
    return this.#token.kind === kind;
  }

  #take(): Token {
    const token = this.#token;
    if (token.kind !== "end") this.#next++;
    return token;
  }

  #isWord(text: string): boolean {
    return this.#token.kind === "word" && this.#token.text === text;
  }

  whole(): Test {
    if (this.#is("end")) throw wrong(0, "there is no expression");
    const test = this.#expression();
    const { kind, text, at } = this.#token;
    if (kind === ")") throw wrong(at, "this ) closes nothing");
    if (kind !== "end") throw wrong(at, `${text}: expected and, or, or the end`);
    return test;
  }

  #expression(): Test {
    let test = this.#each();
    for (;;) {
      if (!this.#isWord("or")) return test;
      this.#take();
      const left = test;
      const right = this.#each();
      test = (r) => left(r) || right(r);
    }
  }

  #each(): Test {
    let test = this.#not();
    for (;;) {
      if (!this.#isWord("and")) return test;
      this.#take();
      const left = test;
      const right = this.#not();
      test = (r) => left(r) && right(r);
    }
  }

  #not(): Test {
    if (this.#isWord("not")) {
      this.#take();
      const test = this.#not();
      return (r) => !test(r);
    }
    const open = this.#token;
    if (open.kind !== "(") return this.#comparison();
    this.#take();
    const test = this.#expression();
    if (this.#take().kind !== ")") throw wrong(open.at, "this ( is not closed");
    return test;
  }

  #comparison(): Test {
    const { kind, text: path, at } = this.#take();
    if (kind === "end") throw wrong(at, "a field is expected behind this");
    if (kind !== "word") throw wrong(at, `a field is expected, not ${path}`);
    const field = WHERE_FIELDS.get(path);
    if (!field)
      throw wrong(at, `there is no field ${path}${didYouMean(path, WHERE_FIELDS.keys())}`);
    this.fields.add(path);
    const steps = stepsOf(path);
    const valueOf = (r: FlowRecord) => follow(r, steps);
    if (this.#isWord("in")) {
      this.#take();
      const tests = this.#values().map((value) => equals(path, field, value));
      return (r) => tests.some((test) => test(valueOf(r)));
    }
    if (this.#token.kind !== "op") return (r) => isSeen(valueOf(r));
    const operator = this.#take();
    const test = compare(path, field, operator, this.#value());
    return (r) => test(valueOf(r));
  }

  #values(): Token[] {
    if (!this.#is("(")) return [this.#value()];
    const open = this.#take();
    const list = [this.#value()];
    while (this.#is(",")) {
      this.#take();
      list.push(this.#value());
    }
    if (this.#take().kind !== ")") throw wrong(open.at, "this ( is not closed");
    return list;
  }

  #value(): Token {
    const token = this.#take();
    if (token.kind === "word" || token.kind === "text" || token.kind === "regex") return token;
    throw wrong(token.at, "a value is expected here");
  }
}

/** A path's names; profiles of `tls.crypto` have none with a dot, so splitting is enough. */
const stepsOf = (path: string): string[] => path.split(".");

function follow(record: FlowRecord, steps: readonly string[]): unknown {
  let value: unknown = record;
  for (const step of steps) {
    if (value === null || typeof value !== "object") return null;
    value = (value as Record<string, unknown>)[step] ?? null;
  }
  return value;
}

const isSeen = (value: unknown): boolean =>
  Array.isArray(value) ? value.length > 0 : value !== null && value !== false && value !== "";

type ValueTest = (value: unknown) => boolean;

/** Asks one value, or each entry of a list. */
function each(test: (value: string | number | boolean) => boolean): ValueTest {
  return (value) => {
    if (Array.isArray(value)) return value.some((entry: string | number) => test(entry));
    return value !== null && typeof value !== "object" && test(value as string);
  };
}

function compare(path: string, field: Field, operator: Token, value: Token): ValueTest {
  const { text } = value;
  switch (operator.text) {
    case "==":
      return equals(path, field, value);
    case "!=": {
      const test = equals(path, field, value);
      return (v) => !test(v);
    }
    case "~":
    case "!~": {
      const test = contains(path, field, value);
      return operator.text === "~" ? test : (v) => !test(v);
    }
  }
  if (field.kind === "object" || field.kind === "boolean") {
    throw wrong(operator.at, `${path} has no order: it takes ==, !=, or stands alone`);
  }
  const isNumber = field.kind === "number" || (field.kind === "list" && /^[\d.]+$/.test(text));
  if (isNumber && Number.isNaN(Number(text))) throw wrong(value.at, `${path} is a number`);
  const limit = isNumber ? Number(text) : text;
  switch (operator.text) {
    case "<":
      return each((v) => v < limit);
    case "<=":
      return each((v) => v <= limit);
    case ">":
      return each((v) => v > limit);
    default:
      return each((v) => v >= limit);
  }
}

function equals(path: string, field: Field, { kind, text, at }: Token): ValueTest {
  if (kind === "regex") throw wrong(at, "a regular expression is asked for by ~");
  if (kind === "word" && text === "null") return (value) => value === null;
  switch (field.kind) {
    case "object": {
      const inner = [...WHERE_FIELDS.keys()].find((name) => name.startsWith(`${path}.`));
      throw wrong(at, `${path} holds fields: compare one of them, as ${inner}`);
    }
    case "number": {
      const number = Number(text);
      if (text === "" || Number.isNaN(number)) throw wrong(at, `${path} is a number`);
      return (value) => value === number;
    }
    case "boolean":
      if (text !== "true" && text !== "false") throw wrong(at, `${path} is true, false or null`);
      return (value) => value === (text === "true");
    case "list":
      return each((value) => String(value) === text);
    case "text":
      break;
  }
  if (field.values && !field.values.includes(text)) {
    throw wrong(at, `${path} is never ${text}${didYouMean(text, field.values)}`);
  }
  if (ADDRESSES.has(path) && text.includes("/")) {
    const isInside = parseNetwork(text);
    if (!isInside) throw wrong(at, `${text} is no network; write 10.0.0.0/8 or 2001:db8::/32`);
    return each((value) => isInside(String(value)));
  }
  return each((value) => value === text);
}

function contains(path: string, field: Field, { kind, text, at }: Token): ValueTest {
  if (field.kind !== "text" && field.kind !== "list") {
    throw wrong(at, `${path} is no text: ~ looks for a part of a text`);
  }
  if (kind !== "regex") {
    const part = text.toLowerCase();
    return each((value) => String(value).toLowerCase().includes(part));
  }
  let pattern: RegExp;
  try {
    pattern = new RegExp(text, "iu");
  } catch {
    throw wrong(at, `/${text}/ is no regular expression`);
  }
  return each((value) => pattern.test(String(value)));
}

/** The nearest of the known names, as a question; nothing where none is near. */
function didYouMean(text: string, known: Iterable<string>): string {
  let best = "";
  let least = Math.max(2, Math.floor(text.length / 3)) + 1;
  for (const name of known) {
    // Who forgets the outer name means the inner field: `mutual` is `tls.mutual`.
    const last = name.slice(name.lastIndexOf(".") + 1);
    const distance = Math.min(distanceOf(text, name), distanceOf(text, last) + 0.5);
    if (distance >= least) continue;
    least = distance;
    best = name;
  }
  return best === "" ? "" : `; did you mean ${best}?`;
}

/** Characters to add, leave out or change from one text to the other (Levenshtein). */
function distanceOf(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      next.push(Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + same));
    }
    row = next;
  }
  return row[b.length]!;
}

/** Reads a filter; a wrong one throws `ConfigError` with one sentence that names the column. */
export function parseWhere(source: string): Where {
  const parser = new Parser(source);
  const matches = parser.whole();
  return { matches, fields: [...parser.fields] };
}
