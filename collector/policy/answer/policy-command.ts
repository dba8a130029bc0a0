/** Runs `wireproof policy allowed` and `wireproof policy explain` on a folder of manifests. */
import { ConfigError } from "../../../protocol/config-error.ts";
import type { Holder } from "../../attribution/holder.ts";
import { Inventory } from "../../attribution/inventory.ts";
import { formatAllowed, listAllowed } from "./allowed.ts";
import { readDeclared, type Declared } from "../manifest/declared.ts";
import { explain, formatAnswer, parsePort } from "./explain.ts";
import type { Mesh } from "../mesh/meshed.ts";
import type { Posture } from "../expectation.ts";
import { listCuts, narrow } from "./narrow.ts";
import { Policy } from "../policy.ts";
import type { PortSet } from "../packet/port-set.ts";
import { formatProblem } from "../manifest/problem.ts";
import { findFaults } from "../manifest/shape.ts";

/** What a command prints: `out` for programs, `warnings` for people. */
export type Printed = { out: string; warnings: string[] };

export type AllowedOptions = { manifests: string; layer?: string; format?: string };

export function runAllowed(options: AllowedOptions, nowMs: number): Printed {
  const layer = oneOf("--layer", options.layer ?? "networkpolicy", ["networkpolicy", "all"]);
  const format = oneOf("--format", options.format ?? "text", ["text", "json", "dot"]);
  const declared = readDeclared(options.manifests);
  const inventory = toInventory(declared);
  const further = layer === "all" ? otherLayers(declared, nowMs) : undefined;
  const pairs = listAllowed(declared.objects, inventory, findFaults, further);
  return { out: formatAllowed(pairs, format), warnings: toWarnings(declared) };
}

export type ExplainOptions = {
  manifests: string;
  from: string;
  to: string;
  port: string;
  wire?: string;
  mesh?: string;
  format?: string;
};

const WIRES: readonly Posture[] = ["plaintext", "tls", "mtls"];
const MESHES: readonly (Mesh | "none")[] = ["istio", "ambient", "linkerd", "consul", "none"];

export function runExplain(options: ExplainOptions, nowMs: number): Printed {
  const format = oneOf("--format", options.format ?? "text", ["text", "json"]);
  const wire = options.wire === undefined ? null : oneOf("--wire", options.wire, WIRES);
  const mesh = options.mesh === undefined ? null : oneOf("--mesh", options.mesh, MESHES);
  const { port, transport } = parsePort(options.port);
  const declared = readDeclared(options.manifests);
  const answer = explain(
    { from: options.from, to: options.to, port, transport, wire, mesh },
    declared.objects,
    toInventory(declared),
    declared.problems,
    nowMs,
  );
  return { out: formatAnswer(answer, format), warnings: toWarnings(declared) };
}

/** An inventory in which the manifests hold at any time. */
export function toInventory(declared: Declared): Inventory {
  const inventory = new Inventory();
  for (const object of declared.objects) inventory.apply(object, -Infinity);
  return inventory;
}

/** Takes away what mesh or segmentation deny; a denial that nobody can read stays allowed. */
function otherLayers({ objects }: Declared, nowMs: number) {
  const policy = new Policy(objects, { podsInBlocks: "outside" });
  const cuts = listCuts(objects);
  return (client: Holder, server: Holder, ports: PortSet) =>
    narrow(policy, cuts, client, server, ports, nowMs);
}

export function oneOf<T extends string>(flag: string, text: string, names: readonly T[]): T {
  const found = names.find((name) => name === text);
  if (found !== undefined) return found;
  throw new ConfigError("CONFIG_OPTION", `${flag} ${text}: expected ${names.join(", ")}`);
}

function toWarnings({ problems, unknownKinds }: Declared): string[] {
  const kinds = new Map<string, number>();
  for (const { apiVersion, kind } of unknownKinds) {
    const name = `${kind} (${apiVersion})`;
    kinds.set(name, (kinds.get(name) ?? 0) + 1);
  }
  return [
    ...problems.map(formatProblem),
    ...[...kinds].map(([name, count]) => `${count} of kind ${name}: not read`),
  ];
}
