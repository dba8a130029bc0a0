/** Describes what the declared policy requires of an edge, and which objects say so. */
import type { CryptoProfile } from "../../protocol/crypto-profile.ts";
import type { Problem } from "./manifest/problem.ts";

/** How a connection presents itself on the wire. */
export type Posture = "plaintext" | "tls" | "mtls";

/** A mesh that issues certificates; Istio's, sidecars and ambient alike. */
export type MeshName = "istio" | "linkerd" | "consul";

/** One object's part in a decision: pinned to its version, and told to a person. */
export type Because = {
  kind: string;
  /** Empty for a cluster-scoped object. */
  namespace: string;
  name: string;
  uid: string | null;
  resource_version: string | null;
  /** `sha256:` and hex, over the object's canonical JSON without status and managed fields. */
  hash: string;
  /** The field that decided, as a path: `spec.mtls.mode`. */
  rule: string;
  sentence: string;
};

/** `undeclared`: no object selects either end in that direction. */
export type PathDecision = "allowed" | "denied" | "undeclared" | "undecidable";

export type Expectation = {
  path: PathDecision;
  /**
   * required: null where nothing is declared about transport. accepts, refuses: what the server
   * does with each posture; a posture in neither list is undecidable.
   */
  transport: {
    required: Posture | "any" | null;
    accepts: readonly Posture[];
    refuses: readonly Posture[];
    /**
     * Whose mutual TLS it is, where `required` is `mtls` because this mesh's own policy demands it:
     * with certificates of the mesh's own CA. Left out where anybody else demands it.
     */
    mesh?: MeshName;
    /** Of the mesh's identities; null where its settings are not declared, or do not tell. */
    trustDomain?: string | null;
    /** The lowest TLS version that a declared path asks for: `TLSv1.2`. */
    minVersion?: string | null;
    /** Profiles that what is negotiated must meet, all of them. */
    crypto?: readonly CryptoProfile[];
  };
  /** What the client's mesh makes it send to the Service's name; null where that is not known. */
  sends?: Posture | null;
  /** In the order of precedence; the deciding objects first. */
  pathBecause: readonly Because[];
  transportBecause: readonly Because[];
  /** What could not be read and may concern this edge: while any is there, nothing is proven. */
  doubts?: readonly Problem[];
};
