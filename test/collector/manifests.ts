/** Reads small manifests for the tests of policy, and says in short what they require. */
import type { Holder, Transport } from "../../collector/attribution/holder.ts";
import { parseManifests, type Declared } from "../../collector/policy/manifest/declared.ts";
import type { Expectation, Posture } from "../../collector/policy/expectation.ts";
import { judgeWire, Policy, type End } from "../../collector/policy/policy.ts";
import { toInventory } from "../../collector/policy/answer/policy-command.ts";

export function read(text: string, file = "a.yaml"): Declared {
  const declared: Declared = { objects: [], problems: [], unknownKinds: [], files: [] };
  parseManifests(text, file, declared);
  return declared;
}

/** The pod `namespace/name`; throws where the manifests have none. */
export function end(declared: Declared, name: string): Holder {
  const found = toInventory(declared)
    .pods(-Infinity)
    .find((pod) => `${pod.namespace}/${pod.name}` === name);
  if (found === undefined) throw new Error(`no ${name}`);
  return found;
}

/** What manifests require between two ends: a pod `namespace/name`, a node, or an address outside. */
export function expectOf(
  text: string,
  from: string,
  to: string,
  port: number,
  transport: Transport = "TCP",
  shown: Posture | null = null,
): Expectation {
  const declared = read(text);
  const nodes = toInventory(declared).nodes(-Infinity);
  const find = (name: string): End => {
    if (name.includes("/")) return end(declared, name);
    return nodes.find((node) => node.name === name) ?? { external: name };
  };
  const policy = new Policy(declared.objects, { problems: declared.problems });
  return policy.expect(find(from), find(to), port, transport, 0, shown);
}

/** What of the postures is taken, as `required ptm`: `+` accepted, `-` refused, `?` not known. */
export function wire(expectation: Expectation): string {
  const marks = (["plaintext", "tls", "mtls"] as const).map((posture) => {
    const taken = judgeWire(expectation, posture);
    return taken === null ? "?" : taken ? "+" : "-";
  });
  return `${expectation.transport.required} ${marks.join("")}`;
}

export const inBand = (expectation: Expectation) =>
  expectation.path === "undecidable" &&
  expectation.pathBecause[0]!.sentence.startsWith("denial-in-band");
