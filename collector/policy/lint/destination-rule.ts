/** Checks where a DestinationRule takes Istio's mutual TLS off the way to a meshed workload. */
import {
  isMap,
  labelsAt,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../attribution/cluster-object.ts";
import { formatHolder, namedPort, toServiceHolder, type Holder } from "../../attribution/holder.ts";
import { hasLabels } from "../../attribution/selector.ts";
import { formatObject } from "../decision/because.ts";
import type { Step } from "../manifest/place.ts";
import { CONFIGURATION, ENCRYPTION, type Rule } from "./rule.ts";
import { numbered, toSteps, type Scope } from "./scope.ts";

export const DESTINATION_RULE = {
  breaks: {
    id: "istio-destinationrule-breaks-strict",
    title: "callers are told not to use Istio's mutual TLS where it is STRICT",
    why: "The server refuses what the rule makes callers send.",
    remedy: "set ISTIO_MUTUAL, or leave the mode out",
    level: "error",
    controls: CONFIGURATION,
    needsPods: true,
  },
  switchesOff: {
    id: "istio-destinationrule-no-mtls",
    title: "callers are told not to use Istio's mutual TLS",
    why: "Without ISTIO_MUTUAL callers prove no mesh identity, and DISABLE sends plaintext.",
    remedy: "set ISTIO_MUTUAL, or leave the mode out: it is then found out for each server",
    level: "warning",
    pci: "error",
    hipaa: "error",
    controls: ENCRYPTION,
    needsPods: true,
  },
  hopeless: {
    id: "istio-destinationrule-no-proxy",
    title: "callers are told to use Istio's mutual TLS where no proxy takes it",
    why: "The server's program gets a handshake of the mesh's, and does not know it: callers fail.",
    remedy: "set DISABLE for its host where callers look first: in their own namespace",
    level: "error",
    controls: CONFIGURATION,
    needsPods: true,
  },
} as const satisfies Record<string, Rule>;

const RULES = DESTINATION_RULE;

/** One TLS mode of a rule; the port is the Service's, null for all of them. */
type Setting = { mode: string; path: Step[]; port: number | null; subset: Json | null };

export function checkDestinationRules(scope: Scope): void {
  for (const rule of scope.ofKind("DestinationRule", "networking.istio.io/")) {
    const host = textAt(rule.body, "spec", "host");
    if (host === null) continue;
    const services = scope.ofKind("Service", "v1").filter((one) => isHost(host, one, rule));
    for (const setting of settingsOf(rule)) {
      if (setting.mode === "ISTIO_MUTUAL") continue;
      checkSetting(scope, rule, host, setting, services);
    }
  }
  checkHopeless(scope);
}

/** Pods whose clients are asked about; what is left is told. */
const PAIRS_LIMIT = 250_000;

/** Which rule holds for a host is each client's own matter: its namespace is searched first. */
function checkHopeless(scope: Scope): void {
  const rules = scope.ofKind("DestinationRule", "networking.istio.io/");
  const isMutual = (rule: ClusterObject) =>
    settingsOf(rule).some(({ mode }) => mode === "ISTIO_MUTUAL");
  if (!rules.some(isMutual)) return;
  const meshOf = (pod: Holder) => scope.policy.meshedOf(pod).mesh;
  const clients = scope.pods.filter((pod) => meshOf(pod) === "istio");
  const servers = scope.pods.filter((pod) => meshOf(pod) === null);
  if (clients.length * servers.length > PAIRS_LIMIT) {
    return scope.skip(RULES.hopeless, `more than ${PAIRS_LIMIT} pairs of pods`);
  }
  const told = new Set<string>();
  for (const server of servers) {
    for (const client of clients) {
      for (const { port } of server.ports) {
        const found = scope.policy.sends(client, server, port)?.transportBecause ?? [];
        for (const { namespace, name, rule: field, sentence } of found) {
          const key = `${namespace}/${name} ${field} ${formatHolder(server)}`;
          const rule = rules.find((one) => one.namespace === namespace && one.name === name);
          if (!sentence.startsWith("fails") || rule === undefined || told.has(key)) continue;
          told.add(key);
          const who = `callers such as ${formatHolder(client)}`;
          scope.report(RULES.hopeless, rule, toSteps(field), `${who}: ${sentence}`);
        }
      }
    }
  }
}

/** Subset over top, port over both (`mtls_checker.go`); each is told by itself. */
function settingsOf({ body }: ClusterObject): Setting[] {
  const spec = valueAt(body, "spec");
  const read = (policy: Json | undefined, path: Step[], subset: Json | null): Setting[] => {
    const mode = modeOf(policy);
    const top = mode === null ? [] : [{ mode, path: [...path, "tls", "mode"], port: null, subset }];
    const ports = numbered(listAt(policy, "portLevelSettings")).flatMap(([i, setting]) => {
      const found = modeOf(setting);
      const port = valueAt(setting, "port", "number");
      if (found === null || typeof port !== "number") return [];
      return [
        { mode: found, path: [...path, "portLevelSettings", i, "tls", "mode"], port, subset },
      ];
    });
    return [...top, ...ports];
  };
  return [
    ...read(valueAt(spec, "trafficPolicy"), ["spec", "trafficPolicy"], null),
    ...numbered(listAt(spec, "subsets")).flatMap(([i, subset]) =>
      read(valueAt(subset, "trafficPolicy"), ["spec", "subsets", i, "trafficPolicy"], subset),
    ),
  ];
}

/** Settings of TLS without a mode switch it off: DISABLE is the first of the API's list. */
function modeOf(policy: Json | undefined): string | null {
  return isMap(valueAt(policy, "tls")) ? (textAt(policy, "tls", "mode") ?? "DISABLE") : null;
}

/** A name without a dot is of the rule's own namespace (`ResolveShortnameToFQDN`). */
function isHost(host: string, service: ClusterObject, rule: ClusterObject): boolean {
  const name = `${service.name}.${service.namespace}.svc`;
  if (!host.includes(".") && host !== "*") {
    return host === service.name && service.namespace === rule.namespace;
  }
  if (!host.startsWith("*")) return host.startsWith(`${name}.`);
  return `${name}.cluster.local`.endsWith(host.slice(1));
}

function checkSetting(
  scope: Scope,
  rule: ClusterObject,
  host: string,
  { mode, path, port, subset }: Setting,
  services: readonly ClusterObject[],
): void {
  const labels = subset === null ? {} : labelsAt(subset, "labels");
  const meshed: { pod: Holder; strict: boolean }[] = [];
  for (const service of services) {
    const selector = valueAt(service.body, "spec", "selector");
    if (!isMap(selector)) continue;
    const wanted = labelsAt(selector);
    const offered = toServiceHolder(service, [], { labels: {}, annotations: {} }).ports.filter(
      (one) => one.transport === "TCP" && (port === null || one.port === port),
    );
    for (const pod of scope.podsIn(service.namespace)) {
      if (!hasLabels(pod.labels, wanted) || !hasLabels(pod.labels, labels)) continue;
      const { mesh } = scope.policy.meshedOf(pod);
      if (mesh !== "istio" && mesh !== "ambient") continue;
      for (const { target } of offered) {
        const number = typeof target === "string" ? namedPort(pod, target, "TCP") : target;
        if (number === null) continue;
        const found = scope.modeOf(pod, number);
        meshed.push({ pod, strict: found.mode === "STRICT" });
      }
    }
  }
  if (meshed.length === 0) return;
  const strict = meshed.find((one) => one.strict);
  const name = `${formatObject(rule)} sets ${mode} for ${host}`;
  if (strict !== undefined) {
    const server = `${formatHolder(strict.pod)} takes STRICT mutual TLS only`;
    const sentence = `${name}, but ${server}: callers are refused`;
    scope.report(RULES.breaks, rule, path, sentence);
  } else {
    const what = mode === "DISABLE" ? "callers send plaintext" : "callers prove no mesh identity";
    const sentence = `${name}, and ${formatHolder(meshed[0]!.pod)} is in the mesh: ${what}`;
    scope.report(RULES.switchesOff, rule, path, sentence);
  }
}
