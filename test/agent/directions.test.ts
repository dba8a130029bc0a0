/** Tests how interfaces are found out that show one direction of their connections alone. */
import { spawnSync } from "node:child_process";
import path from "node:path";
import t from "tap";
import type { PassedOver, Watch } from "../../agent/capture/frame-source.ts";
import { Directions } from "../../agent/directions.ts";
import { Ways } from "../../agent/flow/ways.ts";
import { FLOW_TABLE_DEFAULTS } from "../../agent/flow/flow-table.ts";
import { Line } from "../../agent/line.ts";
import { Sightings } from "../../agent/sightings.ts";
import type { Observation } from "../../protocol/observation.ts";
import { frameAt, ACK, FIN, RST, SYN, ethernet, ipv4, tcp, udp, viewOf } from "../frames.ts";
import { atExit, ip, whyNotLive } from "../live.ts";

t.setTimeout(60_000);

const watch = (name: string, lane: number, kind: Watch["kind"] = "pod"): Watch => ({
  ...{ name, lane, kind, index: lane + 1, addresses: ["10.0.0.1"] },
  ...{ delivered: 0, dropped: 0, cutOff: 0 },
});

/** A line whose flows are told of, and what was told. */
function seenAt(...watches: readonly Watch[]) {
  const observations: Observation[] = [];
  const log: string[] = [];
  const offer = (observation: Observation) => observations.push(observation);
  const sightings = new Sightings("run", offer, { log: (_, text) => log.push(text) });
  for (const each of watches) sightings.know(each, 0);
  const table = { ...FLOW_TABLE_DEFAULTS, flows: 64, slots: 16 };
  const line: Line = new Line({ table, revisions: true, reportIntervalMs: 1000 }, (r, flow, last) =>
    sightings.tell(line, r, flow, last),
  );
  let port = 40_000;
  /**
   * `> S`, `< S.A`: from the client or the server, flags S, A, F, R, and bytes of payload. An
   * acknowledgment is of all that the notation has had the other side send, seen or not: a line
   * in brackets is sent and does not pass here.
   */
  const send = (text: string, { lane = 0, atMs = 1000 } = {}) => {
    port++;
    const next = [1000, 5000];
    for (const part of text.split(", ")) {
      const [arrow, flagText, size] = part.replaceAll(/[()]/g, "").split(" ");
      const side = arrow === ">" ? 0 : 1;
      const letters = { S: SYN, A: ACK, F: FIN, R: RST };
      const flags = [...flagText!].reduce((sum, c) => sum | letters[c as keyof typeof letters], 0);
      const payload = new Uint8Array(Number(size ?? 0)).fill(0x41);
      const ports = side === 0 ? { from: port, to: 80 } : { from: 80, to: port };
      const numbers = { sequence: next[side]!, acknowledgment: next[1 - side]! };
      const ends = side === 0 ? {} : { source: "10.0.0.2", destination: "10.0.0.1" };
      const frame = ethernet(ipv4(ends, tcp({ ...ports, ...numbers, flags }, payload)));
      next[side]! += payload.length + ((flags & (SYN | FIN)) !== 0 ? 1 : 0);
      if (part.startsWith("(")) continue;
      frameAt(line, viewOf(frame), 0, frame.length, frame.length, atMs * 1000, 1, lane);
    }
  };
  const coverage = (of: Watch) => sightings.coverage(of, line, "ring", 10_000);
  return { line, sightings, observations, log, send, coverage };
}

t.test("a connection that went on shows which of its sides passed", async (t) => {
  const rows: readonly (readonly [packets: string, ways: string | null])[] = [
    ["> S, < SA, > A, > A 10, < A 20", "both"],
    ["> S, < RA", "both"],
    ["> A 10, < A", "both"],
    // Only what the client sent.
    ["> S, (< SA), > A", "client"],
    ["> S, (< SA), > A, > A 10, (< A 30), > A, > FA", "client"],
    ["> A 10, (< A 20), > A 10", "client"],
    ["> FA, (< FA), > A", "client"],
    // Only what the server sent.
    ["(> S), < SA, (> A), < A 30", "server"],
    ["(> S), < SA, (> A 10), < A", "server"],
    // Nothing shows that the other side ever answered.
    ["> S", null],
    ["> S, > S, > S, > S", null],
    ["> S, > R", null],
    ["(> S), < SA", null],
    ["(> S), < SA, < SA, < SA", null],
    ["> A 10", null],
    ["> A 10, > A 10, > A 10", null],
    ["> R", null],
    ["> RA", null],
    ["< FA, < FA", null],
  ];
  for (const [packets, ways] of rows) {
    const pod = watch("veth1", 0);
    const { line, send, coverage, observations } = seenAt(pod);
    send(packets);
    line.finish();
    const wanted = ways === null ? undefined : { client: 0, server: 0, both: 0, [ways]: 1 };
    const told = coverage(pod);
    const isOneWay = ways === "client" || ways === "server";
    t.strictSame(told.ways, wanted, packets);
    t.equal(told.one_direction, isOneWay ? true : undefined, packets);
    t.equal(observations.at(-1)!.one_way, isOneWay ? true : undefined, packets);
  }
});

t.test("datagrams, which may well go one way, show nothing", async (t) => {
  const pod = watch("veth1", 0);
  const { line, coverage } = seenAt(pod);
  const frame = ethernet(ipv4({ protocol: 17 }, udp(new Uint8Array(30))));
  for (let i = 0; i < 5; i++) frameAt(line, viewOf(frame), 0, frame.length, frame.length, i, 1, 0);
  line.finish();
  t.equal(coverage(pod).ways, undefined);
});

t.test("what the source counted and did not hand over was seen", async (t) => {
  const pod = watch("veth1", 0);
  const { line, send, coverage, observations } = seenAt(pod);
  const none = new Float64Array(2);
  const cutOff: PassedOver = {
    ...{ budgetBytes: 1, lostUs: 0, marked: none, markedBytes: none },
    ...{ packets: Float64Array.of(0, 7), bytes: Float64Array.of(0, 700) }, // 10.0.0.2 is the high end
    ...{ read: () => true, forget: () => {}, sweep: () => {} },
    ...{ ask: () => false, withdraw: () => {}, begin: () => {} },
  };
  line.countPassedOver(cutOff);
  send("> A 10, (< A 20), > A 10");
  line.finish();
  t.strictSame(coverage(pod).ways, { client: 0, server: 0, both: 1 });
  t.equal(observations.at(-1)!.one_way, undefined);
});

t.test(
  "a living connection counts when its other side is late for two seconds, once",
  async (t) => {
    const pod = watch("veth1", 0);
    const { line, send, coverage, observations } = seenAt(pod);
    send("> S, (< SA), > A, > A 10, (< A 30), > A", { atMs: 1000 });
    line.advance(1500e3);
    line.report(1);
    t.equal(coverage(pod).ways, undefined, "not yet");
    send("> S", { atMs: 4000 }); // time goes on
    for (let second = 4; second < 8; second++) {
      line.advance(second * 1e6);
      line.report(1);
    }
    line.finish();
    const told = observations.filter((o) => o.one_way === true);
    t.ok(told.length >= 1);
    t.strictSame(coverage(pod).ways, { client: 1, server: 0, both: 0 });
    t.equal(coverage(pod).ways, undefined, "counted once");
  },
);

t.test("an interface is as it was, and a new one as the node's others are", async (t) => {
  const [one, two, eth0] = [watch("veth1", 0), watch("veth2", 1), watch("eth0", 2, "uplink")];
  const { line, send, coverage, log } = seenAt(one, two, eth0);
  t.equal(coverage(one).one_direction, undefined, "nothing is known");
  send("> S, (< SA), > A, > A 10");
  send("> S, (< SA), > A, > A 10", { lane: 2 });
  line.finish();
  const said = [coverage(one), coverage(one), coverage(two), coverage(eth0)];
  t.strictSame(said.map((c) => c.one_direction), [true, true, true, undefined]); // prettier-ignore
  t.strictSame(said.map((c) => c.interface_kind), [undefined, undefined, undefined, "uplink"]); // prettier-ignore
  t.equal(log.length, 2, "once for each of the pods'");
  t.match(log[0], /^of connections at veth1 one direction alone is seen/);
  send("> S, < SA, > A, > A 10", { lane: 1 });
  line.finish();
  t.equal(coverage(two).one_direction, undefined, "by its own connections, once it has some");
  t.match(log[2], /^connections at veth2 are seen in both directions again/);
});

t.test("some connections that go another way make no interface lack a direction", async (t) => {
  const directions = new Directions(null);
  for (let i = 0; i < 990; i++) directions.note(Ways.both);
  for (let i = 0; i < 5; i++) directions.note(Ways.client);
  t.notOk(directions.lacksOne);
  for (let i = 0; i < 20; i++) directions.note(Ways.server);
  t.ok(directions.lacksOne);
  t.strictSame(directions.take(), { client: 5, server: 20, both: 990 });
  t.equal(directions.take(), null);
  for (let i = 0; i < 10_000; i++) directions.note(Ways.both);
  t.notOk(directions.lacksOne, "what is long past is forgotten");
});

t.test("a watch that ended is forgotten when none of its flows can live", async (t) => {
  const [one, next] = [watch("veth1", 0), watch("veth2", 1)];
  const { line, send, sightings, observations } = seenAt(one, next);
  send("> S, < SA, > A");
  sightings.ended(one, 1000);
  line.finish();
  t.equal(observations.at(-1)!.interface, "veth1", "its last flow is told");
  send("> S, < SA, > A");
  sightings.ended(next, 1000 + 3601e3);
  line.finish();
  t.equal(observations.at(-1)!.interface, "veth1");
  send("> S, < SA, > A");
  sightings.ended(next, 1000 + 3661e3);
  line.finish();
  t.equal(observations.at(-1)!.interface, "", "by now there can be none");
  // Its lane was given to another in between.
  sightings.know(watch("veth3", 1), 0);
  sightings.ended(watch("veth9", 9), 1000 + 9000e3);
  send("> S, < SA, > A", { lane: 1 });
  line.finish();
  t.equal(observations.at(-1)!.interface, "veth3");
});

// ---- live ---------------------------------------------------------------------------------------

const node = `wpw${process.pid.toString(36)}`;
const pod = `${node}p`;
const cleanUp = () => [node, pod].forEach((name) => spawnSync("ip", ["netns", "del", name]));

const skip = whyNotLive();
if (skip === false) {
  atExit(cleanUp);
}

for (const tier of ["ring-cutoff", "ring", "libpcap"]) {
  t.test(`${tier}: answers that are led past a pod's interface are missed there`, { skip }, (t) => {
    cleanUp();
    for (const name of [node, pod]) {
      ip(`netns add ${name}`);
      const settings = ["all", "default"].map((each) => `net.ipv4.conf.${each}.rp_filter=0`);
      spawnSync("ip", ["netns", "exec", name, "sysctl", "-qw", ...settings]);
      ip(`-n ${name} link set lo up`);
    }
    for (const i of [1, 2]) {
      ip(`-n ${node} link add wp${i} type veth peer name eth${i} netns ${pod}`);
      ip(`-n ${node} link set wp${i} up`);
      ip(`-n ${pod} link set eth${i} up`);
    }
    ip(`-n ${node} addr add 10.66.0.1/32 dev lo`);
    ip(`-n ${pod} addr add 10.66.0.2/32 dev lo`);
    ip(`-n ${pod} route add 10.66.0.1/32 dev eth1 src 10.66.0.2`);
    ip(`-n ${node} route add 10.66.0.2/32 dev wp2`);
    ip(`-n ${node} route add 10.66.0.2/32 dev wp1 table 77`); // whose it is, and not the way there
    const child = path.join(import.meta.dirname, "one-way.ts");
    const argv = ["netns", "exec", node, process.execPath, child, tier, pod, "6"];
    const options = { encoding: "utf8", timeout: 30_000, killSignal: "SIGKILL" } as const;
    const { stdout, stderr } = spawnSync("ip", argv, options);
    if (stdout === "") throw new Error(stderr);
    const { bypassed, again } = JSON.parse(stdout) as Record<string, Record<string, unknown>>;
    t.match(bypassed, {
      ...{ whole: 6, flows: 6, oneWay: 6, oneDirection: true, vantages: ["client"] },
      ways: { client: 6, server: 0, both: 0 },
    });
    t.equal((bypassed!["told"] as string[]).length, 1);
    t.match(again, { whole: 6, flows: 6, oneWay: 0, ways: { client: 0, server: 0, both: 6 } });
    t.equal((again!["cutOff"] as number) > 0, tier === "ring-cutoff");
    t.end();
  });
}
