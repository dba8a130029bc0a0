/** Checks flow: spans, openings and the table against slow models, TCP by small scripts. */
import { spawnSync } from "node:child_process";
import path from "node:path";
import t from "tap";
import { decodeFrame } from "../../agent/decode/ethernet.ts";
import { Packet, Unreachable } from "../../agent/decode/packet.ts";
import { PROBES_LIMIT } from "../../agent/flow/buckets.ts";
import { hashOf, isLowEnd } from "../../agent/flow/flow-key.ts";
import { BY_RST, Fact, Side } from "../../agent/flow/flow-record.ts";
import { Basis } from "../../agent/flow/roles.ts";
import { FlowTable, News, TICK_US } from "../../agent/flow/flow-table.ts";
import { Floods } from "../../agent/flow/floods.ts";
import { Line } from "../../agent/line.ts";
import { Openings, SLOT_BYTES } from "../../agent/flow/opening.ts";
import { SPANS_LIMIT, Spans } from "../../agent/flow/spans.ts";
import {
  ACK,
  FIN,
  RST,
  SYN,
  ethernet,
  ipv4,
  join,
  latin1,
  random,
  tcp,
  udp,
  viewOf,
  frameAt,
} from "../frames.ts";

const SEED = 20261122;

// Spans.

/** Adds spans in order, and shows what is remembered: `0-4 8-12`. */
function spansOf(text: string): string {
  const spans = new Spans(3);
  for (const span of text.split(" ")) {
    const [from, to] = span.split("-").map(Number);
    spans.add(1, from!, to!);
  }
  const shown: string[] = [];
  for (let at = 0; (at = spans.has(1, at) ? at : spans.nextFrom(1, at, 1e6)) < 1e6;) {
    shown.push(`${at}-${spans.endFrom(1, at)}`);
    at = spans.endFrom(1, at);
  }
  return shown.join(" ");
}

t.test("spans: a gap is kept until it is filled", async (t) => {
  const check = (added: string, kept: string) => t.equal(spansOf(added), kept, added);
  check("0-4 8-12", "0-4 8-12");
  check("8-12 0-4 4-8", "0-12");
  check("0-4 4-8", "0-8");
  check("4-8 0-20", "0-20");
  check("0-2 4-6 8-10 1-9", "0-10");
  check("5-6 5-6", "5-6");
  const odd = Array.from({ length: SPANS_LIMIT }, (_, i) => `${i * 2}-${i * 2 + 1}`).join(" ");
  check(`${odd} 40-41`, odd);
  check(`${odd} 1-2 40-41`, `0-3 ${odd.split(" ").slice(2).join(" ")} 40-41`);
});

t.test("spans agree with a bitmap on any order of any spans", async (t) => {
  for (let round = 0; round < 2000; round++) {
    const below = random(SEED + round);
    const spans = new Spans(2);
    let bits = new Array<boolean>(64).fill(false);
    const runs = () => bits.filter((bit, i) => bit && !bits[i - 1]).length;
    for (let step = 0; step < 30; step++) {
      const from = below(60);
      const to = from + 1 + below(4);
      if (below(8) === 0) {
        spans.shift(1, from);
        bits = [...bits.slice(from), ...new Array<boolean>(from).fill(false)];
      } else {
        const before = bits.slice();
        bits.fill(true, from, to);
        const fits = runs() <= SPANS_LIMIT;
        if (!fits) bits = before;
        if (spans.add(1, from, to) !== fits) t.fail(`seed ${SEED + round}, step ${step}: add`);
      }
      const at = below(64);
      const end = bits[at] ? (bits.indexOf(false, at) + 64) % 64 || 64 : at;
      const next = bits.findIndex((bit, i) => i > at && bit && !bits[i - 1]);
      const wrong =
        spans.count(1) !== runs() ||
        spans.has(1, at) !== bits[at] ||
        spans.endFrom(1, at) !== end ||
        spans.nextFrom(1, at, 64) !== (next < 0 ? 64 : next) ||
        spans.count(0) !== 0;
      if (wrong) return t.fail(`seed ${SEED + round}, step ${step}`);
    }
  }
  t.pass("2000 seeds");
});

// Openings.

/** Byte of the true stream at an offset. */
const streamByte = (offset: number) => (Math.imul(offset + 1, 0x9e3779b1) >>> 13) & 255;

/** The obvious slow opening: a map from offset to byte. */
class SlowOpening {
  base = 0;
  readonly bytes = new Map<number, number>();

  get have(): number {
    let have = this.base;
    while (this.bytes.has(have)) have++;
    return have;
  }

  runs(with_: { from: number; to: number } | null = null): number {
    const has = (at: number) =>
      this.bytes.has(at) || (with_ !== null && at >= with_.from && at < with_.to);
    let runs = 0;
    const offsets = new Set(this.bytes.keys());
    if (with_) offsets.add(with_.from);
    for (const at of offsets) if (has(at) && !has(at - 1)) runs++;
    return runs;
  }

  /** Returns whether a byte differed from one that came first. */
  put(offset: number, data: Uint8Array): boolean {
    let from = Math.max(offset, this.base);
    const to = Math.min(offset + data.length, this.base + SLOT_BYTES);
    if (from < to && this.runs({ from, to }) > SPANS_LIMIT) return false;
    let differs = false;
    for (; from < to; from++) {
      const known = this.bytes.get(from);
      if (known === undefined) this.bytes.set(from, data[from - offset]!);
      else if (known !== data[from - offset]) differs = true;
    }
    return differs;
  }

  discard(to: number): void {
    this.base = Math.max(this.base, to);
    for (const at of this.bytes.keys()) if (at < this.base) this.bytes.delete(at);
  }
}

t.test("openings agree with a map of bytes: put, retransmit, contradict, discard", async (t) => {
  for (let round = 0; round < 400; round++) {
    const below = random(SEED + round);
    const openings = new Openings(2);
    openings.claim();
    const slot = openings.claim();
    const slow = new SlowOpening();
    for (let step = 0; step < 40; step++) {
      const where = `seed ${SEED + round}, step ${step}`;
      if (below(6) === 0) {
        const to = slow.base + below(below(10) === 0 ? SLOT_BYTES * 2 : 200);
        openings.discard(slot, to);
        slow.discard(to);
      } else {
        const far = below(20) === 0 ? SLOT_BYTES - 50 : 0;
        const offset = Math.max(0, slow.base + far + below(300) - 60);
        const data = Uint8Array.from({ length: below(90) }, (_, i) => streamByte(offset + i));
        if (below(6) === 0 && data.length > 0) data[below(data.length)]! ^= 0x40;
        const padded = join([9, 9], data, [9]);
        const before = slow.have;
        const grew = openings.put(slot, offset, viewOf(padded), 2, 2 + data.length);
        const differs = slow.put(offset, data);
        if (grew !== slow.have > before) return t.fail(`${where}: grew`);
        if (openings.disagreed !== differs) return t.fail(`${where}: disagreed`);
      }
      const have = openings.have(slot);
      const same = have === slow.have && openings.base(slot) === slow.base;
      if (!same) return t.fail(`${where}: ${openings.base(slot)}..${have}, not ${slow.have}`);
      const view = openings.view(slot);
      for (let at = slow.base; at < have; at++) {
        const kept = view.getUint8(openings.viewAt(slot) + at - slow.base);
        if (kept !== slow.bytes.get(at)) return t.fail(`${where}: byte ${at}`);
      }
    }
  }
  t.pass("400 seeds");
});

t.test("slots: all are given out, each once, and come back", async (t) => {
  for (const slots of [1, 5, 64, 65, 200]) {
    const openings = new Openings(slots);
    const claimed = Array.from({ length: slots }, () => openings.claim());
    t.strictSame(
      claimed.toSorted((a, b) => a - b),
      Array.from({ length: slots }, (_, i) => i),
    );
    t.equal(openings.claim(), -1, `${slots} and no more`);
    const bytes = latin1(`slot of ${slots}`);
    for (const slot of claimed) openings.put(slot, 0, viewOf(bytes), 0, bytes.length);
    openings.release(claimed[0]!);
    t.equal(openings.inUse, slots - 1);
    t.equal(openings.claim(), claimed[0]);
    t.equal(openings.have(claimed[0]!), 0, "a slot given out again is empty");
  }
});

// The table, one connection at a time.

const CLIENT_END = { source: "10.0.0.9", destination: "10.0.0.1" };
const SERVER_END = { source: "10.0.0.1", destination: "10.0.0.9" };
const LETTERS: Record<string, number> = { S: SYN, F: FIN, R: RST, A: ACK };
const OPTIONS = {
  ...{ flows: 64, slots: 64, attemptSeconds: 10, endedSeconds: 5 },
  ...{ datagramSeconds: 20, livingSeconds: 100 },
};

type Ports = { client: number; server: number };
const PORTS: Ports = { client: 40000, server: 443 };

/**
 * `> SA 100 200 text`: who sends, flags, sequence, acknowledgment, payload; `port! > S 100 0`: an
 * ICMP error that quotes this.
 */
function packetOf(step: string, { client, server } = PORTS): { packet: Packet; view: DataView } {
  const [, error = "none", quoted = ""] = /^(?:(\w+)! )?(.*)$/.exec(step)!;
  const [way, flags = "", sequence = 0, acknowledgment = 0, ...text] = quoted.split(" ");
  const segment = tcp(
    {
      ...(way === ">" ? { from: client, to: server } : { from: server, to: client }),
      flags: [...flags].reduce((sum, letter) => sum | (LETTERS[letter] ?? 0), 0),
      sequence: Number(sequence),
      acknowledgment: Number(acknowledgment),
    },
    latin1(text.join(" ")),
  );
  const view = viewOf(ipv4(way === ">" ? CLIENT_END : SERVER_END, segment));
  const packet = new Packet();
  decodeFrame(view, 0, view.byteLength, 101, packet);
  packet.unreachable = Unreachable[error as keyof typeof Unreachable];
  return { packet, view };
}

const NEWS_NAMES = Object.entries(News);
/** All but which end was first: a script tells that itself. */
const FACT_NAMES = Object.entries(Fact).filter(([name]) => name !== "fromHigh");
const namesOf = (bits: number, names: [string, number][]) =>
  names.filter(([, bit]) => (bits & bit) !== 0).map(([name]) => name);

const refusalName = (table: FlowTable, flow: number) =>
  Object.entries({ ...Unreachable, rst: BY_RST }).find(
    ([, by]) => by === table.refusedBy(flow),
  )![0];

/** Runs a script of segments through a table and tells what came of it. */
function follow(script: string, ports?: Ports) {
  const table = new FlowTable(OPTIONS);
  let flow = -1;
  const news: string[] = [];
  const steps = script.split("|").map((step) => step.trim());
  for (const step of steps) {
    const { packet, view } = packetOf(step, ports);
    table.nowUs++;
    flow = table.take(packet, view, 0);
    if (flow === -1) {
      news.push("displaced");
      table.release(table.displaced);
      flow = table.take(packet, view, 0);
    }
    news.push(...namesOf(table.news, NEWS_NAMES).filter((n) => n !== "bytes"));
  }
  const client = table.client(flow);
  const opening = (side: number) => {
    const slot = table.slot(flow * 2 + side);
    if (slot < 0) return "";
    const { openings } = table;
    const at = openings.viewAt(slot);
    const view = openings.view(slot);
    const length = openings.have(slot) - openings.base(slot);
    return String.fromCharCode(...new Uint8Array(view.buffer, at, length));
  };
  return {
    openings: [opening(client), opening(1 - client)],
    facts: namesOf(table.flowFlags(flow), FACT_NAMES),
    refusedBy: refusalName(table, flow),
    packets: [table.packets(flow * 2 + client), table.packets(flow * 2 + 1 - client)],
    client: packetSide(table, flow, client),
    news,
    table,
    flow,
  };
}

/** Whether the client is the end that `>` stands for. */
const packetSide = (table: FlowTable, flow: number, side: number) =>
  (table.keys[flow * 10 + side * 4 + 3]! & 0xff) === 9 ? ">" : "<";

const OPEN = "> S 99 0 | < SA 499 100 | > A 100 500";

t.test("tcp: both openings are put together, in whatever order they come", async (t) => {
  const check = (script: string, client: string, server: string, facts: string[]) => {
    const { openings, facts: told } = follow(script);
    t.strictSame([...openings, ...told], [client, server, ...facts], script);
  };
  const established = ["established"];
  check(`${OPEN} | > A 100 500 hello | < A 500 105 world`, "hello", "world", established);
  check(`${OPEN} | > A 105 500 world | > A 100 500 hello`, "helloworld", "", established);
  check(`${OPEN} | > A 105 500 world`, "", "", established);
  check(`${OPEN} | > A 100 500 hello | > A 100 500 hello`, "hello", "", established);
  check(`${OPEN} | > A 100 500 hello | > A 102 500 lloworld`, "helloworld", "", established);
  check(`${OPEN} | > A 103 500 XX | > A 100 500 helloworld`, "helXXworld", "", [
    ...["established", "disagreed"],
  ]);
  check(`${OPEN} | > A 100 500 hello | > A 99 500 x`, "hello", "", established); // keep-alive
  check(`${OPEN} | > A 100 500 hello | > FA 105 500 | > A 100 500 hello`, "hello", "", established);
  check(`${OPEN} | > RA 100 500 gone`, "", "", established); // an RST's text is no stream
  // TCP Fast Open: data on the SYN stands at offset 0.
  check(`> S 99 0 hello | < SA 499 105 | > A 105 500 world`, "helloworld", "", established);
  // The numbers wrap inside the opening.
  check(
    `> S 4294967292 0 | < SA 2147483646 4294967293 | > A 4294967293 2147483647 hello | > A 2 2147483647 world | < A 2147483647 7 one | < A 2147483650 7 two`,
    "helloworld",
    "onetwo",
    established,
  );
  // Joined mid-stream: the first segment is where the opening begins, earlier ones are passed over.
  check(`> A 100 500 hello | < A 500 105 world | > A 90 500 before`, "hello", "world", [
    ...["midstream", "established"],
  ]);
  check(`> A 100 500 hello | < A 497 105 ondworld`, "hello", "world", ["midstream", "established"]);
});

t.test("tcp: what is told, and when", async (t) => {
  const check = (script: string, ...news: string[]) => t.strictSame(follow(script).news, news);
  check(OPEN, "opened", "established");
  check("> S 99 0 | > S 99 0 | > S 99 0", "opened", "unanswered");
  check("> S 99 0 | < RA 0 100", "opened", "rst", "refused");
  check("> S 99 0 | > R 100 0", "opened", "rst");
  check(`${OPEN} | > A 100 500 hi | < A 500 102 ho`, "opened", "established", "answered");
  check(`${OPEN} | < A 500 100 ho | > A 100 500 hi`, "opened", "established"); // not yet seen: 500
  check(`${OPEN} | < A 500 100 ho | > A 100 502 hi`, "opened", "established", "answered");
  check(
    `${OPEN} | > FA 100 500 | > FA 100 500 | < FA 500 101`,
    ...["opened", "established", "fin"],
    "fin",
  );
  check(`${OPEN} | < R 500 0 | < R 500 0`, "opened", "established", "rst");
  check("< SA 499 100 | > A 100 500", "opened", "established"); // the SYN was not seen
});

t.test("tcp: the client is who sent the SYN, whichever segment comes first", async (t) => {
  t.equal(follow(OPEN).client, ">");
  t.equal(follow("< SA 499 100 | > A 100 500").client, ">");
  t.equal(follow("< SA 499 100 | > S 99 0").client, ">");
});

t.test("tcp: what names the client, and what is a guess", async (t) => {
  const NAMES = Object.entries(Basis);
  const check = (script: string, client: string, basis: string, ports?: Ports) => {
    const { client: found, table, flow } = follow(script, ports);
    const name = NAMES.find(([, number]) => number === table.basis(flow))![0];
    t.equal(`${found} ${name}`, `${client} ${basis}`, script);
  };
  check("> S 99 0", ">", "flags");
  check("> S 99 0 | > A 100 500", ">", "flags");
  check("< SA 499 100", ">", "flags");
  check("< SA 499 100 | > S 99 0", ">", "flags");
  check("> A 100 500 | < SA 499 100", ">", "flags");
  check("< A 500 100 hello | < SA 499 100", ">", "flags");
  // A reset of sequence number 0 answers a SYN; any other may reset anything.
  check("< RA 0 100", ">", "flags");
  check("> S 99 0 | < RA 0 100", ">", "flags");
  check("> S 99 0 | > RA 0 100", ">", "flags");
  check("< R 0", ">", "ports");
  check("< RA 500 100", ">", "ports");
  // Two SYNs that meet (RFC 9293 §3.5, figure 7).
  check("> S 99 0 | < S 499 0 | > SA 99 500 | < SA 499 100", ">", "firstSeen");
  // A client that says SYN-ACK is no server, unless it connects anew.
  check(`${OPEN} | > SA 7000 500`, ">", "flags");
  check(`${OPEN} | > RA 100 500 | > SA 7000 500`, "<", "flags");
  // By ports alone: well-known ones, then what Linux gives to connections.
  const high = { client: 50_000, server: 40_000 };
  check("< A 500 100 hello", ">", "ports");
  check("< A 500 100 hello", ">", "ports", { client: 55_900, server: 8443 });
  check("< A 500 100 hello", "<", "ports", { client: 8443, server: 55_900 });
  check("< A 500 100 hello", "<", "firstSeen", high);
  check("> A 500 100 hello", ">", "firstSeen", high);
  check("< A 500 100 hello", "<", "firstSeen", { client: 700, server: 443 });
});

t.test("tcp: a reset that answers a SYN refuses it, be the SYN seen or not", async (t) => {
  t.match(follow("< RA 0 100"), { facts: ["midstream"], refusedBy: "rst" });
  t.match(follow("> S 99 0 | < RA 0 100"), { facts: [], refusedBy: "rst" });
  t.match(follow("< RA 500 100"), { facts: ["midstream"], refusedBy: "none" });
  t.match(follow("< R 0"), { facts: ["midstream"], refusedBy: "none" });
});

t.test("tcp: the same ends connect anew only with another SYN", async (t) => {
  const again = (script: string) => follow(script).news.filter((n) => n === "displaced").length;
  t.equal(again(`${OPEN} | > FA 100 500 | < FA 500 101 | > S 7000 0`), 1, "after both FINs");
  t.equal(again(`${OPEN} | > RA 100 500 | > S 7000 0`), 1, "after an RST");
  t.equal(again(`${OPEN} | > S 7000 0`), 1, "without an end: its end was not seen");
  t.equal(again(`${OPEN} | > S 99 0 | < SA 499 100`), 0, "retransmitted SYNs");
  t.equal(again(`> A 100 500 hello | > S 7000 0`), 1, "joined late, then a SYN");
  t.equal(again(`< SA 499 100 | > S 99 0`), 0, "SYNs out of order");
  const { table, openings, packets } = follow(
    `${OPEN} | > A 100 500 old | > RA 103 500 | > S 7000 0 | < SA 8000 7001 | > A 7001 8001 new`,
  );
  t.strictSame(
    [openings[0], ...packets, table.count],
    ["new", 2, 1, 1],
    "nothing of the old is left",
  );
});

t.test("tcp: an opening without a free slot is told, and nothing is kept", async (t) => {
  const table = new FlowTable({ ...OPTIONS, slots: 1 });
  let news = 0;
  for (const step of `${OPEN} | > A 100 500 hello | < A 500 105 world`.split(" | ")) {
    const { packet, view } = packetOf(step);
    table.take(packet, view, 0);
    news |= table.news;
  }
  t.ok(news & News.noSlot);
  t.equal(table.openings.inUse, 1);
  t.ok(table.flowFlags(0) & Fact.noSlot);
});

// The table, many flows at a time.

/** What the obvious slow table knows of a flow. */
type SlowFlow = {
  number: number;
  packets: number[];
  bytes: number[];
  startUs: number;
  lastUs: number;
  flags: number[];
  isTcp: boolean;
  established: boolean;
  midstream: boolean;
  isn: (number | null)[];
  /** Side that is the client, and whether flags say so. */
  client: number;
  isNamed: boolean;
};

/** Flows in a Map by their ends' text; its order is that in which they grew young, once a tick. */
class SlowTable {
  readonly flows = new Map<string, SlowFlow>();
  readonly capacity: number;
  tickUs = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  static listOf(f: SlowFlow): number {
    if (!f.isTcp) return 2;
    const [a, b] = f.flags as [number, number];
    if (((a | b) & RST) !== 0 || (a & b & FIN) !== 0) return 1;
    return f.established ? 3 : 0;
  }

  /** A packet of the flow has come; before it, the flow was in the list `before`. */
  touch(key: string, flow: SlowFlow, lastUs: number, before: number): void {
    if (flow.lastUs >= this.tickUs + TICK_US) this.tickUs = flow.lastUs;
    const isNew = !this.flows.has(key);
    const isYoung = lastUs >= this.tickUs && before === SlowTable.listOf(flow);
    if (!isNew && isYoung) return;
    this.flows.delete(key);
    this.flows.set(key, flow);
  }

  /** The one to go first: by list, then by age. */
  first(): string | null {
    let best: [number, string] | null = null;
    for (const [key, flow] of this.flows) {
      const list = SlowTable.listOf(flow);
      if (best === null || list < best[0]) best = [list, key];
    }
    return best?.[1] ?? null;
  }

  expired(nowUs: number, idleSeconds: readonly number[]): string | null {
    for (let list = 0; list < 4; list++) {
      const oldest = [...this.flows].find(([, f]) => SlowTable.listOf(f) === list);
      if (oldest && nowUs - oldest[1].lastUs > idleSeconds[list]! * 1e6) return oldest[0];
    }
    return null;
  }
}

type Said = {
  key: string;
  side: number;
  flags: number;
  sequence: number;
  length: number;
  /** Not the server's, which is 80. */
  port: number;
};

t.test("the table agrees with a Map: open, find, reuse, evict, expire, release", async (t) => {
  const idle = [10, 5, 20, 100];
  for (let round = 0; round < 120; round++) {
    const below = random(SEED + round);
    const capacity = [1, 2, 7, 16, 33][round % 5]!;
    const table = new FlowTable({ ...OPTIONS, flows: capacity });
    const slow = new SlowTable(capacity);
    const keyByNumber = new Map<number, string>();
    table.nowUs = 1.7e15;
    const end = (where: string, number: number, key: string | null): boolean => {
      if (key === null || keyByNumber.get(number) !== key) {
        t.fail(`${where}: ended ${keyByNumber.get(number)}, not ${key}`);
        return false;
      }
      table.release(number);
      slow.flows.delete(key);
      keyByNumber.delete(number);
      return true;
    };
    for (let step = 0; step < 400; step++) {
      const where = `seed ${SEED + round}, step ${step}`;
      table.nowUs += below(3) === 0 ? below(4_000_000) : below(1000);
      const { packet, view, said } = randomPacket(below, capacity * 2);
      let flow = slow.flows.get(said.key);
      const isTcp = said.key.startsWith("6");
      if (flow && isTcp && opensAnew(flow, said)) {
        const taken = table.take(packet, view, said.key.endsWith("#1") ? 1 : 0);
        if (taken !== -1 || table.makesRoom) return t.fail(`${where}: no reuse`);
        if (!end(where, table.displaced, said.key)) return;
        flow = undefined;
      }
      if (!flow && slow.flows.size === capacity) {
        const taken = table.take(packet, view, said.key.endsWith("#1") ? 1 : 0);
        if (taken !== -1 || !table.makesRoom) return t.fail(`${where}: no eviction`);
        if (!end(where, table.displaced, slow.first())) return;
      }
      const number = table.take(packet, view, said.key.endsWith("#1") ? 1 : 0);
      if (((table.news & News.opened) !== 0) !== !flow) return t.fail(`${where}: opened`);
      flow ??= {
        ...{ number, packets: [0, 0], bytes: [0, 0], startUs: table.nowUs, lastUs: 0, isTcp },
        ...{ flags: [0, 0], established: false, isn: [null, null] },
        midstream: isTcp && (said.flags & SYN) === 0,
        ...{ client: said.port < 1024 ? said.side : 1, isNamed: false },
      };
      keyByNumber.set(number, said.key);
      const [lastUs, list] = [flow.lastUs, SlowTable.listOf(flow)];
      count(flow, said, table.nowUs, packet.ipLength);
      slow.touch(said.key, flow, lastUs, list);
      for (const f of slow.flows.values()) {
        const same =
          table.packets(f.number * 2) === f.packets[0] &&
          table.packets(f.number * 2 + 1) === f.packets[1] &&
          table.bytes(f.number * 2) === f.bytes[0] &&
          table.bytes(f.number * 2 + 1) === f.bytes[1] &&
          table.startUs(f.number) === f.startUs &&
          table.lastUs(f.number) === f.lastUs &&
          table.isOpen(f.number);
        if (!same || flow.number !== number) return t.fail(`${where}: flow ${f.number}`);
      }
      if (table.count !== slow.flows.size) return t.fail(`${where}: count`);
      for (let gone; (gone = slow.expired(table.nowUs, idle)) !== null;) {
        if (!end(where, table.expired(table.nowUs), gone)) return;
      }
      if (table.expired(table.nowUs) !== -1) return t.fail(`${where}: expired too much`);
    }
    while (slow.flows.size > 0) {
      if (!end(`seed ${SEED + round}, at the end`, table.any(), slow.first())) return;
    }
    if (table.any() !== -1 || table.count !== 0 || table.openings.inUse !== 0) {
      return t.fail(`seed ${SEED + round}: something is left`);
    }
  }
  t.pass("120 seeds of 400 packets");
});

/** A packet between few ends, so that they meet again. */
function randomPacket(below: (n: number) => number, ends: number) {
  const client = below(ends);
  const up = below(2) === 0;
  const isTcp = below(4) > 0;
  const lane = below(5) === 0 ? 1 : 0;
  const flags = [SYN, SYN | ACK, ACK, ACK, FIN | ACK, RST, RST | ACK][below(7)]!;
  const payload = latin1("x".repeat(below(5)));
  const sequence = 1000 * (1 + below(2));
  const ports = up ? { from: 1000 + client, to: 80 } : { from: 80, to: 1000 + client };
  const inside = isTcp ? tcp({ ...ports, flags, sequence }, payload) : udp(payload, ports);
  const fields = { ...(up ? CLIENT_END : SERVER_END), protocol: isTcp ? 6 : 17 };
  const view = viewOf(ipv4(fields, inside));
  const packet = new Packet();
  decodeFrame(view, 0, view.byteLength, 101, packet);
  const key = `${isTcp ? 6 : 17} ${client}#${lane}`;
  // The low end is 10.0.0.1, which `>` does not send from.
  const side = up ? 1 : 0;
  const said = { key, side, flags, sequence, length: view.byteLength, port: 1000 + client };
  return { packet, view, said };
}

/** A SYN that is not one that was seen before. */
function opensAnew(f: SlowFlow, said: Said): boolean {
  if ((said.flags & SYN) === 0) return false;
  const own = f.isn[said.side]!;
  const ended =
    ((f.flags[0]! | f.flags[1]!) & RST) !== 0 || (f.flags[0]! & f.flags[1]! & FIN) !== 0;
  const isOfClient = f.client === said.side;
  const isAnswer = (said.flags & ACK) !== 0;
  if (isAnswer && isOfClient && own !== null && !ended) return false;
  if (own !== null) return own !== said.sequence;
  const isJoined = f.isn[1 - said.side] === null;
  return isAnswer ? ended || (isJoined && isOfClient) : isJoined;
}

function count(f: SlowFlow, said: Said, nowUs: number, length: number): void {
  const heardPeer = f.packets[1 - said.side]! > 0;
  f.packets[said.side]!++;
  f.bytes[said.side]! += length;
  f.lastUs = nowUs;
  const isSyn = (said.flags & SYN) !== 0;
  const isAnswer = isSyn && (said.flags & ACK) !== 0;
  if (isSyn && f.isn[said.side] === null) {
    f.isn[said.side] = said.sequence;
    const isSecond = !isAnswer && f.isNamed && f.client !== said.side;
    if (!isSecond) f.client = isAnswer ? 1 - said.side : said.side;
    f.isNamed = !isSecond;
  }
  if ((said.flags & RST) === 0)
    f.established ||= isAnswer || (!isSyn && (heardPeer || f.midstream));
  f.flags[said.side]! |= said.flags;
  const refused = (said.flags & RST) !== 0 && f.isn[1 - said.side] !== null && !f.established;
  if (refused) f.flags[said.side]! |= RST;
}

t.test("an ICMP error refuses the attempt that it quotes, and no other flow", async (t) => {
  const table = new FlowTable(OPTIONS);
  const { packet, view } = packetOf("> S 99 0");
  table.direction = 2;
  const flow = table.take(packet, view, 0);
  table.direction = 1; // it comes the other way
  packet.unreachable = Unreachable.host;
  t.equal(table.take(packet, view, 1), -2, "the same ends on another lane are another flow");
  t.equal(table.take(packet, view, 0), flow);
  t.strictSame(namesOf(table.news, NEWS_NAMES), ["refused"]);
  t.equal(table.packets(flow * 2) + table.packets(flow * 2 + 1), 1, "it is no packet of the flow");
  t.ok((table.sideFlags(flow * 2) & Side.rst) === 0);
  t.equal(table.isOver(flow), true);
  t.equal(table.firstDirection(flow), 2);
});

t.test("icmp errors about tcp: what they refuse, and by which kind", async (t) => {
  const check = (script: string, by: string, facts: string[] = []) =>
    t.match(follow(script), { refusedBy: by, facts: facts.length > 0 ? facts : [] }, script);
  for (const kind of Object.keys(Unreachable).slice(1)) check(`> S 99 0 | ${kind}! > S 99 0`, kind);
  check("> S 99 0 | host! > S 99 0 | > S 99 0 | host! > S 99 0", "host");
  // A SYN's data is quoted with the SYN's own number (RFC 7413).
  check("> S 99 0 hello | port! > S 99 0", "port");
  // Forged: whoever did not see the SYN does not know its number, and what is behind was not sent.
  for (const number of ["98", "100", "0", "4294967295", "2147483747"]) {
    check(`> S 99 0 | adminProhibited! > S ${number} 0`, "none");
  }
  check("> S 99 0 | adminProhibited! < SA 99 100", "none"); // of a side that has sent nothing
  for (const number of ["99", "4294967295"]) {
    check(`> RA 100 0 | port! > S ${number} 0`, "none", ["midstream"]); // no SYN was seen
  }
  // Of several kinds neither is the reason; a RST is the other end's own answer.
  check("> S 99 0 | net! > S 99 0 | > S 99 0 | adminProhibited! > S 99 0", "other");
  check("> S 99 0 | adminProhibited! > S 99 0 | > S 99 0 | < RA 0 100", "rst");
  check("> S 99 0 | < RA 0 100 | adminProhibited! > S 99 0", "rst");
  check("> S 99 0 | < RA 0 100 | > A 100 500", "rst", ["established"]);
  // What is answered is not refused: the error was soft (RFC 5461 §2.2), before or behind.
  const answered = "< SA 499 100 | > A 100 500";
  check(`> S 99 0 | host! > S 99 0 | > S 99 0 | ${answered}`, "none", ["established"]);
  for (const quoted of ["> S 99 0", "> A 100 500", "< SA 499 100"]) {
    check(`> S 99 0 | ${answered} | adminProhibited! ${quoted}`, "none", ["established"]);
  }
  check("> A 100 500 hello | port! > A 100 500", "none", ["midstream", "established"]);
  // A late one about the connection before is none of the next one's.
  check(`> S 99 0 | ${answered} | < R 500 0 | > S 7000 0 | port! > S 99 0`, "none");
});

t.test(
  "an attempt that is answered behind an ICMP error lives; a forged error moves nothing",
  async (t) => {
    const { table, flow, news } = follow("> S 99 0 | net! > S 99 0 | > S 99 0 | < SA 499 100");
    t.strictSame(news, ["opened", "refused", "established"]);
    t.equal(table.isOver(flow), false);
    table.nowUs = 50e6;
    t.equal(table.expired(table.nowUs), -1, "it is kept as long as living ones are");

    const forged = follow("> S 99 0");
    const lastUs = forged.table.lastUs(forged.flow);
    const { packet, view } = packetOf("port! > S 98 0");
    forged.table.nowUs = 5e6;
    t.equal(forged.table.take(packet, view, 0), forged.flow);
    t.strictSame([forged.table.news, forged.table.lastUs(forged.flow)], [0, lastUs]);
  },
);

t.test("icmp errors about datagrams: the client's, until the server speaks", async (t) => {
  const packet = new Packet();
  const check = (script: string, by: string, facts: string[] = []) => {
    const table = new FlowTable(OPTIONS);
    let flow = -1;
    for (const step of script.split(" | ")) {
      const [, error = "none", way] = /^(?:(\w+)! )?([<>])$/.exec(step)!;
      const ports = way === ">" ? { from: 40000, to: 53 } : { from: 53, to: 40000 };
      const ends = way === ">" ? CLIENT_END : SERVER_END;
      const view = viewOf(ipv4({ ...ends, protocol: 17 }, udp(latin1("hello"), ports)));
      decodeFrame(view, 0, view.byteLength, 101, packet);
      packet.unreachable = Unreachable[error as keyof typeof Unreachable];
      table.nowUs++;
      flow = table.take(packet, view, 0);
    }
    const told = [refusalName(table, flow), ...namesOf(table.flowFlags(flow), FACT_NAMES)];
    t.strictSame(told, [by, ...facts], script);
  };
  check("> | port! >", "port"); // RFC 1122 §4.1.3.1
  check("> | port! > | > | port! >", "port");
  check("> | port! > | > | adminProhibited! >", "other");
  check("> | < | port! >", "none", ["established"]);
  check("> | port! > | > | <", "none", ["established"]);
  // A client that has gone refuses the answer, and nobody has refused the client.
  check("< | port! <", "none");
  check("> | < | port! <", "none", ["established"]);
});

t.test("not one garbage collection in a million packets", async (t) => {
  const child = spawnSync(
    process.execPath,
    ["--max-semi-space-size=1", path.join(import.meta.dirname, "without-garbage.ts")],
    { encoding: "utf8" },
  );
  t.equal(child.status, 0, child.stderr);
  const { decodeAndFlow, wholeLine, fragments, planted, reused } = JSON.parse(child.stdout);
  t.ok(planted > 0, "an object a packet would be seen");
  t.ok(reused > 50_000, "flows were opened and ended, too");
  t.equal(decodeAndFlow, 0, "decode and flow");
  t.equal(wholeLine, 0, "the whole line, openings once read");
  t.equal(fragments, 0, "fragments, put together");
});

// Floods.

/** A SYN from the `i`th source to the `i`th port, decoded. */
function synOf(i: number, packet: Packet): DataView {
  const source = [10, 1 + (i >>> 16), (i >>> 8) & 255, i & 255].join(".");
  const segment = tcp({ from: 1024 + (i % 60_000), to: 443, flags: SYN });
  const view = viewOf(ethernet(ipv4({ source, destination: "10.0.0.1" }, segment)));
  decodeFrame(view, 0, view.byteLength, 1, packet);
  return view;
}

t.test("flows that share a bucket evict each other, and no search grows long", async (t) => {
  const table = new FlowTable({ ...OPTIONS, flows: 256 });
  const packet = new Packet();
  let [made, displaced] = [0, 0];
  for (let i = 0; made < 400; i++) {
    const view = synOf(i, packet);
    const side = isLowEnd(packet) ? 0 : 1;
    if ((hashOf(packet, side, 6, 0) & 511) !== 7) continue; // 512 buckets for 256 flows
    made++;
    while (table.take(packet, view, 0) === -1) {
      t.ok(table.makesRoom);
      displaced++;
      table.release(table.displaced);
    }
  }
  t.equal(table.count, PROBES_LIMIT, "as many as are looked for");
  t.equal(displaced, 400 - PROBES_LIMIT);
});

t.test("a seed deals flows out otherwise", async (t) => {
  const packet = new Packet();
  let same = 0;
  for (let i = 0; i < 1000; i++) {
    synOf(i, packet);
    const side = isLowEnd(packet) ? 0 : 1;
    if (((hashOf(packet, side, 6, 0) ^ hashOf(packet, side, 6, 12345)) & 511) === 0) same++;
  }
  t.ok(same < 20, `${same} of 1000 stay where they were`);
});

t.test("a flood of a million SYNs is told by its source, and costs no memory", async (t) => {
  const told: string[] = [];
  const options = { table: { ...OPTIONS, flows: 4096 }, revisions: true, reportIntervalMs: 1e9 };
  const line = new Line(options, (record) => void told.push(`${record.src_ip} ${record.state}`));
  const connect = (from: number, way: "out" | "back", flags: number) => {
    const [source, destination] =
      way === "out" ? ["10.0.0.9", "10.0.0.1"] : ["10.0.0.1", "10.0.0.9"];
    const ports = way === "out" ? { from, to: 443 } : { from: 443, to: from };
    const frame = ethernet(ipv4({ source, destination }, tcp({ ...ports, flags })));
    frameAt(line, viewOf(frame), 0, frame.length, frame.length, 1e15, 1, 0);
  };
  for (let i = 0; i < 100; i++) {
    connect(2000 + i, "out", SYN);
    connect(2000 + i, "back", SYN | ACK);
  }
  line.advance(1e15);
  t.equal(told.length, 100, "each connection, when it was answered");
  const syn = ethernet(
    ipv4({ source: "10.0.0.7", destination: "10.0.0.1" }, tcp({ from: 1, to: 1, flags: SYN })),
  );
  const view = viewOf(syn);
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < 1_000_000; i++) {
    view.setUint8(14 + 15, i % 3 === 0 ? 8 : 7); // the last byte of the source address
    view.setUint16(34, 1 + (i % 65_000));
    view.setUint16(36, 1 + ((i / 65_000) | 0));
    frameAt(line, view, 0, syn.length, syn.length, 1e15 + i, 1, 0);
  }
  line.advance(1e15 + 1_000_000);
  t.equal(told.length, 100, "no attempt is told by itself");
  t.ok(process.memoryUsage().arrayBuffers - before < 1 << 20);
  const { counters } = line;
  t.equal(counters.opened, 1_000_100);
  t.equal(counters.opened, counters.ended + counters.aggregated + line.table.count);
  const sources = line.floods.take(0);
  t.equal(
    sources.reduce((sum, { attempts }) => sum + attempts, 0),
    counters.aggregated,
  );
  t.equal(sources.length, 2, "two sources, the busier one first");
  t.strictSame(
    sources.map(({ words }) => words[3]),
    [0x0a000007, 0x0a000008],
  );
  t.ok(sources[0]!.attempts > 600_000);
  for (let i = 0; i < 100; i++) connect(2000 + i, "out", ACK | FIN);
  line.advance(1e15 + 1_000_000);
  t.equal(told.length, 200, "the connections are still there");
});

t.test("floods: by interface and source, so many of them; the rest is given back", async (t) => {
  const floods = new Floods();
  const source = (i: number) => Int32Array.of(0, 0, 0xffff, i);
  for (let round = 0; round < 2; round++) {
    let refused = 0;
    for (let i = 0; i < 1000; i++) if (!floods.note(source(i), 0, 3)) refused++;
    t.equal(refused, 1000 - 256);
    t.ok(floods.note(source(7), 0, 3), "one that is known goes on");
    const taken = floods.take(3);
    t.equal(taken.length, 256);
    t.strictSame([taken[0]!.words[3], taken[0]!.attempts], [7, 2], "the busiest first");
    t.strictSame(floods.take(3), [], "each is told once");
  }
  for (let i = 0; i < 100; i++) {
    for (let lane = 0; lane < 2; lane++) floods.note(source(i % 50), 0, lane);
  }
  for (const lane of [0, 1]) {
    const taken = floods.take(lane);
    t.equal(taken.length, 50);
    t.ok(taken.every(({ attempts }) => attempts === 2));
    const found = taken.map(({ words }) => words[3]!).sort((a, b) => a - b);
    t.strictSame(
      found,
      Array.from({ length: 50 }, (_, i) => i),
    );
  }
});
