/** What a mesh's own policy says about one connection to a server that is in it. */
import type { Decision } from "../decision/because.ts";
import type { Because, MeshName, Posture } from "../expectation.ts";
import type { Ternary } from "../decision/ternary.ts";

/** What a server does with each posture; one in neither list is not known. */
export type Transport = {
  required: Posture | "any" | null;
  accepts: readonly Posture[];
  refuses: readonly Posture[];
  /** As in an expectation: where the mesh's own policy demands its mutual TLS. */
  mesh?: MeshName;
  trustDomain?: string | null;
};

/**
 * Where the client's proxy brings a connection to, or may, as the network sees it: to one of these
 * ports of the server. `by`: whose doing it is.
 */
export type Carried = { ports: readonly number[]; by: string };

export type MeshSay = {
  decision: Decision;
  transport: Transport;
  transportBecause: readonly Because[];
  /** The lowest TLS version that the server takes: `TLSv1.2`. */
  minVersion?: string | null;
  /** What the client's proxy is set to send; null where that is not known. */
  sends?: Posture | null;
  /** Null, or left out, where the port is the one that is asked about. */
  carried?: Carried | null;
};

export const UNKNOWN_TRANSPORT: Transport = { required: null, accepts: [], refuses: [] };

/** Everything is handed on to the program as it comes. */
export const ANY_TRANSPORT: Transport = {
  required: "any",
  accepts: ["plaintext", "tls", "mtls"],
  refuses: [],
};

/** Sorts the postures by what the server does with each; one that is not known is in no list. */
export function toTransport(
  required: Transport["required"],
  taken: Readonly<Record<Posture, Ternary>>,
): Transport {
  const all: readonly Posture[] = ["plaintext", "tls", "mtls"];
  return {
    required,
    accepts: all.filter((posture) => taken[posture] === true),
    refuses: all.filter((posture) => taken[posture] === false),
  };
}

/** Says whose mutual TLS it is, where it is demanded. */
export function byMesh(
  transport: Transport,
  mesh: MeshName,
  trustDomain: string | null,
): Transport {
  return transport.required === "mtls" ? { ...transport, mesh, trustDomain } : transport;
}

/** Nothing can be told, for these reasons. */
export function toUnknown(because: readonly Because[]): MeshSay {
  return {
    decision: { path: "undecidable", because },
    transport: UNKNOWN_TRANSPORT,
    transportBecause: because,
  };
}
