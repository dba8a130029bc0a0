/** Tells what an Istio client's proxy sends to a server: mutual TLS, TLS of its own, plaintext. */
import {
  labelsAt,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../../attribution/cluster-object.ts";
import type { Holder } from "../../../attribution/holder.ts";
import { hasLabels } from "../../../attribution/selector.ts";
import { byAge, formatObject, toBecause } from "../../decision/because.ts";
import type { Because } from "../../expectation.ts";
import type { ServiceTargets } from "../service-target.ts";

export type ClientMode = "DISABLE" | "SIMPLE" | "MUTUAL" | "ISTIO_MUTUAL";

/** `mode: null` where rules differ by subset or Service, and so by the request. */
export type ClientRule = { mode: ClientMode | null; because: readonly Because[] };

export class DestinationRules {
  private readonly byNamespace: ReadonlyMap<string, ClusterObject[]>;
  private readonly targets: ServiceTargets;
  private readonly rootNamespace: string;

  constructor(objects: readonly ClusterObject[], targets: ServiceTargets, rootNamespace: string) {
    this.targets = targets;
    this.rootNamespace = rootNamespace;
    const found = objects.filter(
      (o) => o.kind === "DestinationRule" && o.apiVersion.startsWith("networking.istio.io/"),
    );
    this.byNamespace = Map.groupBy(found.sort(byAge), ({ namespace }) => namespace);
  }

  /** Null where no rule sets a mode for the server's port, by any Service that leads to it. */
  modeFor(client: Holder, server: Holder, port: number): ClientRule | null {
    if (this.byNamespace.size === 0) return null;
    const modes = new Set<ClientMode | null>();
    const because: Because[] = [];
    for (const { service, port: servicePort } of this.targets.offersAt(server, port)) {
      const rule = this.ruleFor(client, service.namespace, service.name);
      if (rule === null) {
        modes.add(null);
        continue;
      }
      const policy = valueAt(rule.body, "spec", "trafficPolicy");
      const top = modeOf(policy, servicePort);
      modes.add(top);
      if (top !== null) because.push(tell(rule, "spec.trafficPolicy.tls.mode", top));
      // Which subset a request goes to is the route's choice.
      for (const [i, subset] of listAt(rule.body, "spec", "subsets").entries()) {
        if (!hasLabels(server.labels, labelsAt(subset, "labels"))) continue;
        const mode = modeOf(valueAt(subset, "trafficPolicy"), servicePort) ?? top;
        if (mode === top) continue;
        modes.add(mode);
        because.push(tell(rule, `spec.subsets[${i}].trafficPolicy.tls.mode`, mode!));
      }
    }
    if (modes.size === 0 || (modes.size === 1 && modes.has(null))) return null;
    return { mode: modes.size === 1 ? [...modes][0]! : null, because };
  }

  /**
   * The rule for a Service's host: the client's namespace is looked through first, then the
   * Service's, then the root's; in each the most specific host, then the oldest
   * (pilot/pkg/model/push_context.go, destinationRule).
   */
  private ruleFor(client: Holder, namespace: string, name: string): ClusterObject | null {
    const host = `${name}.${namespace}.svc.cluster.local`;
    for (const space of new Set([client.namespace, namespace, this.rootNamespace])) {
      const fitting = (this.byNamespace.get(space) ?? []).filter(
        (rule) => matchesHost(rule, host) && isExported(rule, client) && isFor(rule, client),
      );
      const length = (rule: ClusterObject) => hostOf(rule).length + (isWild(rule) ? 0 : 1000);
      const [best] = fitting.sort((a, b) => length(b) - length(a));
      if (best !== undefined) return best;
    }
    return null;
  }
}

/** Short names are in the rule's own namespace. */
function hostOf(rule: ClusterObject): string {
  const host = textAt(rule.body, "spec", "host") ?? "";
  if (host.startsWith("*")) return host;
  if (!host.includes(".")) return `${host}.${rule.namespace}.svc.cluster.local`;
  return host;
}

const isWild = (rule: ClusterObject) => hostOf(rule).startsWith("*");

function matchesHost(rule: ClusterObject, host: string): boolean {
  const wanted = hostOf(rule);
  return isWild(rule) ? host.endsWith(wanted.slice(1)) : host === wanted;
}

function isExported(rule: ClusterObject, client: Holder): boolean {
  const to = listAt(rule.body, "spec", "exportTo");
  if (to.length === 0 || to.includes("*") || to.includes(client.namespace)) return true;
  return to.includes(".") && rule.namespace === client.namespace;
}

function isFor(rule: ClusterObject, client: Holder): boolean {
  const labels = labelsAt(rule.body, "spec", "workloadSelector", "matchLabels");
  if (Object.keys(labels).length > 0 && rule.namespace !== client.namespace) return false;
  return hasLabels(client.labels, labels);
}

/** A port's own setting counts before the policy's (pilot/pkg/xds/endpoints/mtls_checker.go). */
function modeOf(policy: Json | undefined, port: number): ClientMode | null {
  const settings = listAt(policy, "portLevelSettings").find(
    (entry) => valueAt(entry, "port", "number") === port && valueAt(entry, "tls") !== undefined,
  );
  const mode = textAt(settings ?? policy, "tls", "mode");
  const isSet = valueAt(settings ?? policy, "tls") !== undefined;
  return isSet ? ((mode ?? "DISABLE") as ClientMode) : null;
}

function tell(rule: ClusterObject, field: string, mode: ClientMode): Because {
  return toBecause(rule, field, `${formatObject(rule)}: clients in the mesh send TLS ${mode}`);
}
