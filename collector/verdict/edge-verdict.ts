/** Judges edges by what their connections say together: the verdict, and the words for it. */
import { formatHolder } from "../attribution/holder.ts";
import type { Holder } from "../attribution/holder.ts";
import type { Binding } from "../attribution/timeline.ts";
import type { Expectation } from "../policy/expectation.ts";
import { formatShare, upperBound } from "./confidence.ts";
import type { Watched, WindowCoverage } from "./coverage.ts";
import { edgeDoubt } from "./gate.ts";
import type { WatchedEnd } from "./gate.ts";
import { portOf } from "./matrix.ts";
import { isBefore } from "./tally.ts";
import type { Cell, EdgeTally, Ends, Tally } from "./tally.ts";
import { REASONS } from "./verdict.ts";
import type { Aspect, Edge, EdgeCoverage, Reason, Verdict, WorkloadName } from "./verdict.ts";
import { NO_COUNTS, weigh } from "./weigh.ts";
import type { Weighed } from "./weigh.ts";
import type { WindowInput } from "./window-input.ts";

const time = (ms: number) => new Date(ms).toISOString();

/** Where meshes take connections to any port: HBONE of Istio ambient, Linkerd's own transport. */
const TUNNEL_PORTS = [15008, 4143];

/** What of an edge is known whatever its connections say. */
type Base = {
  edge: Edge;
  coverage: EdgeCoverage;
  ends: readonly [WatchedEnd, WatchedEnd];
  isMixedUp: boolean;
  attempts: number;
};

export class EdgeJudge {
  readonly #input: WindowInput;
  readonly #tally: Tally;
  readonly #coverage: WindowCoverage;
  /** Workloads' ports whose pods, as far as known, all served somebody. */
  readonly #served: ReadonlySet<string>;

  constructor(input: WindowInput, tally: Tally, coverage: WindowCoverage) {
    this.#input = input;
    this.#tally = tally;
    this.#coverage = coverage;
    this.#served = servedBy(tally, input.lives);
  }

  judge(tally: EdgeTally): Verdict[] {
    const { first, port, proto } = tally;
    const edge = this.#edge(tally.id, first, port, proto);
    const base = this.#base(edge, first.client, first.server, tally.sampling);
    return (["path", "transport"] as const).flatMap((aspect) => {
      const cells = [...tally.cells[aspect].values()].map((cell) => this.#settle(cell));
      const weighed = weigh(cells, this.#input.tolerance);
      if (weighed === null) return [];
      const doubted = this.#doubt(weighed, base);
      const decided = decidedBy(cells, weighed.reason);
      return [this.#verdict(base, aspect, doubted, decided.first.met, tally)];
    });
  }

  /** Declared edges without traffic: unproven, and whether anybody could have seen any. */
  unexercised(): Verdict[] {
    const edges = this.#input.declared.edges.filter(({ id }) => !this.#tally.edges.has(id));
    return edges.map(({ id, client, server, port, carrier, expectation }) => {
      const names = { clientName: formatHolder(client), serverName: formatHolder(server) };
      const edge = this.#edge(id, { client, server, ...names }, port, carrier.toLowerCase());
      const base = this.#base(edge, client, server, 1);
      const seen = base.coverage.client > 0 || base.coverage.server > 0;
      const isSampled = base.coverage.sampling < 1;
      const isLost = (base.coverage.lost ?? 0) > 0;
      const told: Reason = isLost ? "observations-lost" : "not-exercised";
      const isInside = TUNNEL_PORTS.some((at) =>
        this.#tally.edges.has(`${names.clientName} -> ${names.serverName} : ${at}/tcp`),
      );
      const unseen: Reason = isInside ? "covered-by-tunnel" : told;
      const silence: Reason = isSampled ? "not-in-sample" : unseen;
      const reason = seen ? silence : "no-agent";
      const weighed: Weighed = { verdict: "unproven", reason, counts: NO_COUNTS };
      return this.#verdict(base, "transport", weighed, expectation, null);
    });
  }

  /** What a say comes to that rests on whether others were served. */
  #settle(cell: Cell): Cell {
    if (cell.unless === null || this.#served.has(cell.unless.served)) return cell;
    return { ...cell, kind: "unreadable", reason: cell.unless.reason };
  }

  #doubt(weighed: Weighed, base: Base): Weighed {
    const { tolerance } = this.#input;
    const unproven = (reason: Reason): Weighed => ({ ...weighed, verdict: "unproven", reason });
    const lacksDirection = base.ends.some((end) => end.oneDirection);
    if (weighed.reason === "one-sided" && lacksDirection) return unproven("one-direction");
    if (weighed.verdict !== "confirmed") return weighed;
    const { supporting } = weighed.counts;
    const doubt = edgeDoubt({ ...base, supporting, bound: upperBound(0, supporting) }, tolerance);
    return doubt ? unproven(doubt) : weighed;
  }

  #edge(id: string, ends: Omit<Ends, "provenance">, port: number, proto: string): Edge {
    const client = this.#name(ends.client, ends.clientName);
    return { id, client, server: this.#name(ends.server, ends.serverName), port, proto };
  }

  #name(holder: Holder | null, name: string): WorkloadName {
    if (!holder) {
      const address = name.replace(/\[.*$/, "");
      return { kind: "unknown", namespace: "", name: address, workloadKind: "", zones: [] };
    }
    const { zonesOf, actorOf } = this.#input;
    const actor = actorOf?.(holder) ?? null;
    return {
      kind: holder.kind === "service" ? "unknown" : holder.kind,
      namespace: holder.workload?.namespace ?? holder.namespace,
      name: holder.workload?.name ?? holder.name,
      workloadKind: holder.workload?.kind ?? "",
      zones: zonesOf(holder),
      ...(actor === null ? {} : { actor }),
    };
  }

  #base(edge: Edge, client: Holder | null, server: Holder | null, seen: number): Base {
    const [atClient, atServer] = [client, server].map((end) => this.#coverage.ofWorkload(end));
    const hidesClients =
      server !== null && this.#tally.masked.has(portOf(formatHolder(server), edge));
    const attempts = this.#coverage.attemptsOf(client, server);
    const round = (share: number) => Math.round(share * 1000) / 1000;
    const unread = atClient!.unread + atServer!.unread;
    const lost = atClient!.lost + atServer!.lost + attempts;
    return {
      edge,
      ends: [
        { ...atClient!, sampling: Math.min(atClient!.sampling, seen), hidesClients: false },
        { ...atServer!, sampling: Math.min(atServer!.sampling, seen), hidesClients },
      ],
      ...{ attempts, isMixedUp: this.#mayHold(edge, client, server) },
      coverage: {
        client: round(atClient!.share),
        server: round(atServer!.share),
        delivered: atClient!.delivered + atServer!.delivered,
        dropped: atClient!.dropped + atServer!.dropped,
        sampling: Math.min(samplingOf(atClient!, atServer!), seen),
        ...(unread > 0 ? { unread } : {}),
        ...(lost > 0 ? { lost } : {}),
      },
    };
  }

  /** Reports whether a connection of which an end is not known may be one of the edge. */
  #mayHold({ port, proto }: Edge, client: Holder | null, server: Holder | null): boolean {
    const { unknown } = this.#tally;
    if (client === null || server === null || unknown.size === 0) return false;
    const to = `${port}/${proto}`;
    const names = [
      `> ${formatHolder(server)} ${to}`,
      ...[to, "*"].flatMap((at) => [`${formatHolder(client)} > ${at}`, ` > ${at}`]),
    ];
    return names.some((name) => unknown.has(name));
  }

  #verdict(
    { edge, coverage }: Base,
    aspect: Aspect,
    weighed: Weighed,
    met: Expectation | null,
    tally: EdgeTally | null,
  ): Verdict {
    const { verdict, reason, counts } = weighed;
    const because = (aspect === "path" ? met?.pathBecause : met?.transportBecause) ?? [];
    const inGrace = tally?.inGrace ?? false;
    const { fromMs, toMs } = this.#input;
    return {
      schema: "wireproof.verdict/1",
      ...{ from: time(fromMs), to: time(toMs), edge, coverage, aspect, verdict, reason, counts },
      sentence: sentenceOf(weighed, coverage.sampling, because[0]?.sentence ?? null, inGrace),
      inferred: tally?.inferred === true && verdict === "confirmed" && aspect === "transport",
      bound: boundOf({ coverage }, weighed),
      required: met?.transport.required ?? null,
      path: met?.path ?? "unknown",
      because,
      provenance: tally?.first.provenance ?? { client: null, server: null },
      findings: [...(tally?.findings ?? [])].sort(),
      protocols: [...(tally?.protocols ?? [])].sort(),
      tlsVersions: [...(tally?.tlsVersions ?? [])].sort(),
      bytes: tally?.bytes ?? 0,
      firstSeen: tally ? time(tally.first.startMs) : null,
      lastSeen: tally ? time(tally.lastMs) : null,
      flows: tally?.flows ?? [],
      inGrace,
    };
  }
}

/** Of the end that reads more flows, of those that are watched: what passes, passes both. */
function samplingOf(...ends: readonly Watched[]): number {
  const watched = ends.filter(({ share }) => share > 0).map(({ sampling }) => sampling);
  return watched.length === 0 ? 1 : Math.max(...watched);
}

/** Pods' ports that served somebody, and workloads' of which all pods did. */
function servedBy({ served }: Tally, lives: readonly Binding<Holder>[]): ReadonlySet<string> {
  const ports = new Set([...served].map((name) => name.slice(name.lastIndexOf(" ") + 1)));
  const all = new Set(served);
  const byWorkload = new Map<string, Holder[]>();
  for (const { value: pod } of lives) {
    const name = formatHolder(pod);
    const known = byWorkload.get(name);
    if (known) known.push(pod);
    else byWorkload.set(name, [pod]);
  }
  for (const [workload, of] of byWorkload) {
    for (const text of ports) {
      const [port, proto] = text.split("/") as [string, string];
      const at = { port: Number(port), proto };
      if (of.every((pod) => served.has(portOf(pod, at)))) all.add(portOf(workload, at));
    }
  }
  return all;
}

/** One of the connections that decided: the first of those that say so. */
function decidedBy(cells: readonly Cell[], reason: Reason): Cell {
  const [first, ...others] = cells.filter((cell) => cell.reason === reason);
  const all = first ? [first, ...others] : cells;
  return all.reduce((least, cell) => (isBefore(cell.first, least.first) ? cell : least));
}

/** What was not readable is no sample. */
function boundOf({ coverage }: Pick<Base, "coverage">, { counts }: Weighed): number | null {
  if (coverage.sampling === 1) return null;
  return upperBound(counts.contradicting, counts.supporting + counts.contradicting);
}

function sentenceOf(
  { verdict, reason, counts }: Weighed,
  sampling: number,
  rule: string | null,
  inGrace: boolean,
): string {
  const { supporting, contradicting, unreadable, undemanded } = counts;
  const sample = sampling < 1 ? `, in a sample of ${formatShare(sampling)}` : "";
  const weighed = `${supporting} for, ${contradicting} against, ${unreadable} unreadable${sample}`;
  const isWeighed = supporting + contradicting + unreadable > 0;
  const numbers =
    undemanded > 0 ? ` (${undemanded} accepted${sample})` : isWeighed ? ` (${weighed})` : "";
  const grace = inGrace ? "; the policy changed: only what all its versions say counts" : "";
  return `${verdict}: ${REASONS[reason]}${numbers}${rule === null ? "" : `; ${rule}`}${grace}`;
}
