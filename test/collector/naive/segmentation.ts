/** Judges segmentation files by the description above their schema (segmentation/shape.ts). */
import type { NaiveEnd, Question } from "./cluster.ts";
import { SPACES } from "./cluster.ts";
import type { Path } from "./network-tiers.ts";
import type { Random } from "./random.ts";
import { anyOf, inRange, matches, type Known, type Labels } from "./selector.ts";

type Select = { namespaces?: string[]; labels?: Labels; cidrs?: string[]; nodes?: true };
type Zone = { name: string; scope?: string; select: Select };
type PathRule = {
  from: string;
  to: string;
  ports?: (number | string)[];
  transport?: "mtls" | "tls" | "plaintext" | "any";
  minVersion?: string;
  crypto?: string[];
};
type Actor = {
  name: string;
  select: Select;
  to?: string[];
  ports?: (number | string)[];
  only?: boolean;
};
type Waiver = {
  who: string;
  why: string;
  until: string;
  from?: string;
  to?: string;
  ports?: (number | string)[];
};
export type SegmentationBody = {
  kind: "Segmentation";
  metadata: { name: string };
  spec: {
    zones: Zone[];
    paths?: PathRule[];
    default?: { betweenZones?: "deny" | "undeclared" };
    actors?: Actor[];
    waivers?: Waiver[];
    /** A field that the schema does not know: the file may say anything. */
    unheardOf?: true;
  };
};

export function isSegmentation(body: { kind: string }): body is SegmentationBody {
  return body.kind === "Segmentation";
}

/** The last millisecond at which each waiver drawn below holds: a date ends with its day. */
const UNTIL: Record<string, number> = {
  "1970-01-01": 86_399_999,
  "1970-01-02": 2 * 86_400_000 - 1,
  "1970-01-02T01:00:00Z": 89_999_999,
  "1970-01-02T01:00:00+02:00": 82_799_999,
};
export const TIMES_MS = [
  0, 82_799_999, 82_800_000, 86_399_999, 86_400_000, 89_999_999, 90_000_000, 2e8,
];

/**
 * "an end that is in one of the namespaces *and* carries all of the labels, or whose address is in
 * one of the ranges; `nodes: true` takes the nodes themselves": nothing else than that and an
 * address does. What is left out of the first pair is not asked for.
 */
function isSelected({ namespaces, labels, cidrs, nodes }: Select, end: NaiveEnd): Known {
  if (end.kind === "node" && nodes === true) return true;
  const isNamed =
    end.kind === "pod" &&
    (namespaces !== undefined || labels !== undefined) &&
    (namespaces === undefined || namespaces.includes(end.namespace)) &&
    matches({ matchLabels: { ...labels } }, end.labels);
  const isIn = (address: string) => (cidrs ?? []).some((cidr) => inRange(address, cidr));
  // A zone is of the end, not of one connection: any of its addresses brings it in.
  const isThere = (cidrs ?? []).length === 0 ? false : end.addresses.some(isIn);
  const isKnown = (cidrs ?? []).length === 0 || end.addresses.length > 0;
  return anyOf([isNamed, isKnown ? isThere : null]);
}

/** "an end that several zones select is in the first of them"; null: in none. */
function zonesOf(end: NaiveEnd, zones: readonly Zone[]): (string | null)[] {
  const may: (string | null)[] = [];
  for (const { name, select } of zones) {
    const answer = isSelected(select, end);
    if (answer !== false) may.push(name);
    if (answer === true) return may;
  }
  return [...may, null];
}

function isPort(ports: readonly (number | string)[] | undefined, question: Question): boolean {
  if (ports === undefined) return true;
  return ports.some((entry) => {
    const [range = "", carrier = "tcp"] = String(entry).split("/");
    const [first = "", last = first] = range.split("-");
    const isIn = Number(first) <= question.port && question.port <= Number(last);
    return isIn && carrier.toUpperCase() === question.transport;
  });
}

/** "from, to: a zone, or "*" for any end, in a zone or not" */
function isZone(name: string | undefined, zone: string | null): boolean {
  return name === undefined || name === "*" || name === zone;
}

/** All that may be between two zones: more than one where it is not known who the client is. */
function judgeZones(
  { paths = [], actors = [], waivers = [], ...spec }: SegmentationBody["spec"],
  from: string | null,
  to: string | null,
  question: Question,
  atMs: number,
): Path[] {
  const isMeant = (rule: { from?: string; to?: string; ports?: (number | string)[] }) =>
    isZone(rule.from, from) && isZone(rule.to, to) && isPort(rule.ports, question);
  // "Paths stand before actors, and actors before the default."
  if (paths.some(isMeant)) return ["allowed"];
  // "access to these zones, on these ports, goes through it alone"
  const only = actors.filter(
    (actor) =>
      actor.only === true &&
      (actor.to ?? []).some((zone) => isZone(zone, to)) &&
      isPort(actor.ports, question),
  );
  const isActor = anyOf(only.map(({ select }) => isSelected(select, question.client)));
  if (isActor === true) return ["allowed"];
  const otherwise = (): Path => {
    // "whoever else comes, is neither of the zone nor on a path, is denied"
    if (from !== null && from === to) return "undeclared";
    // "an end in no zone is outside of all of them": two such ends have no zones between them.
    const isDenied = only.length > 0 || (from !== to && spec.default?.betweenZones === "deny");
    if (!isDenied) return "undeclared";
    // "a path that is let pass for a time, although it is denied"
    const isWaived = waivers.some((waiver) => isMeant(waiver) && atMs <= UNTIL[waiver.until]!);
    return isWaived ? "allowed" : "denied";
  };
  return isActor === null ? ["allowed", otherwise()] : [otherwise()];
}

export type Required = "mtls" | "tls" | "plaintext" | "any" | null;

const STRICTNESS: readonly Required[] = ["mtls", "tls", "plaintext", "any"];

export function strictest(all: readonly Required[]): Required {
  return STRICTNESS.find((required) => all.includes(required)) ?? null;
}

/** What the paths between two zones ask for: all of it, so the strictest. */
function requiredBetween(
  { paths = [] }: SegmentationBody["spec"],
  from: string | null,
  to: string | null,
  question: Question,
): Required {
  const meant = paths.filter(
    (rule) => isZone(rule.from, from) && isZone(rule.to, to) && isPort(rule.ports, question),
  );
  // A lowest version of TLS, and a profile that its cryptography must meet, ask for TLS.
  return strictest(
    meant.map((rule) => rule.transport ?? (rule.minVersion || rule.crypto ? "tls" : null)),
  );
}

/**
 * One file's path and required transport. Where an address that is not known decides in which zone
 * an end is, and not all answers are the same, nobody knows: the path is undecidable.
 */
export function judgeSegmentation(
  { spec }: SegmentationBody,
  question: Question,
  atMs: number,
): { path: Path; required: Required } {
  const { client, server } = question;
  if (spec.unheardOf) return { path: "undecidable", required: null };
  const answers = zonesOf(client, spec.zones).flatMap((from) =>
    zonesOf(server, spec.zones).flatMap((to) => {
      const required = requiredBetween(spec, from, to, question);
      return judgeZones(spec, from, to, question, atMs).map((path) => ({ path, required }));
    }),
  );
  const required = strictest(answers.map((answer) => answer.required));
  const [first] = answers;
  const isOne = answers.every((a) => a.path === first!.path && a.required === first!.required);
  return { path: isOne ? first!.path : "undecidable", required };
}

const CIDRS = ["10.0.0.0/16", "10.1.0.0/16", "192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"];

function drawSelect(random: Random): Select {
  const namespaces = () => random.list(0, 2, () => random.pick(...SPACES));
  const labels = () => ({ [random.pick("a", "b")]: random.pick("1", "2") });
  const cidrs = () => random.list(0, 2, () => random.pick(...CIDRS));
  return random.pick<() => Select>(
    () => ({ namespaces: namespaces() }),
    () => ({ labels: labels() }),
    () => ({ namespaces: namespaces(), labels: labels() }),
    () => ({ cidrs: cidrs() }),
    () => ({ nodes: true }),
    () => ({ namespaces: namespaces(), cidrs: cidrs() }),
  )();
}

function drawPorts(random: Random): Record<string, (number | string)[]> {
  const entries = [80, 81, "80", "80-81", "81-90", "80/udp", "80-81/udp", "81/sctp", "80/tcp"];
  return random.maybe(2, "ports", () => random.list(0, 2, () => random.pick(...entries)));
}

export function drawSegmentation(random: Random, name: string): SegmentationBody {
  const zones = random.list(1, 3, (i) => ({
    name: `z${i}`,
    ...random.maybe(3, "scope", () => random.pick("cde", "phi", "out-of-scope")),
    select: drawSelect(random),
  }));
  const zone = () => random.pick(...zones.map((known) => known.name), "*");
  const deny = () => ({ betweenZones: random.pick("deny", "deny", "undeclared") });
  const transport = () => random.pick("mtls", "tls", "plaintext", "any");
  const paths = () =>
    random.list(0, 3, () => ({
      ...{ from: zone(), to: zone(), ...drawPorts(random) },
      ...random.maybe(2, "transport", transport),
      ...random.maybe(4, "minVersion", () => "TLSv1.2"),
      ...random.maybe(6, "crypto", () => ["sp800-52r2"]),
    }));
  const actors = () =>
    random.list(0, 2, (i) => ({
      ...{ name: `a${i}`, select: drawSelect(random), ...drawPorts(random) },
      ...(random.once(2)
        ? { to: random.list(1, 2, zone), only: !random.once(4) }
        : random.maybe(2, "to", () => random.list(0, 2, zone))),
    }));
  const waivers = () =>
    random.list(0, 2, () => ({
      ...{ who: "jo@example.com", why: "T-1", until: random.pick(...Object.keys(UNTIL)) },
      ...random.maybe(2, "from", zone),
      ...random.maybe(2, "to", zone),
      ...drawPorts(random),
    }));
  const body = {
    apiVersion: "wireproof.io/v1",
    kind: "Segmentation",
    metadata: { name },
    spec: {
      zones,
      ...(random.once(4) ? {} : { paths: paths() }),
      ...(random.once(4) ? {} : { default: random.once(8) ? {} : deny() }),
      ...random.maybe(2, "actors", actors),
      ...random.maybe(2, "waivers", waivers),
      ...random.maybe(25, "unheardOf", () => true as const),
    },
  };
  return body as SegmentationBody;
}
