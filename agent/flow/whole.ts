/** Tells of connections of which nothing more can come. */
import type { FlowTable } from "./flow-table.ts";
import { Side } from "./flow-record.ts";

/** Reports whether both sides have ended their streams, and each was handed over to its end. */
export function isWhole(table: FlowTable, flow: number): boolean {
  return isSideWhole(table, flow * 2) && isSideWhole(table, flow * 2 + 1);
}

function isSideWhole(table: FlowTable, at: number): boolean {
  const flags = table.sideFlags(at);
  if ((flags & Side.fin) === 0 || (flags & Side.rst) !== 0) return false;
  const slot = table.slot(at);
  return slot < 0 || table.openings.have(slot) === table.sent(at);
}
