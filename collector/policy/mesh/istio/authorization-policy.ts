/** Judges pairs of ends by Istio AuthorizationPolicy, as far as a passive observer can tell. */
import {
  labelsAt,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Labels,
} from "../../../attribution/cluster-object.ts";
import { formatHolder, type Holder } from "../../../attribution/holder.ts";
import { hasLabels } from "../../../attribution/selector.ts";
import {
  formatObject,
  toBecause,
  toFaultBecause,
  UNDECLARED,
  type Decision,
} from "../../decision/because.ts";
import type { Because } from "../../expectation.ts";
import type { Ternary } from "../../decision/ternary.ts";
import type { Fault } from "../../manifest/problem.ts";
import {
  matchesRule,
  matchesTunnelRule,
  readRule,
  type Connection,
  type Rule,
} from "./source-match.ts";

type Policy = {
  object: ClusterObject;
  action: string;
  selector: Labels;
  targets: readonly { kind: string; name: string }[];
  rules: readonly (Rule | null)[];
  fault: Fault | null;
};

/** Those that select a pod: how many, and of them those that decide. */
type Selected = {
  count: number;
  policies: readonly Policy[];
  broken: readonly Policy[];
  hasHttp: boolean;
  hasIdentity: boolean;
};

function toSelected(selecting: readonly Policy[]): Selected {
  const policies = selecting.filter(({ object }) => !isDryRun(object));
  const rules = policies.flatMap((policy) => policy.rules).filter((rule) => rule !== null);
  return {
    count: selecting.length,
    policies,
    broken: policies.filter(({ fault }) => fault !== null),
    hasHttp: rules.some(({ hasHttp }) => hasHttp),
    hasIdentity: rules.some(({ hasIdentity }) => hasIdentity),
  };
}

type Match = { ternary: Ternary; because: Because };

const EITHER = ["http", "tcp"] as const;

export class AuthorizationPolicies {
  private readonly byNamespace: ReadonlyMap<string, Policy[]>;
  private readonly rootNamespace: string;
  private readonly selected = new WeakMap<Holder, Selected>();

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly Fault[],
    rootNamespace: string,
  ) {
    this.rootNamespace = rootNamespace;
    const policies = objects
      .filter((o) => o.kind === "AuthorizationPolicy")
      .filter((o) => o.apiVersion.startsWith("security.istio.io/"))
      .map((object) => compile(object, faultsOf(object)[0] ?? null));
    this.byNamespace = Map.groupBy(policies, ({ object }) => object.namespace);
  }

  /** Reports whether any object selects the pod. */
  isSelected(pod: Holder): boolean {
    return this.selecting(pod).count > 0;
  }

  /**
   * CUSTOM, then DENY, then ALLOW; without an ALLOW policy everything is allowed. A denial that is
   * answered inside the encryption, by HTTP or in an ambient tunnel, is `undecidable`. Each of
   * `identities` is one that the client may have shown.
   */
  decide(
    connection: Omit<Connection, "identified">,
    identities: readonly Ternary[],
    mesh: "istio" | "ambient",
  ): Decision {
    const { policies, broken, hasHttp, hasIdentity } = this.selecting(connection.server);
    if (policies.length === 0) return UNDECLARED;
    if (broken.length > 0)
      return {
        path: "undecidable",
        because: broken.map((p) => toFaultBecause(p.object, p.fault!)),
      };
    // What nobody has told the protocol of is taken for HTTP, or for TCP, by its first bytes. Where
    // no rule asks, HTTP stands for both: what it denies, it denies in the band.
    const isTold = mesh === "ambient" || /^(tcp|http)$/.test(connection.listener);
    const either = hasHttp ? EITHER : EITHER.slice(0, 1);
    const listeners = isTold ? [connection.listener] : either;
    // And a client with an identity for one without, likewise.
    const shown = hasIdentity ? identities : identities.slice(0, 1);
    const decisions = shown.flatMap((identified) =>
      listeners.map((listener) =>
        decideFor(policies, { ...connection, identified, listener }, mesh),
      ),
    );
    const [first] = decisions;
    if (decisions.every(({ path }) => path === first!.path)) return first!;
    const unsure = decisions.filter(({ path }) => path === "undecidable");
    const because = [...unsure, ...decisions].flatMap((decision) => decision.because);
    if (unsure.length > 0) return { path: "undecidable", because: [...new Set(because)] };
    const who = formatHolder(connection.client);
    const sentence =
      `undecidable: it depends on whether ${who} shows an identity, or speaks HTTP, ` +
      "and neither is declared";
    return { path: "undecidable", because: [{ ...because[0]!, sentence }, ...because] };
  }

  private selecting(pod: Holder): Selected {
    const known = this.selected.get(pod);
    if (known !== undefined) return known;
    const found = toSelected(pod.kind === "pod" ? this.select(pod) : []);
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
      return hasLabels(pod.labels, selector);
    });
  }
}

/** `strconv.ParseBool` reads the annotation (authz/builder/builder.go isDryRun). */
export function isDryRun({ annotations }: ClusterObject): boolean {
  return /^(1|t|T|TRUE|true|True)$/.test(annotations["istio.io/dry-run"] ?? "");
}

function decideFor(
  policies: readonly Policy[],
  connection: Connection,
  mesh: "istio" | "ambient",
): Decision {
  const who = formatHolder(connection.client);
  const ofAction = (action: string) =>
    policies
      .filter((policy) => policy.action === action && canMatch(policy, mesh))
      .map((policy) => match(policy, connection, mesh));
  const [custom, deny, allow] = [ofAction("CUSTOM"), ofAction("DENY"), ofAction("ALLOW")];

  const denied = deny.filter((m) => m.ternary === true);
  if (denied.length > 0) return toDenial(denied, connection, mesh);
  if (allow.length > 0 && allow.every((m) => m.ternary === false)) {
    // Whatever those of DENY and CUSTOM come to.
    const none = allow.map(({ because }) => ({
      ...because,
      rule: "spec.rules",
      sentence: `denied by ${formatObject(because)}: no ALLOW rule matches ${who}`,
    }));
    return toDenial(
      none.map((because) => ({ ternary: true, because })),
      connection,
      mesh,
    );
  }
  const outside = custom.filter((m) => m.ternary !== false);
  if (outside.length > 0) return { path: "undecidable", because: becauseOf(outside) };
  const unsure = [...deny, ...allow].filter((m) => m.ternary === null);
  const allowed = allow.filter((m) => m.ternary === true);
  if (deny.some((m) => m.ternary === null) || (allow.length > 0 && allowed.length === 0)) {
    return { path: "undecidable", because: becauseOf(unsure) };
  }
  if (allowed.length > 0) return { path: "allowed", because: becauseOf(allowed) };
  if (deny.length + custom.length === 0) return UNDECLARED; // AUDIT and the like never decide
  const passed = [...deny, ...custom].map(({ because }) => ({
    ...because,
    rule: "spec.rules",
    sentence: `allowed: no rule of ${formatObject(because)} matches ${who}`,
  }));
  return { path: "allowed", because: passed };
}

function toDenial(
  matches: readonly Match[],
  { listener, identified }: Connection,
  mesh: "istio" | "ambient",
): Decision {
  const because = becauseOf(matches);
  // What comes without an identity comes outside of the tunnel, and ztunnel closes it there.
  const isSeen = mesh === "ambient" ? identified === false : listener === "tcp";
  if (isSeen) return { path: "denied", because };
  const where = mesh === "ambient" ? "inside the ambient tunnel" : "by HTTP inside the encryption";
  return {
    path: "undecidable",
    because: because.map((b) => ({
      ...b,
      sentence: `denial-in-band: ${b.sentence}; answered ${where}, unreadable from outside`,
    })),
  };
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
    rules: fault === null ? listAt(spec, "rules").map(readRule) : [],
    fault,
  };
}

/** ztunnel knows no CUSTOM and no AUDIT. */
function canMatch(policy: Policy, mesh: "istio" | "ambient"): boolean {
  return mesh === "istio" || policy.action === "ALLOW" || policy.action === "DENY";
}

/** No rules match nothing; one empty rule matches everything. */
function match(
  { object, action, rules }: Policy,
  connection: Connection,
  mesh: "istio" | "ambient",
): Match {
  const side = action === "ALLOW" ? "ALLOW" : "DENY";
  let found: { ternary: Ternary; at: number } = { ternary: false, at: -1 };
  for (const [i, rule] of rules.entries()) {
    if (rule === null) continue;
    const matches = mesh === "ambient" ? matchesTunnelRule : matchesRule;
    const ternary = matches(rule, side, connection, object.namespace);
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
