/** Matches the fields of an Istio authorization rule against the ends of a connection. */
import { inRange, parseRange } from "../../../attribution/address.ts";
import { isMap, listAt, textAt, valueAt, type Json } from "../../../attribution/cluster-object.ts";
import { addressesOf, type Holder } from "../../../attribution/holder.ts";
import { and, not, or, type Ternary } from "../../decision/ternary.ts";
import type { ListenerProtocol } from "./service-port.ts";

/** What is known of a connection at its listener. */
export type Connection = {
  client: Holder;
  server: Holder;
  port: number;
  listener: ListenerProtocol;
  /** Whether the client proved an identity: null where that cannot be told. */
  identified: Ternary;
  trustDomain: string;
  /** Ambient's HBONE: what it leads to is inside. */
  isTunnel: boolean;
};

/** How a rule's HTTP-only fields count on a TCP listener (istio pilot/pkg/security/authz/model). */
export type Action = "ALLOW" | "DENY";

/** One field of a source, an operation or a condition: its name without `not`, and its values. */
type Field = { name: string; isNegated: boolean; values: readonly string[] };
type Fields = readonly (readonly Field[])[];

/** A rule as it is written, but for fields that are not set. */
export type Rule = {
  from: Fields;
  to: Fields;
  when: Fields;
  /** Names a field that only HTTP has. */
  hasHttp: boolean;
  /** Names a field that is read from the client's certificate. */
  hasIdentity: boolean;
};

/** Null for `null`, which is no rule (builder.go). */
export function readRule(rule: Json): Rule | null {
  if (!isMap(rule)) return null;
  const from = listAt(rule, "from").map((entry) => readFields(valueAt(entry, "source")));
  const to = listAt(rule, "to").map((entry) => readFields(valueAt(entry, "operation")));
  const when = listAt(rule, "when").map((condition) => {
    const name = textAt(condition, "key") ?? "";
    return [
      ...toField(name, false, valueAt(condition, "values")),
      ...toField(name, true, valueAt(condition, "notValues")),
    ];
  });
  const all = [...from, ...to, ...when].flat();
  const hasHttp = all.some(({ name }) => isHttpOnly(name));
  return { from, to, when, hasHttp, hasIdentity: all.some(({ name }) => IDENTITY.test(name)) };
}

function readFields(fields: Json | undefined): Field[] {
  return Object.entries(isMap(fields) ? fields : {}).flatMap(([field, values]) => {
    const isNegated = /^not[A-Z]/.test(field);
    const name = isNegated ? field[3]!.toLowerCase() + field.slice(4) : field;
    return toField(name, isNegated, values);
  });
}

/** An empty list says nothing. */
function toField(name: string, isNegated: boolean, values: Json | undefined): Field[] {
  if (!Array.isArray(values) || values.length === 0) return [];
  return [{ name, isNegated, values: values.map(String) }];
}

const IDENTITY = /^(principals|namespaces|serviceAccounts)$|^source\.(?!ip$)/;

/**
 * A sidecar's listener. from: any; to: any; when: all; and all three together. An empty rule
 * matches everything. `space` is the policy's own namespace.
 */
export function matchesRule(
  { from, to, when, hasHttp }: Rule,
  action: Action,
  connection: Connection,
  space: string,
): Ternary {
  // One field of HTTP, and the whole rule is left out (model.go checkError, Generate).
  if (hasHttp && connection.listener === "tcp" && action === "ALLOW") return false;
  const all = (fields: readonly Field[]) =>
    and(fields.map((field) => matchesField(field, connection, space)));
  return and([
    from.length === 0 ? true : or(from.map(all)),
    to.length === 0 ? true : or(to.map(all)),
    ...when.map(all),
  ]);
}

/** What ztunnel reads of a source and an operation, and of a condition. */
export const OF_TUNNEL: ReadonlySet<string> = new Set([
  ...["principals", "namespaces", "serviceAccounts", "ipBlocks", "ports"],
]);
export const TUNNEL_KEYS = /^(source\.(ip|namespace|principal)|destination\.(ip|port))$/;

/**
 * ztunnel. Fields of HTTP make an ALLOW rule match nothing, and are left out of a DENY rule; what
 * is then empty is passed over, and so matches nothing (ambient/authorization.go handleRule,
 * ztunnel's rbac.rs).
 */
export function matchesTunnelRule(
  { from, to, when }: Rule,
  action: Action,
  connection: Connection,
  space: string,
): Ternary {
  const isRead = ({ name }: Field) => OF_TUNNEL.has(name);
  const isKey = ({ name }: Field) => TUNNEL_KEYS.test(name);
  if (action === "ALLOW") {
    const isAll = [...from, ...to].flat().every(isRead) && when.flat().every(isKey);
    if (!isAll) return false;
  }
  const one = (fields: readonly Field[], isKept: (field: Field) => boolean) => {
    const kept = fields.filter(isKept);
    if (kept.length === 0) return false;
    return and(kept.map((field) => matchesField(field, connection, space)));
  };
  return and([
    from.length === 0 ? true : or(from.map((fields) => one(fields, isRead))),
    to.length === 0 ? true : or(to.map((fields) => one(fields, isRead))),
    ...when.map((fields) => one(fields, isKey)),
  ]);
}

/** Any of the values. */
function matchesField(
  { name, isNegated, values }: Field,
  connection: Connection,
  space: string,
): Ternary {
  // On TCP a field of HTTP is left out: what DENY says grows wider.
  if (isHttpOnly(name)) return connection.listener === "tcp" ? true : null;
  const test = testOf(name, connection, space);
  if (test === "unseen") return null;
  const found = or(values.map(test));
  return isNegated ? not(found) : found;
}

/** Fields that any listener reads; all others are of HTTP (authz/model/generator.go). */
export const OF_TCP: ReadonlySet<string> = new Set([...OF_TUNNEL, "remoteIpBlocks"]);
export const TCP_KEYS = /^(source\.|destination\.|remote\.ip$|connection\.sni$|experimental\.)/;

function isHttpOnly(name: string): boolean {
  return !OF_TCP.has(name) && !TCP_KEYS.test(name);
}

type Test = ((value: string) => Ternary) | "unseen";

function testOf(name: string, connection: Connection, space: string): Test {
  const { client, server, port, identified } = connection;
  const identity = (text: string | null, home?: string): Test => {
    // Without identity a positive match fails, and so a negative one holds.
    if (identified === false) return () => false;
    return (value) => {
      if (identified === null || text === null) return null;
      // A service account without a namespace is one of the policy's own.
      return matchesText(
        home === undefined || value.includes("/") ? value : `${home}/${value}`,
        text,
      );
    };
  };
  const isPod = client.kind === "pod";
  const account = isPod ? client.serviceAccount : null;
  switch (name) {
    case "principals":
    case "source.principal": {
      const path = `${connection.trustDomain}/ns/${client.namespace}/sa/${account}`;
      return identity(account === null ? null : path);
    }
    case "namespaces":
    case "source.namespace":
      return identity(isPod ? client.namespace : null);
    case "serviceAccounts":
    case "source.serviceAccount":
      return identity(account === null ? null : `${client.namespace}/${account}`, space);
    case "ipBlocks":
    case "source.ip":
      return (value) => isInBlock(value, client);
    case "destination.ip":
      return (value) => isInBlock(value, server);
    case "ports":
    case "destination.port":
      if (connection.isTunnel) return "unseen"; // the port stands inside of it
      return (value) => value === String(port);
    default:
      return "unseen"; // a header's or a PROXY line's address, SNI, what another filter has read
  }
}

/** Exact, `prefix*`, `*suffix`, or `*` for anything that is there. */
function matchesText(pattern: string, text: string): boolean {
  const bare = pattern.replace(/^spiffe:\/\//, "");
  if (bare === "*") return text !== "";
  if (bare.startsWith("*")) return text.endsWith(bare.slice(1));
  if (bare.endsWith("*")) return text.startsWith(bare.slice(0, -1));
  return bare === text;
}

function isInBlock(block: string, holder: Holder): Ternary {
  const range = parseRange(block);
  if (range === null || holder.addresses.length === 0) return null;
  const inside = addressesOf(holder).filter((address) => inRange(range, address));
  return inside.length === 0 ? false : inside.length === holder.addresses.length ? true : null;
}
