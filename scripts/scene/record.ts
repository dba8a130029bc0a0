/** Records the scene for the replay without root: `node scripts/scene/record.ts [SECONDS]`. */
import { closeSync, mkdirSync, openSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CLIENTS } from "./clients.ts";
import { Cluster, type ClusterNode } from "./cluster.ts";
import { readExpectation } from "./expectation.ts";
import { mergeCaptures } from "./pcapng.ts";
import { addressSeen, podOf, type PodPlan } from "./plan.ts";
import { killGroup, startProcess, startTimeOf, until } from "./processes.ts";

const GOLDEN = path.join(import.meta.dirname, "../../test/golden");

type Tap = { node: ClusterNode; pod: PodPlan; file: string; pid: number };

/** One tcpdump per host-side veth of the nodes that have an agent; the others nobody watches. */
async function startTaps(cluster: Cluster): Promise<Tap[]> {
  const taps: Tap[] = [];
  for (const node of cluster.nodes.filter((n) => n.agent)) {
    for (const pod of node.pods) {
      const file = path.join(cluster.folder, `${pod.interface}.pcap`);
      const log = openSync(`${file}.log`, "w");
      const child = startProcess(
        [
          ...["ip", "netns", "exec", node.netns, "tcpdump", "-i", pod.interface, "-n", "-U"],
          ...["-s", "4096", "-w", file, "--immediate-mode", "-Z", "root"],
        ],
        log,
      );
      closeSync(log);
      taps.push({ node, pod, file, pid: child.pid! });
    }
  }
  const begun = (tap: Tap) => (statSync(tap.file, { throwIfNoEntry: false })?.size ?? 0) >= 24;
  await until("tcpdump writes", 5000, () => taps.every(begun));
  return taps;
}

/** Waits for what is still in flight, then ends every tcpdump. */
async function stopTaps(taps: readonly Tap[]): Promise<void> {
  await sleep(500);
  for (const tap of taps) killGroup(tap.pid, "SIGINT");
  await until("tcpdump ends", 3000, () => taps.every((tap) => startTimeOf(tap.pid) === null));
}

/** What each case's flows were, known from how they were made. */
function truthOf(cluster: Cluster): object {
  const cases = readExpectation().cases.map((one) => {
    const client = CLIENTS.find((c) => c.case === one.id);
    if (!client) throw new Error(`case ${one.id} has no client in clients.ts`);
    const tally = cluster.tallies.get(one.id);
    if (tally?.otherwise.length) throw new Error(`${one.id}: ${tally.otherwise[0]}`);
    return {
      id: one.id,
      client_ip: addressSeen(cluster.plan, one),
      server_ip: one.server === null ? null : podOf(cluster.plan, one.server).address,
      port: one.port,
      proto: one.proto,
      posture: client.posture,
      result: client.result,
      /** Clients that ended as declared. */
      made: tally?.asDeclared ?? 0,
    };
  });
  return { schema: "wireproof.scene-truth/1", cases };
}

async function record(seconds: number): Promise<void> {
  const cluster = await Cluster.start({ say: console.error });
  const abort = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => abort.abort());
  try {
    const taps = await startTaps(cluster);
    const end = setTimeout(() => abort.abort(), seconds * 1000);
    try {
      await cluster.drive(abort.signal);
    } finally {
      clearTimeout(end);
      await stopTaps(taps);
    }
    const captures = taps.map((tap) => ({
      interface: `${tap.node.name}/${tap.pod.interface}`,
      bytes: readFileSync(tap.file),
    }));
    const merged = mergeCaptures(captures, "Wireproof demo scene, host side of each pod's veth");
    mkdirSync(GOLDEN, { recursive: true });
    writeFileSync(path.join(GOLDEN, "scene.pcapng"), merged);
    const truth = `${JSON.stringify(truthOf(cluster), null, 2)}\n`;
    writeFileSync(path.join(GOLDEN, "scene.truth.json"), truth);
    console.error(`${merged.length} bytes of ${taps.length} interfaces`);
  } finally {
    await cluster.stop();
  }
}

await record(Number(process.argv[2] ?? 15));
