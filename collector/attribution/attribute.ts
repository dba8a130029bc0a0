/** Attributes an observation: who its client was, and who its server, at the time it began. */
import type { Flow } from "../../protocol/flow-record.ts";
import type { Observation } from "../../protocol/observation.ts";
import { isMap, labelsAt, valueAt } from "./cluster-object.ts";
import { formatHolder, namedPort, type Holder, type HolderPort } from "./holder.ts";
import { LED_LATE_MS, type Inventory, type LookUp } from "./inventory.ts";
import { hasLabels } from "./selector.ts";

/** certificate: read on the wire. address: by a binding. inferred: by a Service's one workload. */
export type Provenance = "certificate" | "address" | "inferred";

/** One end; a null holder has its reason in `reasons`. */
export type AttributedEnd = {
  holder: Holder | null;
  provenance: Provenance | null;
  /** The interval in which the address was this holder's; null where no binding decided. */
  fromMs: number | null;
  toMs: number | null;
  /** What the certificate named, where one was read. */
  spiffe: string | null;
  /** It named another than who held the address, by which the end goes all the same. */
  isOther: boolean;
};

export type Attributed = {
  observation: Observation;
  client: AttributedEnd;
  server: AttributedEnd;
  /** The port on the server itself, behind Service translation; null where it cannot be told. */
  serverPort: number | null;
  /** The Service that the client addressed, if it was one. */
  service: Holder | null;
  reasons: readonly string[];
};

/** One node's latest word on a flow, attributed. `id` names it for evidence: `node/flow`. */
export type Sighting = { id: string; node: string; attributed: Attributed };

/** Attributes by the time at which the flow started, by an agent's clock that may be apart. */
export function attribute(observation: Observation, inventory: Inventory, apartMs = 0): Attributed {
  const { record, vantage } = observation;
  const atMs = Date.parse(record.start);
  const reasons: string[] = [];
  // Nothing comes from a Service, and at a server's own interface its address is translated.
  const asked = (service: Holder) =>
    vantage !== "server" && offeredBy(service, record) !== undefined;
  const sent = inventory.lookUp(record.src_ip, atMs, apartMs, () => false);
  const client = toEnd(sent, "client", record.src_ip, reasons);
  const found = inventory.lookUp(record.dst_ip, atMs, apartMs, asked);
  let server = toEnd(found, "server", record.dst_ip, reasons);
  let serverPort: number | null = record.dst_port;
  let service: Holder | null = null;
  if (found.holder?.kind === "service") {
    service = found.holder;
    const backend = resolveService(service, record, inventory, atMs, apartMs);
    serverPort = backend.port;
    reasons.push(...backend.reasons);
    const provenance = backend.holder === null ? null : ("inferred" as const);
    server = { ...server, holder: backend.holder, provenance };
  }
  checkIdentity(client, "client", spiffeOf(record.tls?.client_certificate?.san), reasons);
  checkIdentity(server, "server", spiffeOf(record.tls?.server_cert?.san), reasons);
  return { observation, client, server, serverPort, service, reasons };
}

const SENTENCES = {
  ambiguous: "several held the address at that time",
  "not-held-then": "nobody is known to have held the address at that time",
  "pod-network": "the address belongs to the pod network, and no pod is known to have held it",
  "service-network": "the address is among those of Services, and none is known to have held it",
  private: "the address is a private one, and nobody is known to have held it",
  "not-listed": "it is not known which nodes, pods and Services there are",
  "not-an-address": "it is no address",
} as const;

function toEnd(found: LookUp, side: string, address: string, reasons: string[]): AttributedEnd {
  const { holder, reason, fromMs, toMs } = found;
  if (reason !== null) reasons.push(`${side} ${address}: ${SENTENCES[reason]}`);
  return {
    holder,
    provenance: holder === null ? null : "address",
    fromMs,
    toMs,
    spiffe: null,
    isOther: false,
  };
}

/** The only SPIFFE name of a certificate (SPIFFE X.509-SVID §2: exactly one URI). */
function spiffeOf(names: readonly string[] | undefined): string | null {
  const found = (names ?? []).filter((name) => /^(URI:)?spiffe:\/\//i.test(name));
  return found.length === 1 ? found[0]!.replace(/^URI:/i, "") : null;
}

/**
 * Holds the identity that was read against the holder of the address. Where they agree, the end
 * rests on the certificate; where not, on the address: packets went there, whoever was shown.
 */
function checkIdentity(
  end: AttributedEnd,
  side: string,
  spiffe: string | null,
  reasons: string[],
): void {
  if (spiffe === null) return;
  end.spiffe = spiffe;
  const parts = /^spiffe:\/\/[^/]+\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(spiffe);
  if (parts === null || end.holder === null || end.holder.kind !== "pod") return;
  const { namespace, serviceAccount } = end.holder;
  if (namespace === parts[1] && serviceAccount === parts[2]) end.provenance = "certificate";
  else {
    reasons.push(`${side}: ${formatHolder(end.holder)} held the address, and showed ${spiffe}`);
    end.isOther = true;
  }
}

type Backend = { holder: Holder | null; port: number | null; reasons: string[] };

/** The workload behind a Service: certain only where all of its backends are of one workload. */
function resolveService(
  service: Holder,
  { dst_port: port, proto }: Flow,
  inventory: Inventory,
  atMs: number,
  apartMs: number,
): Backend {
  const name = formatHolder(service);
  const offered = offeredBy(service, { dst_port: port, proto });
  if (offered === undefined) {
    return { holder: null, port: null, reasons: [`${name} offers no port ${port}/${proto}`] };
  }
  if (service.namespace === "default" && service.name === "kubernetes") {
    const target = typeof offered.target === "number" ? offered.target : null;
    return { holder: service, port: target, reasons: [`server: the API server, by ${name}`] };
  }
  const backends = backendsOf(service, inventory, atMs, apartMs);
  if (backends.length === 0) {
    return { holder: null, port: null, reasons: [`${name} has no known backend`] };
  }
  const known = backends.filter((backend) => backend !== null);
  if (known.length < backends.length) {
    const reason = `${name} has a backend of which it is not known who it was`;
    return { holder: null, port: null, reasons: [reason] };
  }
  const ports = new Set(known.map((backend) => targetOn(backend, offered)));
  const workloads = new Set(known.map(formatHolder));
  const target = ports.size === 1 ? [...ports][0]! : null;
  if (workloads.size > 1) {
    const reason = `${name} has backends of several workloads: ${[...workloads].join(", ")}`;
    return { holder: null, port: target, reasons: [reason] };
  }
  if (target === null) {
    const reason = `${name} leads to several ports, or to one that its backends do not name`;
    return { holder: null, port: null, reasons: [reason] };
  }
  return { holder: known[0]!, port: target, reasons: [`server: one of the backends of ${name}`] };
}

function offeredBy(
  { ports }: Holder,
  { dst_port, proto }: Pick<Flow, "dst_port" | "proto">,
): HolderPort | undefined {
  return ports.find((p) => p.port === dst_port && p.transport.toLowerCase() === proto);
}

/** Whom it led to then: by EndpointSlices where it had any, else by its selector. */
function backendsOf(
  service: Holder,
  inventory: Inventory,
  atMs: number,
  apartMs: number,
): (Holder | null)[] {
  const led = inventory.backendsOf(service, atMs, apartMs);
  if (led !== null) return led;
  const selector = valueAt(service.spec, "selector");
  if (!isMap(selector)) return [];
  const wanted = labelsAt(selector);
  const near = inventory.podsBetween(atMs - apartMs - LED_LATE_MS, atMs + apartMs);
  return [...near.map(({ value }) => value), ...inventory.pods(atMs)].filter(
    (pod) => pod.namespace === service.namespace && hasLabels(pod.labels, wanted),
  );
}

function targetOn(pod: Holder, { target, transport, port }: HolderPort): number | null {
  return typeof target === "string" ? namedPort(pod, target, transport) : (target ?? port);
}
