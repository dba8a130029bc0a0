/** Finds the intention that decides between two services of Consul's. */
import {
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../../attribution/cluster-object.ts";
import { formatObject, toBecause, toFaultBecause } from "../../decision/because.ts";
import type { Because } from "../../expectation.ts";
import { and, or, type Ternary } from "../../decision/ternary.ts";
import type { Fault } from "../../manifest/problem.ts";

/** Who a service is: every name that it may go by; none at all for one without an identity. */
export type Service = {
  names: readonly string[];
  /** Whether one of the names is its own; null where none is known. */
  isKnown: Ternary;
  namespace: string;
  /** Whether the namespace is certain. */
  isNamespaceKnown: boolean;
  isExternal: boolean;
};

export type Permission = "allow" | "deny";

/** A source of an intention, with its destination. */
type Intention = {
  object: ClusterObject;
  at: number;
  precedence: number;
  destination: { name: string; namespace: string };
  source: { name: string; namespace: string; peer: string | null; group: string | null };
  partition: string | null;
  action: Permission | null;
  permissions: readonly Permission[];
  hasToken: boolean;
  fault: Fault | null;
};

/**
 * What the intentions say. `none`: none speaks of the two. `http`: the requests' own fields decide;
 * `permissions` are the actions that they may come to, beside the default's, where that is all.
 */
export type Verdict = {
  action: Permission | "http" | "none" | "unknown";
  because: readonly Because[];
  permissions?: readonly Permission[];
};

export class Intentions {
  private readonly all: readonly Intention[];
  private readonly wide: readonly Intention[];
  private readonly byName = new Map<string, readonly Intention[]>();
  /** Whether Consul's namespaces are in use: with Enterprise alone. */
  readonly hasNamespaces: boolean;

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly Fault[],
  ) {
    const found = objects.filter(
      (o) => o.kind === "ServiceIntentions" && o.apiVersion.startsWith("consul.hashicorp.com/"),
    );
    const named = (end: Json | undefined) => {
      const namespace = textAt(end, "namespace");
      return namespace !== null && namespace !== "default" && namespace !== "*";
    };
    this.hasNamespaces =
      found.some(({ body }) => {
        const ends = [valueAt(body, "spec", "destination"), ...listAt(body, "spec", "sources")];
        return ends.some(named);
      }) || objects.some((o) => "consul.hashicorp.com/consul-namespace" in o.annotations);
    this.all = found
      .flatMap((object) => this.compile(object, faultsOf(object)[0] ?? null))
      .sort((a, b) => b.precedence - a.precedence);
    const isWide = ({ destination, fault }: Intention) =>
      destination.name === "*" || fault?.path[1] === "destination";
    this.wide = this.all.filter(isWide);
    for (const name of new Set(this.all.map(({ destination }) => destination.name))) {
      this.byName.set(
        name,
        this.all.filter((one) => one.destination.name === name || isWide(one)),
      );
    }
  }

  /** Those that may be for the service, by precedence. */
  private of({ names, isKnown }: Service): readonly Intention[] {
    const [name] = names;
    if (isKnown !== true || names.length !== 1 || name === undefined) return this.all;
    return this.byName.get(name) ?? this.wide;
  }

  /** Reports whether any intention names the service, not by `*` alone. */
  names(service: Service): boolean {
    return this.of(service).some(
      ({ destination, fault }) =>
        fault === null && destination.name !== "*" && service.names.includes(destination.name),
    );
  }

  /** Reports whether any intention is for the service. */
  isFor(service: Service): boolean {
    return this.of(service).some(({ destination }) => matchesEnd(destination, service) !== false);
  }

  /** The intention of the highest precedence that matches decides alone. */
  decide(client: Service, server: Service): Verdict {
    const unsure: { verdict: Verdict; because: Because }[] = [];
    const outcomes = new Map<string, Verdict>();
    let level = -Infinity;
    for (const intention of this.of(server)) {
      // All of one precedence are looked at; what comes behind a match counts for nothing.
      if (intention.precedence < level) break;
      const match = matches(intention, client, server);
      if (match === false) continue;
      const verdict = toVerdict(intention);
      if (match === null) unsure.push({ verdict, because: toUnsure(intention) });
      else {
        level = intention.precedence;
        outcomes.set(JSON.stringify([verdict.action, verdict.permissions]), verdict);
      }
    }
    const [first, ...others] = outcomes.values();
    const because = [...outcomes.values()].flatMap((verdict) => verdict.because);
    if (others.length > 0) {
      const sentence = "undecidable: two intentions for the same services disagree";
      return { action: "unknown", because: [{ ...because[0]!, sentence }, ...because] };
    }
    const agrees = ({ verdict }: { verdict: Verdict }) =>
      verdict.action === first?.action && (verdict.action === "allow" || verdict.action === "deny");
    if (unsure.every(agrees)) return first ?? { action: "none", because: [] };
    return { action: "unknown", because: [...unsure.map((one) => one.because), ...because] };
  }

  private compile(object: ClusterObject, fault: Fault | null): Intention[] {
    const spec = valueAt(object.body, "spec");
    const destination = {
      name: textAt(spec, "destination", "name") ?? "*",
      namespace: textAt(spec, "destination", "namespace") ?? this.homeOf(object),
    };
    const hasToken = listAt(spec, "jwt", "providers").length > 0;
    const sources = fault === null ? listAt(spec, "sources") : [{}];
    return sources.map((one, at) => {
      const peer = textAt(one, "peer");
      const group = textAt(one, "samenessGroup");
      const inherited = destination.namespace === "*" ? "default" : destination.namespace;
      const own = peer === null && group === null ? inherited : "default";
      const source = {
        name: textAt(one, "name") ?? "*",
        namespace: textAt(one, "namespace") ?? own,
        ...{ peer, group },
      };
      const permissions = listAt(one, "permissions").map((p) =>
        textAt(p, "action") === "allow" ? ("allow" as const) : ("deny" as const),
      );
      const action = textAt(one, "action");
      return {
        ...{ object, at, destination, source, permissions, hasToken, fault },
        partition: textAt(one, "partition"),
        precedence: fault === null ? precedenceOf(destination, source) : Infinity,
        action: action === "allow" || action === "deny" ? action : null,
      };
    });
  }

  /** The namespace of an entry that names none: its own, where Consul has namespaces. */
  private homeOf(object: ClusterObject): string {
    return this.hasNamespaces ? object.namespace : "default";
  }
}

type End = { name: string; namespace: string };

/** Rows 9 to 1 of the table of precedence (`computeIntentionPrecedence`). */
export function precedenceOf(destination: End, source: End): number {
  const exact = ({ name, namespace }: End) => (namespace === "*" ? 0 : name === "*" ? 1 : 2);
  return 3 + 3 * exact(destination) - (2 - exact(source));
}

function toVerdict(intention: Intention): Verdict {
  const { object, at, action, permissions, hasToken, fault } = intention;
  if (fault !== null) return { action: "unknown", because: [toFaultBecause(object, fault)] };
  const rule = `spec.sources[${at}]`;
  const name = formatObject(object);
  if (permissions.length > 0) {
    const sentence = `${name}: ${rule} decides by the requests' HTTP fields`;
    const because = [toBecause(object, `${rule}.permissions`, sentence)];
    return { action: "http", because, ...(hasToken ? {} : { permissions }) };
  }
  if (hasToken && action === "allow") {
    const sentence = `${name}: ${rule} allows what carries a token that spec.jwt takes`;
    return { action: "http", because: [toBecause(object, "spec.jwt", sentence)] };
  }
  const word = action === "allow" ? "allowed" : "denied";
  const sentence = `${word} by ${name}: ${rule} is the first that matches`;
  return { action: action ?? "deny", because: [toBecause(object, `${rule}.action`, sentence)] };
}

function toUnsure({ object, at, fault }: Intention): Because {
  if (fault !== null) return toFaultBecause(object, fault);
  const rule = `spec.sources[${at}]`;
  const sentence =
    `undecidable: whether ${rule} of ${formatObject(object)} speaks of the two depends on names ` +
    "of services that are not known";
  return toBecause(object, rule, sentence);
}

function matches(intention: Intention, client: Service, server: Service): Ternary {
  const { destination, source, partition, fault } = intention;
  const isDestination = matchesEnd(destination, server);
  if (fault !== null) return fault.path[1] === "destination" ? null : and([isDestination, null]);
  // The identity of a source in a peer, or in another partition, is no pod's of this cluster.
  const elsewhere = source.peer !== null || (partition !== null && partition !== "default");
  const isNear = elsewhere
    ? client.isExternal
      ? null
      : false
    : source.group !== null
      ? null
      : true;
  return and([isDestination, isNear, matchesEnd(source, client)]);
}

function matchesEnd(end: End, service: Service): Ternary {
  if (service.isKnown === false) return false;
  const isNamespace =
    end.namespace === "*" || end.namespace === service.namespace
      ? true
      : service.isNamespaceKnown
        ? false
        : null;
  return and([isNamespace, matchesName(end.name, service)]);
}

function matchesName(name: string, { names, isKnown }: Service): Ternary {
  if (name === "*") return isKnown === false ? false : true;
  const all = names.map((own) => own === name);
  if (isKnown === null && !or(all)) return null;
  // Of several names, which one the connection goes by is not known here.
  return all.length > 0 && all.every((same) => same)
    ? true
    : all.some((same) => same)
      ? null
      : false;
}
