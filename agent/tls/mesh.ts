/** Tells which service mesh made a connection, and to what, by ALPN, SNI, SAN and port together. */
import type { ClientHello } from "./client-hello.ts";
import { isGrease, isTls13 } from "./codes.ts";
import { mutualOf } from "./failure.ts";
import type { Handshake } from "./handshake.ts";
import { readMeshName, readSpiffeId } from "./mesh-name.ts";
import type { MeshTarget } from "./mesh-name.ts";

export type Mesh = "istio" | "istio-ambient" | "linkerd" | "consul";

/** What is known of the mesh's server; null: no name of it stands in clear. */
export type Meshed = { mesh: Mesh; target: MeshTarget | null };

/** Istio's client proxies offer one of these first (istio pilot/pkg/networking/util). */
const ISTIO_ALPN = /^istio(-peer-exchange|-http\/1\.[01]|-h2)?$/;
const LINKERD_ALPN = "transport.l5d.io/v1";
const HBONE_PORT = 15008;
/** TLS_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256. */
const ZTUNNEL_SUITES = [0x1302, 0x1301];
const RENEGOTIATION_SCSV = 0x00ff; // TLS_EMPTY_RENEGOTIATION_INFO_SCSV (RFC 5746 §3.3)

/** By what each mesh is told, for people. */
export const MESHES: Readonly<Record<Mesh, string>> = {
  istio: "ALPN `istio…`, or an SNI `outbound_.PORT_.SUBSET_.HOST`",
  "istio-ambient":
    "ALPN `h2` alone, no SNI, TLS 1.3, and " +
    `port ${HBONE_PORT} or a client certificate behind ztunnel's own hello`,
  linkerd: "SNI of an identity, `….serviceaccount.identity.…`, or ALPN `transport.l5d.io/v1`",
  consul: "SNI `….internal.….consul`, or a SPIFFE name `/ns/…/dc/…/svc/…`",
};

type SpiffeId = ReturnType<typeof readSpiffeId>;

/** Null: no mesh is told. A port alone never tells one. */
export function meshOf(h: Handshake, serverPort: number): Meshed | null {
  const hello = h.clientHello;
  if (!hello) return null;
  const sni = hello.serverName ?? "";
  const alpn = hello.alpn ?? [];
  const named = readMeshName(sni);
  const server = spiffeIdOf(h.serverChain?.[0]?.san);
  const isConsul = () =>
    server?.form === "consul" || spiffeIdOf(h.clientChain?.[0]?.san)?.form === "consul";
  let mesh: Mesh | null = null;
  if (alpn.some((name) => ISTIO_ALPN.test(name))) mesh = "istio";
  else if (named) mesh = named.mesh;
  else if (alpn.includes(LINKERD_ALPN)) mesh = "linkerd";
  else if (isConsul()) mesh = "consul";
  else if (sni === "" && alpn.length === 1 && alpn[0] === "h2") {
    if (isZtunnelHello(hello) && mutualOf(h) === "inferred-yes") mesh = "istio-ambient";
    else if (serverPort !== HBONE_PORT) return null;
    // Configured down to TLS 1.2, ztunnel is told by its certificates alone.
    const isLatest = !h.serverHello || isTls13(h.serverHello.version);
    if (isLatest || server?.form === "istio") mesh = "istio-ambient";
  }
  if (!mesh) return null;
  return { mesh, target: joined(named?.mesh === mesh ? named.target : null, server) };
}

/**
 * ztunnel's own hello: TLS 1.3 alone, and the two suites of AES-GCM, the stronger first (measured:
 * ztunnel 62d8265; istio ztunnel src/tls/lib.rs). What it carries is HBONE, to whichever port.
 */
function isZtunnelHello({ cipherSuites, versions }: ClientHello): boolean {
  const offered = cipherSuites.filter((suite) => !isGrease(suite) && suite !== RENEGOTIATION_SCSV);
  const isLatest = (versions ?? []).filter((v) => !isGrease(v)).every(isTls13);
  return isLatest && versions !== null && offered.join() === ZTUNNEL_SUITES.join();
}

/** The first name of a certificate that is a SPIFFE id of a mesh's form. */
function spiffeIdOf(names: readonly string[] | undefined): SpiffeId {
  for (const name of names ?? []) {
    const read = readSpiffeId(name);
    if (read) return read;
  }
  return null;
}

/** What the client asked for, and in the gaps of it what the server's certificate shows. */
function joined(asked: MeshTarget | null, server: SpiffeId): MeshTarget | null {
  if (!asked || !server) return asked ?? server?.target ?? null;
  const { target } = server;
  return {
    ...asked,
    service: asked.service ?? target.service,
    namespace: asked.namespace ?? target.namespace,
    identity: target.identity,
    trustDomain: target.trustDomain,
  };
}
