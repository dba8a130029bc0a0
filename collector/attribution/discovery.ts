/** Finds out what the API serves: the group of a kind, the best version that has it, its path. */
import { isMap, listAt, textAt, valueAt, type Json } from "./cluster-object.ts";
import type { Resource } from "./resource.ts";

/** A kind as it is served now: `policy.linkerd.io/v1beta3`, `servers`. */
export type Served = { apiVersion: string; kind: string; plural: string };

type Answer = { askedMs: number; json: Promise<Json | null> };

export class Discovery {
  /** Asks one path; null for what is not there (404), throws for all else. */
  private readonly ask: (path: string) => Promise<Json | null>;
  /** One for each group and version that was asked for, shared by all of their kinds. */
  private readonly answers = new Map<string, Answer>();

  constructor(ask: (path: string) => Promise<Json | null>) {
    this.ask = ask;
  }

  /**
   * Who serves a kind: the first of its groups that does, in the version that we read best if that
   * has the kind. A group may list a version that has other kinds alone. Null where nobody serves
   * it. Answers that were asked for at `afterMs` or before count no more.
   */
  async find(resource: Resource, nowMs: number, afterMs: number): Promise<Served | null> {
    const { kind, plural, version } = resource;
    for (const group of resource.groups) {
      // Kubernetes' core has one version, and no group to ask for.
      if (group === "") return { apiVersion: version, kind, plural };
      const listed = await this.versionsOf(group, nowMs, afterMs);
      const best = listed.includes(version) ? [version] : [];
      for (const one of new Set([...best, ...listed])) {
        const kinds = await this.kindsIn(`${group}/${one}`, nowMs, afterMs);
        const served = kinds.find((found) => found.kind === kind);
        if (served !== undefined) return served;
      }
    }
    return null;
  }

  /** All kinds of a group, each in the first version that has it; none where nobody serves it. */
  async kindsOf(group: string, nowMs: number, afterMs: number): Promise<Served[]> {
    const found = new Map<string, Served>();
    for (const version of await this.versionsOf(group, nowMs, afterMs)) {
      for (const served of await this.kindsIn(`${group}/${version}`, nowMs, afterMs)) {
        if (!found.has(served.kind)) found.set(served.kind, served);
      }
    }
    return [...found.values()];
  }

  /** The versions that a group lists, in Kubernetes' own order. */
  private async versionsOf(group: string, nowMs: number, afterMs: number): Promise<string[]> {
    const entries = await this.list(`/apis/${group}`, "versions", nowMs, afterMs);
    const versions = entries.flatMap((entry) => textAt(entry, "version") ?? []);
    return versions.sort(compareVersions);
  }

  private async kindsIn(apiVersion: string, nowMs: number, afterMs: number): Promise<Served[]> {
    const entries = await this.list(`/apis/${apiVersion}`, "resources", nowMs, afterMs);
    return entries.flatMap((entry) => {
      const [kind, plural] = [textAt(entry, "kind"), textAt(entry, "name")];
      // `servers/status` is a part of an object, and of the same kind.
      if (kind === null || plural === null || plural.includes("/")) return [];
      return [{ apiVersion, kind, plural }];
    });
  }

  private async list(
    path: string,
    field: string,
    nowMs: number,
    afterMs: number,
  ): Promise<readonly Json[]> {
    const known = this.answers.get(path);
    const answer =
      known !== undefined && known.askedMs > afterMs
        ? known
        : { askedMs: nowMs, json: this.ask(path) };
    this.answers.set(path, answer);
    try {
      const json = await answer.json;
      if (json === null) return [];
      if (isMap(json) && Array.isArray(valueAt(json, field))) return listAt(json, field);
      throw new Error(`${path}: the answer has no ${field}`);
    } catch (error) {
      if (this.answers.get(path) === answer) this.answers.delete(path);
      throw error;
    }
  }
}

const STAGES = ["alpha", "beta", undefined];

/** What counts first comes first: the stage, then the number, then the number within the stage. */
function rankOf(version: string): readonly number[] | null {
  const parts = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(version);
  if (parts === null) return null;
  return [STAGES.indexOf(parts[2]), Number(parts[1]), Number(parts[3] ?? 0)];
}

/**
 * Kubernetes' own order, the best first: v2, v1, v1beta2, v1beta1, v1alpha1; others behind, by
 * their names (apimachinery, pkg/version/helpers.go, CompareKubeAwareVersionStrings).
 */
export function compareVersions(a: string, b: string): number {
  const [mine, other] = [rankOf(a), rankOf(b)];
  if (mine === null || other === null) {
    if (mine !== other) return mine === null ? 1 : -1;
    return a < b ? -1 : a > b ? 1 : 0;
  }
  const at = mine.findIndex((number, i) => number !== other[i]);
  return at < 0 ? 0 : other[at]! - mine[at]!;
}
