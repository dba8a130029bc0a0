/**
 * Judges AuthorizationPolicy for sidecars as istiod builds it for Envoy (pilot/pkg/security/authz/
 * model/{model,generator}.go, builder/builder.go), and for ambient pods as it builds it for ztunnel
 * (pilot/pkg/serviceregistry/ambient/authorization.go, ztunnel's src/rbac.rs).
 */
import type { NaiveEnd } from "./cluster.ts";
import { drawSpace } from "./cluster.ts";
import type { Random } from "./random.ts";
import {
  allOf,
  anyOf,
  byAddress,
  inRange,
  matches,
  opposite,
  type Known,
  type Labels,
} from "./selector.ts";

type Values = string[] | null;
type Fields = Record<string, Values>;
type Condition = { key: string; values?: Values; notValues?: Values };
type Rule = {
  from?: { source: Fields }[] | null;
  to?: { operation: Fields }[] | null;
  when?: Condition[] | null;
};
export type AuthorizationPolicyBody = {
  kind: "AuthorizationPolicy";
  metadata: { name: string; namespace: string; annotations?: Record<string, string> };
  spec: {
    selector?: { matchLabels?: Labels } | null;
    targetRefs?: object[];
    action?: "ALLOW" | "DENY" | "AUDIT" | "CUSTOM" | null;
    provider?: { name: string };
    rules?: (Rule | null)[] | null;
  };
};

/** Who the server takes the client for. */
export type Identity = { namespace: string; account: string } | "nobody";

export type Connection = {
  client: NaiveEnd;
  server: NaiveEnd;
  port: number;
  identity: Identity;
  trustDomain: string;
};

/** What a listener does, `denied-in-band`: in an answer that no observer can read. */
export type Answer = "allowed" | "denied" | "undeclared";

/** `ParseBool` of Go; what it does not read is not a dry run (builder.go isDryRun). */
function isDryRun({ metadata }: AuthorizationPolicyBody): boolean {
  const text = metadata.annotations?.["istio.io/dry-run"] ?? "";
  return ["1", "t", "T", "TRUE", "true", "True"].includes(text);
}

/** Root namespace: all of the mesh; else its own. Policies with targetRefs are for gateways. */
export function appliesTo(
  { metadata, spec }: AuthorizationPolicyBody,
  pod: NaiveEnd,
  root: string,
): boolean {
  if ((spec.targetRefs ?? []).length > 0) return false;
  if (metadata.namespace !== root && metadata.namespace !== pod.namespace) return false;
  return matches({ matchLabels: { ...spec.selector?.matchLabels } }, pod.labels);
}

/** "Exact match", "Prefix match: `abc*`", "Suffix match: `*abc`", "Presence match: `*`". */
function isText(pattern: string, text: string): boolean {
  if (pattern === "*") return text !== "";
  if (pattern.startsWith("*")) return text.endsWith(pattern.slice(1));
  if (pattern.endsWith("*")) return text.startsWith(pattern.slice(0, -1));
  return text === pattern;
}

/** Fields that only HTTP has: on a TCP listener the generator answers "HTTP only". */
const HTTP_ONLY = new Set(["requestPrincipals", "hosts", "methods", "paths"]);

/** Whether a value of a field is the connection's; null where no packet shows it. */
function isValue(field: string, value: string, space: string, connection: Connection): Known {
  const { client, server, port, identity, trustDomain } = connection;
  switch (field) {
    case "principals":
    case "namespaces":
    case "serviceAccounts": {
      // A client without a certificate has none of these: positive matches fail, negatives hold.
      if (identity === "nobody") return false;
      const { namespace, account } = identity;
      if (field === "namespaces") return isText(value, namespace);
      if (field === "principals") {
        return isText(value, `${trustDomain}/ns/${namespace}/sa/${account}`);
      }
      // "`<serviceaccount>` may also be used to use the same namespace as the policy"
      return (value.includes("/") ? value : `${space}/${value}`) === `${namespace}/${account}`;
    }
    case "ipBlocks":
      return byAddress(client.addresses, (address) => inRange(address, value));
    case "destinationIp":
      return byAddress(server.addresses, (address) => inRange(address, value));
    case "ports":
      return Number(value) === port;
    default:
      return null; // X-Forwarded-For, a PROXY header, SNI, another filter's metadata, HTTP
  }
}

/** The fields of `when` that a source or an operation has too, by its key. */
const KEYS: Record<string, string> = {
  "source.ip": "ipBlocks",
  "source.namespace": "namespaces",
  "source.principal": "principals",
  "source.serviceAccount": "serviceAccounts",
  "destination.ip": "destinationIp",
  "destination.port": "ports",
  "remote.ip": "remoteIpBlocks",
  "connection.sni": "sni",
};

type Clause = { field: string; isHttp: boolean; values: string[]; notValues: string[] };

function clausesOf(fields: Fields): Clause[] {
  const names = new Set(
    Object.keys(fields).map((name) => name.replace(/^not(.)/, (_, c: string) => c.toLowerCase())),
  );
  return [...names].map((field) => ({
    field,
    isHttp: HTTP_ONLY.has(field),
    values: fields[field] ?? [],
    notValues: fields[`not${field[0]!.toUpperCase()}${field.slice(1)}`] ?? [],
  }));
}

function toClause({ key, values, notValues }: Condition): Clause {
  return {
    field: KEYS[key] ?? key,
    isHttp: key.startsWith("request."),
    values: values ?? [],
    notValues: notValues ?? [],
  };
}

/** "Fields are ANDed", values ORed; an empty list is a field that is not set (insertFront). */
function isClause({ field, values, notValues }: Clause, space: string, c: Connection): Known {
  const any = (list: string[]) => anyOf(list.map((value) => isValue(field, value, space, c)));
  return allOf([
    values.length === 0 || any(values),
    notValues.length === 0 || opposite(any(notValues)),
  ]);
}

function isSet({ values, notValues }: Clause): boolean {
  return values.length + notValues.length > 0;
}

/** One rule of a sidecar's listener: one source, one operation, and every condition. */
function isSidecarRule(
  rule: Rule | null,
  isTcp: boolean,
  isAllow: boolean,
  space: string,
  connection: Connection,
): Known {
  if (rule === null) return false; // "skipped nil rule"
  const groups = [
    (rule.from ?? []).map(({ source }) => clausesOf(source)),
    (rule.to ?? []).map(({ operation }) => clausesOf(operation)),
  ];
  const when = (rule.when ?? []).map(toClause);
  const all = [...groups.flat(2), ...when].filter(isSet);
  // model.go checkError: for ALLOW an HTTP field on TCP is an error, and the whole rule is left
  // out; for DENY it is the field that is left out, which makes the rule wider.
  if (isTcp && isAllow && all.some(({ isHttp }) => isHttp)) return false;
  const isKept = (clause: Clause) => isSet(clause) && !(isTcp && clause.isHttp);
  const each = (clauses: Clause[]) =>
    allOf(clauses.filter(isKept).map((clause) => isClause(clause, space, connection)));
  return allOf([...groups.map((list) => list.length === 0 || anyOf(list.map(each))), each(when)]);
}

/** One rule of ztunnel's: clauses of matches; an empty match is skipped, no clause at all holds. */
function isZtunnelRule(
  rule: Rule | null,
  isAllow: boolean,
  space: string,
  connection: Connection,
): Known {
  if (rule === null) return false;
  const sources = (rule.from ?? []).map(({ source }) => clausesOf(source));
  const operations = (rule.to ?? []).map(({ operation }) => clausesOf(operation));
  const conditions = (rule.when ?? []).map((condition) => [toClause(condition)]);
  const isL7 = (clause: Clause) => !L4.has(clause.field) && isSet(clause);
  const hasL7 =
    [...sources, ...operations].flat().some(isL7) ||
    conditions.some((list) => !list.every(isL4When));
  if (isAllow && hasL7) return false; // "L7 policies never match for ALLOW"
  const one = (match: Clause[]) => {
    const kept = match.filter((clause) => L4.has(clause.field) && isSet(clause));
    if (kept.length === 0) return false; // "empty clause": skipped
    return allOf(kept.map((clause) => isClause(clause, space, connection)));
  };
  const known = conditions.map((list) => [list.filter(isL4When)]);
  const lists = [operations, sources, ...known];
  return allOf(lists.filter((list) => list.length > 0).map((list) => anyOf(list.map(one))));
}

const L4 = new Set([
  ...["principals", "namespaces", "serviceAccounts", "ipBlocks", "destinationIp", "ports"],
]);

/** `source.serviceAccount` is no attribute of `l4WhenAttributes`. */
function isL4When({ field }: Clause): boolean {
  return L4.has(field) && field !== "serviceAccounts";
}

type Applying = { DENY: Known; ALLOW: Known; CUSTOM: Known; count: number };

/** CUSTOM, then DENY, then ALLOW; AUDIT never decides. All the answers that may be. */
function decide({ DENY, ALLOW, CUSTOM, count }: Applying, hasAllow: boolean): Set<Answer> {
  const answers = new Set<Answer>();
  // "evaluate and deny the request if the evaluation result is deny": which nobody knows.
  if (CUSTOM !== false) answers.add("denied");
  if (DENY !== false) answers.add("denied");
  if (DENY === true) return answers;
  if (!hasAllow) return answers.add(count === 0 ? "undeclared" : "allowed");
  if (ALLOW !== false) answers.add("allowed");
  if (ALLOW !== true) answers.add("denied");
  return answers;
}

/** What the policies for a server may come to, by those actions that its proxy knows. */
function judge(
  policies: readonly AuthorizationPolicyBody[],
  known: readonly string[],
  server: NaiveEnd,
  root: string,
  isRule: (rule: Rule | null, isAllow: boolean, space: string) => Known,
): Set<Answer> {
  const mine = policies.filter((policy) => appliesTo(policy, server, root) && !isDryRun(policy));
  const of = (action: string) =>
    mine.filter(({ spec }) => known.includes(action) && (spec.action ?? "ALLOW") === action);
  const any = (action: string) =>
    anyOf(
      of(action).flatMap(({ metadata, spec }) =>
        (spec.rules ?? []).map((rule) => isRule(rule, action === "ALLOW", metadata.namespace)),
      ),
    );
  const count = known.flatMap(of).length;
  const applying = { DENY: any("DENY"), ALLOW: any("ALLOW"), CUSTOM: any("CUSTOM"), count };
  return decide(applying, of("ALLOW").length > 0);
}

/** What a sidecar's listener may do, for HTTP or for TCP. */
export function judgeSidecar(
  policies: readonly AuthorizationPolicyBody[],
  isTcp: boolean,
  connection: Connection,
  root: string,
): Set<Answer> {
  const known = ["CUSTOM", "DENY", "ALLOW"];
  return judge(policies, known, connection.server, root, (rule, isAllow, space) =>
    isSidecarRule(rule, isTcp, isAllow, space, connection),
  );
}

/** What ztunnel may do: AUDIT and CUSTOM are not for it. */
export function judgeZtunnel(
  policies: readonly AuthorizationPolicyBody[],
  connection: Connection,
  root: string,
): Set<Answer> {
  return judge(policies, ["DENY", "ALLOW"], connection.server, root, (rule, isAllow, space) =>
    isZtunnelRule(rule, isAllow, space, connection),
  );
}

const PRINCIPALS = [
  ...["*", "cluster.local/ns/n1/sa/default", "cluster.local/ns/n2/sa/s1", "cluster.local/ns/n3/*"],
  ...["*/sa/s1", "other.domain/*", "cluster.local/*", "*default"],
];
const NAMESPACES = ["n1", "n2", "n3", "root", "n*", "*3", "*"];
const ACCOUNTS = ["default", "s1", "n1/s1", "n2/default", "root/s2"];
const BLOCKS = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.5", "192.0.2.0/24", "::/0", "10.0.0.10"];

function drawField(random: Random): [string, string[]] {
  const several = (...items: string[]) => random.list(1, 2, () => random.pick(...items));
  return random.pick<() => [string, string[]]>(
    () => ["principals", several(...PRINCIPALS)],
    () => ["principals", several(...PRINCIPALS)],
    () => ["namespaces", several(...NAMESPACES)],
    () => ["namespaces", several(...NAMESPACES)],
    () => ["ipBlocks", several(...BLOCKS)],
    () => ["ipBlocks", several(...BLOCKS)],
    () => ["remoteIpBlocks", several(...BLOCKS)],
    () => ["requestPrincipals", several("*", "issuer/subject")],
  )();
}

function negated(random: Random, field: string, values: string[]): Fields {
  const not = `not${field[0]!.toUpperCase()}${field.slice(1)}`;
  return { [random.once(3) ? not : field]: values };
}

function drawSource(random: Random): Fields {
  if (random.once(5)) {
    return negated(random, "serviceAccounts", [random.pick(...ACCOUNTS), random.pick(...ACCOUNTS)]);
  }
  const fields = random.list(1, 2, () => negated(random, ...drawField(random)));
  return Object.assign(
    {},
    ...fields,
    random.maybe(8, "notNamespaces", () => []),
  ) as Fields;
}

function drawOperation(random: Random): Fields {
  const ports = () => ({ ports: random.list(1, 2, () => random.pick("80", "81", "82")) });
  return random.pick<() => Fields>(
    () => negated(random, "ports", ports().ports),
    () => negated(random, "ports", ports().ports),
    () => negated(random, "methods", ["GET"]),
    () => ({ ...ports(), ...negated(random, "paths", ["/admin*"]) }),
    () => ({ ...ports(), ...random.maybe(2, "hosts", () => []) }),
    () => negated(random, "hosts", ["*.example.com"]),
  )();
}

function drawCondition(random: Random): Condition {
  const [key, values] = random.pick<[string, readonly string[]]>(
    ["source.ip", BLOCKS],
    ["source.namespace", NAMESPACES],
    ["source.principal", PRINCIPALS],
    ["source.serviceAccount", ACCOUNTS],
    ["destination.ip", BLOCKS],
    ["destination.port", ["80", "81", "82"]],
    ["remote.ip", BLOCKS],
    ["connection.sni", ["www.example.com"]],
    ["request.headers[User-Agent]", ["curl*"]],
    ["request.auth.claims[iss]", ["issuer"]],
    ["experimental.envoy.filters.network.mysql_proxy[db.table]", ["[x]"]],
  );
  const some = random.list(1, 2, () => random.pick(...values));
  return random.once(3) ? { key, notValues: some } : { key, values: some };
}

function drawRule(random: Random): Rule {
  return {
    ...(random.once(2)
      ? { from: random.list(1, 2, () => ({ source: drawSource(random) })) }
      : random.maybe(6, "from", () => null)),
    ...(random.once(2)
      ? { to: random.list(1, 2, () => ({ operation: drawOperation(random) })) }
      : random.maybe(6, "to", () => null)),
    ...(random.once(3) ? { when: random.list(1, 2, () => drawCondition(random)) } : {}),
  };
}

export function drawAuthorizationPolicy(random: Random, name: string): AuthorizationPolicyBody {
  const action = random.pick("ALLOW", "ALLOW", "ALLOW", "DENY", "DENY", "DENY", "AUDIT", "CUSTOM");
  const label = () => ({ matchLabels: { [random.pick("a", "b")]: random.pick("1", "2") } });
  // A dry run of CUSTOM still asks the authorizer (a limit that builder.go names): not drawn.
  const dryRun = () => ({ "istio.io/dry-run": random.pick("true", "false", "1", "yes", "T") });
  const annotations = action === "CUSTOM" ? {} : random.maybe(6, "annotations", dryRun);
  const target = () => [{ group: "", kind: "Service", name: "s0" }];
  const isTargeted = random.once(12);
  const body = {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: {
      name,
      namespace: drawSpace(random),
      ...annotations,
    },
    spec: {
      ...(isTargeted ? { targetRefs: target() } : random.maybe(3, "selector", label)),
      ...(action === "ALLOW" && random.once(2) ? {} : { action }),
      ...(action === "CUSTOM" ? { provider: { name: "ext" } } : {}),
      ...random.optional("rules", () =>
        random.list(0, 2, () => (random.once(12) ? null : drawRule(random))),
      ),
    },
  };
  return body as AuthorizationPolicyBody;
}
