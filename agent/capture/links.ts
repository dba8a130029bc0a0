/** Keeps which interfaces there are, from what the kernel tells of each that changes. */
import { RTM_GETLINK, RTM_GETROUTE, dump, hear, openNetlink } from "./rtnetlink.ts";
import type { Link, OnLinks } from "./rtnetlink.ts";
import type { SystemCalls } from "./system-calls.ts";

/** The interfaces of the network namespace, and what changed of them. */
export type Links = {
  /** Readable when there is something to take; -1 where nothing tells of changes. */
  readonly fd: number;
  /** Takes what the kernel has told since the last call. */
  take(): void;
  /** Indexes of interfaces that came, went or changed since this was last asked. */
  changed(): ReadonlySet<number>;
  get(index: number): Link | undefined;
  all(): Iterable<Link>;
  /** Addresses that the node routes to this interface alone: the pod's behind it. */
  addressesOf(index: number): string[];
  close(): void;
};

/**
 * Milliseconds after which interfaces are listed although nothing told of a change: the host's end
 * of a pair is not told of when the other end is moved to another namespace.
 */
const LIST_ANYWAY_MS = 30_000;
/** The same for routes, of which a node may have a great many; some go without a word. */
const LIST_ROUTES_MS = 600_000;
/** Listings at a time, while each is torn by what changes meanwhile. */
const LISTINGS = 3;

/**
 * Each message tells all of one interface or route, so that the last one about it is true whatever
 * came before. When the kernel loses messages it says so, and everything is listed anew.
 */
export class KernelLinks implements Links, OnLinks {
  readonly fd: number;
  readonly #calls: SystemCalls;
  readonly #dumps: number;
  readonly #links = new Map<number, Link>();
  /** By interface: `TABLE ADDRESS` of each route, and the address. */
  readonly #routes = new Map<number, Map<string, string>>();
  #changed = new Set<number>();
  /** Since a listing began. */
  #seen: Set<number> | null = null;
  /** Messages were lost, of links or routes. */
  #isStale = true;
  #listedMs = 0;
  #routesMs = 0;
  /** Times that everything was listed. */
  listings = 0;

  /** Throws `RefusedCall`. */
  constructor(calls: SystemCalls) {
    this.#calls = calls;
    this.fd = openNetlink(calls, true);
    try {
      this.#dumps = openNetlink(calls, false);
    } catch (error) {
      calls.close(this.fd);
      throw error;
    }
  }

  take(): void {
    if (!hear(this.#calls, this.fd, this)) this.#isStale = true;
  }

  changed(): ReadonlySet<number> {
    this.take();
    const nowMs = Date.now();
    if (Math.abs(nowMs - this.#listedMs) >= LIST_ANYWAY_MS) this.#list(nowMs);
    for (let tries = 0; this.#isStale && tries < LISTINGS; tries++) this.#list(nowMs);
    const changed = this.#changed;
    this.#changed = new Set();
    return changed;
  }

  #list(nowMs: number): void {
    const isDue = this.#isStale || Math.abs(nowMs - this.#routesMs) >= LIST_ROUTES_MS;
    this.#isStale = false;
    this.#listedMs = nowMs;
    this.listings++;
    const seen = new Set<number>();
    this.#seen = seen;
    if (!dump(this.#calls, this.#dumps, RTM_GETLINK, this)) this.#isStale = true;
    // What waited meanwhile is older than the listing, in part: of one that is gone by the listing
    // it still tells that it went down, and afterwards that it went, where that was not lost.
    this.take();
    this.#seen = null;
    if (this.#isStale) return; // again
    for (const index of this.#links.keys()) if (!seen.has(index)) this.linkGone(index);
    if (!isDue) return;
    this.#routesMs = nowMs;
    for (const [index, routes] of this.#routes) {
      if (routes.size > 0) this.#changed.add(index);
    }
    this.#routes.clear();
    if (!dump(this.#calls, this.#dumps, RTM_GETROUTE, this)) this.#isStale = true;
  }

  torn(): void {
    this.#isStale = true;
  }

  link(link: Link): void {
    const { index } = link;
    this.#seen?.add(index);
    const known = this.#links.get(index);
    if (known && isAlike(known, link)) return;
    this.#links.set(index, link);
    this.#changed.add(index);
    // The routes to one that goes down are gone without a word.
    if (known?.isUp && !link.isUp) this.#routes.delete(index);
  }

  linkGone(index: number): void {
    this.#routes.delete(index);
    if (this.#links.delete(index)) this.#changed.add(index);
  }

  address(index: number, address: string, table: number, isReplaced: boolean): void {
    if (isReplaced) {
      for (const other of this.#routes.keys()) this.addressGone(other, address, table);
    }
    const routes = this.#routes.get(index) ?? new Map<string, string>();
    this.#routes.set(index, routes.set(`${table} ${address}`, address));
    this.#changed.add(index);
  }

  addressGone(index: number, address: string, table: number): void {
    if (this.#routes.get(index)?.delete(`${table} ${address}`)) this.#changed.add(index);
  }

  get(index: number): Link | undefined {
    return this.#links.get(index);
  }

  all(): Iterable<Link> {
    return this.#links.values();
  }

  addressesOf(index: number): string[] {
    return [...new Set(this.#routes.get(index)?.values())];
  }

  close(): void {
    this.#calls.close(this.#dumps);
    this.#calls.close(this.fd);
  }
}

function isAlike(a: Link, b: Link): boolean {
  return (Object.keys(a) as (keyof Link)[]).every((key) => a[key] === b[key]);
}
