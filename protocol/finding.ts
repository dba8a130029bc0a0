/** Lists every finding that Wireproof tells: its code, how grave it is, and what it asserts. */

const SEVERITIES = ["info", "low", "medium", "high", "critical"] as const;
export type Severity = (typeof SEVERITIES)[number];

export type FindingKind = {
  code: string;
  severity: Severity;
  /** True whenever the finding is told; a person reads it. */
  sentence: string;
};

/** Findings about one flow (told by the agent) first, then those about many (the collector). */
export const FINDINGS: readonly FindingKind[] = [
  {
    code: "tls-version-deprecated", // RFC 8996
    severity: "high",
    sentence: "The negotiated TLS version is deprecated (RFC 8996).",
  },
  {
    code: "overlap-disagrees",
    severity: "medium",
    sentence: "Two segments carried different bytes for the same place of the stream.",
  },
  {
    code: "certificate-expired-on-wire",
    severity: "high",
    sentence: "A certificate was presented outside of its validity.",
  },
  {
    code: "handshake-refused",
    severity: "medium",
    sentence: "A TLS handshake was refused by one side.",
  },
  {
    code: "upgrade-refused",
    severity: "medium",
    sentence: "An upgrade to TLS was asked for and refused.",
  },
  {
    code: "upgrade-stripped",
    severity: "high",
    sentence: "An upgrade to TLS was overwritten on its way, or agreed upon and not taken up.",
  },
  {
    code: "scan",
    severity: "high",
    sentence: "One workload tried many addresses or ports in a short time, mostly without answer.",
  },
  {
    code: "syn-flood",
    severity: "high",
    sentence: "More connections were tried, and answered by nobody, than an agent can keep.",
  },
  {
    code: "spoofed-source",
    severity: "high",
    sentence: "A pod sent packets under addresses that are not its own: they count for no flow.",
  },
  {
    code: "one-end-only",
    severity: "high",
    sentence:
      "Accepted connections were seen at one end, and never came to the other, watched one.",
  },
  {
    code: "denial-slipped-past",
    severity: "high",
    sentence: "A client that shows no identity is let in where a rule denies it by its identity.",
  },
  {
    code: "blind-spot",
    severity: "medium",
    sentence: "A node that runs pods has no agent, or its agent reported nothing in the window.",
  },
  {
    code: "one-direction",
    severity: "medium",
    sentence: "The network plugin leads one direction of pods' traffic past their interfaces.",
  },
  {
    code: "uplink-gap",
    severity: "high",
    sentence: "An agent's spool discarded batches before the collector had them.",
  },
  {
    code: "clock-stepped",
    severity: "medium",
    sentence: "An agent's clock stepped back, or differs from the collector's by more than 2 s.",
  },
];
