/** Tells where ztunnel denies plaintext, by what istiod makes of PeerAuthentication. */

/** What `mtls.mode` of a PeerAuthentication may say. */
export type Mode = "DISABLE" | "PERMISSIVE" | "STRICT";

/** The modes at each level that counts for a pod; null for UNSET. */
export type TunnelLevels = {
  mesh: Mode | null;
  namespace: Mode | null;
  workload: Mode | null;
  /** By port, of the workload's policy; null where it has no `portLevelMtls`. */
  ports: ReadonlyMap<number, Mode | null> | null;
  /** The policies without a `selector` at all, which alone a conversion looks at; or none. */
  plain: { mesh: Mode | null | "none"; namespace: Mode | null | "none" };
};

/**
 * Reports whether a connection without an identity is denied at the port
 * (pilot/pkg/serviceregistry/ambient/authorization.go: convertedSelectorPeerAuthentications names
 * the policies for a pod, convertPeerAuthentication makes that of its workload level). Where it
 * names one that was not made, ztunnel passes it over (ztunnel's state.rs assert_rbac).
 */
export function deniesPlaintext(levels: TunnelLevels, port: number): boolean {
  const { mesh, namespace, workload, ports } = levels;
  const isStrict = (workload ?? namespace ?? mesh) === "STRICT";
  if (ports === null) return isStrict;
  const modes = [...ports.values()];
  const isOpen = (mode: Mode | null) => mode === "PERMISSIVE" || mode === "DISABLE";
  if (!isStrict) return modes.includes("STRICT") && convert(levels, port);
  // From a STRICT that is inherited only PERMISSIVE makes an exception.
  const isExcepted =
    workload === "STRICT" ? modes.some(isOpen) : modes.some((mode) => mode === "PERMISSIVE");
  return isExcepted ? convert(levels, port) : true;
}

/** What the workload's own policy denies at the port, once it is one of ztunnel's. */
function convert({ workload, ports, plain }: TunnelLevels, port: number): boolean {
  const isMeshStrict = plain.mesh === "STRICT";
  const isSpaceUnset = plain.namespace === "none" || plain.namespace === null;
  const isSpaceStrict = plain.namespace === "STRICT";
  const isInherited = isSpaceStrict || (isSpaceUnset && isMeshStrict);
  // Exceptions are written where the workload is STRICT, or inherits it from the *nearest* policy.
  const isNearestStrict = plain.namespace === "none" ? isMeshStrict : isSpaceStrict;
  const isWritten = workload === "STRICT" || (workload === null && isNearestStrict);
  const open = [...ports!].filter(([, mode]) => mode === "PERMISSIVE" || mode === "DISABLE");
  if (isWritten && open.length > 0) {
    const isMerged = workload === "STRICT" || isInherited;
    if (isMerged && !open.some(([number]) => number === port)) return true;
  }
  // STRICT ports are left to the parent where that is STRICT: `a || (b && c) || d`.
  const isLeft =
    workload === "STRICT" || (workload === null && isSpaceStrict) || (isSpaceUnset && isMeshStrict);
  return !isLeft && ports!.get(port) === "STRICT";
}
