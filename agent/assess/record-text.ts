/** Writes a record as JSON. */
import type { Flow, Tls } from "../../protocol/flow-record.ts";

/** The text of `tls`; how a flow ended, what it spoke and how that was judged, as written last. */
type Known = { readonly tls: string; of: Flow; tail: string };

/** By what was read of TLS: what is frozen is the same in many records. Without, by protocol. */
const byTls = new WeakMap<Tls, Known>();
const byProtocol = new Map<string | null, Known>();

const word = (text: string | null) => (text === null ? "null" : `"${text}"`);
const words = (list: readonly string[]) => (list.length === 0 ? "[]" : JSON.stringify(list));

function areSame(one: readonly string[], other: readonly string[]): boolean {
  if (one.length !== other.length) return false;
  for (let i = 0; i < one.length; i++) if (one[i] !== other[i]) return false;
  return true;
}

/** Compares all that `tailText` writes, but for `tls`. */
function saysTheSame(a: Flow, b: Flow): boolean {
  return (
    a.state === b.state &&
    a.refused_by === b.refused_by &&
    a.midstream === b.midstream &&
    a.protocol === b.protocol &&
    a.encryption === b.encryption &&
    a.upgraded_from === b.upgraded_from &&
    a.handshake === b.handshake &&
    a.failure === b.failure && // objects are their own: only of those without one
    a.accepted === b.accepted &&
    a.history === b.history &&
    areSame(a.findings, b.findings) &&
    areSame(a.notes, b.notes)
  );
}

function tailText(r: Flow, tls: string): string {
  return (
    `"state":"${r.state}","refused_by":${word(r.refused_by ?? null)},` +
    `"midstream":${r.midstream},"protocol":${word(r.protocol)},` +
    `"encryption":"${r.encryption}","upgraded_from":${word(r.upgraded_from)},` +
    `"handshake":${word(r.handshake)},"failure":${JSON.stringify(r.failure)},` +
    `"accepted":${r.accepted},"tls":${tls},` +
    `"history":"${r.history}","findings":${words(r.findings)},"notes":${words(r.notes)}}`
  );
}

/** As `tailText`, which most flows have in common with one that was written before. */
function knownTail(r: Flow): string {
  const { tls } = r;
  if (tls !== null && !Object.isFrozen(tls)) return tailText(r, JSON.stringify(tls));
  const known = tls === null ? byProtocol.get(r.protocol) : byTls.get(tls);
  if (known !== undefined && saysTheSame(known.of, r)) return known.tail;
  const text = known?.tls ?? JSON.stringify(tls);
  const tail = tailText(r, text);
  if (known !== undefined) {
    known.of = r;
    known.tail = tail;
  } else if (tls === null) byProtocol.set(r.protocol, { tls: text, of: r, tail });
  else byTls.set(tls, { tls: text, of: r, tail });
  return tail;
}

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
    knownTail(r)
  );
}
