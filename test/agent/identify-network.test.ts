/** Checks BGP, NTP, syslog, StatsD, the family of DNS, SOCKS, OpenVPN, constructed from grammars. */
import t from "tap";
import { ethernet, hex, ipv4, join, latin1, u16, u32, udp } from "../frames.ts";
import { read } from "./captures.ts";
import { checkCuts, nameOf, nameOfDatagram, nameOfPair } from "./naming.ts";

const MARKER = new Uint8Array(16).fill(255);
/** RFC 4271 §4.1, §4.2, §4.4. */
const BGP_OPEN = join(MARKER, u16(29), [1, 4], u16(65000), u16(90), [10, 0, 0, 1, 0]);
const KEEPALIVE = join(MARKER, u16(19), [4]);

/** RFC 3164 §4.1, RFC 5424 §6, RFC 6587 §3.4.1. */
const BSD = "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick";
const IETF = "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 - text";
const NIL = "<0>1 - - - - - -";
const counted = (line: string) => latin1(`${line.length} ${line}`);

checkCuts([
  ["bgp", "client", BGP_OPEN],
  ["bgp", "server", KEEPALIVE],
  ["syslog", "client", latin1(`${BSD}\n`)],
  ["syslog", "client", latin1(`${IETF}\n`)],
  ["syslog", "client", counted(IETF)],
  ["syslog", "client", counted(`<13>${"text ".repeat(20)}`)],
  ["statsd", "client", latin1("page.views:1|c|@0.1|#env:prod\n")],
  ["statsd", "client", latin1("a_b-c.d:-3.5|ms\n")],
]);

t.test("syslog: what it takes to be told", async (t) => {
  t.equal(nameOfDatagram(latin1(BSD)), "syslog");
  t.equal(nameOfDatagram(latin1(IETF)), "syslog");
  t.equal(nameOfDatagram(latin1(NIL)), "syslog");
  t.equal(nameOfDatagram(latin1("<189>29: *Apr 12 01:00:00: %LINK")), "no", "a priority alone");
  t.equal(nameOfDatagram(latin1("<189>29: *Apr 12 01:00:00: %LINK"), 514), "syslog", "at its port");
  t.equal(nameOfDatagram(latin1(`<192>${BSD.slice(4)}`), 514), "no", "192 is no priority");
  t.equal(nameOfDatagram(latin1(`<034>${BSD.slice(4)}`), 514), "no", "nor is 034");
  t.equal(nameOf("client", latin1("<13>hello\n")), "no");
  t.equal(nameOf("client", latin1("<13>hello\n"), 514), "syslog");
  t.equal(nameOf("client", latin1("220 mail.example ESMTP\r\n")), "no");
});

t.test("StatsD: each type of metric, and words with colons that are none", async (t) => {
  const metrics = [
    ...["a.b:1|c", "a:1|c|@0.5", "load:0.5|g", "t:320|ms|#a:b,c", "h:1:2:3|h", "d:5|d|T1656581400"],
    ...["users:joe|s", "_e{2,4}:ab|text", "_sc|redis|2|#env:dev", "a,host=b:1|c", "x:+4|g\ny:1|c"],
  ];
  for (const metric of metrics) t.equal(nameOfDatagram(latin1(metric)), "statsd", metric);
  for (const text of ["a:b", "a:1", "key:1|x", "12:00|c", "Host: a|c|b", "GET / HTTP/1.1"]) {
    t.equal(nameOfDatagram(latin1(text)), "no", text);
  }
});

t.test("NTP: a header at its port, of each mode", async (t) => {
  const ntp = (first: number, length = 48) => join([first, 3, 6, 0xe9], new Uint8Array(length - 4));
  for (const mode of [1, 2, 3, 4, 5]) t.equal(nameOfDatagram(ntp(0x20 | mode), 123), "ntp");
  t.equal(nameOfDatagram(ntp(0x1b, 68), 40001, 123), "ntp", "with a MAC; from the port");
  t.equal(nameOfDatagram(join([0x16, 2], u16(1), new Uint8Array(8)), 123), "ntp", "RFC 9327 §2");
  t.equal(nameOfDatagram(hex("17 00 03 2a 00000000"), 123), "ntp", "mode 7");
  t.equal(nameOfDatagram(ntp(0x23)), "no", "at another port");
  t.equal(nameOfDatagram(ntp(0x3b), 123), "no", "version 7");
  t.equal(nameOfDatagram(ntp(0x23, 50), 123), "no", "not in words");
});

/** RFC 1035 §4.1. */
const header = (flags: number, counts: readonly number[]) =>
  join(u16(7), u16(flags), ...counts.map(u16));
const name = (words: string) =>
  join(...words.split(".").map((label) => join([label.length], latin1(label))), [0]);
const question = (words: string, type = 1, klass = 1) => join(name(words), u16(type), u16(klass));
const record = (words: string, type = 1, klass = 1, data = [10, 0, 0, 1]) =>
  join(question(words, type, klass), u32(60), u16(data.length), data);
const QUERY = join(header(0x0100, [1, 0, 0, 0]), question("a.example"));
const POINTER = join(u16(0xc00c), u16(1), u16(1), u32(60), u16(4), [10, 0, 0, 1]);
const ANSWER = join(header(0x8180, [1, 1, 0, 0]), question("a.example"), POINTER);
const MDNS = join(header(0x8400, [0, 1, 0, 0]), record("a.local", 1, 0x8001));
const UPDATE = join(header(0x2800, [1, 0, 1, 0]), question("example", 6), record("a.example"));
const NOTIFY = join(header(0x2400, [1, 0, 0, 0]), question("example", 6));
const REFUSED = header(0x8185, [0, 0, 0, 0]);
const prefixed = (message: Uint8Array) => join(u16(message.length), message);

checkCuts([
  ["dns", "client", prefixed(QUERY)],
  ["dns", "client", join(prefixed(QUERY), prefixed(QUERY))],
  ["dns", "server", join(prefixed(ANSWER), prefixed(ANSWER))],
  ["dns", "server", prefixed(join(header(0x8400, [0, 1, 0, 0]), record("a.example")))],
  ["dns", "client", prefixed(UPDATE)],
]);

t.test("DNS, mDNS and LLMNR are one form at three ports", async (t) => {
  for (const message of [QUERY, ANSWER, MDNS, UPDATE, NOTIFY]) {
    t.equal(nameOfDatagram(message), "dns");
    t.equal(nameOfDatagram(message, 53, 5353), "dns");
    t.equal(nameOfDatagram(message, 5353), "mdns");
    t.equal(nameOfDatagram(message, 40001, 5355), "llmnr");
  }
  t.equal(nameOfDatagram(REFUSED, 53), "dns", "a header alone, from a server");
  t.equal(nameOfDatagram(REFUSED), "no", "and from nowhere");
});

t.test("what is no DNS", async (t) => {
  // RFC 1002 §4.2.12: NetBIOS names are of 32 letters.
  const netbios = (type: number) =>
    join(header(0x0110, [1, 0, 0, 0]), question("EEEFEDELFAFCEJEOEHCACACACACACACA", type));
  t.equal(nameOfDatagram(netbios(0x20), 137), "no", "NB");
  t.equal(nameOfDatagram(netbios(0x21), 137), "no", "NBSTAT");
  t.equal(nameOfDatagram(netbios(0x21), 53), "no", "wherever it is sent");
  t.equal(nameOfDatagram(QUERY.subarray(0, -1), 53), "no", "half a question");
  t.equal(nameOfDatagram(join(header(0x0140, [1, 0, 0, 0]), question("a"))), "no", "Z is zero");
  t.equal(nameOfDatagram(join(header(0x1900, [1, 0, 0, 0]), question("a"))), "no", "opcode 3");
  t.equal(nameOfDatagram(join(header(0x0100, [1, 0, 0, 0]), question("a", 1, 9))), "no", "class 9");
  const loose = join(header(0x8180, [1, 1, 0, 0]), question("a"), hex("7fff"), new Uint8Array(90));
  t.equal(nameOfDatagram(loose), "no", "a record that is none");
  t.equal(nameOf("client", join(u16(3), QUERY)), "no", "a length that is too small");
});

/** RFC 1928 §3; the SOCKS 4 and 4A memos. */
const SOCKS4 = join([4, 1], u16(80), [10, 0, 0, 2], latin1("joe\0"));
const SOCKS4A = join([4, 1], u16(80), [0, 0, 0, 1], latin1("\0a.example\0"));
const GRANTED = join([0, 90], u16(0), [0, 0, 0, 0]);

t.test("SOCKS: what both sides say, or what is said at its port", async (t) => {
  t.equal(nameOfPair(hex("05 02 00 02"), hex("05 00")), "socks");
  t.equal(nameOfPair(hex("05 01 00"), hex("05 ff")), "socks");
  t.equal(nameOfPair(SOCKS4, GRANTED), "socks");
  t.equal(nameOf("client", SOCKS4A), "socks", "4A has a name, which says enough");
  t.equal(nameOf("client", hex("05 02 00 02")), "no");
  t.equal(nameOf("client", hex("05 02 00 02"), 1080), "socks");
  t.equal(nameOfPair(hex("05 02 00 00"), hex("05 00")), "no", "a method offered twice");
  t.equal(nameOfPair(hex("05 01 00"), hex("04 00")), "no");
  // DCE RPC: both sides begin with version 5.0, and neither offers a method.
  const bind = hex("05 00 0b 03 10000000");
  t.equal(nameOfPair(bind, hex("05 00 0c 03 10000000")), "no");
});

/** OpenVPN network protocol, "Reliability layer" and "TLS control channel". */
const SESSION = hex("1122334455667788");
const TIME = u32(1_700_000_000);
const fill = (length: number) => new Uint8Array(length).fill(0xa5);
const openvpn = {
  plain: join([0x38], SESSION, [0], u32(0)),
  plainAnswer: join([0x40], SESSION, [1], u32(0), SESSION, u32(0)),
  auth: (digest: number) => join([0x38], SESSION, fill(digest), u32(1), TIME, [0], u32(0)),
  authAnswer: join([0x40], SESSION, fill(20), u32(1), TIME, [1], u32(0), SESSION, u32(0)),
  crypt: join([0x38], SESSION, u32(1), TIME, fill(32), fill(5)),
  cryptCookie: join([0x38], SESSION, u32(0x0f000001), TIME, fill(32), fill(5)),
  cryptAnswer: join([0x40], SESSION, u32(1), TIME, fill(32), fill(17)),
  crypt2: join([0x50], SESSION, u32(1), TIME, fill(32), fill(5), fill(290), u16(292)),
};

t.test("OpenVPN: resets in clear, with tls-auth, tls-crypt and its second version", async (t) => {
  const { auth, ...others } = openvpn;
  const packets = [...Object.values(others), ...[16, 20, 28, 32, 48, 64].map(auth)];
  for (const packet of packets) {
    t.equal(nameOfDatagram(packet), "openvpn");
    t.equal(nameOf("client", prefixed(packet)), "openvpn", "over TCP, byte by byte");
    t.equal(nameOfDatagram(packet.subarray(0, -1)), "no", "cut by a byte");
    t.equal(nameOfDatagram(join([0x20], packet.subarray(1))), "no", "P_CONTROL_V1");
  }
  t.equal(nameOfDatagram(auth(19)), "no", "no digest has 19 bytes");
  const past = join([0x38], SESSION, u32(1), u32(1000), fill(37));
  t.equal(nameOfDatagram(past), "no", "a time in 1970");
  const [flow] = read([
    { bytes: ethernet(ipv4({ protocol: 17 }, udp(openvpn.crypt))), timeUs: 1.7e15, linkType: 1 },
  ]);
  t.match(flow, { protocol: "openvpn", encryption: "encrypted-other", accepted: null });
});

t.test("IPsec and WireGuard in datagrams", async (t) => {
  const esp = join(u32(0x12345678), u32(5), fill(40));
  t.equal(nameOfDatagram(esp, 4500), "esp", "RFC 3948 §2.1");
  t.equal(nameOfDatagram(hex("ff"), 4500), "esp", "what keeps a NAT open, §2.3");
  t.equal(nameOfDatagram(esp), "no");
  t.equal(nameOfDatagram(join(u32(1), u32(5), fill(40)), 4500), "no", "a reserved SPI");
  const data = join([4, 0, 0, 0], fill(4), [9, 0, 0, 0, 0, 0, 0, 0], fill(32));
  t.equal(nameOfDatagram(data), "wireguard");
  const counter = join([4, 0, 0, 0], fill(4), fill(8), fill(32));
  t.equal(nameOfDatagram(counter), "no", "a counter that cannot have come so far");
});
