/** Checks for settings of a mesh, or a network plugin, that stand where nobody reads them. */
import { isDeepStrictEqual } from "node:util";
import { type ClusterObject } from "../../attribution/cluster-object.ts";
import { formatObject } from "../decision/because.ts";
import {
  CILIUM,
  CONSUL,
  ISTIO,
  LINKERD,
  straySettings,
  type Plane,
} from "../manifest/control-plane.ts";
import { readDefaultAction } from "../mesh/consul/settings.ts";
import { readMeshConfig } from "../mesh/istio/mesh-config.ts";
import { readClusterSettings } from "../mesh/linkerd/settings.ts";
import { readSettings } from "../packet/cilium/settings.ts";
import { CONFIGURATION, type Rule } from "./rule.ts";
import type { Scope } from "./scope.ts";

export const SETTINGS = {
  elsewhere: {
    id: "mesh-settings-elsewhere",
    title: "settings of a control plane outside of its namespace",
    why: "Nobody reads them there: they change nothing, or somebody meant to change what holds.",
    remedy: "drop it, or put it into the control plane's namespace, with the control plane itself",
    level: "warning",
    controls: CONFIGURATION,
  },
} as const satisfies Record<string, Rule>;

type Read = (objects: readonly ClusterObject[], map?: ClusterObject | null) => object;

/** What each control plane's settings come to. */
const READERS: ReadonlyMap<Plane, Read> = new Map<Plane, Read>([
  [ISTIO, readMeshConfig],
  [LINKERD, readClusterSettings],
  [CONSUL, readDefaultAction],
  [CILIUM, readSettings],
]);

export function checkSettings(scope: Scope): void {
  const { objects } = scope.declared;
  for (const { plane, map, home } of straySettings(objects)) {
    const read = READERS.get(plane)!;
    const changes = tellChanges(read(objects), read(objects, map));
    const what =
      changes.length === 0 ? "it says the same" : `it would have changed ${changes.join(", ")}`;
    const sentence =
      `${formatObject(map)} has no effect: ${plane.title} reads its settings in namespace ` +
      `${home} alone; ${what}`;
    scope.report(SETTINGS.elsewhere, map, ["metadata", "namespace"], sentence);
  }
}

/** Which settings differ; their values where they are plain ones. */
function tellChanges(from: object, to: object): string[] {
  const now = new Map(Object.entries(from) as [string, unknown][]);
  return (Object.entries(to) as [string, unknown][]).flatMap(([key, value]) => {
    const [old, fresh] = [toPlain(now.get(key)), toPlain(value)];
    if (key === "object" || key === "because" || isDeepStrictEqual(old, fresh)) return [];
    const isTold = [old, fresh].every((one) => typeof one !== "object" || one === null);
    return isTold ? [`${key} from ${tell(old)} to ${tell(fresh)}`] : [key];
  });
}

/** A setting that says where it stands is told by its value. */
function toPlain(setting: unknown): unknown {
  const isStated = typeof setting === "object" && setting !== null && "rule" in setting;
  return isStated && "value" in setting ? setting.value : setting;
}

const tell = (value: unknown) => (value === null ? "unknown" : String(value));
