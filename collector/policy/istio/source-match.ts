/** Matches the fields of an Istio authorization rule against the ends of a connection. */
import { inRange, parseAddress, parseRange } from "../../attribution/address.ts";
import { isMap, listAt, textAt, valueAt, type Json } from "../../attribution/cluster-object.ts";
import type { Holder } from "../../attribution/holder.ts";
import type { Ternary } from "../peer.ts";
import { and, not, or } from "../ternary.ts";
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

/** from: any; to: any; when: all; and all three together. An empty rule matches everything. */
export function matchesRule(rule: Json, action: Action, connection: Connection): Ternary {
  const from = listAt(rule, "from").map((f) =>
    matchesFields(valueAt(f, "source"), action, connection),
  );
  const to = listAt(rule, "to").map((t) =>
    matchesFields(valueAt(t, "operation"), action, connection),
  );
  const when = listAt(rule, "when").map((condition) => {
    const key = textAt(condition, "key") ?? "";
    return and([
      matchesField(key, listAt(condition, "values"), false, action, connection),
      matchesField(key, listAt(condition, "notValues"), true, action, connection),
    ]);
  });
  return and([from.length === 0 ? true : or(from), to.length === 0 ? true : or(to), ...when]);
}

function matchesFields(fields: Json | undefined, action: Action, connection: Connection): Ternary {
  if (!isMap(fields)) return true;
  return and(
    Object.entries(fields).map(([field, values]) => {
      const negated = /^not[A-Z]/.test(field);
      const name = negated ? field[3]!.toLowerCase() + field.slice(4) : field;
      return matchesField(name, Array.isArray(values) ? values : [], negated, action, connection);
    }),
  );
}

/** One field with its values: any of them; an empty list says nothing. */
function matchesField(
  name: string,
  values: readonly Json[],
  negated: boolean,
  action: Action,
  connection: Connection,
): Ternary {
  if (values.length === 0) return true;
  const test = testOf(name, connection);
  if (test === "http-only") {
    if (connection.listener !== "tcp") return null;
    // ALLOW loses the whole permission, DENY only the field: narrower, and wider.
    return action === "DENY";
  }
  if (test === "unseen") return null;
  const found = or(values.map((value) => test(String(value))));
  return negated ? not(found) : found;
}

type Test = ((value: string) => Ternary) | "http-only" | "unseen";

function testOf(name: string, connection: Connection): Test {
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
      return identity(account === null ? null : `${client.namespace}/${account}`, server.namespace);
    case "ipBlocks":
    case "source.ip":
      return (value) => isInBlock(value, client);
    case "destination.ip":
      return (value) => isInBlock(value, server);
    case "ports":
    case "destination.port":
      if (connection.isTunnel) return "unseen"; // the port stands inside of it
      return (value) => value === String(port);
    case "remoteIpBlocks":
    case "remote.ip":
    case "connection.sni":
      return "unseen";
    default:
      return name.startsWith("experimental.") ? "unseen" : "http-only";
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
  const inside = holder.addresses.filter((text) => {
    const address = parseAddress(text);
    return address !== null && inRange(range, address);
  });
  return inside.length === 0 ? false : inside.length === holder.addresses.length ? true : null;
}
