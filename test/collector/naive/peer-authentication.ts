/**
 * Judges PeerAuthentication as istiod composes it: for sidecars `ComposePeerAuthentication`
 * (pilot/pkg/security/authn/policy_applier.go), for ztunnel the DENY policies into which
 * pilot/pkg/serviceregistry/ambient/authorization.go turns it.
 */
import type { NaiveEnd } from "./cluster.ts";
import { drawSpace } from "./cluster.ts";
import type { Random } from "./random.ts";
import { matches, type Labels } from "./selector.ts";

export type Mode = "UNSET" | "DISABLE" | "PERMISSIVE" | "STRICT";
type Mtls = { mode?: Mode } | null;
export type PeerAuthenticationBody = {
  kind: "PeerAuthentication";
  metadata: { name: string; namespace: string; creationTimestamp?: string };
  spec: {
    selector?: { matchLabels?: Labels } | null;
    mtls?: Mtls;
    portLevelMtls?: Record<string, Mtls> | null;
  };
};

function modeOf(mtls: Mtls | undefined): Mode {
  return mtls?.mode ?? "UNSET";
}

function labelsOf({ spec }: PeerAuthenticationBody): Labels {
  return spec.selector?.matchLabels ?? {};
}

/** "the oldest one win"; of one age the first by name (configCompareByCreationTime). */
function oldest(policies: readonly PeerAuthenticationBody[]): PeerAuthenticationBody | null {
  const keyOf = ({ metadata }: PeerAuthenticationBody) =>
    `${metadata.creationTimestamp ?? ""} ${metadata.name}`;
  return policies.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))[0] ?? null;
}

type Levels = {
  mesh: PeerAuthenticationBody | null;
  space: PeerAuthenticationBody | null;
  workload: PeerAuthenticationBody | null;
};

/** Those that count for a pod, one at each level. A selector in the root namespace is ignored. */
function levelsOf(
  policies: readonly PeerAuthenticationBody[],
  pod: NaiveEnd,
  root: string,
): Levels {
  const of = (isMine: (policy: PeerAuthenticationBody, hasLabels: boolean) => boolean) =>
    oldest(policies.filter((policy) => isMine(policy, Object.keys(labelsOf(policy)).length > 0)));
  return {
    mesh: of(({ metadata }, hasLabels) => !hasLabels && metadata.namespace === root),
    space: of(
      ({ metadata }, hasLabels) =>
        !hasLabels && metadata.namespace !== root && metadata.namespace === pod.namespace,
    ),
    workload: of(
      (policy, hasLabels) =>
        hasLabels &&
        policy.metadata.namespace !== root &&
        policy.metadata.namespace === pod.namespace &&
        matches({ matchLabels: { ...labelsOf(policy) } }, pod.labels),
    ),
  };
}

/** Whether any policy speaks of the pod: what shows it to be meshed where nothing else does. */
export function isAuthenticated(
  policies: readonly PeerAuthenticationBody[],
  pod: NaiveEnd,
  root: string,
): boolean {
  const { mesh, space, workload } = levelsOf(policies, pod, root);
  return mesh !== null || space !== null || workload !== null;
}

/** The mode at a sidecar's port: "UNSET will be replaced with the setting from the parent". */
export function sidecarMode(
  policies: readonly PeerAuthenticationBody[],
  pod: NaiveEnd,
  port: number,
  root: string,
): Mode {
  const { mesh, space, workload } = levelsOf(policies, pod, root);
  let mode: Mode = "PERMISSIVE";
  for (const policy of [mesh, space, workload]) {
    const own = modeOf(policy?.spec.mtls);
    if (own !== "UNSET") mode = own;
  }
  const ports = workload?.spec.portLevelMtls ?? {};
  if (!(port in ports)) return mode;
  const own = modeOf(ports[port]);
  return own === "UNSET" ? mode : own;
}

/** One match of a policy of ztunnel's (src/rbac.rs): all that it names must hold. */
type Match = { isPlaintext?: true; port?: number; notPort?: number };
/** Groups are ORed, the matches in one ANDed. */
type Deny = readonly (readonly Match[])[];

const STATIC_STRICT: Deny = [[{ isPlaintext: true }]];

/**
 * `convertPeerAuthentication`; null where it makes no policy of it. Of the wider levels it gets
 * the oldest without any `selector` (ambient/policies.go, PeerAuthByNamespace).
 */
function convert(
  workload: PeerAuthenticationBody | null,
  mesh: PeerAuthenticationBody | null,
  space: PeerAuthenticationBody | null,
): Deny | null {
  const ports = Object.entries(workload?.spec.portLevelMtls ?? {});
  if (workload === null || ports.length === 0) return null;
  const mode = modeOf(workload.spec.mtls);
  const isSpaceStrict = modeOf(space?.spec.mtls) === "STRICT";
  const isSpaceUnset = space === null || modeOf(space.spec.mtls) === "UNSET";
  const isMeshStrict = modeOf(mesh?.spec.mtls) === "STRICT";
  const rules: Match[] = mode === "STRICT" ? [{ isPlaintext: true }] : [];
  const groups: Match[][] = [];
  let foundNonStrict = false;
  for (const [port, mtls] of ports) {
    const own = modeOf(mtls);
    if (own === "STRICT") {
      // `a || (b && c) || d`, as Go reads the condition there.
      const isImplied =
        mode === "STRICT" || (mode === "UNSET" && isSpaceStrict) || (isSpaceUnset && isMeshStrict);
      if (!isImplied) groups.push([{ isPlaintext: true, port: Number(port) }]);
    } else if (own !== "UNSET") {
      if (mode === "PERMISSIVE" || mode === "DISABLE") continue;
      const isOpenAbove =
        (space !== null && !isSpaceStrict) || (space === null && (mesh === null || !isMeshStrict));
      if (mode === "UNSET" && isOpenAbove) continue;
      foundNonStrict = true;
      rules.push({ notPort: Number(port) });
    }
  }
  if (mode === "STRICT" && !foundNonStrict) return null;
  if (rules.length === 0 && groups.length === 0) return null;
  const isMerged = (isMeshStrict && (isSpaceUnset || isSpaceStrict)) || isSpaceStrict;
  if (isMerged && foundNonStrict) rules.push({ isPlaintext: true });
  return rules.length > 0 ? [...groups, rules] : groups;
}

/** `convertedSelectorPeerAuthentications`: the policies that ztunnel is told to keep for a pod. */
function keptFor(policies: readonly PeerAuthenticationBody[], pod: NaiveEnd, root: string): Deny[] {
  const { mesh, space, workload } = levelsOf(policies, pod, root);
  const plain = (name: string) =>
    oldest(policies.filter((p) => p.metadata.namespace === name && !p.spec.selector));
  let isStrict = modeOf(mesh?.spec.mtls) === "STRICT";
  if (modeOf(space?.spec.mtls) !== "UNSET") isStrict = modeOf(space?.spec.mtls) === "STRICT";
  const mode = modeOf(workload?.spec.mtls);
  if (mode !== "UNSET") isStrict = mode === "STRICT";
  const ports = Object.values(workload?.spec.portLevelMtls ?? {}).map(modeOf);
  let isOwnKept = false;
  if (workload?.spec.portLevelMtls) {
    if (mode === "STRICT" || (mode === "UNSET" && isStrict)) {
      // Under a STRICT that is inherited, only PERMISSIVE ports are looked for.
      const isException = (own: Mode) =>
        own === "PERMISSIVE" || (mode === "STRICT" && own === "DISABLE");
      isOwnKept = ports.some(isException);
      if (isOwnKept) isStrict = false;
    } else isOwnKept = ports.includes("STRICT");
  }
  const own = isOwnKept ? convert(workload, plain(root), plain(pod.namespace)) : null;
  // A policy that was not made is "skipping unknown policy" in ztunnel (state.rs assert_rbac).
  return [...(isStrict ? [STATIC_STRICT] : []), ...(own === null ? [] : [own])];
}

const isAt = ({ port, notPort }: Match, number: number) =>
  (port === undefined || port === number) && (notPort === undefined || notPort !== number);

/** Whether ztunnel denies a connection without an identity at this port of an ambient pod. */
export function deniesPlaintext(
  policies: readonly PeerAuthenticationBody[],
  pod: NaiveEnd,
  port: number,
  root: string,
): boolean {
  const isSet = (match: Match) =>
    match.isPlaintext === true || match.port !== undefined || match.notPort !== undefined;
  const holds = (match: Match) => isSet(match) && isAt(match, port);
  return keptFor(policies, pod, root).some((deny) => deny.some((group) => group.every(holds)));
}

/** Whether it denies one with an identity there, which no rule above means to. */
export function deniesIdentity(
  policies: readonly PeerAuthenticationBody[],
  pod: NaiveEnd,
  port: number,
  root: string,
): boolean {
  const holds = (match: Match) => match.isPlaintext !== true && isAt(match, port);
  return keptFor(policies, pod, root).some((deny) => deny.some((group) => group.every(holds)));
}

function drawCreation(random: Random): Record<string, string> {
  const day = random.pick("01", "02", "02", "03");
  return { creationTimestamp: `2024-05-${day}T00:00:00Z` };
}

/** Wide policies and narrow ones, STRICT more often: what differs between them is what counts. */
export function drawPeerAuthentication(
  random: Random,
  name: string,
  hasTimes: boolean,
): PeerAuthenticationBody {
  const mode = () => random.pick<Mode>("UNSET", "DISABLE", "PERMISSIVE", "STRICT", "STRICT");
  const mtls = (): Mtls => (random.once(8) ? {} : { mode: mode() });
  const label = () => ({ [random.pick("a", "b", "c")]: random.pick("1", "2") });
  const ports = () =>
    Object.fromEntries(
      random.list(1, 3, () => [random.pick("80", "81", "82"), random.once(8) ? null : mtls()]),
    );
  const isWide = random.once(2);
  const spec = isWide
    ? random.maybe(8, "selector", () => ({ matchLabels: {} }))
    : {
        selector: { matchLabels: label() },
        ...(random.once(3) ? {} : { portLevelMtls: random.once(8) ? null : ports() }),
      };
  const body = {
    apiVersion: random.pick("security.istio.io/v1", "security.istio.io/v1beta1"),
    kind: "PeerAuthentication",
    metadata: {
      name,
      namespace: isWide && random.once(2) ? "root" : drawSpace(random),
      ...(hasTimes ? drawCreation(random) : {}),
    },
    spec: { ...spec, ...random.optional("mtls", mtls) },
  };
  return body as PeerAuthenticationBody;
}
