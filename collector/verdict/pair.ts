/** Pairs the sightings of one connection, at two veths or two nodes, into one connection. */
import { formatHolder } from "../attribution/holder.ts";
import type { Holder } from "../attribution/holder.ts";
import { differs, joinBetween, joinMasked } from "./between.ts";
import type { Attributed, AttributedEnd, Provenance, Sighting } from "../attribution/attribute.ts";
import type { Posture } from "../policy/expectation.ts";
import type { Flow, RefusalName } from "../../protocol/flow-record.ts";
import type { Observation } from "../../protocol/observation.ts";

/** `not-tls`: bytes that are no TLS, named or not. `resumed`, `unknown`: TLS that is not proven. */
export type SeenPosture = Posture | "resumed" | "unknown" | "none";

export type Connection = {
  sightings: readonly Sighting[];
  client: Holder | null;
  server: Holder | null;
  clientName: string;
  serverName: string;
  clientProvenance: Provenance | null;
  serverProvenance: Provenance | null;
  port: number;
  /** Behind a Service that leads to several ports it is the Service's own, which says nothing. */
  isPortKnown: boolean;
  proto: string;
  /** Which end is the client is more than a guess. */
  rolesKnown: boolean;
  /** It was seen to take part: others can send what answers a client that never asked. */
  clientSpoke: boolean;
  startMs: number;
  endMs: number;
  posture: SeenPosture;
  /** The posture rests on sizes, not on what was read. */
  inferred: boolean;
  version: string | null;
  /** Of the sighting that read the handshake. */
  tls: Flow["tls"];
  identity: ShownIdentity;
  protocol: string | null;
  accepted: boolean | null;
  failure: string | null;
  failureSide: "client" | "server" | null;
  /** Other causes of the failure look the same on the wire, or two sightings name two. */
  failureLikely: boolean;
  /** The server's TCP, or its UDP, answered, and nobody says that it was refused. */
  established: boolean;
  /** Bytes were seen, and of one side only: what the other did is not known. */
  oneSided: boolean;
  /** Two sightings say opposite things: who holds one node's certificate says what it likes. */
  disagree: boolean;
  /** The SYN was answered by RST or ICMP. */
  refused: boolean;
  /** By which of them, where all that saw it say the same. */
  refusedBy: RefusalName | null;
  /** Packets that left the client. */
  sent: number;
  /** The SYN has waited in vain. */
  unanswered: boolean;
  /** A sighting at the client's, and one at the server's veth. */
  atClient: boolean;
  atServer: boolean;
  /** An end that did not see it held its address then only as far as clocks may be apart. */
  isNear: boolean;
  /** The client's address is another node's, and nobody saw from whom the connection came. */
  clientIsNode: boolean;
  midstream: boolean;
  final: boolean;
  /** Share of flows that the agent reads which saw it; the greater where two did. */
  sampling: number;
  bytes: number;
  findings: readonly string[];
};

/** What the certificates said of both ends, where they stood in clear. */
export type ShownIdentity = {
  /** An end showed another than who held its address. */
  isOther: boolean;
  /** The client's certificate was signed by itself. */
  isSelfSigned: boolean;
  /** SPIFFE trust domains of both ends, as far as they are known. */
  trustDomains: readonly string[];
};

/** Groups sightings by connection, by clocks so far apart, and merges what each saw. */
export function pairSightings(sightings: readonly Sighting[], apartMs: number): Connection[] {
  const groups = new Map<string, Sighting[]>();
  const between: Sighting[] = [];
  for (const sighting of sightings) {
    if (isBetween(sighting)) {
      between.push(sighting);
      continue;
    }
    const key = keyOf(sighting);
    const known = groups.get(key);
    if (known) known.push(sighting);
    else groups.set(key, [sighting]);
  }
  const paired = [...groups.values()].flatMap((group) => splitUp(group, apartMs));
  return joinBetween(joinMasked(paired, apartMs), between, apartMs).map(merge);
}

/** Seen neither at the client's end nor at the server's: at an uplink, in a tunnel. */
function isBetween({ attributed: { observation } }: Sighting): boolean {
  const { interface_kind: kind, vantage } = observation;
  return kind !== undefined && kind !== "pod" && vantage === null;
}

const NUMBERLESS: ReadonlySet<string> = new Set(["udp", "sctp"]);

/**
 * The client's initial sequence number survives Service translation; its port does too. Datagrams,
 * and SCTP, have no such number: there the server, behind its Service, must be the same as well.
 */
function keyOf({ id, attributed: { observation, server, serverPort } }: Sighting): string {
  const { isn, record, vantage } = observation;
  const client = `${record.proto}|${record.src_ip}|${record.src_port}`;
  if (isn[0] !== null) return `${client}|${isn[0]}`;
  if (!NUMBERLESS.has(record.proto) || vantage === null || !server.holder) return id;
  return `${client}|${formatHolder(server.holder)}|${serverPort}`;
}

/** Most connections of one name that are looked at: whoever repeats a number buys no time. */
const LOOKED_AT = 64;

/**
 * Sightings of one connection, with what another must fit: whoever repeats a connection thousands
 * of times makes its sightings many, and not what there is to compare.
 */
type Part = {
  of: Sighting[];
  /** One of each kind that differs in where it was seen, and in where it leads. */
  kinds: Map<string, Sighting>;
  lastStartMs: number;
  firstEndMs: number;
  isn: [number | null, number | null];
};

/**
 * Sequence numbers repeat after hours, and whoever writes raw packets gives one number to
 * connections to several servers: sightings are of one connection where they fit. Those that go to
 * the same address find each other first, and then those that were answered.
 */
function splitUp(group: Sighting[], apartMs: number): Sighting[][] {
  if (group.length === 1) return [group];
  const sorted = group.toSorted((a, b) => startOf(a) - startOf(b) || (a.id < b.id ? -1 : 1));
  const exact = join(sorted.map(toPart), apartMs, hasSameTarget);
  const isAnswered = ({ isn }: Part) => isn[1] !== null;
  const rest = [...exact.filter(isAnswered), ...exact.filter((part) => !isAnswered(part))];
  return join(rest, apartMs, () => true).map(({ of }) => of);
}

type MayBeOne = (a: Sighting, b: Sighting) => boolean;

/** Joins each part to the last of those before it to which all of its sightings may belong. */
function join(parts: readonly Part[], apartMs: number, mayBeOne: MayBeOne): Part[] {
  const joined: Part[] = [];
  for (const part of parts) {
    const found = joined
      .slice(-LOOKED_AT)
      .findLast((known) => fits(known, part, apartMs, mayBeOne));
    if (found) absorb(found, part);
    else joined.push(part);
  }
  return joined;
}

function toPart(sighting: Sighting): Part {
  const { observation, server } = sighting.attributed;
  const { vantage, record, isn } = observation;
  const holder = server.holder && `${server.holder.kind} ${formatHolder(server.holder)}`;
  const kind = [vantage, record.dst_ip, record.dst_port, holder, server.provenance].join(" ");
  return {
    of: [sighting],
    kinds: new Map([[kind, sighting]]),
    lastStartMs: startOf(sighting),
    firstEndMs: Date.parse(record.end),
    isn: [...isn],
  };
}

function absorb(into: Part, from: Part): void {
  for (const sighting of from.of) into.of.push(sighting);
  for (const [kind, sighting] of from.kinds) into.kinds.set(kind, sighting);
  into.lastStartMs = Math.max(into.lastStartMs, from.lastStartMs);
  into.firstEndMs = Math.min(into.firstEndMs, from.firstEndMs);
  into.isn = [into.isn[0] ?? from.isn[0], into.isn[1] ?? from.isn[1]];
}

const startOf = (s: Sighting) => Date.parse(s.attributed.observation.record.start);

/** Reports whether each of two parts' sightings may be of one connection with each of the other. */
function fits(a: Part, b: Part, apartMs: number, mayBeOne: MayBeOne): boolean {
  const isAtOneTime =
    a.firstEndMs + apartMs >= b.lastStartMs && b.firstEndMs + apartMs >= a.lastStartMs;
  if (differs(a, b) || !isAtOneTime) return false;
  const others = [...b.kinds.values()];
  return [...a.kinds.values()].every((one) =>
    others.every((other) => mayBeOne(one, other) && mayPassBoth(one, other)),
  );
}

/** Reports whether one connection may be seen where the one was, and where the other. */
function mayPassBoth(a: Sighting, b: Sighting): boolean {
  const [one, other] = [a.attributed.observation, b.attributed.observation];
  const isSameTarget = hasSameTarget(a, b);
  if (one.vantage !== null && one.vantage === other.vantage) {
    // Nothing but a number tells that what passed one end twice is one.
    return isSameTarget && one.isn[0] !== null;
  }
  return isSameTarget || mayLeadTo(a, b) || mayLeadTo(b, a);
}

function hasSameTarget(a: Sighting, b: Sighting): boolean {
  const [one, other] = [a.attributed.observation.record, b.attributed.observation.record];
  return one.dst_ip === other.dst_ip && one.dst_port === other.dst_port;
}

/** What was sent to a pod's own address is not led elsewhere; to a Service, to one of its pods. */
function mayLeadTo({ attributed: from }: Sighting, { attributed: to }: Sighting): boolean {
  const { holder, provenance } = from.server;
  if (holder === null || to.server.holder === null) return true;
  if (provenance !== "inferred") return holder.kind !== "pod";
  return formatHolder(holder) === formatHolder(to.server.holder);
}

function merge(sightings: Sighting[]): Connection {
  const named = sightings.filter((s) => namesClient(s.attributed.observation.record));
  const told = named.length > 0 ? named : sightings;
  const seenAt = (vantage: Observation["vantage"]) =>
    told.filter((s) => s.attributed.observation.vantage === vantage);
  const [atServer, atClient] = [seenAt("server"), seenAt("client")];
  // Behind the Service's translation the server's own address and port stand.
  const server = (atServer[0] ?? told[0]!).attributed;
  const client = (atClient[0] ?? told[0]!).attributed;
  const records = sightings.map((s) => s.attributed.observation.record);
  // What a server got in the client's name did not leave the client for that.
  const atOwn = sightings
    .map((s) => s.attributed.observation)
    .flatMap(({ vantage, record }) => (vantage === "client" ? [record] : []));
  const tls = records.map((r) => r.tls).filter((t) => t !== null);
  const failures = records.flatMap((r) => r.failure ?? []);
  // Whoever read the same packets and saw no failure doubts it.
  const isDoubted = records.some(
    (r) => r.failure === null && !r.midstream && !r.packets.includes(0),
  );
  const accepted = records.map((r) => r.accepted);
  const isOpened = records.some(isEstablished);
  const isStopped = records.some(({ state }) => state === "refused" || state === "unanswered");
  const { posture, inferred, mixed } = postureOf(records);
  return {
    sightings,
    client: client.client.holder,
    server: server.server.holder,
    clientName: nameOf(client.client.holder, client.observation.record.src_ip),
    serverName: nameOf(server.server.holder, server.observation.record.dst_ip),
    clientProvenance: client.client.provenance,
    serverProvenance: server.server.provenance,
    port: server.serverPort ?? server.observation.record.dst_port,
    isPortKnown: server.serverPort !== null,
    proto: server.observation.record.proto,
    rolesKnown: named.length > 0,
    clientSpoke: (atOwn.length > 0 ? atOwn : records).some(hasSpoken),
    startMs: records.reduce((least, r) => Math.min(least, Date.parse(r.start)), Infinity),
    endMs: records.reduce((most, r) => Math.max(most, Date.parse(r.end)), -Infinity),
    posture,
    inferred,
    version: tls.find((t) => t.version !== null)?.version ?? null,
    tls: tls.find((t) => t.version !== null) ?? null,
    identity: identityOf(sightings),
    protocol: records.find((r) => r.protocol !== null)?.protocol ?? null,
    accepted: accepted.includes(true) ? true : accepted.includes(false) ? false : null,
    failure: failures[0]?.code ?? null,
    failureSide: failures[0]?.side ?? null,
    failureLikely:
      isDoubted || failures.some((f) => f.confidence === "likely" || f.code !== failures[0]!.code),
    established: isOpened && !isStopped,
    oneSided: sightings.every((s) => isOneSided(s.attributed.observation)),
    disagree: mixed || (isOpened && isStopped) || (accepted.includes(true) && isDenied(sightings)),
    refused: records.some((r) => r.state === "refused"),
    refusedBy: refusedByOf(records),
    sent: Math.max(0, ...atOwn.map((r) => r.packets[0])),
    unanswered: records.some((r) => r.state === "unanswered"),
    atClient: atClient.length > 0,
    atServer: atServer.length > 0,
    isNear:
      (atClient.length === 0 && !heldThen(client, client.client)) ||
      (atServer.length === 0 && !heldThen(server, server.server)),
    clientIsNode: isMasked(client.client.holder, server.server.holder) && atServer.length > 0,
    midstream: records.every((r) => r.midstream),
    final: sightings.every((s) => s.attributed.observation.final),
    sampling: sightings.reduce((most, s) => Math.max(most, s.attributed.observation.sampling), 0),
    bytes: records.reduce((most, r) => Math.max(most, r.bytes[0] + r.bytes[1]), 0),
    findings: [...new Set(records.flatMap((r) => r.findings))],
  };
}

/** One of them saw all of it, and no answer. */
function isDenied(sightings: readonly Sighting[]): boolean {
  const all = sightings.map((s) => s.attributed.observation);
  return all.some(({ final, vantage, record: { accepted, midstream, notes } }) => {
    if (accepted !== null) return !accepted;
    return final && vantage !== null && !midstream && notes.length === 0;
  });
}

function nameOf(holder: Holder | null, address: string): string {
  return holder ? formatHolder(holder) : `${address}[Unknown]`;
}

/**
 * Reports whether the client is more than a guess: by flags or content. A datagram's sender may say
 * what a server says without having been asked, so the client must have sent the first one that was
 * seen; then the other's well-known port names it too.
 */
function namesClient({ proto, client_basis: basis, midstream }: Flow): boolean {
  if (proto === "tcp") return basis === "syn" || basis === "handshake";
  return basis !== "first-seen" && !midstream;
}

/** Whoever has not asked resets a SYN-ACK that comes to it. */
function hasSpoken({ packets, history }: Flow): boolean {
  return packets[0] > 0 && !/^sR/.test(history);
}

function heldThen({ observation }: Attributed, { fromMs, toMs }: AttributedEnd): boolean {
  const atMs = Date.parse(observation.record.start);
  return fromMs === null || toMs === null || (fromMs <= atMs && atMs < toMs);
}

/** A node's address stands for any of its pods at others; at its own pods it is the node's. */
function isMasked(client: Holder | null, server: Holder | null): boolean {
  return client?.kind === "node" && client.node !== (server?.node ?? null);
}

function identityOf(sightings: readonly Sighting[]): ShownIdentity {
  const ends = sightings.flatMap(({ attributed: { client, server } }) => [client, server]);
  const domains = ends.flatMap(({ spiffe }) => /^spiffe:\/\/([^/]+)/.exec(spiffe ?? "")?.[1] ?? []);
  const certificates = sightings.map(
    (s) => s.attributed.observation.record.tls?.client_certificate,
  );
  return {
    isOther: ends.some((end) => end.isOther),
    isSelfSigned: certificates.some((certificate) => certificate?.self_signed === true),
    trustDomains: [...new Set(domains)].sort(),
  };
}

function refusedByOf(records: readonly Flow[]): RefusalName | null {
  const all = records.filter((r) => r.state === "refused").map((r) => r.refused_by ?? null);
  return all.every((by) => by === all[0]) ? (all[0] ?? null) : null;
}

/** A client that gives up with RST before an answer has reached nobody. */
function isEstablished({ state, packets, midstream }: Flow): boolean {
  if (state === "reset") return packets[1] > 0 || midstream;
  return state === "established" || state === "closed";
}

function isOneSided({ one_way: isOneWay, record }: Observation): boolean {
  const { proto, packets, encryption } = record;
  return isOneWay === true || (proto === "tcp" && packets.includes(0) && encryption !== "none");
}

type SeenTogether = { posture: SeenPosture; inferred: boolean; mixed: boolean };

/** What the sightings say together; where two disagree about the client's part, it is unknown. */
function postureOf(records: readonly Flow[]): SeenTogether {
  const withTls = records.filter((r) => r.encryption === "tls");
  const mixed = withTls.length > 0 && records.some(isPlaintext);
  return { ...postureWith(records, withTls), mixed };
}

/** SSH and its like are no TLS, and no mutual TLS; neither are bytes that begin as no TLS does. */
function isPlaintext({ encryption, notes, midstream }: Flow): boolean {
  if (encryption === "plaintext" || encryption === "encrypted-other") return true;
  return encryption === "unknown" && notes.includes("not-tls") && !midstream;
}

function postureWith(
  records: readonly Flow[],
  withTls: readonly Flow[],
): { posture: SeenPosture; inferred: boolean } {
  if (withTls.length > 0) {
    const told = new Set(withTls.map((r) => r.tls?.mutual ?? null).filter((m) => m !== null));
    if (told.size !== 1) return { posture: "unknown", inferred: false };
    const [mutual] = told;
    switch (mutual) {
      case "yes":
        return { posture: "mtls", inferred: false };
      case "inferred-yes":
        return { posture: "mtls", inferred: true };
      case "no":
        return { posture: "tls", inferred: false };
      case "inferred-no":
      case "inferred-declined":
        return { posture: "tls", inferred: true };
      default:
        return { posture: "resumed", inferred: false };
    }
  }
  if (records.some(isPlaintext)) return { posture: "plaintext", inferred: false };
  const isSilent = records.every((r) => r.encryption === "none");
  return { posture: isSilent ? "none" : "unknown", inferred: false };
}
