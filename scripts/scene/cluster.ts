/** Stands the scene up in namespaces of its own, makes its traffic, and removes all of it again. */
import { closeSync, mkdtempSync, openSync, readFileSync, chmodSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ConfigError } from "../../protocol/config-error.ts";
import { makeCertificates, type Certificates } from "./certificates.ts";
import { CLIENTS, type Client } from "./clients.ts";
import { OUTBOUND_PORT } from "./envoy.ts";
import { keep, markOf, removeLeftovers, removeMade, type Made } from "./leftovers.ts";
import { buildNetwork, namesOf, namespacesOf, type Names } from "./network.ts";
import { needed } from "./packages.ts";
import { readPlan, type NodePlan, type Plan } from "./plan.ts";
import { killGroup, run, startProcess, startTimeOf, until } from "./processes.ts";
import { prepareServer, SERVERS, type Server } from "./servers.ts";

/** A round starts every so often; each case is made once a round. */
export const ROUND_MS = 4000;
/** Clients of a round start this far apart, so that two cores carry them. */
const STAGGER_MS = 100;
/** Most failures of a case whose words are kept. */
const OTHERWISE_LIMIT = 20;
/** Longest that clients may take to end by themselves. */
const DRAIN_MS = 400;
const SERVER_START_LIMIT_MS = 8000;
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export type ClusterOptions = { say?: (line: string) => void };

export type ClusterNode = NodePlan & { netns: string };

/** How often a case's client ended as declared, and how it ended otherwise. */
export type Tally = { asDeclared: number; otherwise: string[] };

export class Cluster {
  readonly plan: Plan;
  readonly nodes: readonly ClusterNode[];
  /** Where nodes reach the host: an address for the collector to listen on. */
  readonly hostAddress: string;
  /** Temporary; goes with the scene. */
  readonly folder: string;
  /** By case id; grows with every round. */
  readonly tallies = new Map<string, Tally>();
  readonly #names: Names;
  readonly #made: Made;
  #certificates!: Certificates;
  #stopped: Promise<void> | null = null;

  /** Where nobody else minds a signal, the scene is removed and the process ends by it. */
  readonly #onSignal = (name: NodeJS.Signals) => {
    if (process.listenerCount(name) > 1) return;
    void this.stop().finally(() => process.kill(process.pid, name));
  };
  /** The last chance, when an error ends the process. */
  readonly #onExit = () => removeMade(this.#made);

  private constructor(plan: Plan, names: Names, made: Made) {
    this.plan = plan;
    this.#names = names;
    this.#made = made;
    this.folder = made.folder;
    this.hostAddress = names.hostAddress;
    this.nodes = plan.nodes.map((node) => ({ ...node, netns: names.node(node.name) }));
  }

  /** Ready when every server answers on its ports. On failure nothing is left behind. */
  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const say = options.say ?? (() => {});
    if (process.getuid?.() !== 0) {
      throw new ConfigError(
        "CONFIG_NOT_ROOT",
        "the scene makes network namespaces: run it as root",
      );
    }
    const missing = needed();
    if (missing.length > 0) {
      throw new ConfigError(
        "CONFIG_MISSING_PACKAGES",
        `the scene needs ${missing.join(", ")}: run scripts/demo, which installs them`,
      );
    }
    const taken = removeLeftovers(say);
    const plan = readPlan();
    const id = process.pid.toString(36);
    let lane = 1 + (process.pid % 250);
    while (taken.includes(lane)) lane = 1 + (lane % 250);
    const names = namesOf(id, lane);
    const folder = mkdtempSync(path.join(tmpdir(), "wireproof-scene-"));
    chmodSync(folder, 0o755); // PostgreSQL runs as a user of its own.
    const made: Made = {
      run: id,
      lane,
      owner: markOf(process.pid),
      namespaces: namespacesOf(plan, names),
      uplink: names.uplink,
      folder,
      processes: [],
    };
    keep(made);
    const cluster = new Cluster(plan, names, made);
    for (const name of SIGNALS) process.on(name, cluster.#onSignal);
    process.on("exit", cluster.#onExit);
    try {
      const [, certificates] = await Promise.all([
        buildNetwork(plan, names),
        makeCertificates(path.join(folder, "certificates")),
      ]);
      cluster.#certificates = certificates;
      await Promise.all(SERVERS.map((server) => cluster.#startServer(server)));
    } catch (error) {
      await cluster.stop();
      throw error;
    }
    return cluster;
  }

  /** The command as it is run in a pod's namespace. */
  inPod(workload: string, argv: readonly string[]): string[] {
    return ["ip", "netns", "exec", this.#names.pod(workload), ...argv];
  }

  /** The command as it is run in a node's namespace: an agent's place. */
  inNode(node: string, argv: readonly string[]): string[] {
    return ["ip", "netns", "exec", this.#names.node(node), ...argv];
  }

  async #startServer(server: Server): Promise<void> {
    const argv = await prepareServer(server, this.folder, this.#certificates, this.plan);
    const file = path.join(this.folder, `${server.workload.replace("/", "-")}.log`);
    const log = openSync(file, "w");
    const child = startProcess(this.inPod(server.workload, argv), log);
    closeSync(log);
    const gone = () => child.pid === undefined || startTimeOf(child.pid) === null;
    if (child.pid !== undefined) {
      this.#made.processes.push(markOf(child.pid));
      keep(this.#made);
    }
    const said = () => readFileSync(file, "utf8").trim().slice(-1500);
    await until(`${server.workload} listens`, SERVER_START_LIMIT_MS, () => {
      if (gone()) throw new Error(`${server.workload} ended at its start: ${said()}`);
      const listening = listeningPorts(child.pid!);
      return (server.ports.length > 0 ? server.ports : [OUTBOUND_PORT]).every((p) =>
        listening.has(p),
      );
    });
  }

  /**
   * Makes rounds of traffic until aborted. Clients under way then may end by themselves, so that no
   * flow is cut off; what still waits after that (for a SYN's answer) is killed.
   */
  async drive(signal: AbortSignal): Promise<void> {
    const running = new Set<Promise<void>>();
    const cut = new AbortController();
    while (!signal.aborted) {
      const next = Date.now() + ROUND_MS;
      for (const client of CLIENTS) {
        if (client.command === null) continue;
        if (signal.aborted) break;
        const one = this.#runClient(client, cut.signal).finally(() => running.delete(one));
        running.add(one);
        await pause(STAGGER_MS, signal);
      }
      await pause(Math.max(0, next - Date.now()), signal);
    }
    await Promise.race([Promise.all(running), sleep(DRAIN_MS)]);
    cut.abort();
    await Promise.all(running);
  }

  async #runClient(client: Client, cut: AbortSignal): Promise<void> {
    const { folder, plan } = this;
    const place = { folder, certificates: this.#certificates, plan };
    const argv = this.inPod(client.workload, client.command!(place));
    const { code, signal, output } = await run(argv, { signal: cut, limitMs: 10_000 });
    if (cut.aborted) return;
    const tally = this.tallies.get(client.case) ?? { asDeclared: 0, otherwise: [] };
    this.tallies.set(client.case, tally);
    if (code !== null && client.exits.includes(code)) tally.asDeclared++;
    else if (tally.otherwise.length < OTHERWISE_LIMIT)
      tally.otherwise.push(`exit ${code ?? signal}: ${output.trim().slice(-200)}`);
  }

  /** Removes every process, namespace and file that the scene made. Once; then the same promise. */
  stop(): Promise<void> {
    this.#stopped ??= this.#remove();
    return this.#stopped;
  }

  async #remove(): Promise<void> {
    for (const name of SIGNALS) process.off(name, this.#onSignal);
    const alive = () => this.#made.processes.filter((mark) => startTimeOf(mark.pid) !== null);
    for (const mark of alive()) killGroup(mark.pid, "SIGTERM");
    await until("servers end", 1000, () => alive().length === 0).catch(() => {});
    removeMade(this.#made);
    process.off("exit", this.#onExit);
  }
}

/** Sleeps; an abort ends the sleep and is no error. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => {});
}

/** Ports on which anything listens in the process's network namespace, by proc(5). */
function listeningPorts(pid: number): Set<number> {
  const LISTEN = "0A";
  const ports = new Set<number>();
  for (const table of ["tcp", "tcp6"]) {
    for (const line of readTable(`/proc/${pid}/net/${table}`)) {
      const [, local, , state] = line.trim().split(/\s+/);
      if (state === LISTEN) ports.add(Number.parseInt(local!.split(":")[1]!, 16));
    }
  }
  return ports;
}

function readTable(file: string): string[] {
  try {
    return readFileSync(file, "utf8").split("\n").slice(1).filter(Boolean);
  } catch {
    return [];
  }
}
