/** Computes with sets of ports by transport protocol: what a pair of ends may use. */
import type { Transport } from "../../attribution/holder.ts";

/** Ascending, disjoint, not adjacent; both ends inclusive, 1..65535. */
export type Ports = readonly (readonly [first: number, last: number])[];
export type PortSet = Readonly<Record<Transport, Ports>>;

export const TRANSPORTS: readonly Transport[] = ["SCTP", "TCP", "UDP"];
const ALL_PORTS: Ports = [[1, 65535]];
export const EVERYTHING: PortSet = { SCTP: ALL_PORTS, TCP: ALL_PORTS, UDP: ALL_PORTS };
export const NOTHING: PortSet = { SCTP: [], TCP: [], UDP: [] };

export function onePort(transport: Transport, first: number, last: number): PortSet {
  return { ...NOTHING, [transport]: first <= last ? [[first, last]] : [] };
}

export function union(a: PortSet, b: PortSet): PortSet {
  return each((transport) => unionPorts(a[transport], b[transport]));
}

export function subtract(a: PortSet, b: PortSet): PortSet {
  return each((transport) => subtractPorts(a[transport], b[transport]));
}

export function intersect(a: PortSet, b: PortSet): PortSet {
  return subtract(a, subtract(EVERYTHING, b));
}

export function holds(set: PortSet, transport: Transport, port: number): boolean {
  return set[transport].some(([first, last]) => first <= port && port <= last);
}

export function isNothing(set: PortSet): boolean {
  return TRANSPORTS.every((transport) => set[transport].length === 0);
}

/** `TCP 80,443,8000-8080,UDP 53`, `All Connections`, or `No Connections`. */
export function formatPortSet(set: PortSet): string {
  const full = ([range]: Ports) => range?.[0] === 1 && range[1] === 65535;
  if (TRANSPORTS.every((transport) => full(set[transport]))) return "All Connections";
  const parts = TRANSPORTS.filter((transport) => set[transport].length > 0).map(
    (transport) =>
      `${transport} ${set[transport].map(([a, b]) => (a === b ? `${a}` : `${a}-${b}`)).join(",")}`,
  );
  return parts.join(",") || "No Connections";
}

function each(make: (transport: Transport) => Ports): PortSet {
  return { SCTP: make("SCTP"), TCP: make("TCP"), UDP: make("UDP") };
}

function unionPorts(a: Ports, b: Ports): Ports {
  if (a.length === 0) return b;
  if (b.length === 0) return a;
  const merged: [number, number][] = [];
  for (const [first, last] of [...a, ...b].sort((x, y) => x[0] - y[0])) {
    const before = merged.at(-1);
    if (before !== undefined && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else merged.push([first, last]);
  }
  return merged;
}

function subtractPorts(a: Ports, b: Ports): Ports {
  let rest = a;
  for (const [first, last] of b) {
    rest = rest.flatMap((range) => {
      if (last < range[0] || range[1] < first) return [range];
      const parts: [number, number][] = [];
      if (range[0] < first) parts.push([range[0], first - 1]);
      if (last < range[1]) parts.push([last + 1, range[1]]);
      return parts;
    });
  }
  return rest;
}
