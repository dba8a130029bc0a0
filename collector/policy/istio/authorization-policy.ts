/** Judges pairs of ends by Istio AuthorizationPolicy, as far as a passive observer can tell. */
import {
  labelsAt,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Labels,
} from "../../attribution/cluster-object.ts";
import { formatHolder, type Holder } from "../../attribution/holder.ts";
import { formatObject, toBecause, toFaultBecause, UNDECLARED, type Decision } from "../because.ts";
import type { Because } from "../expectation.ts";
import type { Ternary } from "../peer.ts";
import type { Fault } from "../problem.ts";
import { matchesRule, type Connection } from "./source-match.ts";

type Policy = {
  object: ClusterObject;
  action: string;
  selector: Labels;
  targets: readonly { kind: string; name: string }[];
  fault: Fault | null;
};

type Match = { ternary: Ternary; because: Because };

export class AuthorizationPolicies {
  private readonly byNamespace: ReadonlyMap<string, Policy[]>;
  private readonly rootNamespace: string;
  private readonly selected = new WeakMap<Holder, readonly Policy[]>();

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly Fault[],
    rootNamespace: string,
  ) {
    this.rootNamespace = rootNamespace;
    const policies = objects
      .filter((o) => o.kind === "AuthorizationPolicy")
      .filter((o) => o.apiVersion.startsWith("security.istio.io/"))
      .filter((o) => o.annotations["istio.io/dry-run"] !== "true") // never decides
      .map((object) => compile(object, faultsOf(object)[0] ?? null));
    this.byNamespace = Map.groupBy(policies, ({ object }) => object.namespace);
  }

  /** Reports whether any object selects the pod. */
  isSelected(pod: Holder): boolean {
    return this.selecting(pod).length > 0;
  }

  /**
   * CUSTOM, then DENY, then ALLOW; without an ALLOW policy everything is allowed. A denial that is
   * answered inside the encryption, by HTTP or in an ambient tunnel, is `undecidable`.
   */
  decide(connection: Connection, mesh: "istio" | "ambient"): Decision {
    const { server, client } = connection;
    const who = formatHolder(client);
    const policies = this.selecting(server);
    if (policies.length === 0) return UNDECLARED;
    const broken = policies.filter((policy) => policy.fault !== null);
    if (broken.length > 0)
      return {
        path: "undecidable",
        because: broken.map((p) => toFaultBecause(p.object, p.fault!)),
      };
    const ofAction = (action: string) =>
      policies.filter((policy) => policy.action === action && canMatch(policy, mesh));
    const custom = ofAction("CUSTOM").map((policy) => match(policy, connection));
    const deny = ofAction("DENY").map((policy) => match(policy, connection));
    const allow = ofAction("ALLOW").map((policy) => match(policy, connection));

    const denied = deny.filter((m) => m.ternary === true);
    if (denied.length > 0) return this.toDenial(denied, connection, mesh);
    const outside = custom.filter((m) => m.ternary !== false);
    if (outside.length > 0) return { path: "undecidable", because: becauseOf(outside) };
    const unsure = [...deny, ...allow].filter((m) => m.ternary === null);
    const allowed = allow.filter((m) => m.ternary === true);
    if (allow.length > 0 && allowed.length === 0 && unsure.length === 0) {
      const none = allow.map(({ because }) => ({
        ...because,
        rule: "spec.rules",
        sentence: `denied by ${formatObject(because)}: no ALLOW rule matches ${who}`,
      }));
      return this.toDenial(
        none.map((because) => ({ ternary: true, because })),
        connection,
        mesh,
      );
    }
    if (deny.some((m) => m.ternary === null) || (allow.length > 0 && allowed.length === 0)) {
      return { path: "undecidable", because: becauseOf(unsure) };
    }
    if (allowed.length > 0) return { path: "allowed", because: becauseOf(allowed) };
    if (deny.length === 0) return UNDECLARED; // AUDIT and the like never decide
    const passed = deny.map(({ because }) => ({
      ...because,
      rule: "spec.rules",
      sentence: `allowed: no DENY rule of ${formatObject(because)} matches ${who}`,
    }));
    return { path: "allowed", because: passed };
  }

  private toDenial(
    matches: readonly Match[],
    { listener }: Connection,
    mesh: "istio" | "ambient",
  ): Decision {
    const because = becauseOf(matches);
    if (listener === "tcp" && mesh === "istio") return { path: "denied", because };
    const where =
      mesh === "ambient" ? "inside the ambient tunnel" : "by HTTP inside the encryption";
    return {
      path: "undecidable",
      because: because.map((b) => ({
        ...b,
        sentence: `denial-in-band: ${b.sentence}; answered ${where}, unreadable from outside`,
      })),
    };
  }

  private selecting(pod: Holder): readonly Policy[] {
    if (pod.kind !== "pod") return [];
    const known = this.selected.get(pod);
    if (known !== undefined) return known;
    const found = this.select(pod);
    this.selected.set(pod, found);
    return found;
  }

  private select(pod: Holder): Policy[] {
    const own = this.byNamespace.get(pod.namespace) ?? [];
    const root =
      pod.namespace === this.rootNamespace ? [] : (this.byNamespace.get(this.rootNamespace) ?? []);
    return [...root, ...own].filter(({ selector, targets, fault }) => {
      if (fault?.path[1] === "selector") return true;
      if (targets.length > 0) return false; // waypoints and gateways, not the pods behind them
      return Object.entries(selector).every(([key, value]) => pod.labels[key] === value);
    });
  }
}

function compile(object: ClusterObject, fault: Fault | null): Policy {
  const spec = valueAt(object.body, "spec");
  const single = valueAt(spec, "targetRef");
  const refs = [...listAt(spec, "targetRefs"), ...(single === undefined ? [] : [single])];
  return {
    object,
    action: textAt(spec, "action") ?? "ALLOW",
    selector: labelsAt(spec, "selector", "matchLabels"),
    targets: refs.map((ref) => ({
      kind: textAt(ref, "kind") ?? "",
      name: textAt(ref, "name") ?? "",
    })),
    fault,
  };
}

/** ztunnel knows no CUSTOM and no AUDIT. */
function canMatch(policy: Policy, mesh: "istio" | "ambient"): boolean {
  return mesh === "istio" || policy.action === "ALLOW" || policy.action === "DENY";
}

/** No rules match nothing; one empty rule matches everything. */
function match({ object, action }: Policy, connection: Connection): Match {
  const side = action === "ALLOW" ? "ALLOW" : "DENY";
  let found: { ternary: Ternary; at: number } = { ternary: false, at: -1 };
  for (const [i, rule] of listAt(object.body, "spec", "rules").entries()) {
    const ternary = matchesRule(rule, side, connection);
    if (ternary === true) {
      found = { ternary, at: i };
      break;
    }
    if (ternary === null) found = { ternary, at: i };
  }
  const who = formatHolder(connection.client);
  const name = formatObject(object);
  const rule = found.at < 0 ? "spec.rules" : `spec.rules[${found.at}]`;
  const words: Record<string, string> = { ALLOW: "allowed", DENY: "denied", CUSTOM: "handed on" };
  const sentence =
    found.ternary === true && action !== "CUSTOM"
      ? `${words[action]} by ${name}: rule ${found.at} matches ${who}`
      : action === "CUSTOM"
        ? `undecidable: ${name} leaves the decision to an authorizer outside`
        : `undecidable: ${rule} of ${name} depends on what nobody can read on the wire`;
  return { ternary: found.ternary, because: toBecause(object, rule, sentence) };
}

function becauseOf(matches: readonly Match[]): Because[] {
  return matches.map((m) => m.because);
}
