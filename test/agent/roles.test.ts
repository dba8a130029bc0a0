/** Tests that a flow's client is told right, or told as a guess, wherever a capture joins it. */
import { globSync } from "node:fs";
import path from "node:path";
import t from "tap";
import type { Flow } from "../../protocol/flow-record.ts";
import { ACK, RST, SYN, ethernet, ipv4, tcp } from "../frames.ts";
import type { TcpFields } from "../frames.ts";
import { GOLDEN, framesOf, read } from "./captures.ts";
import type { Frame } from "./captures.ts";

/** Ends of a flow, in one order whoever is the client. */
const endsOf = (f: Flow) =>
  [f.proto, ...[`${f.src_ip} ${f.src_port}`, `${f.dst_ip} ${f.dst_port}`].sort()].join(" ");
const clientOf = (f: Flow) => `${f.src_ip} ${f.src_port}`;
const isGuess = (f: Flow) => f.client_basis === "port" || f.client_basis === "first-seen";

/** A frame's address and port of origin, of IPv4 in Ethernet. */
const senderOf = ({ bytes }: Frame): string => {
  const transport = 14 + (bytes[14]! & 15) * 4;
  return `${bytes.slice(26, 30).join(".")} ${bytes[transport]! * 256 + bytes[transport + 1]!}`;
};

/** Captures that begin before their flows do: whoever sends the first packet is the client. */
type Capture = { name: string; frames: Frame[]; clients: ReadonlyMap<string, string> };
const captures: Capture[] = [];
for (const name of globSync("*.pcap", { cwd: GOLDEN }).sort()) {
  const frames = await framesOf(path.join(GOLDEN, name));
  const isPlain = frames.every(({ bytes, linkType }) => {
    return linkType === 1 && bytes[12] === 8 && (bytes[23] === 6 || bytes[23] === 17);
  });
  const clients = new Map<string, string>();
  for (const frame of frames) {
    for (const flow of isPlain ? read([frame]) : []) {
      const ends = endsOf(flow);
      if (!clients.has(ends)) clients.set(ends, senderOf(frame));
    }
  }
  if (isPlain) captures.push({ name, frames, clients });
}

const told = { known: 0, guessed: 0 };
const wrong: string[] = [];

function check(how: string, flows: readonly Flow[], clients: ReadonlyMap<string, string>): void {
  for (const flow of flows) {
    told[isGuess(flow) ? "guessed" : "known"]++;
    if (isGuess(flow) || clients.get(endsOf(flow)) === clientOf(flow)) continue;
    wrong.push(`${how}: ${clientOf(flow)} by ${flow.client_basis}`);
  }
}

t.test("joined at any frame the client is right, or a guess", async (t) => {
  t.ok(captures.length > 100, `${captures.length} captures`);
  for (const { name, frames, clients } of captures) {
    for (let from = 0; from < Math.min(frames.length, 40); from++) {
      check(`${name} from frame ${from + 1}`, read(frames.slice(from)), clients);
    }
  }
  t.strictSame(wrong.splice(0), []);
  t.ok(told.known > 1000 && told.guessed > 100, JSON.stringify(told));
});

t.test("so it is where one side comes before the other, or alone", async (t) => {
  for (const { name, frames, clients } of captures) {
    const [one = [], other = []] = Map.groupBy(frames, senderOf).values();
    if (clients.size !== 1) continue;
    check(`${name}, the server first`, read([...other, ...one]), clients);
    check(`${name}, the server alone`, read(other), clients);
    check(`${name}, the client alone`, read(one), clients);
  }
  t.strictSame(wrong.splice(0), []);
});

t.test("what answers a SYN that was not seen is no connection", async (t) => {
  const frame = (isClient: boolean, fields: TcpFields): Frame => {
    const [source, destination] = isClient ? ["10.0.0.1", "10.0.0.2"] : ["10.0.0.2", "10.0.0.1"];
    const ports = isClient ? { from: 40_000, to: 50_000 } : { from: 50_000, to: 40_000 };
    const bytes = ethernet(ipv4({ source, destination }, tcp({ ...ports, ...fields })));
    return { bytes, timeUs: 1.7e15, linkType: 1 };
  };
  const roles = { src_ip: "10.0.0.1", client_basis: "syn" };
  const refusal = frame(false, { flags: RST | ACK, acknowledgment: 8 });
  t.match(read([refusal]), [{ ...roles, state: "refused", packets: [0, 1] }]);
  const answer = frame(false, { flags: SYN | ACK, sequence: 99, acknowledgment: 8 });
  t.match(read([answer]), [{ ...roles, state: "established", packets: [0, 1] }]);
  const reset = frame(true, { flags: RST, sequence: 8 });
  t.match(read([answer, reset]), [{ ...roles, state: "reset", packets: [1, 1], history: "sR" }]);
});

t.test("of datagrams, those of the server came first: then others came before", async (t) => {
  const kinds = new Set<string>();
  for (const { name, frames, clients } of captures) {
    if (clients.size !== 1 || frames.some(({ bytes }) => bytes[23] !== 17)) continue;
    const late = frames.findIndex((frame) => ![...clients.values()].includes(senderOf(frame)));
    const [whole] = read(frames);
    t.equal(whole!.midstream, false, name);
    const [joined] = late < 0 ? [] : read(frames.slice(late));
    if (joined === undefined || isGuess(joined)) continue;
    kinds.add(String(joined.protocol));
    t.ok(joined.midstream, name);
    t.equal(clientOf(joined), clientOf(whole!), name);
  }
  for (const kind of ["dns", "kerberos", "llmnr", "ntp", "openvpn", "sip", "wireguard"]) {
    t.ok(kinds.has(kind), kind);
  }
});
