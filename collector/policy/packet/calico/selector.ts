/**
 * Parses Calico's selector expressions and matches them against labels
 * (libcalico-go/lib/selector: tokenizer/tokenizer.go, parser/parser.go, parser/ast.go).
 */
import { not, type Ternary } from "../../decision/ternary.ts";

export type Selector =
  | { op: "all" | "global" }
  | { op: "has"; key: string }
  | { op: "==" | "!=" | "contains" | "starts" | "ends"; key: string; value: string }
  | { op: "in" | "not in"; key: string; values: ReadonlySet<string> }
  | { op: "not"; of: Selector }
  | { op: "and" | "or"; of: readonly Selector[] };

/** The value of a label; undefined where there is none, null where that is not known. */
export type Lookup = (key: string) => string | null | undefined;

/** `at` counts characters from 0. */
export type SelectorFault = { reason: string; at: number };

/** Longest selector that is read, in characters; the newest API takes 1024. */
export const SELECTOR_LENGTH_LIMIT = 8192;
/** Most parentheses inside one another. */
export const SELECTOR_DEPTH_LIMIT = 64;
const LABEL_LENGTH_LIMIT = 512;

export const ALL: Selector = { op: "all" };

/** Reads a selector; one without any term is `all()`. */
export function parseSelector(text: string): Selector | SelectorFault {
  if (text.length > SELECTOR_LENGTH_LIMIT) {
    return { reason: `is longer than ${SELECTOR_LENGTH_LIMIT} characters`, at: 0 };
  }
  const tokens = tokenize(text);
  if (!Array.isArray(tokens)) return tokens;
  if (tokens[0]!.kind === "end") return ALL;
  const reader: Reader = { tokens, next: 0, depth: 0, fault: null };
  const selector = readOr(reader);
  if (reader.fault === null && reader.tokens[reader.next]!.kind !== "end") {
    fail(reader, "has more than one expression");
  }
  return reader.fault ?? selector;
}

export function isFault(found: Selector | SelectorFault): found is SelectorFault {
  return "reason" in found;
}

/** Whether the labels satisfy a selector; a label that is missing satisfies `!=` and `not in`. */
export function evaluate(selector: Selector, lookup: Lookup): Ternary {
  switch (selector.op) {
    case "all":
    case "global":
      return true;
    case "not":
      return not(evaluate(selector.of, lookup));
    case "and":
    case "or": {
      const ends = selector.op === "or"; // what one of them settles
      let result: Ternary = !ends;
      for (const inner of selector.of) {
        const found = evaluate(inner, lookup);
        if (found === ends) return ends;
        if (found === null) result = null;
      }
      return result;
    }
    case "has": {
      const found = lookup(selector.key);
      return found === null ? null : found !== undefined;
    }
    default: {
      const found = lookup(selector.key);
      if (found === null) return null;
      if (found === undefined) return selector.op === "!=" || selector.op === "not in";
      return matches(selector, found);
    }
  }
}

function matches(selector: Extract<Selector, { key: string }>, found: string): boolean {
  switch (selector.op) {
    case "has":
      return true;
    case "==":
      return found === selector.value;
    case "!=":
      return found !== selector.value;
    case "contains":
      return found.includes(selector.value);
    case "starts":
      return found.startsWith(selector.value);
    case "ends":
      return found.endsWith(selector.value);
    case "in":
      return selector.values.has(found);
    case "not in":
      return !selector.values.has(found);
  }
}

/** Puts a prefix before every label's name (ast.go PrefixVisitor). */
export function withPrefix(selector: Selector, prefix: string): Selector {
  return rewrite(selector, (leaf) =>
    "key" in leaf ? { ...leaf, key: `${prefix}${leaf.key}` } : leaf,
  );
}

/** Puts another selector in the place of each `all()`, or of each `global()`. */
export function replace(selector: Selector, op: "all" | "global", by: Selector): Selector {
  return rewrite(selector, (leaf) => (leaf.op === op ? by : leaf));
}

/** Reports whether `all()`, or `global()`, stands anywhere in a selector. */
export function mentions(selector: Selector, op: "all" | "global"): boolean {
  let found = false;
  rewrite(selector, (leaf) => {
    if (leaf.op === op) found = true;
    return leaf;
  });
  return found;
}

function rewrite(selector: Selector, change: (leaf: Selector) => Selector): Selector {
  switch (selector.op) {
    case "not":
      return { op: "not", of: rewrite(selector.of, change) };
    case "and":
    case "or":
      return { op: selector.op, of: selector.of.map((inner) => rewrite(inner, change)) };
    default:
      return change(selector);
  }
}

/** All of the selectors hold; null, a selector that is not there, is left out. */
export function allOf(...selectors: readonly (Selector | null)[]): Selector | null {
  const found = selectors.filter((selector) => selector !== null);
  return found.length <= 1 ? (found[0] ?? null) : { op: "and", of: found };
}

type Comparison = "==" | "!=" | "contains" | "starts" | "ends" | "in" | "not in";
type Symbols = "!" | "&&" | "||" | "(" | ")" | "{" | "}" | ",";
type Kind = Comparison | Symbols | "label" | "text" | "has" | "all" | "global" | "end";
type Token = { kind: Kind; text: string; at: number };

const IDENTIFIER = /[a-zA-Z0-9_./-]+/y;
/** Operators that are words stand behind a label only; `notin` is `not in`. */
const WORDS =
  /(?:(contains)|(starts[ \t]*with)|(ends[ \t]*with)|(not[ \t]*in)|(in))(?![a-zA-Z0-9_./-])/y;
const WORD_OPERATORS = ["contains", "starts", "ends", "not in", "in"] as const;
const CALLS = /(?:has\([ \t]*([a-zA-Z0-9_./-]+)[ \t]*\)|(all|global)\([ \t]*\))/y;
const CALL_BEGINS = /(?:has|all|global)\(/y;
const SYMBOLS: readonly Kind[] = ["==", "!=", "&&", "||", "!", "(", ")", "{", "}", ","];

function tokenize(text: string): Token[] | SelectorFault {
  const tokens: Token[] = [];
  let at = 0;
  while (at < text.length) {
    const c = text[at]!;
    if (c === " " || c === "\t") {
      at++;
      continue;
    }
    const found = readToken(text, at, tokens.at(-1)?.kind === "label");
    if ("reason" in found) return found;
    tokens.push(found.token);
    at = found.end;
  }
  tokens.push({ kind: "end", text: "", at });
  return tokens;
}

function readToken(
  text: string,
  at: number,
  behindLabel: boolean,
): { token: Token; end: number } | SelectorFault {
  const token = (kind: Kind, end: number, value = "") => ({
    token: { kind, text: value, at },
    end,
  });
  const symbol = SYMBOLS.find((name) => text.startsWith(name, at));
  if (symbol !== undefined) return token(symbol, at + symbol.length);
  const c = text[at]!;
  if (c === '"' || c === "'") {
    const end = text.indexOf(c, at + 1); // there is no escape
    if (end < 0) return { reason: "has a string that does not end", at };
    return token("text", end + 1, text.slice(at + 1, end));
  }
  if (behindLabel) {
    const word = matchAt(WORDS, text, at);
    if (word === null) return { reason: "needs an operator behind the label", at };
    const which = word.slice(1).findIndex((part) => part !== undefined);
    return token(WORD_OPERATORS[which]!, at + word[0].length);
  }
  const call = matchAt(CALLS, text, at);
  if (call !== null) {
    const [whole, label, name] = call;
    if (label !== undefined && label.length > LABEL_LENGTH_LIMIT) {
      return { reason: "has a label that is too long", at };
    }
    return token((name ?? "has") as Kind, at + whole.length, label ?? "");
  }
  if (matchAt(CALL_BEGINS, text, at) !== null)
    return { reason: "has a call that is not whole", at };
  const identifier = matchAt(IDENTIFIER, text, at)?.[0];
  if (identifier === undefined) return { reason: `has an unexpected ${JSON.stringify(c)}`, at };
  if (identifier.length > LABEL_LENGTH_LIMIT) return { reason: "has a label that is too long", at };
  return token("label", at + identifier.length, identifier);
}

function matchAt(pattern: RegExp, text: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at;
  return pattern.exec(text);
}

type Reader = {
  tokens: readonly Token[];
  next: number;
  depth: number;
  fault: SelectorFault | null;
};

function fail(reader: Reader, reason: string): Selector {
  reader.fault ??= { reason, at: reader.tokens[reader.next]!.at };
  return ALL;
}

/** Takes the next token where it is of this kind. */
function take(reader: Reader, kind: Kind): boolean {
  if (reader.tokens[reader.next]!.kind !== kind) return false;
  reader.next++;
  return true;
}

function readOr(reader: Reader): Selector {
  return readChain(reader, "||", "or", readAnd);
}

function readAnd(reader: Reader): Selector {
  return readChain(reader, "&&", "and", readOperation);
}

function readChain(
  reader: Reader,
  between: Kind,
  op: "and" | "or",
  readOne: (reader: Reader) => Selector,
): Selector {
  const of = [readOne(reader)];
  while (reader.fault === null && take(reader, between)) of.push(readOne(reader));
  return of.length === 1 ? of[0]! : { op, of };
}

/** A term, perhaps negated: `!` binds closer than `&&`, and two of them cancel out. */
function readOperation(reader: Reader): Selector {
  let negated = false;
  while (take(reader, "!")) negated = !negated;
  const term = readTerm(reader);
  return negated ? { op: "not", of: term } : term;
}

function readTerm(reader: Reader): Selector {
  const { kind, text } = reader.tokens[reader.next]!;
  switch (kind) {
    case "has":
      reader.next++;
      return { op: "has", key: text };
    case "all":
    case "global":
      reader.next++;
      return { op: kind };
    case "label":
      reader.next++;
      return readComparison(reader, text);
    case "(": {
      if (++reader.depth > SELECTOR_DEPTH_LIMIT) {
        return fail(reader, `has more than ${SELECTOR_DEPTH_LIMIT} parentheses inside one another`);
      }
      reader.next++;
      const inner = readOr(reader);
      if (reader.fault === null && !take(reader, ")")) fail(reader, "needs a closing parenthesis");
      reader.depth--;
      return inner;
    }
    default:
      return fail(reader, "needs an expression");
  }
}

function readComparison(reader: Reader, key: string): Selector {
  const op = reader.tokens[reader.next]!.kind;
  switch (op) {
    case "==":
    case "!=":
    case "contains":
    case "starts":
    case "ends": {
      reader.next++;
      const value = reader.tokens[reader.next]!;
      if (!take(reader, "text")) return fail(reader, "needs a string behind the operator");
      return { op, key, value: value.text };
    }
    case "in":
    case "not in": {
      reader.next++;
      if (!take(reader, "{")) return fail(reader, "needs a set behind the operator");
      const values = new Set<string>();
      for (;;) {
        const value = reader.tokens[reader.next]!;
        if (!take(reader, "text")) break;
        values.add(value.text);
        if (!take(reader, ",")) break;
      }
      if (!take(reader, "}")) return fail(reader, "needs a closing brace");
      return { op, key, values };
    }
    default:
      return fail(reader, "needs an operator behind the label");
  }
}
