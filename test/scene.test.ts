/** Checks that the demo scene agrees with itself: manifests, plan, servers, clients, cases. */
import { readFileSync } from "node:fs";
import path from "node:path";
import t from "tap";
import { FINDINGS } from "../protocol/finding.ts";
import { CLIENTS } from "../scripts/scene/clients.ts";
import { HBONE_PORT } from "../scripts/scene/envoy.ts";
import { VERDICTS } from "../collector/verdict/verdict.ts";
import { readExpectation } from "../scripts/scene/expectation.ts";
import { namespacesOf, namesOf } from "../scripts/scene/network.ts";
import { addressSeen, podOf, readManifests, readPlan } from "../scripts/scene/plan.ts";
import { SERVERS } from "../scripts/scene/servers.ts";

const plan = readPlan();
const { cases, reasons } = readExpectation();
/** A pod's own ports; ambient's tunnel ends at its address, too, and nobody declares that. */
const portsOf = (workload: string) => {
  const { ports, labels } = podOf(plan, workload);
  return labels["istio.io/dataplane-mode"] === "ambient" ? [...ports, HBONE_PORT] : ports;
};
const golden = path.join(import.meta.dirname, "golden");

t.test("the manifests declare the cluster that the scene promises", async (t) => {
  t.equal(plan.nodes.length, 3);
  t.equal(plan.nodes.filter((node) => node.agent).length, 2);
  t.ok(plan.pods.length >= 9, "at least nine pods");
  t.ok(new Set(plan.pods.map((pod) => pod.namespace)).size >= 4, "in four namespaces");
  const kinds = new Set(readManifests().map((manifest) => manifest.kind));
  for (const kind of [
    ...["Service", "ServiceAccount", "NetworkPolicy", "PeerAuthentication"],
    ...["AuthorizationPolicy", "Segmentation"],
  ])
    t.ok(kinds.has(kind), kind);
  const named = readManifests().map((m) => [m.kind, m.metadata.namespace, m.metadata.name].join());
  t.equal(new Set(named).size, named.length, "no object is declared twice");
});

t.test("every pod has an address, an interface and a namespace of its own", async (t) => {
  const unique = (list: string[]) => new Set(list).size === list.length;
  t.ok(unique(plan.pods.map((pod) => pod.address)), "addresses");
  t.ok(unique(plan.pods.map((pod) => pod.interface)), "interfaces");
  t.ok(unique(plan.pods.map((pod) => pod.workload)), "one pod per workload");
  t.ok(unique(namespacesOf(plan, namesOf("x", 1))), "network namespaces");
  for (const manifest of readManifests().filter((m) => m.kind === "Pod")) {
    const node = plan.nodes.find((n) => n.name === manifest.spec!.nodeName)!;
    t.equal(manifest.status!.hostIP, node.address, `${manifest.metadata.name}: hostIP`);
    const range = node.podCidr.replace(/\d+\/24$/, "");
    t.ok(manifest.status!.podIP!.startsWith(range), `${manifest.metadata.name}: in podCIDR`);
  }
});

t.test("the cases can be told apart, and can be met", async (t) => {
  t.equal(new Set(cases.map((one) => one.id)).size, cases.length, "ids");
  const edges = cases.map((c) => [c.client, c.server, c.port, c.proto].join(" "));
  t.equal(new Set(edges).size, edges.length, "each case is an edge of its own");
  for (const one of cases) {
    podOf(plan, one.client);
    if (one.server !== null) {
      t.ok(portsOf(one.server).includes(one.port!), `${one.id}: the port is declared`);
    }
    t.ok(one.verdict !== null || one.finding !== null, `${one.id}: asks for something`);
    t.equal(one.verdict === null, one.aspect === null, `${one.id}: verdict with aspect`);
    if (one.verdict !== null) {
      t.ok(VERDICTS.includes(one.verdict), `${one.id}: verdict`);
      t.ok(reasons[one.reason!], `${one.id}: reason ${one.reason} is explained`);
    }
    if (one.finding !== null) {
      t.ok(
        FINDINGS.some((finding) => finding.code === one.finding),
        `${one.id}: finding ${one.finding}`,
      );
    }
    const client = CLIENTS.filter((c) => c.case === one.id);
    t.equal(client.length, 1, `${one.id}: one client`);
    t.equal(client[0]?.workload, one.client, `${one.id}: run by the case's client`);
  }
  t.equal(CLIENTS.length, cases.length, "no client without a case");
  const used = new Set(cases.map((one) => one.reason));
  t.strictSame(
    Object.keys(reasons).filter((reason) => !used.has(reason)),
    [],
    "every reason is used",
  );
});

t.test("every server runs in a pod that declares its ports", async (t) => {
  for (const server of SERVERS) {
    const declared = portsOf(server.workload);
    t.ok(
      server.ports.every((port) => declared.includes(port)),
      server.workload,
    );
  }
});

t.test("the network enforces what the annotated policies allow, each in its way", async (t) => {
  const told = plan.enforced.map(({ address, port, allowed, statement }) => [
    ...[address, port, allowed, statement],
  ]);
  const addresses = (...workloads: string[]) => workloads.map((name) => podOf(plan, name).address);
  t.strictSame(told, [
    [...addresses("data/postgres"), 5432, addresses("shop/catalog", "shop/reports"), "drop"],
    [
      ...[...addresses("shop/search"), 8080, addresses("shop/web")],
      "reject with icmp admin-prohibited",
    ],
    [...addresses("shop/catalog"), 8080, addresses("shop/web"), "reject with tcp reset"],
  ]);
  const closed = cases.find((c) => c.id === "closed-port")!;
  t.notOk(
    plan.enforced.some(({ address }) => address === podOf(plan, closed.server!).address),
    "and nothing of the server with the closed port",
  );
  const server = SERVERS.find(({ workload }) => workload === closed.server)!;
  t.notOk(server.ports.includes(closed.port!), "on which nobody listens");
});

t.test("whose client is said to be seen as a node is masqueraded by it", async (t) => {
  const masked = cases.filter((one) => one.seen_as !== null);
  t.strictSame(
    masked.map((one) => one.id),
    ["masqueraded-unseen"],
  );
  for (const one of masked) {
    const { node, masqueraded } = podOf(plan, one.client);
    t.strictSame([node, masqueraded], [one.seen_as, true], one.id);
    t.not(podOf(plan, one.server!).node, node, `${one.id}: the server is elsewhere`);
  }
  t.throws(() => addressSeen(plan, { client: "legacy/batch", seen_as: "node-z" }), /node-z/);
});

t.test("nothing is declared about the path that is said to be undeclared", async (t) => {
  const one = cases.find((c) => c.id === "nothing-declared")!;
  const [client, server] = [podOf(plan, one.client), podOf(plan, one.server!)];
  const policies = readManifests().filter((m) => m.kind === "NetworkPolicy");
  t.notMatch(JSON.stringify(policies), /egress/i, "no policy speaks of egress");
  const selecting = policies.filter((policy) => {
    const asked = Object.entries(policy.spec!.podSelector?.matchLabels ?? {});
    const own = policy.metadata.namespace === server.namespace;
    return own && asked.every(([name, value]) => server.labels[name] === value);
  });
  t.strictSame(selecting, [], "no policy selects the server");
  t.equal(client.labels["zone"] ?? server.labels["zone"], undefined, "neither is in a zone");
});

t.test("the recording was made of this plan, and names its interfaces", async (t) => {
  const capture = readFileSync(path.join(golden, "scene.pcapng"));
  const watched = plan.nodes.filter((node) => node.agent);
  for (const node of watched) {
    for (const pod of node.pods) t.ok(capture.includes(`${node.name}/${pod.interface}`), pod.pod);
  }
  t.notOk(capture.includes("PRIVATE KEY"), "no private key");
  type Truth = { cases: { id: string; client_ip: string; server_ip: string; made: number }[] };
  const truth = JSON.parse(readFileSync(path.join(golden, "scene.truth.json"), "utf8")) as Truth;
  t.strictSame(
    truth.cases.map((one) => [one.id, one.client_ip, one.server_ip]),
    cases.map((one) => [
      one.id,
      addressSeen(plan, one),
      one.server && podOf(plan, one.server).address,
    ]),
  );
  for (const one of truth.cases) {
    const isSilent = CLIENTS.find((c) => c.case === one.id)!.command === null;
    t.ok(one.made >= 3 || isSilent, `${one.id}: made ${one.made} times`);
  }
});

/** Frames of a pcapng made by `pcapng.ts`, by the name of their interface. */
function framesOf(bytes: Buffer): Map<string, Buffer[]> {
  const names: string[] = [];
  const frames = new Map<string, Buffer[]>();
  for (let at = 0; at < bytes.length; at += bytes.readUInt32LE(at + 4)) {
    const type = bytes.readUInt32LE(at);
    if (type === 1) {
      const length = bytes.readUInt16LE(at + 18);
      names.push(bytes.toString("utf8", at + 20, at + 20 + length));
      frames.set(names.at(-1)!, []);
    } else if (type === 6) {
      const length = bytes.readUInt32LE(at + 20);
      const name = names[bytes.readUInt32LE(at + 8)]!;
      frames.get(name)!.push(bytes.subarray(at + 28, at + 28 + length));
    }
  }
  return frames;
}

t.test("the recording shows where each connection was seen, and where not", async (t) => {
  const frames = framesOf(readFileSync(path.join(golden, "scene.pcapng")));
  t.equal(frames.size, plan.nodes.filter((n) => n.agent).flatMap((n) => n.pods).length);
  t.equal(frames.get("node-b/wpvault")?.length, 0, "the silent pod's veth carries nothing");

  const bytesOf = (name: string) => {
    const node = plan.nodes.find((n) => n.name === name);
    return Buffer.from((node ?? podOf(plan, name)).address.split(".").map(Number));
  };
  /** Interfaces that show frames from one to the other, to that port if any is given. */
  const between = (client: string, server: string, port: number | null = null) => {
    const pair = Buffer.concat([bytesOf(client), bytesOf(server)]);
    const is = (frame: Buffer) =>
      frame.readUInt16BE(12) === 0x0800 &&
      frame.subarray(26, 34).equals(pair) &&
      (port === null || frame.readUInt16BE(36) === port);
    return [...frames].filter(([, list]) => list.some(is)).map(([name]) => name);
  };
  t.strictSame(between("shop/probe", "data/postgres"), ["node-a/wpprobe"], "dropped on the way");
  t.strictSame(between("shop/reports", "data/postgres"), ["node-a/wpreports", "node-b/wppostgres"]);
  t.strictSame(between("legacy/batch", "legacy/mainframe"), [], "nobody watches node-c");
  t.strictSame(between("shop/mailer", "shop/search"), ["node-a/wpmailer"], "rejected on the way");
  t.strictSame(between("shop/mailer", "shop/catalog"), ["node-a/wpmailer"], "and reset");
  t.strictSame(between("shop/mailer", "data/cache"), ["node-a/wpmailer", "node-b/wpcache"]);
  t.strictSame(between("legacy/courier", "legacy/depot"), ["node-a/wpcourier"]);
  t.strictSame(between("node-a", "legacy/depot"), ["node-b/wpdepot"], "under the node's address");
  t.strictSame(between("node-c", "legacy/depot"), ["node-b/wpdepot"]);
  t.strictSame(between("fleet/dispatch", "fleet/tracker", 8080), [], "all is in the tunnel");
  t.strictSame(between("fleet/dispatch", "fleet/tracker", HBONE_PORT), [
    ...["node-a/wpdispatch", "node-b/wptracker"],
  ]);
});
