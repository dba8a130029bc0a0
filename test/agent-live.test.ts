/** Tests agent and collector as processes: real capture, kills, wrong certificates, mistakes. */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import t, { type Test } from "tap";
import { parseEntry } from "../collector/evidence/entry.ts";
import { createKeys } from "../collector/evidence/log.ts";
import { proveEntry, verifyLog } from "../collector/evidence/verify.ts";
import { initCa, issue } from "../collector/pki.ts";
import { openSqlite } from "../collector/store/sqlite.ts";
import type { Store } from "../collector/store/store.ts";
import type { Verdict } from "../collector/verdict/verdict.ts";
import { whyNotLive } from "./live.ts";

t.setTimeout(280_000);

const root = path.resolve(import.meta.dirname, "..");
const temporary = fs.mkdtempSync(path.join(os.tmpdir(), "wireproof-live-"));
const children = new Set<ChildProcess>();
const cleanups: (() => void)[] = [];
function cleanUp(): void {
  for (const child of children) child.kill("SIGKILL");
  for (const clean of cleanups.splice(0)) clean();
  fs.rmSync(temporary, { recursive: true, force: true });
}
process.once("exit", cleanUp); // also after a failure
for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => process.exit(1));
t.teardown(cleanUp);

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
async function until(what: string, is: () => boolean | Promise<boolean>, withinMs = 15_000) {
  for (const end = Date.now() + withinMs; !(await is()); await sleep(50)) {
    if (Date.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
  }
}

type Running = { child: ChildProcess; said: () => string; ended: Promise<number | string | null> };

/** Starts a command; what it says on both streams is kept. */
function start(argv: readonly string[], env: NodeJS.ProcessEnv = process.env): Running {
  const child = spawn(argv[0]!, argv.slice(1), {
    cwd: root,
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.add(child);
  let text = "";
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on("data", (bytes: Buffer) => (text += bytes.toString()));
  }
  const ended = new Promise<number | string | null>((resolve) => {
    child.on("close", (code, signal) => {
      children.delete(child);
      resolve(code ?? signal);
    });
  });
  return { child, said: () => text, ended };
}

const wireproof = (...args: string[]) => [
  ...[process.execPath, "--disable-warning=ExperimentalWarning"],
  ...[path.join(root, "wireproof.ts"), ...args],
];

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as net.AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

/** Files of one collector, and the command lines that use them. */
class Place {
  readonly directory: string;
  uplink = "127.0.0.1:7443";
  api = "127.0.0.1:7480";

  constructor(name: string) {
    this.directory = path.join(temporary, name);
    fs.mkdirSync(path.join(this.directory, "manifests"), { recursive: true });
  }

  file(...names: string[]): string {
    return path.join(this.directory, ...names);
  }

  async prepare(manifests: string, ...agents: string[]): Promise<this> {
    await initCa(this.file("pki"), "test");
    await issue(this.file("pki"), { ip: ["127.0.0.1"] });
    for (const agent of agents) await issue(this.file("pki"), { agent });
    createKeys(this.file("keys"), "test/log");
    fs.writeFileSync(this.file("manifests", "all.yaml"), manifests);
    return this;
  }

  collector(more: Record<string, string> = {}): string[] {
    const pki = (name: string) => this.file("pki", name);
    return wireproof(
      "collector",
      ...flags({
        ...{ uplink: this.uplink, api: this.api, "trust-domain": "test", data: this.file("data") },
        ...{ key: pki("collector-key.pem"), cert: pki("collector.pem"), ca: pki("ca.pem") },
        "evidence-key": this.file("keys", "evidence.key"),
        ...{ manifests: this.file("manifests"), window: "2000", close: "1500" },
        ...more,
      }),
    );
  }

  agent(node: string, more: Record<string, string> = {}): string[] {
    const pki = (name: string) => this.file("pki", name);
    return wireproof(
      "agent",
      ...flags({
        ...{ node, collector: `wss://${this.uplink}`, "trust-domain": "test" },
        ...{ key: pki(`${node}-key.pem`), cert: pki(`${node}.pem`), ca: pki("ca.pem") },
        ...{ spool: this.file(`spool-${node}`), "coverage-interval": "500" },
        ...{ "report-interval": "2000", ...more },
      }),
    );
  }
}

const flags = (values: Record<string, string>) =>
  Object.entries(values).flatMap(([name, value]) => (value === "" ? [] : [`--${name}`, value]));

// ---- live capture ----------------------------------------------------------------------------

const run = `wpt${process.pid.toString(36)}`;
const netns = (name: string) => `${run}-${name}`;
const inside = (name: string, argv: readonly string[]) => [
  "ip",
  "netns",
  "exec",
  netns(name),
  ...argv,
];

function ip(args: string, quiet = false): void {
  const { status, stderr } = spawnSync("ip", args.split(" "), { encoding: "utf8" });
  if (status !== 0 && !quiet) throw new Error(`ip ${args}: ${stderr}`);
}

function sysctl(name: string, setting: string): void {
  const [command, ...args] = inside(name, ["sysctl", "-q", "-w", setting]);
  const { status, stderr } = spawnSync(command!, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`sysctl ${setting}: ${stderr}`);
}

const POD_IP = { c: "10.9.0.1", s: "10.9.0.2", x: "10.9.0.3" } as const;
type Pod = keyof typeof POD_IP;

/** A namespace behind a veth of the node, routed as Calico lays it. */
function addPod(pod: Pod): void {
  const host = `wpt${pod}`;
  const node = netns("node");
  ip(`netns add ${netns(pod)}`);
  ip(`-n ${node} link add ${host} type veth peer name eth0 netns ${netns(pod)}`);
  ip(`-n ${node} link set ${host} address ee:ee:ee:ee:ee:ee up`);
  ip(`-n ${node} route add ${POD_IP[pod]} dev ${host} scope link`);
  ip(`-n ${netns(pod)} link set eth0 up`);
  ip(`-n ${netns(pod)} addr add ${POD_IP[pod]}/32 dev eth0`);
  ip(`-n ${netns(pod)} route add 169.254.1.1 dev eth0 scope link`);
  ip(`-n ${netns(pod)} neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0`);
  ip(`-n ${netns(pod)} route add default via 169.254.1.1 dev eth0`);
}

function removePod(pod: Pod): void {
  ip(`-n ${netns("node")} link del wpt${pod}`, true);
  ip(`netns del ${netns(pod)}`, true);
}

const SERVER = `require("http").createServer((_, r) => r.end("done\\n"))
  .listen(8080, "0.0.0.0", () => console.log("listens"));`;
/** Makes connections one after the other, from the ports given; tells each that was answered. */
const CLIENT = `const [from, count] = process.argv.slice(1).map(Number);
(async () => { for (let i = 0; i < count; i++) await new Promise((done) => {
  const request = require("http").get({ host: "10.9.0.2", port: 8080, localPort: from + i,
    agent: false, timeout: 5000 }, (answer) => answer.resume().on("end", () => {
      console.log(from + i); setTimeout(done, 10); }));
  request.on("timeout", () => request.destroy(new Error("timeout")));
  request.on("error", (error) => { console.error(String(error)); done(); }); }); })();`;

/** Makes the connections; gives the client's ports of those that were answered. */
async function connect(pod: Pod, from: number, count: number): Promise<number[]> {
  const argv = [process.execPath, "-e", CLIENT, "--", String(from), String(count)];
  const client = start(inside(pod, argv));
  await client.ended;
  return client
    .said()
    .split("\n")
    .filter((line) => /^\d+$/.test(line))
    .map(Number);
}

/** Flows of the store by the client's port: where each was seen, and whether it was accepted. */
function flowsOf(store: Store): Map<number, string[]> {
  const newest = new Map<string, [number, string, number]>();
  for (const { observation: o } of store.observationsSince(0, 1e6)) {
    if (o.record.proto !== "tcp" || o.record.dst_port !== 8080) continue;
    const known = newest.get(o.flow);
    if (known && known[2] > o.revision) continue;
    const told = `${o.interface} ${o.vantage} ${o.record.accepted}`;
    newest.set(o.flow, [o.record.src_port, told, o.revision]);
  }
  const byPort = new Map<number, string[]>();
  for (const [port, told] of newest.values()) {
    byPort.set(port, [...(byPort.get(port) ?? []), told].sort());
  }
  return byPort;
}

const MANIFESTS = `
{apiVersion: v1, kind: Node, metadata: {name: node}}
${(["c", "s", "x"] as const)
  .map(
    (pod) => `---
{apiVersion: v1, kind: Pod, metadata: {name: ${pod}, namespace: n, labels: {app: ${pod}}},
 spec: {nodeName: node, containers: [{name: c, ports: [{containerPort: 8080}]}]},
 status: {podIP: ${POD_IP[pod]}}}`,
  )
  .join("\n")}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: s, namespace: n},
 spec: {podSelector: {matchLabels: {app: s}}, ingress: [{from: [{podSelector: {}}]}]}}
`;

const live = whyNotLive();

t.test(
  "interfaces come and go, both processes are killed: nothing acknowledged is lost",
  {
    skip: live,
  },
  async (t) => {
    ip(`netns add ${netns("node")}`);
    cleanups.push(() => {
      for (const pod of ["c", "s", "x"] as const) removePod(pod);
      ip(`netns del ${netns("node")}`, true);
    });
    ip(`-n ${netns("node")} link set lo up`);
    ip(`-n ${netns("node")} addr add 10.9.9.1/32 dev lo`); // asks for pods by ARP
    sysctl("node", "net.ipv4.ip_forward=1");
    addPod("c");
    addPod("s");
    const server = start(inside("s", [process.execPath, "-e", SERVER]));
    await until("the server listens", () => server.said().includes("listens"));
    const place = await new Place("live").prepare(MANIFESTS, "node");
    const startCollector = async () => {
      const collector = start(inside("node", place.collector()));
      await until("the collector serves", () => collector.said().includes("page and API at"));
      return collector;
    };
    const startAgent = async () => {
      const flags = { interfaces: "wpt.", metrics: "127.0.0.1:9100" };
      const agent = start(inside("node", place.agent("node", flags)));
      await until("the agent started", () => agent.said().includes("started, run"));
      return agent;
    };
    const counted = async () => {
      const ask = `fetch("http://127.0.0.1:9100/metrics").then((r) => r.text()).then(console.log)`;
      const asked = start(inside("node", [process.execPath, "-e", ask]));
      await asked.ended;
      return (name: string) =>
        Number(new RegExp(`^wireproof_agent_${name} (\\d+)`, "m").exec(asked.said())?.[1] ?? NaN);
    };
    let collector = await startCollector();
    let agent = await startAgent();
    const store = openSqlite(place.file("data", "store"));
    const both = ["wptc client true", "wpts server true"];
    const isStored =
      (ports: readonly number[], wanted = both) =>
      () => {
        const flows = flowsOf(store);
        return ports.every((port) => JSON.stringify(flows.get(port)) === JSON.stringify(wanted));
      };

    // Interfaces that come and go while traffic passes on the others.
    const steady = connect("c", 20_000, 150);
    const gone: { from: number; to: number }[] = [];
    for (let i = 0; i < 3; i++) {
      const from = Date.now();
      addPod("x");
      await until("it is watched", () => {
        return agent.said().split('"watching wptx"').length === i + 2;
      });
      const ports = await connect("x", 30_000 + i * 10, 5);
      t.equal(ports.length, 5, "made from the new pod");
      const seenThere = ["wpts server true", "wptx client true"];
      await until("both saw it", isStored(ports, seenThere));
      removePod("x");
      gone.push({ from, to: Date.now() });
      await until("its end is told", () => {
        return agent.said().split("no longer watching wptx").length === i + 2;
      });
    }
    const first = await steady;
    t.equal(first.length, 150);
    await until("all of them are stored", isStored(first));
    t.equal(agent.child.exitCode, null, "the agent runs on");
    await sleep(1500);
    const spans = store.coverageSince(0, 1e6).map((row) => row.coverage);
    for (const { from_ms, to_ms } of spans.filter((c) => c.interface === "wptx")) {
      const within = gone.some(({ from, to }) => from <= from_ms && to_ms <= to + 2500);
      t.ok(within, `coverage of ${to_ms - from_ms} ms ends with its interface`);
    }
    t.ok(spans.some((c) => c.interface === "wptx" && c.addresses.includes(POD_IP.x)));
    const last = Math.max(...spans.filter((c) => c.interface === "wptc").map((c) => c.to_ms));
    t.ok(last > gone.at(-1)!.to, "the others are watched on");

    // The collector is killed: the agent spools. Then the agent is killed too.
    collector.child.kill("SIGKILL");
    t.equal(await collector.ended, "SIGKILL");
    const spooled = await connect("c", 21_000, 60);
    let offered = 0;
    await until("the flows are told", async () => {
      const count = await counted();
      offered = count("rows_offered_total");
      return count("flows") === 0;
    });
    await until("what was told is on the disk", async () => {
      const count = await counted();
      return count("rows_acknowledged_total") + count("rows_spooled") >= offered;
    });
    agent.child.kill("SIGKILL");
    t.equal(await agent.ended, "SIGKILL");
    const unwatched = await connect("c", 22_000, 20);
    collector = await startCollector();
    agent = await startAgent();
    const after = connect("c", 23_000, 100);
    await until("what was spooled has come", isStored(spooled));
    // And once more in the middle of it.
    collector.child.kill("SIGKILL");
    await collector.ended;
    collector = await startCollector();
    const second = await after;
    await until("all of it has come", isStored(second));
    t.strictSame([spooled.length, unwatched.length, second.length], [60, 20, 100]);
    const flows = flowsOf(store);
    for (const port of unwatched) t.equal(flows.get(port), undefined, "nobody watched");
    await sleep(4500); // the last window closes
    agent.child.kill("SIGTERM");
    t.equal(await agent.ended, 0, "the agent ends in order");
    collector.child.kill("SIGTERM");
    t.equal(await collector.ended, 0, "the collector ends in order");
    checkLog(t, place, store);
    await store.close();
  },
);

t.test(
  "an agent ends when it is told to, on quiet interfaces too",
  { skip: whyNotLive() },
  async (t) => {
    const place = await new Place("quiet").prepare(MANIFESTS, "node-q");
    place.uplink = `127.0.0.1:${await freePort()}`;
    const quiet = netns("quiet");
    cleanups.push(() => ip(`netns del ${quiet}`, true));
    ip(`netns add ${quiet}`);
    ip(`-n ${quiet} link add wptq type veth peer name wptr`);
    for (const name of ["wptq", "wptr"]) {
      sysctl("quiet", `net.ipv6.conf.${name}.disable_ipv6=1`);
      ip(`-n ${quiet} link set ${name} up`);
    }
    for (const capture of ["ring-cutoff", "ring", "libpcap"]) {
      const settings = { capture, interfaces: "wptq", spool: place.file(`spool-${capture}`) };
      const agent = start(inside("quiet", place.agent("node-q", settings)));
      await until("it watches", () => agent.said().includes("watching wptq"));
      agent.child.kill("SIGTERM");
      const late = sleep(10_000).then(() => "still running");
      t.equal(await Promise.race([agent.ended, late]), 0, capture);
    }
  },
);

/** Every window once, every first verdict once, and store and log say the same. */
function checkLog(t: Test, place: Place, store: Store): void {
  const evidence = place.file("data", "evidence");
  const report = verifyLog(evidence, place.file("keys", "evidence.pub"));
  t.strictSame(report.problems, []);
  const windows: number[] = [];
  const first = new Set<string>();
  const newest = new Map<string, string>();
  const repeated: string[] = [];
  for (let index = 0; index < report.size!; index++) {
    const entry = parseEntry(Buffer.from(proveEntry(evidence, index).entry))!;
    const again = entry["again"] === true;
    if (entry["type"] === "window" && !again) windows.push(Date.parse(String(entry["from"])));
    if (entry["type"] !== "verdict") continue;
    const v = entry["verdict"] as unknown as Verdict;
    const name = [Date.parse(v.from), v.edge.id, v.aspect].join("|");
    const said = JSON.stringify([v.verdict, v.reason, v.counts.supporting, v.counts.unreadable]);
    if (!again && first.has(name)) repeated.push(`first: ${name}`);
    if (again && newest.get(name) === said && v.counts.pending === 0) repeated.push(name);
    if (!again) first.add(name);
    newest.set(name, said);
  }
  t.strictSame(repeated, [], "no verdict is told twice");
  const wanted = windows.map((_, i) => windows[0]! + i * 2000);
  t.strictSame(windows, wanted, "each window once, in order, none left out");
  t.ok(windows.length > 5);
  const rows = store.verdicts({ fromMs: 0, toMs: Number.MAX_SAFE_INTEGER });
  const verdicts = rows.filter((row) => row.aspect === "path" || row.aspect === "transport");
  for (const { fromMs, edge, aspect, body } of verdicts) {
    const v = (body as { verdict: Verdict }).verdict;
    const said = JSON.stringify([v.verdict, v.reason, v.counts.supporting, v.counts.unreadable]);
    if (newest.get([fromMs, edge, aspect].join("|")) !== said) t.fail(`log and store: ${edge}`);
  }
  const supported = verdicts.filter((row) => row.edge.startsWith("n/c[Pod] -> n/s[Pod]"));
  t.ok(supported.some((row) => (row.body as { verdict: Verdict }).verdict.verdict === "confirmed"));
}

// ---- certificates ----------------------------------------------------------------------------

t.test(
  "agents with a wrong certificate are refused, counted, told; the others go on",
  async (t) => {
    const place = await new Place("wrong").prepare(MANIFESTS, "node-a");
    place.uplink = `127.0.0.1:${await freePort()}`;
    place.api = `127.0.0.1:${await freePort()}`;
    const other = await new Place("other").prepare(MANIFESTS, "other-ca");
    await issue(place.file("pki"), { agent: "expired", days: -1 });
    const recording = path.join(root, "test", "golden", "scene.pcapng");
    const collector = start(place.collector());
    await until("the collector serves", () => collector.said().includes("page and API at"));
    const healthy = start(place.agent("node-a", { replay: recording }));
    await until("the healthy agent is connected", () => healthy.said().includes("connected"));

    const wrong = {
      "other-ca": start(
        place.agent("other-ca", {
          replay: recording,
          ...{
            key: other.file("pki", "other-ca-key.pem"),
            cert: other.file("pki", "other-ca.pem"),
          },
        }),
      ),
      expired: start(place.agent("expired", { replay: recording })),
    };
    // An agent always has a certificate: whoever has none is somebody else.
    const port = place.uplink.split(":")[1]!;
    const bare = () =>
      start(["openssl", "s_client", "-connect", `127.0.0.1:${port}`, "-tls1_2"]).ended;
    await bare();
    const metrics = async () => (await fetch(`http://${place.api}/metrics`)).text();
    const failed = async (reason: string) => {
      const name = `wireproof_collector_handshakes_failed_total\\{reason="${reason}"\\}`;
      return Number(new RegExp(`^${name} (\\d+)`, "m").exec(await metrics())?.[1] ?? 0);
    };
    for (const reason of ["other-ca", "expired", "no-certificate"]) {
      await until(`${reason} is counted`, async () => (await failed(reason)) >= 1);
    }
    await until("they try again", async () => (await failed("expired")) >= 3);
    for (const [reason, running] of Object.entries(wrong)) {
      const lines = collector
        .said()
        .split("\n")
        .filter((line) => line.includes(`: ${reason}`));
      t.equal(lines.length, 1, `one line about ${reason}, not one for each attempt`);
      t.match(lines[0], /ingest: 127\.0\.0\.1: refused in the handshake: /);
      const told = running
        .said()
        .split("\n")
        .filter((line) => line.includes("uplink: "));
      t.ok(told.length >= 1 && told.length <= 2, `the agent says why, once: ${told.join(" | ")}`);
      t.notMatch(running.said(), /uplink: connected/);
      t.equal(running.child.exitCode, null, "and keeps trying");
    }
    t.match(await metrics(), /^wireproof_collector_agents 1$/m, "the healthy one stays connected");
    const stored = async () =>
      Number(/^wireproof_collector_observations_total (\d+)/m.exec(await metrics())![1]);
    const before = await stored();
    await until("and is unharmed", async () => (await stored()) > before);
    for (const running of [...Object.values(wrong), healthy, collector]) {
      running.child.kill("SIGTERM");
      t.equal(await running.ended, 0);
    }
  },
);

// ---- the operator's mistakes -------------------------------------------------------------------

t.test("the operator's mistakes are one sentence each, and exit code 2", async (t) => {
  const place = await new Place("mistakes").prepare(MANIFESTS, "node-a");
  const taken = net.createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  t.teardown(() => taken.close());
  const inUse = `127.0.0.1:${(taken.address() as net.AddressInfo).port}`;
  place.uplink = `127.0.0.1:${await freePort()}`;
  place.api = `127.0.0.1:${await freePort()}`;
  const garbage = place.file("garbage");
  fs.writeFileSync(garbage, "no key\n");
  const missing = place.file("missing");
  const replay = { replay: path.join(root, "test", "golden", "scene.pcapng") };
  // Those that get as far as the spool hold it: each its own, for two of them run at a time.
  let agents = 0;
  const agent = (more: Record<string, string>) =>
    place.agent("node-a", { ...replay, spool: place.file(`spool-${agents++}`), ...more });
  const manifests = place.file("manifests");
  const explain = (...more: string[]) =>
    wireproof("policy", "explain", "--manifests", manifests, "--from", "n/c", ...more);
  const mistakes: readonly [string[], RegExp][] = [
    [agent({ collector: "" }), /agent: --collector is missing/],
    [agent({ key: missing }), /uplink: key \S+missing: ENOENT/],
    [agent({ key: garbage }), /not a matching key, certificate and CA/],
    [agent({ ca: missing }), /uplink: CA \S+missing: ENOENT/],
    [agent({ collector: "http://x" }), /collector http:\/\/x: expected wss:\/\/host:port/],
    [agent({ interfaces: "(" }), /--interfaces is no regular expression/],
    [agent({ "coverage-interval": "soon" }), /--coverage-interval must be a number/],
    [agent({ metrics: "here" }), /--metrics must be host:port, not here/],
    [agent({ metrics: inUse }), /cannot serve metrics at/],
    [agent({ replay: missing }), /missing/],
    [agent({ "log-level": "loud" }), /--log-level/],
    [place.collector({ key: "" }), /collector: --key is missing/],
    [place.collector({ key: missing }), /ingest: key \S+missing: ENOENT/],
    [place.collector({ key: garbage }), /ingest: not a matching key, certificate and CA/],
    [place.collector({ "evidence-key": missing }), /cannot read \S+missing: ENOENT/],
    [place.collector({ "evidence-key": garbage }), /the key is no Ed25519 signer key/],
    [place.collector({ uplink: "127.0.0.1:70000" }), /--uplink must be host:port/],
    // These open the evidence first: each its own too.
    [place.collector({ uplink: inUse, data: place.file("data-1") }), /ingest: \S+: .*EADDRINUSE/],
    [place.collector({ api: inUse, data: place.file("data-2") }), /EADDRINUSE|in use/],
    [place.collector({ manifests: missing }), /manifests: there is no \S+missing/],
    [place.collector({ manifests: "" }), /either --manifests or --kubernetes/],
    [place.collector({ window: "1" }), /--window must be a number, 1000 or more/],
    [place.collector({ "log-level": "loud" }), /--log-level/],
    [wireproof("policy", "allowed", "--manifests", missing), /there is no \S+missing/],
    [explain("--to", "n/nobody", "--port", "1"), /n\/nobody/],
    [explain("--to", "n/s", "--port", "many"), /port/],
    [wireproof("evidence", "verify", missing, "--key", missing), /missing: no such file/],
    [wireproof("evidence", "prove", missing, "--index", "0"), /no evidence log is there/],
    [wireproof("evidence", "keygen", "--dir", place.file("keys")), /a key is there already/],
    [wireproof("pki", "init", "--dir", place.file("pki")), /pki/],
    [wireproof("pki", "issue", "--dir", missing, "--agent", "a"), /pki/],
    [wireproof("pki", "issue", "--dir", place.file("pki")), /either --agent NODE or --collector/],
  ];
  const one = async ([argv, wanted]: (typeof mistakes)[number]) => {
    const running = start(argv);
    const timer = setTimeout(() => running.child.kill("SIGKILL"), 15_000);
    const code = await running.ended;
    clearTimeout(timer);
    const what = argv.slice(3).join(" ").replaceAll(temporary, "");
    // Warnings that a logger wrote before are JSON, a line each.
    const sentences = running
      .said()
      .split("\n")
      .filter((line) => line && !line.startsWith("{"));
    t.equal(code, 2, what);
    t.equal(sentences.length, 1, `one line: ${sentences.join(" / ")}`);
    t.match(sentences[0], wanted);
    t.match(sentences[0], /^wireproof: /);
  };
  const queue = [...mistakes];
  const work = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) await one(next);
  };
  await Promise.all([work(), work()]);
  // What commander itself finds: the error, and where to look.
  for (const argv of [["agent", "--nothing"], ["policy", "allowed"], ["nonsense"]]) {
    const running = start(wireproof(...argv));
    t.equal(await running.ended, 2, argv.join(" "));
    t.match(running.said(), /^error: .*\n\(run with --help to see what is expected\)/);
  }
});
