/** Judges one window: connections become edges, edges meet expectations, each gets its verdicts. */
import { formatHolder } from "../attribution/holder.ts";
import type { Holder, Transport } from "../attribution/holder.ts";
import type { Binding } from "../attribution/timeline.ts";
import type { Because, Expectation, Posture } from "../policy/expectation.ts";
import type { Expected, Lifetime } from "../policy/history.ts";
import { formatShare, upperBound } from "./confidence.ts";
import { WindowCoverage } from "./coverage.ts";
import type { NodeWord, WorkloadWatched } from "./coverage.ts";
import type { DeclaredEdges } from "./declared-edges.ts";
import { Sights } from "./matrix.ts";
import type { Matrix } from "./matrix.ts";
import { pairSightings } from "./pair.ts";
import type { Connection, Sighting } from "./pair.ts";
import { sayOfPath, undecidableReason } from "./path.ts";
import { sayOfTransport } from "./transport.ts";
import { REASONS } from "./verdict.ts";
import type { Aspect, ClusterFinding, Edge, NodeCoverage, Reason } from "./verdict.ts";
import type { EdgeCoverage, Verdict, WorkloadName } from "./verdict.ts";
import { doubted, weigh } from "./weigh.ts";
import type { Say, Weighed } from "./weigh.ts";
import { findInWindow } from "./window-findings.ts";

export type WindowInput = {
  /** [fromMs, toMs), milliseconds since the epoch. */
  fromMs: number;
  toMs: number;
  /** Milliseconds by which the clocks of agents, and of who followed the cluster, may be apart. */
  clocksApartMs: number;
  /** Of the window, and as far beside it as clocks differ; so is the coverage. */
  sightings: readonly Sighting[];
  coverage: readonly NodeWord[];
  pods: readonly Holder[];
  /** Those that lived at some time in the window, and when. */
  lives: readonly Binding<Holder>[];
  nodes: readonly Holder[];
  /** What is required of a connection that shows `wire`. */
  expect: (
    client: Holder,
    server: Holder,
    port: number,
    carrier: Transport,
    life: Lifetime,
    wire: Posture | null,
  ) => Expected;
  zonesOf: (holder: Holder) => readonly string[];
  actorOf?: (holder: Holder) => string | null;
  /** Edges that are told as unproven where no traffic was seen on them. */
  declared: DeclaredEdges;
  /** Share of unreadable or unseen connections that `confirmed` bears. */
  tolerance: number;
};

export type WindowJudgement = {
  verdicts: Verdict[];
  findings: ClusterFinding[];
  nodes: NodeCoverage[];
  /** Declared edges that were left out beyond the limits of `listDeclaredEdges`. */
  unexercisedCut: number;
};

const FLOWS_TOLD = 10;

const time = (ms: number) => new Date(ms).toISOString();

type EdgeGroup = { edge: Edge; client: Holder | null; server: Holder | null; of: Connection[] };

export function judgeWindow(input: WindowInput): WindowJudgement {
  const coverage = new WindowCoverage(
    input.coverage,
    input.lives,
    input.fromMs,
    input.toMs,
    input.clocksApartMs,
  );
  const connections = pairSightings(input.sightings, input.clocksApartMs).filter(
    (c) => c.startMs < input.toMs && c.endMs >= input.fromMs,
  );
  const groups = groupByEdge(connections, input);
  const sights = new Sights(connections, coverage, input.pods, input.tolerance);
  const verdicts: Verdict[] = [];
  for (const group of groups.values()) {
    verdicts.push(...judgeEdge(group, input, coverage, sights));
  }
  verdicts.push(...judgeUnexercised(groups, input, coverage, sights));
  const nodes = input.nodes.map((n) => coverage.ofNode(n.name, input.pods));
  const findings = findInWindow({
    ...{ from: time(input.fromMs), to: time(input.toMs), connections, nodes, sights },
    isDeniedByIdentity: (c, client, server) => isDeniedByIdentity(c, client, server, input),
  });
  return { verdicts, findings, nodes, unexercisedCut: input.declared.cut };
}

function groupByEdge(
  connections: readonly Connection[],
  input: WindowInput,
): Map<string, EdgeGroup> {
  const groups = new Map<string, EdgeGroup>();
  for (const c of connections) {
    // Addresses that nobody held are one server: a scan of a subnet is no thousand edges.
    const serverName = c.server ? c.serverName : "unattributed[Unknown]";
    const id = `${c.clientName} -> ${serverName} : ${c.port}/${c.proto}`;
    const known = groups.get(id);
    if (known) {
      known.of.push(c);
      continue;
    }
    const edge = {
      id,
      client: workloadName(c.client, c.clientName, input),
      server: workloadName(c.server, serverName, input),
      port: c.port,
      proto: c.proto,
    };
    groups.set(id, { edge, client: c.client, server: c.server, of: [c] });
  }
  return groups;
}

function workloadName(
  holder: Holder | null,
  name: string,
  { zonesOf, actorOf }: WindowInput,
): WorkloadName {
  if (!holder) {
    const address = name.replace(/\[.*$/, "");
    return { kind: "unknown", namespace: "", name: address, workloadKind: "", zones: [] };
  }
  return {
    kind: holder.kind === "service" ? "unknown" : holder.kind,
    namespace: holder.workload?.namespace ?? holder.namespace,
    name: holder.workload?.name ?? holder.name,
    workloadKind: holder.workload?.kind ?? "",
    zones: zonesOf(holder),
    ...toActor(actorOf?.(holder) ?? null),
  };
}

const toActor = (actor: string | null) => (actor === null ? {} : { actor });

const CARRIERS: Record<string, Transport> = { tcp: "TCP", udp: "UDP", sctp: "SCTP" };

function judgeEdge(
  group: EdgeGroup,
  input: WindowInput,
  coverage: WindowCoverage,
  sights: Sights,
): Verdict[] {
  const { client, server, of } = group;
  const base = baseOf(group, input, coverage, sights);
  const carrier = CARRIERS[group.edge.proto];
  if (!carrier) return []; // ESP and its like: no policy speaks of them
  if (!client || !server) {
    const nothing: Weighed = { verdict: "unproven", reason: "not-attributable", counts: NO_COUNTS };
    return [verdictOf(base, "path", nothing, null, [], false)];
  }
  const path: Judged[] = [];
  const transport: Judged[] = [];
  let inGrace = false;
  for (const c of of) {
    const expected = expectedOf(c, group, carrier, input, shownBy(c));
    const { atStart, later } = expected;
    const met = later.at(-1) ?? atStart[0];
    inGrace ||= atStart.length + later.length > 1;
    const matrix = sights.of(c);
    path.push({ met, say: sayOf(c, expected, (e) => sayOfPath(c, e, matrix)) });
    const speaks = [...atStart, ...later].some((e) => e.transport.required !== null);
    if (speaks) transport.push({ met, say: sayOf(c, expected, (e) => sayUnder(c, e, matrix)) });
  }
  const verdicts: Verdict[] = [];
  const told = (aspect: Aspect, weighed: Weighed, { met }: Judged) => {
    const because = aspect === "path" ? met.pathBecause : met.transportBecause;
    verdicts.push(verdictOf(base, aspect, weighed, met, because, inGrace));
  };
  const isContradicted = path.some(({ say }) => say.kind === "contradicts");
  const last = path.at(-1)!;
  if (path.every(({ met }) => met.path === "undecidable") && !isContradicted) {
    const reason = undecidableReason(last.met);
    told("path", { verdict: "undecidable", reason, counts: NO_COUNTS }, last);
  } else if (path.some(({ say }) => say.kind !== "silent")) {
    told("path", ...weighed(path, base, input));
  } else if (last.met.path === "allowed") {
    const reason = of.every((c) => c.rolesKnown) ? "allowed-and-refused" : "roles-unknown";
    told("path", weigh([{ kind: "unreadable", reason }], 0), last);
  }
  if (transport.some(({ say }) => say.kind !== "silent")) {
    told("transport", ...weighed(transport, base, input));
  }
  return verdicts;
}

/** What one connection says, and the latest of the expectations that it met. */
type Judged = { met: Expectation; say: Say };

/** What all of them come to, and one of those that decided it. */
function weighed(of: readonly Judged[], base: Base, input: WindowInput): [Weighed, Judged] {
  const says = of.map(({ say }) => say);
  const found = weigh(says, input.tolerance);
  const decides = ({ say }: Judged) => "reason" in say && say.reason === found.reason;
  const one = of.find(decides) ?? of.at(-1)!;
  return [doubt(found, one.met, base, input), one];
}

function isDeniedByIdentity(
  c: Connection,
  client: Holder,
  server: Holder,
  input: WindowInput,
): boolean {
  const carrier = CARRIERS[c.proto];
  if (!carrier) return false;
  const pathOf = (wire: Posture | null) =>
    expectedOf(c, { client, server }, carrier, input, wire).atStart[0].path;
  return pathOf(shownBy(c)) === "allowed" && pathOf("mtls") === "denied";
}

/** What was required of a connection that showed so much of who it is. */
function expectedOf(
  c: Connection,
  group: Pick<EdgeGroup, "client" | "server">,
  carrier: Transport,
  input: WindowInput,
  wire: Posture | null,
): Expected {
  const [client, server] = [c.client ?? group.client!, c.server ?? group.server!];
  const { fromMs, clocksApartMs: apartMs } = input;
  const life = { atMs: c.startMs, fromMs, toMs: Math.min(c.endMs, input.toMs), apartMs };
  return input.expect(client, server, c.port, carrier, life, wire);
}

/** What the connection showed of who it is; null where that is not known. */
function shownBy({ posture }: Connection): Posture | null {
  return posture === "plaintext" || posture === "tls" || posture === "mtls" ? posture : null;
}

/** What a connection says of the versions that it met, as far as its client is known. */
function sayOf(
  c: Connection,
  { atStart, later }: Expected,
  under: (expectation: Expectation) => Say,
): Say {
  const begun = agreed(atStart.map(under), "policy-changed");
  const say = agreed([begun, ...later.map(under)], "begun-under-older-policy");
  if (!c.rolesKnown) return doubted(say, "roles-unknown");
  if (c.clientIsNode) return doubted(say, "client-is-node");
  return c.clientSpoke ? say : doubted(say, "one-sided");
}

/** Of a version that demands nothing of transport, whatever is sent is nothing. */
function sayUnder(c: Connection, { transport }: Expectation, matrix: Matrix): Say {
  return transport.required === null ? { kind: "silent" } : sayOfTransport(c, transport, matrix);
}

const NO_COUNTS = { supporting: 0, contradicting: 0, unreadable: 0, pending: 0 };

/** What all versions agree on; where they do not, neither a proof nor a contradiction is one. */
function agreed(says: readonly Say[], reason: Reason): Say {
  const [first, ...others] = says;
  const other = others.find((say) => say.kind !== first!.kind);
  if (other === undefined) return first!;
  const pending = says.find((say) => say.kind === "pending");
  return pending ?? doubted(first!.kind === "silent" ? other : first!, reason);
}

/** Takes back a proof that rests on a policy half read, on dropped frames, or on a small sample. */
function doubt(
  weighed: Weighed,
  expectation: Expectation,
  base: Base,
  input: WindowInput,
): Weighed {
  const unproven = (reason: Reason): Weighed => ({ ...weighed, verdict: "unproven", reason });
  if ((expectation.doubts ?? []).length > 0) return unproven("policy-incomplete");
  if (weighed.reason === "one-sided" && base.lacksDirection) return unproven("one-direction");
  if (weighed.verdict !== "confirmed") return weighed;
  if (base.isMixedUp) return unproven("not-attributable");
  // Whatever passes between them passes both ends: one that was watched whole is enough.
  const [best, other] = base.ends.toSorted((a, b) => b.least - a.least);
  const missed = missedAt(best!, base, weighed, input.tolerance);
  if (missed && missedAt(other!, base, weighed, input.tolerance)) return unproven(missed);
  const bound = boundOf(base, weighed.counts);
  if (bound !== null && bound > input.tolerance) return unproven("sampling-bound");
  return weighed;
}

/** `hidesClients`: some came under a node's address, and may be of any edge to that server. */
type WatchedEnd = WorkloadWatched & { hidesClients?: boolean };

/** Why what passes an end of an edge may not have been seen there; null where it was. */
function missedAt(
  end: WatchedEnd,
  base: Base,
  { counts }: Weighed,
  tolerance: number,
): Reason | null {
  const { delivered, dropped, unread } = end;
  const frames = Math.max(1, delivered + dropped);
  const lost = end.lost + base.attempts;
  if (end.oneDirection) return "one-direction";
  if (end.hidesClients) return "client-is-node";
  if (dropped / frames > tolerance) return "capture-drops";
  if ((dropped + unread) / frames > tolerance) return "frames-unread";
  // Each of them may have been the edge's.
  if (lost > tolerance * (lost + counts.supporting)) return "observations-lost";
  return Math.round(end.least * 1000) / 1000 < 1 - tolerance ? "partly-watched" : null;
}

type Base = {
  from: string;
  to: string;
  edge: Edge;
  coverage: EdgeCoverage;
  of: readonly Connection[];
  ends: readonly WatchedEnd[];
  /** A connection of which an end could not be attributed may be the edge's. */
  isMixedUp: boolean;
  /** Those of the client, at either end, that nobody kept. */
  attempts: number;
  /** At one end or the other, the network plugin leads one direction past the interface. */
  lacksDirection: boolean;
};

function baseOf(
  group: EdgeGroup,
  input: WindowInput,
  coverage: WindowCoverage,
  sights: Sights,
): Base {
  const client = coverage.ofWorkload(group.client);
  const server = coverage.ofWorkload(group.server);
  const ends = [client, { ...server, hidesClients: sights.hidesClients(group.server, group.edge) }];
  const ofEnds = Math.min(client.sampling, server.sampling);
  const sampling = group.of.reduce((least, c) => Math.min(least, c.sampling), ofEnds);
  const round = (share: number) => Math.round(share * 1000) / 1000;
  const unread = client.unread + server.unread;
  const attempts = coverage.attemptsOf(group.client, group.server);
  const lost = client.lost + server.lost + attempts;
  return {
    from: time(input.fromMs),
    to: time(input.toMs),
    edge: group.edge,
    coverage: {
      client: round(client.share),
      server: round(server.share),
      delivered: client.delivered + server.delivered,
      dropped: client.dropped + server.dropped,
      sampling,
      ...(unread > 0 ? { unread } : {}),
      ...(lost > 0 ? { lost } : {}),
    },
    of: group.of,
    ...{ ends, attempts, isMixedUp: sights.mayHold(group.edge, group.client, group.server) },
    lacksDirection: ends.some((end) => end.oneDirection),
  };
}

/** What was not readable is no sample. */
function boundOf(base: Base, { supporting, contradicting }: Verdict["counts"]): number | null {
  if (base.coverage.sampling === 1) return null;
  return upperBound(contradicting, supporting + contradicting);
}

function verdictOf(
  base: Base,
  aspect: Aspect,
  weighed: Weighed,
  expectation: Expectation | null,
  because: readonly Because[],
  inGrace: boolean,
): Verdict {
  const { of, from, to, edge, coverage } = base;
  const { verdict, reason, counts } = weighed;
  const unique = (list: readonly (string | null)[]) =>
    [...new Set(list)].filter((x) => x !== null).sort();
  const first = of.reduce((least, c) => Math.min(least, c.startMs), Infinity);
  const last = of.reduce((most, c) => Math.max(most, c.endMs), -Infinity);
  return {
    schema: "wireproof.verdict/1",
    ...{ from, to, edge, coverage },
    aspect,
    verdict,
    reason,
    sentence: sentenceOf(weighed, coverage.sampling, because, inGrace),
    inferred: of.some((c) => c.inferred) && verdict === "confirmed" && aspect === "transport",
    counts,
    bound: boundOf(base, counts),
    required: expectation?.transport.required ?? null,
    path: expectation?.path ?? "unknown",
    because,
    provenance: {
      client: of[0]?.clientProvenance ?? null,
      server: of[0]?.serverProvenance ?? null,
    },
    findings: unique(of.flatMap((c) => c.findings)),
    protocols: unique(of.map((c) => c.protocol)),
    tlsVersions: unique(of.map((c) => c.version)),
    bytes: of.reduce((n, c) => n + c.bytes, 0),
    firstSeen: of.length > 0 ? time(first) : null,
    lastSeen: of.length > 0 ? time(last) : null,
    flows: of
      .flatMap((c) => c.sightings.map((s) => s.id))
      .sort()
      .slice(0, FLOWS_TOLD),
    inGrace,
  };
}

function sentenceOf(
  { verdict, reason, counts }: Weighed,
  sampling: number,
  because: readonly Because[],
  inGrace: boolean,
): string {
  const { supporting, contradicting, unreadable } = counts;
  const sample = sampling < 1 ? `, in a sample of ${formatShare(sampling)}` : "";
  const numbers =
    supporting + contradicting + unreadable === 0
      ? ""
      : ` (${supporting} for, ${contradicting} against, ${unreadable} unreadable${sample})`;
  const rule = because[0] ? `; ${because[0].sentence}` : "";
  const grace = inGrace ? "; the policy changed: only what all its versions say counts" : "";
  return `${verdict}: ${REASONS[reason]}${numbers}${rule}${grace}`;
}

/** Declared edges without traffic: unproven, and whether anybody could have seen any. */
function judgeUnexercised(
  groups: ReadonlyMap<string, EdgeGroup>,
  input: WindowInput,
  coverage: WindowCoverage,
  sights: Sights,
): Verdict[] {
  return input.declared.edges
    .filter(({ id }) => !groups.has(id))
    .map(({ id, client, server, port, carrier, expectation }) => {
      const edge = {
        id,
        client: workloadName(client, formatHolder(client), input),
        server: workloadName(server, formatHolder(server), input),
        port,
        proto: carrier.toLowerCase(),
      };
      const base = baseOf({ edge, client, server, of: [] }, input, coverage, sights);
      const seen = base.coverage.client > 0 || base.coverage.server > 0;
      const isSampled = base.coverage.sampling < 1;
      const isLost = (base.coverage.lost ?? 0) > 0;
      const told: Reason = isLost ? "observations-lost" : "not-exercised";
      const silence: Reason = isSampled ? "not-in-sample" : told;
      const reason = seen ? silence : "no-agent";
      const weighed: Weighed = { verdict: "unproven", reason, counts: NO_COUNTS };
      const because = expectation.transportBecause;
      return verdictOf(base, "transport", weighed, expectation, because, false);
    });
}
