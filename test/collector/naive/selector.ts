/** Matches labels and addresses as obviously as the Kubernetes API describes them. */
import type { Random } from "./random.ts";

export type Labels = Readonly<Record<string, string>>;

export type Requirement = { key: string; operator: string; values?: string[] };
export type Selector = {
  matchLabels?: Record<string, string> | null;
  matchExpressions?: Requirement[] | null;
};

/** Known to be so, known not to be so, or null: what would decide it is not known. */
export type Known = boolean | null;

/** LabelSelector of meta/v1: all of both parts; an empty selector matches everything. */
export function matches(selector: Selector, labels: Labels): boolean {
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    if (labels[key] !== value) return false;
  }
  for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
    const value = labels[key];
    // "NotIn" also takes what has no such label: labels.Requirement of apimachinery.
    if (operator === "In" && !(value !== undefined && values.includes(value))) return false;
    if (operator === "NotIn" && value !== undefined && values.includes(value)) return false;
    if (operator === "Exists" && value === undefined) return false;
    if (operator === "DoesNotExist" && value !== undefined) return false;
  }
  return true;
}

const KEYS = ["a", "b", "c"] as const;
const VALUES = ["1", "2"] as const;

/** Labels of few keys and values, so that selectors hit often and miss often. */
export function drawLabels(random: Random): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const key of KEYS) if (!random.once(3)) labels[key] = random.pick(...VALUES);
  return labels;
}

export function drawSelector(random: Random): Selector {
  if (random.once(4)) return random.pick<Selector>({}, { matchLabels: {} }, { matchLabels: null });
  const matchLabels = () => ({ [random.pick(...KEYS)]: random.pick(...VALUES) });
  if (random.once(2)) return { matchLabels: matchLabels() };
  const matchExpressions = random.list(0, 2, () => drawRequirement(random));
  return random.once(3) ? { matchLabels: matchLabels(), matchExpressions } : { matchExpressions };
}

function drawRequirement(random: Random): Requirement {
  const key = random.pick(...KEYS);
  const operator = random.pick("In", "NotIn", "Exists", "DoesNotExist");
  if (operator === "Exists") return { key, operator, ...random.maybe(3, "values", () => []) };
  if (operator === "DoesNotExist") return { key, operator };
  return { key, operator, values: random.list(1, 2, () => random.pick(...VALUES, "3")) };
}

/** An address as its bits, family first: `4` and 32 of them, or `6` and 128. */
function toBits(address: string): string {
  if (!address.includes(":")) {
    const bytes = address.split(".").map((part) => Number(part).toString(2).padStart(8, "0"));
    return `4${bytes.join("")}`;
  }
  const [head = "", tail = ""] = address.split("::");
  const before = head.split(":").filter((group) => group !== "");
  const after = tail.split(":").filter((group) => group !== "");
  const zeros = Array<string>(8 - before.length - after.length).fill("0");
  const groups = [...before, ...zeros, ...after];
  return `6${groups.map((g) => parseInt(g, 16).toString(2).padStart(16, "0")).join("")}`;
}

/** A range, or a single address, as the bits that all of its addresses begin with. */
function toPrefix(range: string): string {
  const [address = "", length] = range.split("/");
  const bits = toBits(address);
  return length === undefined ? bits : bits.slice(0, 1 + Number(length));
}

const PREFIXES = new Map<string, string>();
function remembered(text: string, make: (text: string) => string): string {
  const known = PREFIXES.get(text) ?? make(text);
  PREFIXES.set(text, known);
  return known;
}

export function inRange(address: string, range: string): boolean {
  const prefix = remembered(range, toPrefix);
  return remembered(`${address}=`, () => toBits(address)).startsWith(prefix);
}

/**
 * Whether the address that a connection uses passes a test. Null where an end's addresses are not
 * known, and where it has several that differ in it: which of them it uses is not known either.
 */
export function byAddress(addresses: readonly string[], test: (address: string) => boolean): Known {
  const answers = addresses.map(test);
  if (answers.length === 0) return null;
  if (answers.every((answer) => answer)) return true;
  return answers.some((answer) => answer) ? null : false;
}

/** "or": true where any is, else not known where any is not. */
export function anyOf(answers: readonly Known[]): Known {
  if (answers.includes(true)) return true;
  return answers.includes(null) ? null : false;
}

/** "and": false where any is, else not known where any is not. */
export function allOf(answers: readonly Known[]): Known {
  if (answers.includes(false)) return false;
  return answers.includes(null) ? null : true;
}

export function opposite(answer: Known): Known {
  return answer === null ? null : !answer;
}
