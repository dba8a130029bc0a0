/** Describes what was judged of one edge in one window: the verdict, its reasons, its coverage. */
import type { Because } from "../policy/expectation.ts";

/** Six words, never fewer; only the first counts as success (product.md, honesty rule 1). */
export const VERDICTS = [
  ...(["confirmed", "violated", "unproven", "undecidable", "unexpected"] as const),
  // What was declared can be met by anything: that it was met is no merit.
  "nothing-demanded",
] as const;
export type VerdictWord = (typeof VERDICTS)[number];

/** What a person should look at first comes first. */
export const WORST_FIRST: readonly VerdictWord[] = [
  ...(["violated", "unexpected", "unproven", "undecidable", "nothing-demanded"] as const),
  "confirmed",
];

export function byGravity(a: { verdict: VerdictWord }, b: { verdict: VerdictWord }): number {
  return WORST_FIRST.indexOf(a.verdict) - WORST_FIRST.indexOf(b.verdict);
}

export function noCounts(): Record<VerdictWord, number> {
  return Object.fromEntries(VERDICTS.map((word) => [word, 0])) as Record<VerdictWord, number>;
}

export type Aspect = "transport" | "path";

/** Why, in a stable word; `REASONS` holds the sentence that a person reads. */
export const REASONS = {
  "mtls-observed": "mutual TLS was accepted; the client's certificate was read",
  "mtls-inferred": "mutual TLS 1.3 was accepted; the client certificate is inferred from sizes",
  "tls-observed": "TLS was accepted where TLS is required",
  "plaintext-allowed": "plaintext was accepted, and nothing declared forbids it",
  "tls-undemanded": "TLS was accepted, and nothing declared demands it",
  "mtls-undemanded": "mutual TLS was accepted, and nothing declared demands it",
  "plaintext-refused": "plaintext was tried, and the server refused it",
  "client-cert-missing": "a client without a certificate was refused",
  "client-cert-refused": "a client certificate was presented, and the server refused it",
  "plaintext-accepted": "plaintext was accepted where encryption is required",
  "one-way-tls": "TLS without a client certificate was accepted where mutual TLS is required",
  "suite-not-encrypting":
    "a suite without encryption, or without authentication, was accepted where TLS is required",
  "foreign-identity":
    "mutual TLS was accepted with an identity that is none of the mesh's, or not the pod's own",
  "identity-doubtful":
    "mutual TLS was accepted with an identity that is not the pod's own, or not known to be the " +
    "mesh's",
  "mesh-unseen": "mutual TLS was accepted, and nothing shows that it is the mesh's own",
  "version-too-low": "an older TLS version was accepted than the declared minimum",
  "crypto-misses-profile": "cryptography was negotiated that misses a declared profile",
  "crypto-not-seen": "whether the cryptography meets the declared profile was not on the wire",
  "server-cert-expired": "the client refused the server's expired certificate",
  "server-cert-refused": "the client refused the server's certificate",
  "handshake-failed": "handshakes failed for another reason",
  "session-resumed": "the session was resumed; client authentication was not proven again",
  "mutual-unknown": "whether the client presented a certificate cannot be told",
  "not-answered": "no connection was seen to be accepted or refused",
  "refusal-likely":
    "it was refused, as it seems: a server that fails or just closes shows the same",
  "one-sided": "only one side's packets were seen",
  "one-direction":
    "the network plugin leads one direction past the pod's interface: " +
    "only the other was seen there",
  "one-end-only":
    "it was seen elsewhere, while one of its ends was watched whole and saw nothing: " +
    "somebody may have made it up",
  "client-is-node":
    "the client's address is a node's: a pod behind it, or the node itself, cannot be told",
  "policy-changed": "the policy changed meanwhile, and its versions demand different things",
  "begun-under-older-policy":
    "the connection began under an older version of the policy, which demands something else",
  "sightings-disagree": "two sightings of one connection say opposite things",
  "roles-unknown": "which end is the client is a guess: nothing that was seen shows it",
  "joined-midstream": "the flow was joined after its start",
  "partly-unreadable": "some connections could not be read, more than the tolerance allows",
  "capture-drops": "the kernel dropped frames, more than the tolerance allows",
  "frames-unread": "frames of the pods could not be read, more than the tolerance allows",
  "observations-lost": "the agent gave up what it saw at the pods, more than the tolerance allows",
  "sampling-bound": "too few sampled flows: the bound on contradictions is above the tolerance",
  "partly-watched": "the agents watched too little of the window to speak of all of it",
  "not-in-sample": "no traffic was seen on the edge in the sample of flows that the agents read",
  "not-exercised": "the edge was watched, and no traffic was seen on it",
  "covered-by-tunnel":
    "the two spoke through the mesh's tunnel: whether it was on this port is inside of it",
  "no-agent": "no agent watched either end in the window",
  "not-attributable": "an address could not be attributed at that time",
  "policy-incomplete": "a declared object that may concern the edge could not be read",
  "allowed-and-used": "the path is allowed, and a connection on it was accepted",
  "allowed-and-refused": "the path is allowed, and no connection on it was accepted",
  "denied-and-dropped": "the path is denied: the SYN left the client and never reached the server",
  "denied-and-refused": "the path is denied, and the server refused",
  "denied-and-accepted": "the path is denied, and a connection on it was accepted",
  "reached-the-server":
    "the attempt reached the server, which refused it by itself: " +
    "nothing shows that the policy would have",
  "server-unseen":
    "the attempt was refused, and may have reached the server where not all is seen: " +
    "nothing shows that the policy refused it",
  unreachable:
    "an ICMP error said that the server cannot be reached: no policy of the network says that",
  "served-nobody":
    "the attempt never reached the server, which served nobody else in the window: " +
    "it may have been unreachable for all",
  "server-silent": "the path is denied and nothing answered; silence alone proves nothing",
  "nothing-declared": "traffic on a path about which nothing is declared",
  "denial-in-band": "a denial would be answered inside the encryption, where nobody can see it",
  "rule-not-observable": "the rule depends on what a passive observer cannot see",
} as const;
export type Reason = keyof typeof REASONS;

export type WorkloadName = {
  /** `pod`, `node`, `external`, or `unknown` where the address could not be attributed. */
  kind: "pod" | "node" | "external" | "unknown";
  namespace: string;
  /** Workload's name; the address for what is outside. */
  name: string;
  /** Deployment, ReplicaSet, Pod, …; empty for what is no workload. */
  workloadKind: string;
  zones: readonly string[];
  /** What the segmentation file calls it, where it names it: an access gateway, a scanner. */
  actor?: string;
};

export type Edge = {
  /** `ns/name[Kind] -> ns/name[Kind] : port/proto`; unique. */
  id: string;
  client: WorkloadName;
  server: WorkloadName;
  port: number;
  proto: string;
};

/** How the identity of an end is known. */
export type Provenance = "certificate" | "address" | "inferred" | null;

export type EdgeCoverage = {
  /** Share of the window in which the client's, and the server's, interface was watched. */
  client: number;
  server: number;
  delivered: number;
  dropped: number;
  sampling: number;
  /** Frames that were not readable; left out where there are none. */
  unread?: number;
  /** Observations, and attempts of the client, that the agents gave up; left out likewise. */
  lost?: number;
};

export type Verdict = {
  schema: "wireproof.verdict/1";
  /** RFC 3339; [from, to). */
  from: string;
  to: string;
  edge: Edge;
  aspect: Aspect;
  verdict: VerdictWord;
  reason: Reason;
  /** For people: the reason's sentence, with names and numbers. */
  sentence: string;
  /** Rests on the sizes of encrypted records. */
  inferred: boolean;
  /**
   * Connections in the window by what they say; `pending` are still under way, of `undemanded` ones
   * nothing was demanded.
   */
  counts: {
    supporting: number;
    contradicting: number;
    unreadable: number;
    pending: number;
    undemanded: number;
  };
  /** One-sided 95 % upper bound of the rate of contradictions; null unless sampled. */
  bound: number | null;
  required: string | null;
  path: string;
  because: readonly Because[];
  coverage: EdgeCoverage;
  provenance: { client: Provenance; server: Provenance };
  /** Codes of findings on the edge's flows. */
  findings: readonly string[];
  protocols: readonly string[];
  tlsVersions: readonly string[];
  bytes: number;
  firstSeen: string | null;
  lastSeen: string | null;
  /** Some of the flows it rests on: `node/flow`. */
  flows: readonly string[];
  /** Both versions of a policy that changed were accepted: within the grace window. */
  inGrace: boolean;
};

/** One finding about many flows, or about what was not watched. */
export type ClusterFinding = {
  code: string;
  from: string;
  to: string;
  /** Whom it is about: `ns/name[Kind]`, or `node/NAME`. */
  subject: string;
  sentence: string;
};

/** Coverage of one node in one window. */
export type NodeCoverage = {
  node: string;
  agent: boolean;
  pods: number;
  /** Pod-seconds watched, of those that existed. */
  podSecondsWatched: number;
  podSeconds: number;
  interfaces: number;
  delivered: number;
  dropped: number;
  /** Interfaces that one direction is led past; left out where there is none. */
  oneDirection?: number;
};
