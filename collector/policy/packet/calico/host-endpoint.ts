/** Tells where Calico's host endpoints stand in the way; what their policies say is not judged. */
import { textAt, type ClusterObject } from "../../../attribution/cluster-object.ts";
import { formatHolder, hasOwnNetwork, type Holder } from "../../../attribution/holder.ts";
import { formatObject, toBecause, UNDECLARED, type Decision } from "../../decision/because.ts";
import { lookupOf } from "./endpoint.ts";
import { evaluate } from "./selector.ts";
import { isOfCalico } from "./shape.ts";
import type { Policy } from "./tier.ts";

type Host = {
  object: ClusterObject;
  /** Null where the object does not tell. */
  node: string | null;
  /** A policy that what is only forwarded meets at this host endpoint. */
  forwarded: Policy | null;
};

export class HostEndpoints {
  private readonly hosts: readonly Host[];

  constructor(objects: readonly ClusterObject[], policies: readonly Policy[]) {
    const forwarding = policies.filter(({ host, fault }) => host !== null || fault !== null);
    this.hosts = objects
      .filter((object) => isOfCalico(object, "HostEndpoint"))
      .map((object) => {
        const lookup = lookupOf(object, new Map());
        const picks = ({ subject }: Policy) => evaluate(subject, lookup) !== false;
        const forwarded = forwarding.find(picks) ?? null;
        return { object, node: textAt(object.body, "spec", "node"), forwarded };
      });
  }

  /** A node, or a pod on its network: its own traffic meets the policies of host endpoints. */
  decide(holder: Holder): Decision {
    const host = this.hosts.find(({ node }) => mayBe(node, holder.node));
    if (host === undefined || holder.kind === "external") return UNDECLARED;
    const name = formatObject(host.object);
    const sentence = `undecidable: ${formatHolder(holder)} may be ${name}, which is not judged`;
    return { path: "undecidable", because: [toBecause(host.object, "spec.node", sentence)] };
  }

  /** What a pod sends off its node, or gets from there, passes the host endpoints of the node. */
  decideForwarded(pod: Holder, other: Holder): Decision {
    const host = this.hosts.find(
      ({ node, forwarded }) => forwarded !== null && mayBe(node, pod.node),
    );
    const isHere = pod.node !== null && pod.node === other.node;
    if (host === undefined || isHere || !hasOwnNetwork(pod)) return UNDECLARED;
    const name = formatObject(host.forwarded!.object);
    const sentence =
      `undecidable: ${name} may judge what ${formatObject(host.object)} forwards ` +
      `for ${formatHolder(pod)}`;
    return { path: "undecidable", because: [toBecause(host.forwarded!.object, "spec", sentence)] };
  }
}

function mayBe(node: string | null, other: string | null): boolean {
  return node === null || other === null || node === other;
}
