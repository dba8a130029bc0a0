/** Writes a record as JSON. */
import type { Flow, Tls } from "../../protocol/flow-record.ts";

/** What is frozen is the same in many records: its text. */
const known = new WeakMap<Tls, string>();

function tlsText(tls: Tls): string {
  if (!Object.isFrozen(tls)) return JSON.stringify(tls);
  const before = known.get(tls);
  if (before !== undefined) return before;
  const text = JSON.stringify(tls);
  known.set(tls, text);
  return text;
}

const word = (text: string | null) => (text === null ? "null" : `"${text}"`);
const words = (list: readonly string[]) => (list.length === 0 ? "[]" : JSON.stringify(list));

/**
 * The record as `JSON.stringify` writes it, behind `origin`: fields with a comma behind each. What
 * strangers say stands in `tls` alone; all other words are ours, and need no quoting.
 */
export function toJson(r: Flow, origin = ""): string {
  return (
    `{${origin}"start":"${r.start}","end":"${r.end}","proto":"${r.proto}",` +
    `"src_ip":"${r.src_ip}","src_port":${r.src_port},"dst_ip":"${r.dst_ip}",` +
    `"dst_port":${r.dst_port},"client_basis":"${r.client_basis}","encap":${words(r.encap)},` +
    `"packets":[${r.packets[0]},${r.packets[1]}],"bytes":[${r.bytes[0]},${r.bytes[1]}],` +
    `"state":"${r.state}","midstream":${r.midstream},"protocol":${word(r.protocol)},` +
    `"encryption":"${r.encryption}","upgraded_from":${word(r.upgraded_from)},` +
    `"handshake":${word(r.handshake)},"failure":${JSON.stringify(r.failure)},` +
    `"accepted":${r.accepted},"tls":${r.tls === null ? "null" : tlsText(r.tls)},` +
    `"history":"${r.history}","findings":${words(r.findings)},"notes":${words(r.notes)}}`
  );
}
