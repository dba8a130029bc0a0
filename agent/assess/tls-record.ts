/** Writes what was read of a handshake as the record's `tls`. */
import type { Certificate as ReadCertificate } from "../tls/certificate.ts";
import { CIPHER_SUITES } from "../tls/cipher-suites.ts";
import { signatureName, versionName } from "../tls/codes.ts";
import { mutualOf } from "../tls/failure.ts";
import { ja3, ja3s, ja4 } from "../tls/fingerprint.ts";
import type { Handshake } from "../tls/handshake.ts";
import { meshOf } from "../tls/mesh.ts";
import type { MeshTarget as ReadTarget } from "../tls/mesh-name.ts";
import { GROUPS } from "../tls/registry.ts";
import { chainsOf, resumedFromOf } from "./resumption.ts";
import type { Certificate, MeshTarget, Tls } from "../../protocol/flow-record.ts";

const NO_TLS: Tls = Object.freeze({
  version: null,
  cipher_suite: null,
  group: null,
  signature: null,
  sni: null,
  alpn: null,
  alpn_offered: [],
  ja3: null,
  ja3s: null,
  ja4: null,
  mutual: null,
  client_cert: null,
  server_cert_subject: null,
  server_cert: null,
  client_cert_subject: null,
  client_certificate: null,
  mesh: null,
  mesh_target: null,
});

/** What was said of handshakes that are over, each of which is that of many flows. */
const known = new WeakMap<Handshake, { serverPort: number; tls: Tls }>();

/** What is the same for many flows is one frozen object. */
export function tlsOf(h: Handshake | null, serverPort: number): Tls {
  if (!h || (!h.clientHello && !h.serverHello)) return NO_TLS;
  if (!h.isOver) return write(h, serverPort);
  const before = known.get(h);
  if (before?.serverPort === serverPort) return before.tls;
  const tls = Object.freeze(write(h, serverPort));
  known.set(h, { serverPort, tls });
  return tls;
}

function write(h: Handshake, serverPort: number): Tls {
  const hello = h.clientHello;
  const answer = h.serverHello;
  const mutual = mutualOf(h);
  const suite = answer?.cipherSuite ?? -1;
  const meshed = meshOf(h, serverPort);
  const { serverChain, clientChain } = chainsOf(h);
  const resumedFrom = resumedFromOf(h);
  return {
    version: answer ? versionName(answer.version) : null,
    cipher_suite: suite < 0 ? null : (CIPHER_SUITES.get(suite) ?? `0x${hex4(suite)}`),
    group: h.group === null ? null : (GROUPS.get(h.group) ?? `0x${hex4(h.group)}`),
    signature: h.signature === null ? null : signatureName(h.signature),
    sni: hello?.serverName ?? null,
    alpn: answer?.alpn ?? null,
    alpn_offered: [...(hello?.alpn ?? [])],
    ja3: hello && !h.ssl2Hello ? ja3(hello) : null,
    ja3s: answer && !h.ssl2 ? ja3s(answer) : null,
    ja4: hello && !h.ssl2Hello ? ja4(hello, h.transport) : null,
    mutual,
    ...(resumedFrom === null ? {} : { resumed_from: resumedFrom }),
    client_cert: clientCertOf(resumedFrom?.mutual ?? mutual),
    server_cert_subject: serverChain?.[0]?.subject ?? null,
    server_cert: certificateOf(serverChain),
    client_cert_subject: clientChain?.[0]?.subject ?? null,
    client_certificate: certificateOf(clientChain),
    mesh: meshed?.mesh ?? null,
    mesh_target: meshed?.target ? targetOf(meshed.target) : null,
  };
}

const hex4 = (n: number) => n.toString(16).padStart(4, "0");

export function clientCertOf(mutual: Tls["mutual"]): boolean | null {
  switch (mutual) {
    case "yes":
    case "inferred-yes":
      return true;
    case "no":
    case "inferred-no":
    case "inferred-declined":
      return false;
    default:
      return null;
  }
}

function targetOf({ trustDomain, ...target }: ReadTarget): MeshTarget {
  return { ...target, trust_domain: trustDomain };
}

/** The leaf of a chain; the others are only counted. */
function certificateOf(chain: readonly ReadCertificate[] | null): Certificate | null {
  const read = chain?.[0];
  if (!read) return null;
  return {
    san: [...read.san],
    issuer: read.issuer,
    serial: read.serial,
    not_before: read.notBefore,
    not_after: read.notAfter,
    key: read.key,
    signature: read.signature,
    fingerprint: read.fingerprint,
    self_signed: read.selfSigned,
    ca: read.isCa,
    chain: chain.length,
  };
}
