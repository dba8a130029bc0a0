/** Answers what the declared policy says about one connection, with the objects that say so. */
import { ConfigError } from "../../../protocol/config-error.ts";
import { toCanonicalAddress } from "../../attribution/address.ts";
import type { ClusterObject } from "../../attribution/cluster-object.ts";
import { formatHolder, toExternal } from "../../attribution/holder.ts";
import type { Holder, Transport, Workload } from "../../attribution/holder.ts";
import type { Inventory, LookUpReason } from "../../attribution/inventory.ts";
import { combine } from "../decision/because.ts";
import type { Because, Expectation, PathDecision, Posture } from "../expectation.ts";
import type { Mesh } from "../mesh/meshed.ts";
import { onePerSort, sortOfReplica } from "../manifest/pod-sort.ts";
import { judgeWire, Policy } from "../policy.ts";
import { formatProblem, type Problem } from "../manifest/problem.ts";

export type Question = {
  /** `NS/NAME`, `NS/NAME[Kind]`, or `external:IP`. */
  from: string;
  to: string;
  port: number;
  transport: Transport;
  wire: Posture | null;
  mesh: Mesh | "none" | null;
};

export type Answer = {
  path: PathDecision;
  transport: Expectation["transport"];
  /** What the client's mesh makes it send. */
  sends: Posture | null;
  wire: "accepted" | "refused" | "undecidable" | null;
  because: Because[];
  /** What could not be read and may change the answer. */
  doubts: string[];
};

/** Throws a ConfigError when an end is not found. */
export function explain(
  question: Question,
  objects: readonly ClusterObject[],
  inventory: Inventory,
  problems: readonly Problem[],
  nowMs: number,
): Answer {
  // A Service is nobody's client: its address comes from outside.
  const clients = findEnds(question.from, inventory, nowMs).map((end) =>
    end.kind === "service" ? toExternal(question.from.slice("external:".length)) : end,
  );
  const servers = findEnds(question.to, inventory, nowMs);
  const policy = new Policy(objects, { problems, mesh: question.mesh });
  const { port, transport, wire } = question;
  const expectations = clients.flatMap((client) =>
    servers.map((server) => policy.expect(client, server, port, transport, nowMs, wire)),
  );
  const first = expectations[0]!;
  const judged = new Set(expectations.map((e) => (wire === null ? null : judgeWire(e, wire))));
  const path = agree(expectations);
  const doubts = new Set(expectations.flatMap((e) => (e.doubts ?? []).map(formatProblem)));
  const told = new Map<string, Because>();
  for (const because of [...path.because, ...expectations.flatMap((e) => e.transportBecause)]) {
    told.set(because.sentence, because);
  }
  return {
    path: path.path,
    transport: agreeOnTransport(expectations) ?? { ...first.transport, accepts: [], refuses: [] },
    sends: agreeOn(expectations.map((e) => e.sends ?? null)),
    wire: wire === null ? null : judged.size === 1 ? toWire([...judged][0]!) : "undecidable",
    because: [...told.values()],
    doubts: [...doubts],
  };
}

/** Pods of one workload that differ: what all say, else undecidable with the reasons of all. */
function agree(expectations: readonly Expectation[]): ReturnType<typeof combine> {
  const decisions = expectations.map((e) => ({ path: e.path, because: e.pathBecause }));
  const combined = combine(decisions);
  const isOne = decisions.every(({ path }) => path === combined.path);
  return isOne ? combined : { path: "undecidable", because: combined.because };
}

function agreeOnTransport(expectations: readonly Expectation[]): Expectation["transport"] | null {
  const texts = new Set(expectations.map((e) => JSON.stringify(e.transport)));
  return texts.size === 1 ? expectations[0]!.transport : null;
}

function agreeOn<T>(values: readonly T[]): T | null {
  return new Set(values).size === 1 ? values[0]! : null;
}

function toWire(judged: boolean | null): "accepted" | "refused" | "undecidable" {
  return judged === null ? "undecidable" : judged ? "accepted" : "refused";
}

/** An address that a pod, a node or a Service of the manifests has is that pod, node or Service. */
function findEnds(name: string, inventory: Inventory, nowMs: number): Holder[] {
  if (name.startsWith("external:")) {
    const address = toCanonicalAddress(name.slice("external:".length));
    if (address === null) {
      throw new ConfigError("CONFIG_END", `${name}: expected external: and an IP address`);
    }
    return [findHolder(name, address, inventory, nowMs)];
  }
  const pods = inventory.pods(-Infinity);
  const parts = /^([^/[\]]+)\/([^[\]]+)(?:\[([^\]]+)\])?$/.exec(name);
  if (parts === null) {
    throw new ConfigError(
      "CONFIG_END",
      `${name}: expected NAMESPACE/NAME, NAMESPACE/NAME[Kind] or external:IP`,
    );
  }
  const [, namespace, own, kind] = parts;
  const found = pods.filter((pod) => {
    if (pod.namespace !== namespace) return false;
    const isPod = pod.name === own && (kind === undefined || kind === "Pod");
    return (
      isPod || [pod.owner, pod.workload].some((one) => one !== null && isNamed(one, own!, kind))
    );
  });
  if (found.length === 0) {
    const near = new Set(pods.filter((p) => p.namespace === namespace).map(formatHolder));
    const there = near.size === 0 ? "nothing" : [...near].slice(0, 10).join(", ");
    throw new ConfigError(
      "CONFIG_END",
      `${name} is not among the manifests; namespace ${namespace} has ${there}`,
    );
  }
  return onePerSort(found, sortOfReplica);
}

/** A kind of another API group may be named with it, or without. */
function isNamed(workload: Workload, name: string, kind: string | undefined): boolean {
  if (workload.name !== name) return false;
  return kind === undefined || workload.kind === kind || workload.kind.startsWith(`${kind}.`);
}

const NOBODY_OF: Readonly<Partial<Record<LookUpReason, string>>> = {
  ambiguous: "more than one of the manifests has that address",
  "pod-network": "a node gives that address to pods, and no pod of the manifests has it",
};

function findHolder(name: string, address: string, inventory: Inventory, nowMs: number): Holder {
  const { holder, reason } = inventory.lookUp(address, nowMs);
  const why = reason === null ? undefined : NOBODY_OF[reason];
  if (why !== undefined) throw new ConfigError("CONFIG_END", `${name}: ${why}`);
  return holder ?? toExternal(address);
}

/** `8080`, `53/udp`. */
export function parsePort(text: string): { port: number; transport: Transport } {
  const parts = /^(\d{1,5})(?:\/(tcp|udp|sctp))?$/i.exec(text);
  const port = Number(parts?.[1]);
  if (parts === null || port < 1 || port > 65535) {
    throw new ConfigError("CONFIG_PORT", `--port ${text}: expected 1-65535, or 53/udp, 7/sctp`);
  }
  return { port, transport: (parts[2] ?? "tcp").toUpperCase() as Transport };
}

export function formatAnswer(answer: Answer, format: "text" | "json"): string {
  if (format === "json") return `${JSON.stringify(answer, null, 2)}\n`;
  const { path, transport, sends, wire, because, doubts } = answer;
  const { required, accepts, refuses, minVersion, crypto, mesh, trustDomain } = transport;
  const list = (postures: readonly Posture[]) => postures.join(", ") || "-";
  const domain = trustDomain ? `, trust domain ${trustDomain}` : "";
  const whose = mesh === undefined ? "" : ` of ${mesh}'s own CA${domain}`;
  const version = minVersion ? `, at least ${minVersion}` : "";
  const profiles = crypto ? `, by ${crypto.join(", ")}` : "";
  const lines = [
    `path       ${path}`,
    `transport  required ${required ?? "nothing declared"}${whose}${version}${profiles}; ` +
      `accepts ${list(accepts)}; refuses ${list(refuses)}`,
    ...(sends === null ? [] : [`client     its mesh makes it send ${sends}`]),
    ...(wire === null ? [] : [`wire       ${wire}`]),
    ...because.map((b) => `because    ${b.sentence} [${b.rule}, ${b.hash.slice(0, 19)}]`),
    ...doubts.map((doubt) => `doubt      ${doubt}`),
  ];
  return `${lines.join("\n")}\n`;
}
