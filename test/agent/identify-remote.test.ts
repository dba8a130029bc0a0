/** Checks RDP, VNC, Telnet, SIP, RTSP, XMPP and IRC, constructed from their published grammars. */
import t from "tap";
import { hex, join, latin1, u16 } from "../frames.ts";
import { checkCuts, nameOf, nameOfDatagram, nameOfPair, say } from "./naming.ts";

/** RFC 1006 §6 and X.224 §13.3; what follows is MS-RDPBCGR §2.2.1.1.1 or another's parameters. */
function x224(code: number, rest: Uint8Array): Uint8Array {
  const length = 11 + rest.length;
  return join([3, 0], u16(length), [length - 5, code, 0, 0, 0, 0, 0], rest);
}
const NEGOTIATION = hex("01 00 0800 03000000");
const COOKIE = latin1("Cookie: mstshash=joe\r\n");
const NOTHING = new Uint8Array(0);

checkCuts([
  ["rdp", "client", x224(0xe0, NEGOTIATION)],
  ["rdp", "client", x224(0xe0, COOKIE)],
  ["rdp", "client", x224(0xe0, join(COOKIE, NEGOTIATION))],
  ["rdp?", "client", x224(0xe0, NOTHING)],
  ["rdp", "server", x224(0xd0, hex("02 1f 0800 02000000"))],
  ["rdp", "server", x224(0xd0, hex("03 00 0800 05000000"))],
  ["vnc", "server", latin1("RFB 003.008\n")], // RFC 6143 §7.1.1
  ["vnc", "client", latin1("RFB 003.889\n")],
]);

t.test("RDP, VNC and Telnet: what they share with others", async (t) => {
  // S7 and MMS negotiate a TPDU's size and name their ends (RFC 905 §13.3.4).
  const s7 = x224(0xe0, hex("c0 01 0a c1 02 0100 c2 02 0102"));
  t.equal(nameOf("client", s7, 3389), "no");
  t.equal(nameOfPair(s7, x224(0xd0, hex("c0 01 0a"))), "no");
  // H.225 has Q.931 behind TPKT.
  t.equal(nameOf("client", hex("03 00 0010 08 02 0001 05 04 03 88 93 a5 00 00")), "no");
  t.equal(nameOfPair(x224(0xe0, NOTHING), x224(0xd0, NOTHING)), "rdp", "as RDP 4 does");
  t.equal(nameOf("client", x224(0xe0, NOTHING)), "no");
  t.equal(nameOf("client", x224(0xe0, NOTHING), 3389), "rdp");
  t.equal(nameOf("server", latin1("RFB 3.8\n")), "no");
  t.equal(nameOfPair(hex("ff fb 18"), hex("ff fd 18")), "telnet", "RFC 854");
  t.equal(nameOf("server", hex("ff fd 18")), "no");
  t.equal(nameOf("server", hex("ff fd 18"), 23), "telnet");
  t.equal(nameOfPair(hex("ff fb 90"), hex("ff fb 90")), "no", "sound of MPEG begins so");
});

const METHODS = [
  ...["INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "INFO", "PRACK", "SUBSCRIBE"],
  ...["NOTIFY", "UPDATE", "MESSAGE", "REFER", "PUBLISH"],
];
const sip = (method: string) => latin1(`${method} sip:bob@example.com SIP/2.0\r\nVia: a\r\n\r\n`);
const rtsp = (method: string) => latin1(`${method} rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\n\r\n`);

checkCuts([
  ...METHODS.map((method) => ["sip", "client", sip(method)] as const),
  ["sip", "client", join(latin1("\r\n\r\n"), sip("INVITE"))], // RFC 3261 §7.5
  ["sip", "server", latin1("SIP/2.0 100 Trying\r\n")],
  ...["OPTIONS", "DESCRIBE", "SETUP", "PLAY", "GET_PARAMETER"].map(
    (method) => ["rtsp", "client", rtsp(method)] as const,
  ),
  ["rtsp", "server", latin1("RTSP/1.0 200 OK\r\n")],
  ["http", "client", latin1("OPTIONS * HTTP/1.1\r\n")],
  ["http", "client", latin1("NOTIFY sip:a HTTP/1.1\r\n")],
]);

t.test("SIP in datagrams", async (t) => {
  for (const method of METHODS) t.equal(nameOfDatagram(sip(method)), "sip", method);
  t.equal(nameOfDatagram(latin1("SIP/2.0 200 OK\r\n\r\n")), "sip");
  t.equal(nameOfDatagram(sip("NEWMETHOD")), "sip", "an extension's method");
  t.equal(nameOfDatagram(latin1("\r\n\r\n"), 5060), "sip", "RFC 5626 §4.4.1");
  t.equal(nameOfDatagram(latin1("\r\n\r\n")), "no");
  t.equal(nameOfDatagram(latin1("NOTIFY * HTTP/1.1\r\n\r\n"), 5060), "no");
  t.equal(nameOfDatagram(rtsp("SETUP")), "rtsp");
  t.equal(nameOfDatagram(latin1("hello"), 5060), "no");
});

/** RFC 6120 §4.7, XEP-0114 §3. */
const stream = (namespace: string, quote = "'") =>
  `<stream:stream xmlns=${quote}${namespace}${quote} to='a' version='1.0'>`;
const XML = "<?xml version='1.0'?>";

checkCuts([
  ["xmpp", "client", latin1(stream("jabber:client"))],
  ["xmpp", "client", latin1(`${XML}\n${stream("jabber:server", '"')}`)],
  ["xmpp", "server", latin1(XML + stream("jabber:component:accept"))],
  ["xmpp", "client", latin1("<stream to='a' xmlns='http://etherx.jabber.org/streams'>")],
  ["irc", "client", latin1("NICK joe\r\n")], // RFC 2812 §3.1
  ["irc", "client", latin1("USER joe 0 * :Joe\r\n")],
  ["irc", "client", latin1("PASS x\r\nNICK joe\r\n")],
  ["irc", "client", latin1("CAP LS 302\r\n")],
  ["irc", "client", latin1("PRIVMSG bob :\x01VERSION\x01\r\n")],
  ["irc", "server", latin1(":irc.example 001 joe :Welcome\r\n")],
  ["irc", "server", latin1(":irc.example NOTICE * :*** Looking up your hostname\r\n")],
  ["irc", "server", latin1("NOTICE AUTH :*** Checking Ident\r\n")],
]);
checkCuts(
  [
    ["xmpp", "client", latin1("<message to='a@b' type='chat'><body>")], // RFC 6120 §8
    ["xmpp", "server", latin1('<iq id="1" type="result"/>')],
    ["xmpp", "client", latin1("<presence/>")],
    ["xmpp", "server", latin1("</stream:stream>")],
  ],
  true,
);

t.test("other XML, and commands that others have too", async (t) => {
  for (const xml of [
    `${XML}<html>`,
    "<methodCall><x/></methodCall>",
    "<message>hello",
    "<a b='c'>",
  ]) {
    t.equal(nameOf("client", latin1(xml)), "no", xml);
    t.equal(nameOf("client", latin1(xml), 5222, true), "no", `${xml} mid-stream`);
  }
  t.not(say("client", latin1("PASS x\r\nLIST\r\n")), "irc");
  t.not(say("client", latin1("USER joe\r\nPASS x\r\n")), "irc", "FTP and POP3 have one name");
  t.not(say("client", latin1("NOTICE\r\n")), "irc");
  t.equal(nameOf("client", latin1("MODE B\r\n")), "no");
  t.equal(nameOf("server", latin1(": comment\n")), "no");
});
