/** Tells which service mesh made a connection, by ALPN, SNI, SAN and port together. */
import type { Handshake } from "./handshake.ts";
import { isTls13 } from "./codes.ts";

export type Mesh = "istio" | "istio-ambient" | "linkerd" | "consul";

/** Istio's client proxies offer one of these first (istio pilot/pkg/networking/util). */
const ISTIO_ALPN = /^istio(-peer-exchange|-http\/1\.[01]|-h2)?$/;
/** `outbound_.8080_.v1_.reviews.default.svc.cluster.local` (istio BuildDNSSrvSubsetKey). */
const ISTIO_SNI = /^outbound_\.\d+_\.[^_]*_\./;
/** `web.shop.serviceaccount.identity.linkerd.cluster.local` (linkerd2 policy identity names). */
const LINKERD_SNI = /^[^.]+\.[^.]+\.serviceaccount\.identity\.[^.]+\./;
/** `web.default.dc1.internal.<uuid>.consul` (consul agent/connect/sni.go). */
const CONSUL_SNI = /\.internal(-v1)?\.[0-9a-f-]{36}\.consul$/;
const CONSUL_SAN = /^spiffe:\/\/[^/]+\/(ap\/[^/]+\/)?ns\/[^/]+\/dc\/[^/]+\/svc\/[^/]+$/;
const HBONE_PORT = 15008;

/** By what each mesh is told, for people. */
export const MESHES: Readonly<Record<Mesh, string>> = {
  istio: "ALPN `istio…`, or an SNI `outbound_.PORT_.SUBSET_.HOST`",
  "istio-ambient": `port ${HBONE_PORT} with ALPN \`h2\` alone, no SNI, and TLS 1.3`,
  linkerd: "SNI of an identity, `….serviceaccount.identity.…`, or ALPN `transport.l5d.io/v1`",
  consul: "SNI `….internal.….consul`, or a SPIFFE name `/ns/…/dc/…/svc/…`",
};

export function meshOf(h: Handshake, serverPort: number): Mesh | null {
  const hello = h.clientHello;
  if (!hello) return null;
  const sni = hello.serverName ?? "";
  const alpn = hello.alpn ?? [];
  if (alpn.some((name) => ISTIO_ALPN.test(name)) || ISTIO_SNI.test(sni)) return "istio";
  if (LINKERD_SNI.test(sni) || alpn.includes("transport.l5d.io/v1")) return "linkerd";
  if (CONSUL_SNI.test(sni)) return "consul";
  if (h.serverChain?.[0]?.san.some((name) => CONSUL_SAN.test(name))) return "consul";
  const isHbone = serverPort === HBONE_PORT && alpn.length === 1 && alpn[0] === "h2" && sni === "";
  if (isHbone && (!h.serverHello || isTls13(h.serverHello.version))) return "istio-ambient";
  return null;
}
