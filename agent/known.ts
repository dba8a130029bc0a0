/** Tells what is known of a living flow that is worth telling before it ends. */
import { endsOf } from "./assess/observe.ts";
import type { Reading } from "./assess/reading.ts";
import { News } from "./flow/flow-table.ts";
import type { FlowTable } from "./flow/flow-table.ts";
import { Fact, Side } from "./flow/flow-record.ts";

/** What moves a living flow to be told anew. */
export const TELLING =
  News.answered |
  News.fin |
  News.rst |
  News.refused |
  News.bytes |
  News.established |
  News.unanswered;

const Known = { reached: 1, answered: 2, finished: 4, closing: 8, unanswered: 16 } as const;

/** Bits of what is known, below 32. A hello alone says too little to tell. */
export function knownOf(table: FlowTable, flow: number, reading: Reading | undefined): number {
  const { clientSide } = endsOf(table, flow, reading);
  const server = table.sideFlags(flow * 2 + 1 - clientSide);
  const flags = table.sideFlags(flow * 2) | table.sideFlags(flow * 2 + 1);
  let known = 0;
  const isEstablished = (table.flowFlags(flow) & Fact.established) !== 0;
  if (isEstablished || table.refusedBy(flow) !== 0) known |= Known.reached;
  const isAnswered = reading?.tls ? reading.tls.answered : (server & Side.answered) !== 0;
  if (isAnswered) known |= Known.answered;
  if (reading?.tls && reading.tls.finishedEnd >= 0) known |= Known.finished;
  if ((flags & (Side.fin | Side.rst)) !== 0) known |= Known.closing;
  if ((table.news & News.unanswered) !== 0) known |= Known.unanswered;
  return known;
}
