/**
 * Tests what is concluded from sizes, order and acknowledgments behind a ServerHello of TLS 1.3. The
 * sizes are those that real stacks and proxies sent (named beside each); what is right is how those
 * connections were set up.
 */
import path from "node:path";
import t from "tap";
import { ACK, FIN, RST, SYN, ethernet, hex, ipv4, join, tcp, u16 } from "../frames.ts";
import { cutsIn } from "../../scripts/cuts.ts";
import { read } from "./captures.ts";
import type { Frame } from "./captures.ts";
import { hello, record } from "./talk.ts";

const sized = (body: Uint8Array) => join(u16(body.length), body);
const extension = (type: number, body: Uint8Array) => join(u16(type), sized(body));
const START = join(u16(0x0303), new Uint8Array(32), [0]);
const MODES = extension(45, hex("01 01"));
const ASKABLE = extension(49, new Uint8Array(0));
const EARLY = extension(42, new Uint8Array(0));
const PSK = extension(41, new Uint8Array(80));
const SELECTED = extension(41, hex("0000"));

type Hellos = { offers?: Uint8Array[]; selects?: Uint8Array[]; suites?: number[] };

/**
 * The frames of a connection, by its segments: `>53+73` are records of type 23 of the client's, by
 * their lengths, `<` the server's; `>h` and `<h` the hellos, with records behind them in the same
 * segment; `F` and `R` end it; `@300` waits so many milliseconds. A segment acknowledges all that came
 * before it, but for the last `n` segments of the other side with `~n`.
 */
function frames(
  script: string,
  { offers = [MODES], selects = [], suites = [0x1301] }: Hellos,
): Frame[] {
  const all = join(extension(43, hex("02 0304")), ...offers);
  const listed = sized(join(...suites.map(u16)));
  const clientHello = hello(1, join(START, listed, [1, 0], sized(all)));
  const chosen = join(extension(43, hex("0304")), ...selects);
  const serverHello = hello(2, join(START, u16(suites[0]!), [0], sized(chosen)));
  const out: Frame[] = [];
  let timeUs = 1.7e15;
  const sent = { ">": [1000], "<": [5000] };
  const push = (way: ">" | "<", flags: number, payload: Uint8Array, unheard = 0) => {
    const up = way === ">";
    const [from, to] = up ? [40000, 7000] : [7000, 40000];
    const [source, destination] = up ? ["10.0.0.1", "10.0.0.2"] : ["10.0.0.2", "10.0.0.1"];
    const other = sent[up ? "<" : ">"];
    const acknowledgment = other[Math.max(0, other.length - 1 - unheard)]!;
    const sequence = sent[way].at(-1)!;
    const segment = tcp({ from, to, flags, sequence, acknowledgment }, Uint8Array.from(payload));
    timeUs += 1000;
    out.push({ bytes: ethernet(ipv4({ source, destination }, segment)), timeUs, linkType: 1 });
    sent[way].push(sequence + payload.length + ((flags & (SYN | FIN)) !== 0 ? 1 : 0));
  };
  const nothing = new Uint8Array(0);
  push(">", SYN, nothing);
  push("<", SYN | ACK, nothing);
  push(">", ACK, nothing);
  for (const token of script.trim().split(/\s+/)) {
    if (token.startsWith("@")) {
      timeUs += Number(token.slice(1)) * 1000;
      continue;
    }
    const way = token[0] as ">" | "<";
    const [what = "", unheard = "0"] = token.slice(1).split("~");
    if (what === "F") push(way, FIN | ACK, nothing, Number(unheard));
    else if (what === "R") push(way, RST | ACK, nothing, Number(unheard));
    else {
      const records = what.split("+").map((part) => {
        if (part === "h") return record(22, way === ">" ? clientHello : serverHello);
        return record(23, new Uint8Array(Number(part)).fill(7));
      });
      push(way, ACK, join(...records), Number(unheard));
    }
  }
  return out;
}

/** `mutual handshake accepted failure` of the flow that a script makes. */
function said(script: string, hellos: Hellos = {}): string {
  const [flow] = read(frames(script, hellos));
  const { tls, handshake, accepted, failure } = flow!;
  return `${tls?.mutual} ${handshake} ${accepted} ${failure?.code ?? null}`;
}

const BEHIND = "inferred-yes complete null null";
const mutualOf = (script: string) => said(script).split(" ")[0];

const check = (script: string, wanted: string, hellos: Hellos = {}) =>
  t.equal(said(script, hellos), wanted, script);

const OPEN = ">h <h+27+141+815+96+53";
const SHOWN = `${OPEN} >488+96+53`;

t.test("tickets and a close are no answer, whatever their size and place", async () => {
  const open = "inferred-yes complete null null";
  check(`${OPEN} >468+97+53 >73 <1341+19 <F`, open); // Envoy: with the close
  check(`${SHOWN} >73 <968 <F`, open); // Go
  check(`${OPEN} >2516+281+53 <5012 <F >19`, open); // Go, a long chain, a silent client
  check(`${SHOWN} >73 <746+746+19 <F`, open); // Node
  check(`${SHOWN} >73 <666 <666 <19 <F`, open); // OpenSSL: one after the other
  check(`${SHOWN} >73 <666 <682 <19 <F`, open); // and a block more
  check(`${OPEN} >7953+2445+53 <4266+4266+19 <F`, open); // Node, ML-DSA-44
  check(`${OPEN} >620 >48 <179~1 <R`, open); // linkerd2-proxy
  check(`${OPEN} >899 <2013+19 <F >19`, open); // Envoy, and the client said nothing
});

t.test("what stands behind the tickets answers, and what is too small for one", async () => {
  const answered = "inferred-yes complete true null";
  check(`${OPEN} >899 >50 <2013+50`, answered); // Envoy
  check(`${SHOWN} >73 <968 <76`, answered); // Go
  check(`${SHOWN} <666+666 >44 <22 >F`, answered); // Redis: +OK, and its client leaves
  check(`${SHOWN} <666+666 >44 <22 >44 <22`, answered);
  check(`${SHOWN} <666+666 >44 <22 <19 <F`, "inferred-yes complete null null"); // new keys, a close
  check(`${SHOWN} >73 <16401 <2650 <16401 <2650 <19`, "inferred-yes complete null null"); // long
  check(
    `${OPEN.replace("815", "529+275")} >488+96+53 >73 <529+122 <529+122 <19 <F`,
    "inferred-yes complete null null",
  );
  check(`${OPEN} >769 <179 <50 >41 <30`, answered); // ztunnel: SETTINGS, then answers
  check(`${SHOWN} >73 ${"<1024 ".repeat(6)}`, "inferred-yes complete null null");
  check(`${SHOWN} >73 ${"<1024 ".repeat(7)}`, answered); // a download in records of one size
  check(`${SHOWN} >73 <35`, answered); // 18 bytes, of a server that pads nothing
  check(`${SHOWN} >22 <179 <22`, "inferred-yes complete null null"); // a KeyUpdate for another
  check(`${SHOWN} <179 <50`, "inferred-yes complete null null"); // greets who says nothing
  check(`${SHOWN} >19 <179 <19`, "inferred-yes complete null null"); // who leaves says nothing
});

t.test("a server whose tickets stand behind its own flight, or that sends none", async () => {
  check(`>h <h+27+815+95+53+139 >53 >73 <76 <19`, "inferred-no complete true null"); // Go
  check(`>h <h+23+770+96+53 <252+252 >53 >68 <805`, "inferred-no complete true null"); // GnuTLS
  check(`>h <h+27+815+95+53 >53 >68 <76 <19 <F`, "inferred-no complete true null", { offers: [] });
  check(`>h <h+27+815+95+53 >53 >68 <234 <19 <F`, "inferred-no complete null null", { offers: [] });
  check(`>h <h+27+815+95+53 >53 >68 <76 <19 <F`, "inferred-no complete null null");
  // Half-RTT data of two sizes: only what follows the client's next words is an answer.
  const half = ">h <h+27+815+95+53+300+900 >53+73 <700";
  check(half, "inferred-no complete null null");
  check(`${half} <400`, "inferred-no complete null null");
  check(`${half} >73 <400`, "inferred-no complete true null");
});

t.test("who leaves right behind the flight refuses it, and nothing else does", async () => {
  const refused = "inferred-yes failed false client-cert-refused";
  check(`${SHOWN} <19 <F`, refused);
  check(`${SHOWN} >35 <19 <F`, refused); // the client's only message has 18 bytes
  check(`${OPEN} >504 <19 <F >113 <R`, refused); // Java: its Certificate alone had come
  check(`${SHOWN} <F`, refused); // Node, gRPC's C core: no alert
  check(`${SHOWN} <R`, refused);
  check(`>h <h+1367 >852+97+53 <F >68 <R`, refused); // Bun
  check(`${OPEN} >25+53 <19 <F`, "inferred-declined failed false client-cert-missing");
  check(`${OPEN} >77+84 <19 <F`, "inferred-declined failed false client-cert-missing"); // SSLEngine
  check(`${OPEN} >77+84 <139 <76`, "inferred-declined complete true null");
  // What it does not acknowledge it did not read.
  check(`>h <h+997 <F >900 <R`, "null failed false server-aborted");
  // It read, and closed: so do servers without tickets.
  check(`${SHOWN} >73 <F`, "inferred-yes null null null");
  check(`${SHOWN} >73 @310 <19 <F`, "inferred-yes null null null"); // s2n, or a slow refusal
  check(`${SHOWN} <19 @6400 <19 >19 >F`, "inferred-yes complete null null"); // two bytes, first
  check(`${SHOWN} >73 <19+19 <F`, "inferred-yes null null null"); // two bytes, and a close
  check(`${SHOWN} @1000 <F`, "inferred-yes null null null"); // idle
  check(`${SHOWN} >19 >F <19 <F`, "inferred-yes null null null"); // it left before it was refused
  check(`${SHOWN} <19`, "inferred-yes incomplete null null"); // and nothing came behind it
});

t.test("no certificate where none was proven", async () => {
  check(`${OPEN} >371+19 >F`, "null null null null"); // Go breaks off behind its Certificate
  check(`${OPEN} >610`, "null incomplete null null");
  check(`${OPEN} >610 <19 <F >19`, "inferred-yes failed false client-cert-refused");
  check(`${OPEN} >602 <179 >48`, "inferred-yes complete null null");
  check(`${OPEN} >602 <179`, "null complete null null"); // it may be padded
  check(`${OPEN} >121+96+53 <234+234 >40 <60`, "inferred-yes complete true null"); // raw keys
});

t.test("behind a PSK nobody is asked; early data is no flight", async () => {
  const psk = { offers: [MODES, EARLY, PSK], selects: [SELECTED] };
  check(`>h+21+317 <h+63 >21+53 >68 <195 <76`, "resumed resumed true null", psk);
  check(`>h+317 <h+63 >21+53`, "resumed incomplete null null", psk);
  const rejected = { offers: [MODES, EARLY, PSK] };
  check(`>h+87 <h+778 >53 >21 <195 <76`, "inferred-no complete true null", rejected);
  check(`>h+87 <h+778 >600 <195`, "null incomplete null null", rejected);
});

t.test("HTTP/2 says much of itself before it answers, and where it rejects", async () => {
  const h2 = { offers: [MODES, extension(16, sized(join([2], [0x68, 0x32])))] };
  const begun = ">h <h+36+412+96+69 >53 <266+266 >72"; // an empty server_name, and ALPN
  check(`${begun} <57 <39 <19 <F`, "inferred-no complete null null", h2); // nginx: 444
  check(`${begun} <47+47+19 <F`, "inferred-no complete null null", h2); // haproxy: reject
  check(`${begun} <57 <39 <180`, "inferred-no complete true null", h2);
  const none = begun.replace("36", "23"); // no ALPN was chosen: it is HTTP/1.1
  check(`${none} <76 <19 <F`, "inferred-no complete true null", h2);
});

t.test("a suite with a short tag", async () => {
  const ccm8 = { suites: [0x1305] };
  const open = ">h <h+15+58+779+87+45";
  check(`${open} >396+88+45 <11 <R`, "inferred-yes failed false client-cert-refused", ccm8);
  check(`${open} >773+89+45 <594 <610 >29 <11 <F`, "inferred-yes complete null null", ccm8);
  check(`>h <h+15+779+87+45 >45+29 <226+226+49+11`, "inferred-no complete true null", ccm8);
});

t.test("padding hides what sizes would tell", async () => {
  for (const block of [20, 50, 100, 300]) {
    const n = (bytes: number) => 16 + Math.ceil((bytes + 1) / block) * block;
    const own = [6, 140, 800, 80, 36].map(n).join("+");
    const alert = n(2);
    check(`>h <h+${own} >488+96+53 >73 <${n(620)} <${n(620)} <${alert} <F`.trim(), BEHIND);
    check(`>h <h+${own} >25+53 <${alert} <F`, "inferred-declined null null null");
    const padded = `>h <h+27+815+95+53 >${n(36)} >${n(40)} <250+250+57`;
    t.not(mutualOf(padded), "inferred-yes", `a client that pads to ${block}`);
  }
  check(`${OPEN} >528 >528`, "null null null null"); // OpenSSL, record_padding 512, one-way
  check(`${OPEN} >528+528 <139 >528 <76`, "null complete true null"); // told by what came behind
  check(`${OPEN} >528+528 <19 <F`, "null null null null");
  const padded = ">h <h+80+144+1232+144+80";
  check(`${padded} >25+53 >73 <80 <F`, "inferred-declined null null null"); // an alert, padded
  check(`${padded} >488+96+53 >73 <272+272 <144 <80 <F`, "inferred-yes complete true null");
  check(`${padded} >488+96+53 >73 <272+272 <80 <F`, "inferred-yes complete null null");
  // Java pads by 16: its alert has 35 bytes, and a peaceful end two of them.
  const java = ">h <h+65+165+831+112+69";
  check(`${java} >488+96+53 <35 <F`, "inferred-yes failed false client-cert-refused");
  check(`${java} >488+96+53 <35+35 <F`, "inferred-yes complete null null");
});

t.test("who may be asked later may show a certificate later", async () => {
  const askable = { offers: [MODES, ASKABLE] };
  const one = ">h <h+23+907+281+53 >53 >95 <250 <250";
  check(`${one} <5262`, "null complete null null", askable); // an answer, or a request
  check(`${one} <5262 <19 >19 >F`, "inferred-no complete true null", askable);
  check(`${one} <94+42 >885+97+53`, "null complete true null", askable);
  check(`${one} <94 >57+53 <19 <F`, "null complete null null", askable);
  check(`${one} <94+42 >885+97+53 <714 >35 >F`, "null complete true null", askable);
});

t.test("HBONE is told by ztunnel's hello and a client certificate, to whichever port", async () => {
  const h2 = extension(16, sized(join([2], [0x68, 0x32])));
  const mesh = (script: string, suites: number[]) =>
    read(frames(script, { offers: [MODES, h2], suites }))[0]!.tls!.mesh;
  const [own, shown] = [[0x1302, 0x1301], ">h <h+851 >768 <179 <50 >41"];
  t.equal(mesh(shown, own), "istio-ambient");
  t.equal(mesh(shown, [0x1301, 0x1302]), null, "other clients order their suites otherwise");
  t.equal(mesh(shown, [0x1302, 0x1301, 0x1303]), null);
  t.equal(mesh(">h <h+851 >69 <179 <50", own), null, "without a certificate it is none");
});

t.test("knowing less never asserts more", async (t) => {
  const golden = path.join(import.meta.dirname, "../golden");
  const { flows, tried, cuts } = await cutsIn([golden], 3);
  t.strictSame(
    cuts.map(({ label, how, fault }) => `${label.file} ${how}: ${fault}`),
    [],
  );
  t.ok(flows >= 50 && tried > 1000, `${flows} flows, ${tried} ways`);
});
