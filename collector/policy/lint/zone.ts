/** Checks where a segmentation file leaves a way into a zone open, or says what cannot hold. */
import { valueAt, type ClusterObject } from "../../attribution/cluster-object.ts";
import { formatHolder, type Holder } from "../../attribution/holder.ts";
import { formatObject } from "../decision/because.ts";
import type { Segmentation as Spec } from "../segmentation/shape.ts";
import { DAY_MS, endOf, findZone, isSelected } from "../segmentation/segmentation.ts";
import { BOUNDARY, CONFIGURATION, ENCRYPTION, type Rule } from "./rule.ts";
import { nameWorkloads, type Scope } from "./scope.ts";

const graver = { pci: "error", hipaa: "error" } as const;

export const ZONE = {
  empty: {
    id: "segmentation-zone-empty",
    title: "a zone that is no pod",
    why: "Nothing is protected by it: a namespace or a label may be misspelt, or taken before.",
    remedy: "correct the zone's select, or drop the zone",
    level: "warning",
    controls: CONFIGURATION,
    needsPods: true,
  },
  outside: {
    id: "segmentation-workload-outside-zones",
    title: "a workload in no zone, beside workloads of a CDE or PHI zone",
    why: "It shares the namespace, and is outside of all zones: scope is not told for it.",
    remedy: "widen the zone's select, give it a zone, or move it",
    level: "warning",
    ...graver,
    controls: { pci: ["12.5.2", "1.2.4"], nist: ["ac-4", "sc-7"] },
    needsPods: true,
  },
  expired: {
    id: "segmentation-waiver-expired",
    title: "a waiver that has ended",
    why: "The path that it let pass is denied again.",
    remedy: "drop it, or have it decided again",
    level: "warning",
    ...graver,
    controls: { pci: ["1.2.7"], nist: ["ca-7", "cm-3"] },
  },
  expiring: {
    id: "segmentation-waiver-expiring",
    title: "a waiver that ends within 30 days",
    why: "The path that it lets pass will be denied.",
    remedy: "close the path, or have it decided again",
    level: "note",
    strict: "note",
    pci: "warning",
    controls: { pci: ["1.2.7"], nist: ["ca-7"] },
  },
  long: {
    id: "segmentation-waiver-long",
    title: "a waiver for more than a year",
    why: "It outlasts the reviews that should decide it again.",
    remedy: "set a nearer end",
    level: "off",
    pci: "warning",
    strict: "warning",
    controls: { pci: ["1.2.7"], nist: ["ca-7", "cm-3"] },
  },
  broad: {
    id: "segmentation-waiver-broad",
    title: "a waiver that names no zone",
    why: "It lets pass every crossing, between whichever zones.",
    remedy: "name the zones, and the ports, that are waived",
    level: "warning",
    ...graver,
    controls: BOUNDARY,
  },
  unencrypted: {
    id: "segmentation-path-unencrypted",
    title: "a path into a CDE or PHI zone that need not be encrypted",
    why: "With any, plaintext or no transport at all, what goes in there may be read.",
    remedy: "ask for mtls, or tls",
    level: "warning",
    ...graver,
    controls: ENCRYPTION,
  },
  noVersion: {
    id: "segmentation-path-no-version",
    title: "a path with TLS and no least version",
    why: "Any version of TLS will do, also those that are withdrawn.",
    remedy: "add minVersion: TLSv1.2, or TLSv1.3",
    level: "note",
    pci: "warning",
    hipaa: "warning",
    controls: { pci: ["4.2.1", "12.3.3"], hipaa: ["164.312(e)(1)"], nist: ["sc-8.1", "sc-13"] },
  },
  oldVersion: {
    id: "segmentation-path-weak-version",
    title: "a path that takes TLS below 1.2",
    why: "TLS 1.0 and 1.1 are withdrawn (RFC 8996).",
    remedy: "set minVersion to TLSv1.2 or TLSv1.3",
    level: "warning",
    ...graver,
    controls: { pci: ["4.2.1", "12.3.3"], hipaa: ["164.312(e)(1)"], nist: ["sc-8.1", "sc-13"] },
  },
  undeclared: {
    id: "segmentation-default-undeclared",
    title: "crossings that no path speaks of are not denied",
    why: "Between zones everything stays undeclared, and is no violation.",
    remedy: "set default.betweenZones to deny",
    level: "warning",
    ...graver,
    controls: BOUNDARY,
  },
  nobody: {
    id: "segmentation-actor-empty",
    title: "an actor that is no pod",
    why: "What it does goes by no name: a namespace or a label may be misspelt.",
    remedy: "correct the actor's select, or drop it",
    level: "warning",
    controls: CONFIGURATION,
    needsPods: true,
  },
} as const satisfies Record<string, Rule>;

const RULES = ZONE;

/** A waiver that ends sooner is told. */
const SOON_MS = 30 * DAY_MS;
const LONG_MS = 366 * DAY_MS;

export function checkZones(scope: Scope): void {
  for (const file of segmentations(scope)) {
    const spec = specOf(file);
    checkSelects(scope, file, spec);
    checkNeighbours(scope, file, spec);
    checkPaths(scope, file, spec);
    checkWaivers(scope, file, spec);
    if ((spec.default?.betweenZones ?? "undeclared") === "undeclared") {
      const sentence = `${formatObject(file)}: between zones nothing is denied`;
      scope.report(RULES.undeclared, file, ["spec", "default", "betweenZones"], sentence);
    }
  }
}

export function segmentations(scope: Scope): ClusterObject[] {
  return scope.ofKind("Segmentation", "wireproof.io/");
}

/** Of a valid file. */
export function specOf(file: ClusterObject): Spec {
  return valueAt(file.body, "spec") as unknown as Spec;
}

function checkSelects(scope: Scope, file: ClusterObject, spec: Spec): void {
  const name = formatObject(file);
  for (const [i, zone] of spec.zones.entries()) {
    if (zone.select.cidrs !== undefined) continue;
    const pods = scope.pods.filter((pod) => isSelected(zone.select, pod));
    if (pods.some((pod) => findZone(spec, pod) === zone)) continue;
    const by = pods[0] === undefined ? null : findZone(spec, pods[0])?.name;
    const why = by === null ? "selects no pod" : `is left without pods: ${by} takes them before`;
    const sentence = `${name}: zone ${zone.name} ${why}`;
    scope.report(RULES.empty, file, ["spec", "zones", i, "select"], sentence);
  }
  for (const [i, actor] of (spec.actors ?? []).entries()) {
    if (actor.select.cidrs !== undefined) continue;
    if (scope.pods.some((pod) => isSelected(actor.select, pod))) continue;
    const sentence = `${name}: actor ${actor.name} is no pod`;
    scope.report(RULES.nobody, file, ["spec", "actors", i, "select"], sentence);
  }
}

function isSensitive(zone: Spec["zones"][number] | null | undefined): boolean {
  return zone?.scope === "cde" || zone?.scope === "phi";
}

function checkNeighbours(scope: Scope, file: ClusterObject, spec: Spec): void {
  const sensitive = new Map<string, { zone: string; pod: Holder }>();
  for (const pod of scope.pods) {
    const zone = findZone(spec, pod);
    if (zone !== null && isSensitive(zone)) sensitive.set(pod.namespace, { zone: zone.name, pod });
  }
  for (const pod of scope.pods) {
    const near = sensitive.get(pod.namespace);
    if (near === undefined || findZone(spec, pod) !== null) continue;
    const beside = `beside ${formatHolder(near.pod)} of zone ${near.zone}`;
    const sentence = `${formatHolder(pod)} is in no zone of ${formatObject(file)}, ${beside}`;
    scope.reportPod(RULES.outside, pod, ["metadata"], sentence);
  }
}

function checkPaths(scope: Scope, file: ClusterObject, spec: Spec): void {
  const name = formatObject(file);
  const sensitive = spec.zones.filter(isSensitive).map((zone) => zone.name);
  for (const [i, path] of (spec.paths ?? []).entries()) {
    const at = ["spec", "paths", i];
    const way = `path ${i} from ${path.from} to ${path.to}`;
    const isInto = path.to === "*" ? sensitive.length > 0 : sensitive.includes(path.to);
    const transport = path.transport ?? null;
    const isOpen = transport === null || transport === "any" || transport === "plaintext";
    if (isInto && isOpen && path.from !== path.to) {
      const what = transport === null ? "asks for no transport" : `takes ${transport}`;
      const step = transport === null ? at : [...at, "transport"];
      scope.report(RULES.unencrypted, file, step, `${name}: ${way} ${what}`);
    }
    const version = path.minVersion;
    if (version === undefined && !isOpen) {
      const sentence = `${name}: ${way} takes ${transport} of any version`;
      scope.report(RULES.noVersion, file, [...at, "transport"], sentence);
    }
    if (version === "TLSv1.0" || version === "TLSv1.1") {
      const sentence = `${name}: ${way} takes ${version}`;
      scope.report(RULES.oldVersion, file, [...at, "minVersion"], sentence);
    }
  }
}

function checkWaivers(scope: Scope, file: ClusterObject, spec: Spec): void {
  const isAny = (zone: string | undefined) => zone === undefined || zone === "*";
  for (const [i, waiver] of (spec.waivers ?? []).entries()) {
    const at = ["spec", "waivers", i];
    const leftMs = endOf(waiver.until) - scope.atMs;
    const title = `${formatObject(file)}: the waiver of ${waiver.who} (${waiver.why})`;
    const tell = (rule: Rule, what: string) =>
      scope.report(rule, file, [...at, "until"], `${title} ${what} ${waiver.until}`);
    if (leftMs <= 0) tell(RULES.expired, "has ended with");
    else if (leftMs <= SOON_MS) tell(RULES.expiring, "ends with");
    else if (leftMs > LONG_MS) tell(RULES.long, "holds for more than a year, until");
    if (isAny(waiver.from) && isAny(waiver.to)) {
      scope.report(RULES.broad, file, at, `${title} lets pass whatever crosses zones`);
    }
  }
}

/** Pods of each zone of a file that is made of pods alone. */
export function podsByZone(scope: Scope, spec: Spec): Map<string, Holder[]> {
  const zones = new Map<string, Holder[]>();
  for (const zone of spec.zones) if (zone.select.cidrs === undefined) zones.set(zone.name, []);
  for (const pod of scope.pods) {
    const zone = findZone(spec, pod);
    if (zone !== null) zones.get(zone.name)?.push(pod);
  }
  return zones;
}

/** For a sentence. */
export function nameZone(zone: string, pods: readonly Holder[]): string {
  return `${zone} (${nameWorkloads(pods)})`;
}
