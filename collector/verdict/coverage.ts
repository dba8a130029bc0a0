/** Adds up what agents watched in a window: per address, and per node. */
import type { Coverage } from "../../protocol/coverage.ts";
import { formatHolder } from "../attribution/holder.ts";
import type { Holder } from "../attribution/holder.ts";
import type { Binding } from "../attribution/timeline.ts";
import { isElsewhere } from "./foreign.ts";
import type { NodeCoverage } from "./verdict.ts";

/** One agent's word about one interface and interval. */
export type NodeWord = { node: string; coverage: Coverage };

export type Watched = {
  /** Share of the window in which the address' interface was watched, 0..1. */
  share: number;
  delivered: number;
  dropped: number;
  sampling: number;
  /** The network plugin leads one direction past the interface. */
  oneDirection: boolean;
  /** Frames that were delivered and could not be read. */
  unread: number;
  /** Observations that were given up on their way here. */
  lost: number;
};

export type WorkloadWatched = Watched & {
  /** Share of its life in which the pod was watched that was watched least. */
  least: number;
};

type Span = { fromMs: number; toMs: number };
const ALWAYS: Span = { fromMs: -Infinity, toMs: Infinity };

const NOTHING: Watched = {
  ...{ share: 0, delivered: 0, dropped: 0, sampling: 1, oneDirection: false, unread: 0, lost: 0 },
};

/** What may have been a connection's; the rest of `stopped` is no IP, or none of the pod's. */
const UNREAD = ["truncated", "malformed", "tooDeep", "linkType"];

/**
 * Stands for all interfaces of a node: the kernel dropped frames without telling on which, so each
 * may miss them.
 */
const ANY_INTERFACE = "*";

type Words = {
  fromMs: number;
  toMs: number;
  clocksApartMs: number;
  coverage: readonly NodeWord[];
  lives: readonly Binding<Holder>[];
};

export function coverageOf({ coverage, lives, fromMs, toMs, clocksApartMs }: Words) {
  return new WindowCoverage(coverage, lives, fromMs, toMs, clocksApartMs);
}

/** Coverage of one window [fromMs, toMs), by the address behind the interface. */
export class WindowCoverage {
  /** Milliseconds by which clocks may be apart. */
  readonly apartMs: number;
  readonly fromMs: number;
  readonly #toMs: number;
  readonly #byAddress = new Map<string, NodeWord[]>();
  /** Beside the window, too, as far as clocks differ. */
  readonly #near = new Map<string, NodeWord[]>();
  readonly #byNode = new Map<string, NodeWord[]>();
  /** By workload: its pods that lived in the window, and how well all of them were watched. */
  readonly #lives = new Map<string, Binding<Holder>[]>();
  readonly #pods = new Map<Holder, Watched>();
  /** By pod, for each address at which nothing was lost: when it was watched. */
  readonly #lossless = new Map<Holder, Span[][]>();
  readonly #workloads = new Map<string, WorkloadWatched>();
  /** Of each node, observations that were given up, by interface. */
  readonly #lost = new Map<string, Map<string, number>>();

  /** Of the pods' lives, those in the window count. */
  constructor(
    words: readonly NodeWord[],
    lives: readonly Binding<Holder>[],
    fromMs: number,
    toMs: number,
    apartMs: number,
  ) {
    this.apartMs = apartMs;
    this.fromMs = fromMs;
    this.#toMs = toMs;
    for (const life of lives) push(this.#lives, formatHolder(life.value), life);
    for (const word of words) {
      // Such a row watched nothing, and was made at another time.
      if (word.coverage.discards) {
        this.#noteLost(word);
        continue;
      }
      const { from_ms: from, to_ms: to, addresses } = word.coverage;
      for (const address of addresses) push(this.#near, address, word);
      if (from >= toMs || to <= fromMs) continue;
      push(this.#byNode, word.node, word);
      for (const address of addresses) push(this.#byAddress, address, word);
    }
  }

  #noteLost({ node, coverage }: NodeWord): void {
    for (const { interface: name, from_ms, to_ms, observations } of coverage.discards ?? []) {
      if (to_ms < this.fromMs || from_ms >= this.#toMs) continue;
      const lost = this.#lost.get(node) ?? new Map<string, number>();
      const place = name === "" ? ANY_INTERFACE : name;
      this.#lost.set(node, lost.set(place, (lost.get(place) ?? 0) + observations));
    }
  }

  /** How well a pod was watched in the window, by any of its addresses. */
  ofPod(holder: Holder | null): Watched {
    // What is outside has no interface that an agent could watch.
    if (!holder || holder.kind === "external") return NOTHING;
    const known = this.#pods.get(holder) ?? this.#ofLife(holder, ALWAYS);
    this.#pods.set(holder, known);
    return known;
  }

  #ofLife(holder: Holder, life: Span): Watched {
    const all = holder.addresses.map((a) => this.#add(wordsOf(this.#byAddress, holder, a), life));
    return all.sort((a, b) => b.share - a.share)[0] ?? NOTHING;
  }

  /** How well all of a workload's pods were watched that lived in the window. */
  ofWorkload(holder: Holder | null): WorkloadWatched {
    const name = holder ? formatHolder(holder) : "";
    const known = this.#workloads.get(name);
    if (known) return known;
    const lives = this.#lives.get(name) ?? [];
    const all = lives.map((life) => ({ ...this.#ofLife(life.value, life), ms: this.#lived(life) }));
    const alone = this.ofPod(holder);
    const watched = all.length > 0 ? addUp(all) : { ...alone, least: alone.share };
    this.#workloads.set(name, watched);
    return watched;
  }

  #lived({ fromMs, toMs }: Span): number {
    return Math.min(toMs, this.#toMs) - Math.max(fromMs, this.fromMs);
  }

  /**
   * Reports whether, in what of [fromMs, toMs] lies in the window and as much beside it as clocks
   * differ, nothing that crossed the pod's interface can have been missed: no gap, no sampling,
   * both directions, no observation given up, drops and what is unread within the tolerance.
   */
  isWhole(holder: Holder, fromMs: number, toMs: number, tolerance: number): boolean {
    const from = Math.max(fromMs, this.fromMs - this.apartMs);
    const to = Math.min(toMs, this.#toMs + this.apartMs);
    if (holder.kind === "external") return false;
    const spans = this.#lossless.get(holder) ?? this.#losslessOf(holder, tolerance);
    this.#lossless.set(holder, spans);
    return spans.some((own) => own.some((span) => span.fromMs <= from && to <= span.toMs));
  }

  #losslessOf(holder: Holder, tolerance: number): Span[][] {
    return holder.addresses.flatMap((address) => {
      const words = wordsOf(this.#near, holder, address);
      const { delivered, dropped, unread, lost, sampling, oneDirection } = this.#add(words);
      if (sampling < 1 || oneDirection || lost > 0) return [];
      if (dropped + unread > tolerance * (delivered + dropped)) return [];
      return [joined(words.map(({ coverage: c }) => ({ fromMs: c.from_ms, toMs: c.to_ms })))];
    });
  }

  #add(words: readonly NodeWord[], life: Span = ALWAYS): Watched {
    const lifeFrom = Math.max(life.fromMs, this.fromMs);
    const lifeTo = Math.min(life.toMs, this.#toMs);
    const spans = words
      .map(({ coverage: c }) => [Math.max(c.from_ms, lifeFrom), Math.min(c.to_ms, lifeTo)])
      .filter(([from, to]) => from! < to!)
      .sort((a, b) => a[0]! - b[0]!);
    let watchedMs = 0;
    let reached = lifeFrom;
    for (const [from, to] of spans) {
      watchedMs += Math.max(0, to! - Math.max(from!, reached));
      reached = Math.max(reached, to!);
    }
    const sum = (pick: (c: Coverage) => number) => words.reduce((n, w) => n + pick(w.coverage), 0);
    return {
      share: watchedMs / (lifeTo - lifeFrom),
      delivered: sum((c) => c.delivered),
      dropped: sum((c) => c.dropped) + this.#droppedOnAny(words),
      sampling: Math.min(1, ...words.map((w) => w.coverage.sampling)),
      oneDirection: words.some((w) => w.coverage.one_direction === true),
      unread: sum((c) => UNREAD.reduce((n, why) => n + (c.stopped[why] ?? 0), 0)),
      lost: this.#lostAt(words),
    };
  }

  /** Observations that were given up of these interfaces, or of any of their nodes'. */
  #lostAt(words: readonly NodeWord[]): number {
    const places = words.flatMap(({ node, coverage: { interface: name } }) => [
      [`${node} ${name}`, this.#lost.get(node)?.get(name) ?? 0] as const,
      [node, this.#lost.get(node)?.get(ANY_INTERFACE) ?? 0] as const,
    ]);
    return [...new Map(places).values()].reduce((sum, lost) => sum + lost, 0);
  }

  /**
   * Attempts at either end's interface that nobody answered, more than the agent could keep: of the
   * client's addresses, or of sources that it did not tell apart. Any of them may be the edge's.
   */
  attemptsOf(client: Holder | null, server: Holder | null): number {
    if (!client || !server) return 0;
    const [clients, servers] = [this.#podsOf(client), this.#podsOf(server)];
    const sources = new Set(clients.flatMap((pod) => pod.addresses));
    const words = [...clients, ...servers].flatMap((pod) =>
      pod.addresses.flatMap((address) => wordsOf(this.#byAddress, pod, address)),
    );
    const floods = [...new Set(words)].flatMap((word) => word.coverage.floods ?? []);
    return floods
      .filter(({ source }) => source === "*" || sources.has(source))
      .reduce((sum, { attempts }) => sum + attempts, 0);
  }

  /** All pods of the workload that lived in the window. */
  #podsOf(holder: Holder): readonly Holder[] {
    return [...new Set([holder, ...this.podsOf(formatHolder(holder))])];
  }

  /** All pods of a workload, by its name, that lived in the window. */
  podsOf(workload: string): readonly Holder[] {
    return (this.#lives.get(workload) ?? []).map((life) => life.value);
  }

  /** Frames that the nodes of these words dropped on interfaces that are not known. */
  #droppedOnAny(words: readonly NodeWord[]): number {
    let dropped = 0;
    for (const node of new Set(words.map((word) => word.node))) {
      for (const { coverage } of this.#byNode.get(node) ?? []) {
        if (coverage.interface === ANY_INTERFACE) dropped += coverage.dropped;
      }
    }
    return dropped;
  }

  /** One line for a node: how much of its pods' time was watched. */
  ofNode(node: string, pods: readonly Holder[]): NodeCoverage {
    const all = this.#byNode.get(node) ?? [];
    // What passes an uplink or a tunnel has passed a pod's interface already.
    const words = all.filter(({ coverage: c }) => (c.interface_kind ?? "pod") === "pod");
    const seconds = (this.#toMs - this.fromMs) / 1000;
    const own = pods.filter((pod) => pod.node === node && !pod.hostNetwork);
    const watched = own.reduce((n, pod) => n + this.ofPod(pod).share * seconds, 0);
    const sum = (pick: (c: Coverage) => number) => words.reduce((n, w) => n + pick(w.coverage), 0);
    const interfaces = new Set(words.map((w) => w.coverage.interface));
    interfaces.delete(ANY_INTERFACE);
    const oneDirection = words.filter((w) => w.coverage.one_direction === true);
    const lacking = new Set(oneDirection.map((w) => w.coverage.interface));
    return {
      node,
      agent: all.length > 0,
      pods: own.length,
      podSecondsWatched: Math.round(watched * 10) / 10,
      podSeconds: Math.round(own.length * seconds * 10) / 10,
      interfaces: interfaces.size,
      delivered: sum((c) => c.delivered),
      dropped: sum((c) => c.dropped),
      ...(lacking.size > 0 ? { oneDirection: lacking.size } : {}),
    };
  }
}

/** Of pods that lived for so many milliseconds of the window each. */
function addUp(pods: readonly (Watched & { ms: number })[]): WorkloadWatched {
  const sum = (pick: (pod: Watched & { ms: number }) => number) =>
    pods.reduce((n, pod) => n + pick(pod), 0);
  return {
    share: sum(({ share, ms }) => share * ms) / sum(({ ms }) => ms),
    least: Math.min(...pods.map(({ share }) => share)),
    delivered: sum((pod) => pod.delivered),
    dropped: sum((pod) => pod.dropped),
    sampling: Math.min(...pods.map((pod) => pod.sampling)),
    oneDirection: pods.some((pod) => pod.oneDirection),
    unread: sum((pod) => pod.unread),
    lost: sum((pod) => pod.lost),
  };
}

/** Spans that touch are one. */
function joined(spans: Span[]): Span[] {
  const all: Span[] = [];
  for (const span of spans.sort((a, b) => a.fromMs - b.fromMs)) {
    const last = all.at(-1);
    if (last && span.fromMs <= last.toMs) last.toMs = Math.max(last.toMs, span.toMs);
    else all.push({ ...span });
  }
  return all;
}

/** What was told of an address by the agent of the node where its holder runs. */
function wordsOf(by: ReadonlyMap<string, NodeWord[]>, holder: Holder, address: string) {
  const words = by.get(address) ?? [];
  return words.some(({ node }) => isElsewhere(holder, node))
    ? words.filter(({ node }) => !isElsewhere(holder, node))
    : words;
}

function push<T>(map: Map<string, T[]>, key: string, value: T): void {
  const known = map.get(key);
  if (known) known.push(value);
  else map.set(key, [value]);
}
