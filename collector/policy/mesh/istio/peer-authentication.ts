/** Composes PeerAuthentication objects into what a port does with plaintext, TLS and mutual TLS. */
import {
  isMap,
  labelsAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Labels,
} from "../../../attribution/cluster-object.ts";
import type { Holder } from "../../../attribution/holder.ts";
import { hasLabels } from "../../../attribution/selector.ts";
import { byAge, formatObject, toBecause, toFaultBecause } from "../../decision/because.ts";
import type { Because } from "../../expectation.ts";
import type { Transport } from "../mesh-say.ts";
import type { Fault } from "../../manifest/problem.ts";
import type { ListenerProtocol } from "./service-port.ts";
import { deniesPlaintext, type Mode, type TunnelLevels } from "./tunnel-mode.ts";

/**
 * Null mode: it depends on an object that is not valid. `isEnforced` is false where istiod is
 * known to leave out in ambient what is declared: then plaintext may be taken.
 */
export type Effective = { mode: Mode | null; isEnforced: boolean; because: readonly Because[] };

type Policy = { object: ClusterObject; selector: Labels; fault: Fault | null };

type Levels = [mesh: Policy | null, namespace: Policy | null, workload: Policy | null];

/** Rules of `ComposePeerAuthentication` (istio pilot/pkg/security/authn/policy_applier.go). */
export class PeerAuthentications {
  private readonly byNamespace: ReadonlyMap<string, Policy[]>;
  private readonly rootNamespace: string;
  private readonly found = new WeakMap<Holder, Levels>();

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly Fault[],
    rootNamespace: string,
  ) {
    this.rootNamespace = rootNamespace;
    const found = objects.filter(
      (o) => o.kind === "PeerAuthentication" && o.apiVersion.startsWith("security.istio.io/"),
    );
    const policies = found.sort(byAge).map((object): Policy => {
      const selector = labelsAt(object.body, "spec", "selector", "matchLabels");
      return { object, selector, fault: faultsOf(object)[0] ?? null };
    });
    this.byNamespace = Map.groupBy(policies, ({ object }) => object.namespace);
  }

  /** Reports whether any object selects the pod: mesh-wide, by namespace, or by labels. */
  isSelected(pod: Holder): boolean {
    return this.levels(pod).some((level) => level !== null);
  }

  /** The mode for a container's port. The wider levels come first in `because` when they decide. */
  effective(pod: Holder, port: number, mesh: "istio" | "ambient" = "istio"): Effective {
    const levels = this.levels(pod);
    const broken = levels.find((level) => level !== null && level.fault !== null);
    if (broken?.fault) {
      const because = [toFaultBecause(broken.object, broken.fault)];
      return { mode: null, isEnforced: false, because };
    }
    const declared = compose(levels, port);
    if (mesh === "istio") return declared;
    const isDenied = deniesPlaintext(this.toTunnelLevels(pod, levels), port);
    if (isDenied === (declared.mode === "STRICT")) return declared;
    const { object } = levels.at(-1)!; // ports make the difference
    const name = formatObject(object);
    const rule = `spec.portLevelMtls`;
    const sentence = isDenied
      ? `${name}: port ${port} stays STRICT: in ambient DISABLE makes no exception from an ` +
        "inherited STRICT, unless another port is PERMISSIVE"
      : `undecidable: ${name}: port ${port} is STRICT, and releases of Istio's ambient do not ` +
        "keep it beside these ports and wider policies";
    const because = [toBecause(object, rule, sentence), ...declared.because];
    return { mode: "STRICT", isEnforced: isDenied, because };
  }

  private toTunnelLevels(pod: Holder, [mesh, namespace, workload]: Levels): TunnelLevels {
    const ports = valueAt(workload?.object.body, "spec", "portLevelMtls");
    const plain = (space: string) => {
      const found = (this.byNamespace.get(space) ?? []).find(
        ({ object }) => (valueAt(object.body, "spec", "selector") ?? null) === null,
      );
      return found === undefined ? "none" : readMode(found.object);
    };
    const numbers = Object.entries(isMap(ports) ? ports : {});
    return {
      mesh: mesh && readMode(mesh.object),
      namespace: namespace && readMode(namespace.object),
      workload: workload && readMode(workload.object),
      ports:
        numbers.length === 0
          ? null
          : new Map(numbers.map(([at, mtls]) => [Number(at), toMode(textAt(mtls, "mode"))])),
      plain: { mesh: plain(this.rootNamespace), namespace: plain(pod.namespace) },
    };
  }

  /** Mesh, namespace, workload; the oldest object of each level counts, the others do not. */
  private levels(pod: Holder): Levels {
    const known = this.found.get(pod);
    if (known !== undefined) return known;
    const levels = this.findLevels(pod);
    this.found.set(pod, levels);
    return levels;
  }

  private findLevels(pod: Holder): Levels {
    const own = this.byNamespace.get(pod.namespace) ?? [];
    const root = this.byNamespace.get(this.rootNamespace) ?? [];
    const blind = ({ fault }: Policy) => fault?.path[1] === "selector"; // it may select any pod
    const wide = (policy: Policy) => Object.keys(policy.selector).length === 0 || blind(policy);
    const mesh = root.find(wide) ?? null;
    if (pod.namespace === this.rootNamespace) {
      return [mesh, null, null]; // a selector in the root namespace is passed over
    }
    const selected = (policy: Policy) => !wide(policy) && hasLabels(pod.labels, policy.selector);
    return [mesh, own.find(wide) ?? null, own.find(selected) ?? null];
  }
}

/** As sidecars have it: a port's own mode, else the nearest level that sets one. */
function compose(levels: Levels, port: number): Effective {
  const workload = levels.at(-1) ?? null;
  const atPort = workload === null ? null : readPortMode(workload.object, port);
  if (workload !== null && atPort !== null) {
    const because = toModeBecause(workload.object, `spec.portLevelMtls.${port}.mode`, atPort);
    return { mode: atPort, isEnforced: true, because: [because] };
  }
  for (const level of levels.toReversed()) {
    const mode = level === null ? null : readMode(level.object);
    if (level === null || mode === null) continue;
    const because = toModeBecause(level.object, "spec.mtls.mode", mode);
    return { mode, isEnforced: true, because: [because] };
  }
  const unset = levels.filter((level) => level !== null);
  const because = unset.map(({ object }) =>
    toBecause(object, "spec", `${formatObject(object)} sets no mode: PERMISSIVE is the default`),
  );
  return { mode: "PERMISSIVE", isEnforced: true, because };
}

function toModeBecause(object: ClusterObject, rule: string, mode: Mode): Because {
  const level =
    rule === "spec.mtls.mode" ? `mutual TLS is ${mode}` : `mutual TLS is ${mode} on this port`;
  return toBecause(object, rule, `${formatObject(object)}: ${level}`);
}

/** Null where the level inherits. */
function readMode(object: ClusterObject): Mode | null {
  return toMode(textAt(object.body, "spec", "mtls", "mode"));
}

function readPortMode(object: ClusterObject, port: number): Mode | null {
  const ports = valueAt(object.body, "spec", "portLevelMtls");
  return isMap(ports) ? toMode(textAt(ports[String(port)], "mode")) : null;
}

function toMode(text: string | null): Mode | null {
  return text === "DISABLE" || text === "PERMISSIVE" || text === "STRICT" ? text : null;
}

/**
 * What a meshed server does on a port with this mode. DISABLE ends no TLS: everything goes on to
 * the program, but Istio's own mutual TLS is no HTTP, and a known HTTP port refuses it. In ambient
 * DISABLE is PERMISSIVE: the tunnel is always accepted.
 */
export function toTransport(
  mode: Mode,
  mesh: "istio" | "ambient",
  protocol: ListenerProtocol,
  isEnforced = true,
): Transport {
  if (mode === "STRICT" && !isEnforced) return { required: "mtls", accepts: ["mtls"], refuses: [] };
  if (mode === "STRICT") {
    return { required: "mtls", accepts: ["mtls"], refuses: ["plaintext", "tls"] };
  }
  if (mode === "DISABLE" && mesh === "istio" && protocol === "http") {
    return { required: "any", accepts: ["plaintext"], refuses: ["mtls"] };
  }
  if (mode === "DISABLE" && mesh === "istio" && protocol === "undecidable") {
    return { required: "any", accepts: ["plaintext"], refuses: [] };
  }
  return { required: "any", accepts: ["plaintext", "tls", "mtls"], refuses: [] };
}
