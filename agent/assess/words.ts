/** Says in words what the record says in codes. */
import type { Failure, Flow, MeshTarget, RefusalName } from "../../protocol/flow-record.ts";

/** Every failure code as a sentence without its end. */
export const FAILURES: Readonly<Record<string, string>> = {
  "no-common-version": "the sides have no TLS version in common",
  "no-common-cipher": "the sides have no cipher suite in common",
  "no-common-group": "the sides have no key-exchange group in common",
  "no-common-alpn": "the sides have no application protocol (ALPN) in common",
  "no-common-parameters": "the server refused the hello, and what they lack in common is not told",
  "unrecognized-name": "the server does not serve the name that the client asked for",
  "server-cert-expired": "the client refused the server's certificate as expired",
  "server-cert-untrusted": "the client does not trust the server's certificate",
  "server-cert-name": "the server's certificate does not name what the client asked for",
  "server-cert-bad": "the client refused the server's certificate",
  "server-cert-refused": "the client left behind the server's flight, where its certificate stands",
  "client-cert-missing": "the server wants a client certificate, and the client sent none",
  "client-cert-untrusted": "the server does not trust the client's certificate",
  "client-cert-expired": "the server refused the client's certificate as expired",
  "client-cert-bad": "the server refused the client's certificate",
  "client-cert-refused": "the server left behind the client's certificate",
  "plaintext-to-tls": "plaintext was sent to a port that speaks TLS",
  "tls-to-plaintext": "TLS was sent to a port that speaks another protocol",
  "plaintext-refused": "the server refused plaintext",
  "client-aborted": "the client left before the handshake was done",
  "server-aborted": "the server left before the handshake was done",
  silent: "the other side never answered",
  reset: "the connection was reset",
  "upgrade-refused": "the server refused to begin TLS",
  "upgrade-stripped": "the offer of TLS was taken out of the answer",
  "record-error": "a record could not be decrypted, or was too long",
  "handshake-error": "a handshake message contradicted the protocol",
};

export function failureWords({ code }: Failure): string {
  return FAILURES[code] ?? `one side told ${code.replace("-", " ")}`;
}

const BASES: Readonly<Record<Failure["basis"], string>> = {
  alert: "told by an alert in clear",
  close: "told by a FIN",
  reset: "told by a RST",
  timeout: "told by silence",
  "in-band": "told by an answer in plaintext",
  inferred: "inferred from sizes and order",
};

export const basisWords = (basis: Failure["basis"]): string => BASES[basis];

/** `TLSv1.3` as people write it. */
export const versionWords = (version: string): string => version.replace(/v(?=\d)/, " ");

/** `reviews.default (subset v1, port 9080)`: whom the client asked a mesh for. */
export function targetWords(target: MeshTarget): string {
  const { service, namespace, subset, port, identity } = target;
  const name = service !== null && namespace !== null ? `${service}.${namespace}` : service;
  const parts = [subset === null ? "" : `subset ${subset}`, port === null ? "" : `port ${port}`];
  const more = parts.filter((part) => part !== "").join(", ");
  return `${name ?? identity ?? "an unnamed service"}${more === "" ? "" : ` (${more})`}`;
}

/** `ICMP port unreachable`: what came from the server, or from anybody on the way to it. */
export function refusalWords(kind: RefusalName): string {
  if (kind === "rst") return "RST";
  if (kind === "icmp-other") return "ICMP destination unreachable";
  return kind.replace("icmp", "ICMP").replaceAll("-", " ");
}

/** How a flow ended, where nothing failed. */
export function endWords({ state, refused_by, packets, proto }: Flow): string {
  switch (state) {
    case "attempted":
      return proto === "tcp" || packets[1] > 0 ? "no answer seen" : "one direction only";
    case "unanswered":
      return "no answer";
    case "refused":
      return refused_by ? `refused: ${refusalWords(refused_by)}` : "refused";
    case "established":
      return proto === "tcp" ? "still open at the capture's end" : "answered";
    default:
      return state;
  }
}
