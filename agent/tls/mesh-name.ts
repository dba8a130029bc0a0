/** Takes apart the names by which meshes address each other: in the SNI, and in certificates. */

/** What a name tells of the connection's server; null: the name does not hold it. */
export type MeshTarget = {
  service: string | null;
  namespace: string | null;
  subset: string | null;
  /** Of the service: what the client dialled, whatever port its proxy took the way to. */
  port: number | null;
  /** The name that the server has to prove: a SPIFFE id, or Linkerd's own form. */
  identity: string | null;
  trustDomain: string | null;
};

export type MeshName = { mesh: "istio" | "linkerd" | "consul"; target: MeshTarget };

const NOTHING: MeshTarget = {
  service: null,
  namespace: null,
  subset: null,
  port: null,
  identity: null,
  trustDomain: null,
};

/** A host of 253 characters (RFC 1035 §2.3.4) with what meshes put in front. */
const NAME_LIMIT = 512;
const NAMES_LIMIT = 1024;
const known = new Map<string, MeshName>();

/**
 * Reads a server name in a mesh's form; null: it is in none. The same few names come again and
 * again, so those that are one are kept.
 */
export function readMeshName(name: string): MeshName | null {
  const before = known.get(name);
  if (before) return before;
  if (name.length > NAME_LIMIT) return null;
  const read = readIstio(name) ?? readLinkerd(name) ?? readConsul(name);
  if (!read) return null;
  if (known.size >= NAMES_LIMIT) known.clear();
  known.set(name, read);
  return read;
}

/**
 * `outbound_.9080_.v1_.reviews.default.svc.cluster.local`, or with `|` in the place of `_.`
 * (istio pilot/pkg/model, BuildDNSSrvSubsetKey, BuildSubsetKey, ParseSubsetKey). The subset may be
 * empty, inbound the host as well.
 */
function readIstio(name: string): MeshName | null {
  if (!name.startsWith("outbound") && !name.startsWith("inbound")) return null;
  const separator = name.includes("|") ? "|" : "_.";
  const [way, port = "", subset, ...rest] = name.split(separator);
  if ((way !== "outbound" && way !== "inbound") || subset === undefined || rest.length !== 1) {
    return null;
  }
  const host = rest[0]!;
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65535) return null;
  if (host === "" && way === "outbound") return null;
  const target = { ...NOTHING, ...placeOf(host), subset: subset || null, port: Number(port) };
  return { mesh: "istio", target };
}

/** `reviews.default.svc.cluster.local` is a service and its namespace; others are hosts outside. */
function placeOf(host: string): Pick<MeshTarget, "service" | "namespace"> {
  const labels = host.split(".");
  const at = labels.indexOf("svc");
  if (at < 2) return { service: host || null, namespace: null };
  return { service: labels.slice(0, at - 1).join("."), namespace: labels[at - 1]! };
}

const LINKERD = ["serviceaccount", "identity"];

/** `web.shop.serviceaccount.identity.linkerd.cluster.local` (linkerd2, ServiceAccountIdentity). */
function readLinkerd(name: string): MeshName | null {
  const [account, namespace, kind, identity, controller, ...rest] = name.split(".");
  const isOne = kind === LINKERD[0] && identity === LINKERD[1] && rest.length > 0;
  if (!isOne || !account || !namespace || !controller || rest.includes("")) return null;
  const target = { ...NOTHING, namespace, identity: name, trustDomain: rest.join(".") };
  return { mesh: "linkerd", target };
}

/**
 * Names under Consul's trust domain, `UUID.consul` (consul agent/connect/sni.go):
 *
 *     [SUBSET.]SERVICE.[NAMESPACE.]DATACENTER.internal.…
 *     [SUBSET.]SERVICE.NAMESPACE.PARTITION.DATACENTER.internal-vN.…
 *     SERVICE.NAMESPACE.PARTITION.PEER.external.…
 *     QUERY.default.DATACENTER.query.…         DATACENTER.internal.…: a gateway
 */
function readConsul(name: string): MeshName | null {
  if (!name.endsWith(".consul")) return null;
  const labels = name.split(".");
  const [marker = "", cluster = ""] = labels.slice(-3);
  if (!/^[0-9a-f-]{36}$/.test(cluster) || labels.includes("")) return null;
  const head = labels.slice(0, -3);
  const tail = tailOf(marker, head.length);
  if (tail < 0) return null;
  const place = head.slice(0, head.length - tail);
  const namespace = tail === head.length || place.length < 2 ? null : place.pop()!;
  const service = place.pop() ?? null;
  const subset = place.pop() ?? null;
  const trustDomain = `${cluster}.consul`;
  return { mesh: "consul", target: { ...NOTHING, service, namespace, subset, trustDomain } };
}

/** How many of a name's labels stand behind its namespace; -1 where no name has so many. */
function tailOf(marker: string, count: number): number {
  if (marker === "internal") return count >= 1 && count <= 4 ? 1 : -1;
  if (/^internal-v\d{1,3}$/.test(marker)) return count === 4 || count === 5 ? 2 : -1;
  if (marker === "external") return count === 4 ? 2 : -1;
  return marker === "query" && count === 3 ? 1 : -1;
}

/**
 * Reads a SPIFFE id in the form of Istio, `spiffe://TD/ns/NS/sa/SA` (istio pkg/spiffe), which
 * others use as well, or of Consul, `spiffe://TD/[ap/P/]ns/NS/dc/DC/svc/SVC` (consul
 * agent/connect/uri.go).
 */
export function readSpiffeId(uri: string): { form: "istio" | "consul"; target: MeshTarget } | null {
  if (!uri.startsWith("spiffe://") || uri.length > 2048) return null;
  const [trustDomain = "", ...path] = uri.slice(9).split("/");
  if (trustDomain === "" || path.includes("")) return null;
  const isPartitioned = path[0] === "ap";
  if (isPartitioned) path.splice(0, 2);
  const [ns, namespace = "", kind, account] = path;
  if (ns !== "ns") return null;
  const target = { ...NOTHING, namespace: decoded(namespace), identity: uri, trustDomain };
  if (path.length === 4 && kind === "sa" && account !== undefined && !isPartitioned) {
    return { form: "istio", target };
  }
  if (path.length !== 6 || kind !== "dc" || path[4] !== "svc") return null;
  return { form: "consul", target: { ...target, service: decoded(path[5]!) } };
}

/** Without percent-encoding (RFC 3986 §2.1), where it is one. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
