/** Describes one rule of the linter, and how grave a breach of it is in each profile. */

/** As SARIF 2.1.0 names them (section 3.27.10). */
export type Level = "error" | "warning" | "note";

export const LEVELS: readonly Level[] = ["error", "warning", "note"];

export type Profile = "pci" | "hipaa" | "strict";

export const PROFILES: readonly Profile[] = ["pci", "hipaa", "strict"];

/**
 * PCI DSS 4.0.1 requirements, paragraphs of 45 CFR 164.312 (HIPAA), and NIST SP 800-53 rev. 5
 * controls. A finding speaks to a part of each: none is met or missed by it alone.
 */
export type Controls = Partial<Record<"pci" | "hipaa" | "nist", readonly string[]>>;

export type Rule = {
  id: string;
  /** What is found, in a few words. */
  title: string;
  /** What it means for the cluster. */
  why: string;
  remedy: string;
  level: Level | "off";
  pci?: Level;
  hipaa?: Level;
  /** Else one step graver than `level`. */
  strict?: Level;
  controls?: Controls;
  /** It rests on which pods there are: without any it is not judged. */
  needsPods?: true;
};

const GRAVER: Readonly<Record<Level | "off", Level>> = {
  off: "note",
  note: "warning",
  warning: "error",
  error: "error",
};

/** The level of a rule's findings; `off` where the rule is not applied. */
export function levelOf(rule: Rule, profile: Profile | null): Level | "off" {
  if (profile === null) return rule.level;
  if (profile === "strict") return rule.strict ?? GRAVER[rule.level];
  return rule[profile] ?? rule.level;
}

/** Mutual TLS, encryption in transit. PCI 4.2.1 speaks of open, public networks alone. */
export const ENCRYPTION: Controls = {
  pci: ["1.2.6", "2.2.5", "4.2.1"],
  hipaa: ["164.312(e)(1)", "164.312(e)(2)(ii)"],
  nist: ["sc-8", "sc-8.1"],
};

/** Who may reach what. */
export const ACCESS: Controls = {
  pci: ["1.3.1", "7.2.1", "7.3.3"],
  hipaa: ["164.312(a)(1)"],
  nist: ["ac-3", "ac-4", "sc-7"],
};

/** Who it is. */
export const IDENTITY: Controls = {
  pci: ["7.2.1", "8.6.1"],
  hipaa: ["164.312(d)"],
  nist: ["ia-3", "ia-9"],
};

/** What is declared is what holds. */
export const CONFIGURATION: Controls = {
  pci: ["1.2.8"],
  nist: ["cm-6"],
};

/** Boundaries: between zones, and to the world. */
export const BOUNDARY: Controls = {
  pci: ["1.3.1", "1.3.2", "1.4.4"],
  hipaa: ["164.312(a)(1)"],
  nist: ["ac-4", "sc-7", "sc-7.5"],
};
