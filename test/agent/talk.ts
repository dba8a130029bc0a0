/** Makes whole connections turn by turn, and checks what is read of them. */
import type { t as Tap } from "tap";
import type { Flow } from "../../protocol/flow-record.ts";
import { ACK, FIN, SYN, ethernet, ipv4, join, latin1, tcp, u16, u24 } from "../frames.ts";
import { read } from "./captures.ts";
import type { Frame } from "./captures.ts";

export const HELLO_BODY = join(u16(0x0303), new Uint8Array(32), [0], u16(2), u16(0x1301), [1, 0]);
export const hello = (type: number, body: Uint8Array) => join([type], u24(body.length), body);
export const record = (type: number, body: Uint8Array) =>
  join([type, 3, 1], u16(body.length), body);

/** A ClientHello and a ServerHello, each a record (RFC 8446 §4.1). */
export const CLIENT_HELLO = record(22, hello(1, HELLO_BODY));
export const SERVER_HELLO = record(
  22,
  hello(2, join(u16(0x0303), new Uint8Array(32), [0], u16(0xc02f), [0])),
);
/** TLS 1.2 (RFC 5246 §7.3) whose server sends a chain of so many bytes, in segments of 1000. */
export function longChain(bytes: number): Frame[] {
  const certificate = hello(11, join(u24(bytes), new Uint8Array(bytes)));
  const turns: Turn[] = [
    [">", CLIENT_HELLO],
    ["<", SERVER_HELLO],
  ];
  const records: Uint8Array[] = [];
  for (let at = 0; at < certificate.length; at += 16_000) {
    records.push(record(22, certificate.subarray(at, at + 16_000)));
  }
  const flight = join(...records, record(22, hello(14, new Uint8Array(0))));
  for (let at = 0; at < flight.length; at += 1000) {
    turns.push(["<", flight.subarray(at, at + 1000)]);
  }
  const finish = [record(20, Uint8Array.of(1)), record(22, new Uint8Array(40).fill(9))];
  turns.push([">", join(record(22, hello(16, new Uint8Array(66))), ...finish)]);
  turns.push(["<", join(...finish)], [">", record(23, new Uint8Array(60).fill(9))]);
  turns.push(["<", record(23, new Uint8Array(600).fill(9))], [">", "close"], ["<", "close"]);
  return talk(turns);
}

/** `>` is the client's, `<` the server's. */
export type Turn = readonly [">" | "<", Uint8Array | "close"];
export const text = (words: string) => latin1(words);

/** The frames of a connection in which the sides take turns, from port 40000 to `port`. */
export function talk(turns: readonly Turn[], begins = true, port = 7000): Frame[] {
  const frames: Frame[] = [];
  const sent = { ">": 1000, "<": 5000 };
  const push = (way: ">" | "<", flags: number, payload = new Uint8Array(0)) => {
    const up = way === ">";
    const ends = up
      ? { source: "10.0.0.1", destination: "10.0.0.2" }
      : { source: "10.0.0.2", destination: "10.0.0.1" };
    const segment = tcp(
      {
        ...(up ? { from: 40000, to: port } : { from: port, to: 40000 }),
        ...{ flags, sequence: sent[way], acknowledgment: sent[up ? "<" : ">"] },
      },
      payload,
    );
    const timeUs = 1.7e15 + frames.length * 1000;
    frames.push({ bytes: ethernet(ipv4(ends, segment)), timeUs, linkType: 1 });
    sent[way] += payload.length + ((flags & (SYN | FIN)) !== 0 ? 1 : 0);
  };
  if (begins) {
    push(">", SYN);
    push("<", SYN | ACK);
    push(">", ACK);
  }
  for (const [way, what] of turns) {
    if (what === "close") push(way, FIN | ACK);
    else push(way, ACK, Uint8Array.from(what));
  }
  return frames;
}

export type Said = Partial<Flow> & { failed?: string | null };

/** Checks what is read of a connection; `failed` is the failure's code. */
export function check(t: { match: typeof Tap.match }, turns: Turn[], wanted: Said) {
  const [record] = read(talk(turns));
  t.match({ ...record, failed: record?.failure?.code ?? null }, wanted);
}
