/** Writes a record as JSON. */
import type { Flow, Tls } from "../../protocol/flow-record.ts";

/** What is frozen is the same in many records: its text. */
const known = new WeakMap<Tls, string>();

function textOf(tls: Tls): string {
  const before = known.get(tls);
  if (before !== undefined) return before;
  const text = JSON.stringify(tls);
  known.set(tls, text);
  return text;
}

/** Stands in one place only: what strangers say has its quotes escaped. */
const LEFT_OUT = '"tls":null';

/** The record as `JSON.stringify` writes it. */
export function toJson(record: Flow): string {
  const { tls } = record;
  if (tls === null || !Object.isFrozen(tls)) return JSON.stringify(record);
  const text = JSON.stringify({ ...record, tls: null });
  const at = text.indexOf(LEFT_OUT) + LEFT_OUT.length;
  return `${text.slice(0, at - 4)}${textOf(tls)}${text.slice(at)}`;
}
