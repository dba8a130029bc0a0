/** Checks LDAP, Kerberos, SNMP and SMB, constructed from their published grammars. */
import t from "tap";
import { hex, join, latin1, u16, u24, u32 } from "../frames.ts";
import { checkCuts, nameOf, nameOfDatagram, nameOfPair } from "./naming.ts";

type Part = Uint8Array | readonly number[];

/** A BER element (X.690 §8.1); `long` writes its length in four bytes, as Active Directory does. */
function ber(tag: number, parts: readonly Part[], long = false): Uint8Array {
  const body = join(...parts);
  const short = body.length < 128 ? [body.length] : [0x82, ...u16(body.length)];
  return join([tag], long ? [0x84, ...u32(body.length)] : short, body);
}
const integer = (value: number, tag = 2) => ber(tag, [[value]]);
const octets = (words: string, tag = 4) => ber(tag, [latin1(words)]);

/** RFC 4511 §4.1.1. */
const ldap = (operation: Uint8Array, long = false) => ber(0x30, [integer(7), operation], long);
const result = (tag: number, long = false) =>
  ldap(ber(tag, [integer(0, 0x0a), octets(""), octets("")], long), long);
const BIND = ldap(ber(0x60, [integer(3), octets("cn=a"), octets("secret", 0x80)])); // §4.2
const SEARCH = ldap(
  ber(
    0x63, // §4.5.1
    [
      ...[octets("dc=example"), integer(2, 0x0a), integer(0, 0x0a), integer(0), integer(0)],
      ...[ber(1, [[0]]), octets("objectClass", 0x87), ber(0x30, [])],
    ],
    true,
  ),
  true,
);
const UNBIND = hex("30 05 02 01 07 42 00"); // §4.3
const START_TLS = ldap(ber(0x77, [octets("1.3.6.1.4.1.1466.20037", 0x80)])); // §4.14.1

/** RFC 4120 §5.4.1: a KDC-REQ counts from [1], the others from [0] (§5.4.2, §5.9.1). */
function kerberos(tag: number, type: number, first = 0xa0): Uint8Array {
  const head = [ber(first, [integer(5)]), ber(first + 1, [integer(type)])];
  return ber(tag, [ber(0x30, [...head, new Uint8Array(140)])]);
}
const framed = (message: Uint8Array) => join(u32(message.length), message); // §7.2.2
const AS_REQ = kerberos(0x6a, 10, 0xa1);
const KRB_ERROR = kerberos(0x7e, 30);

/** MS-CIFS §2.2.3.1, MS-SMB2 §2.2.1.2, behind RFC 1002 §4.3.1. */
const session = (message: Uint8Array) => join([0], u24(message.length), message);
const smb1 = (flags: number) =>
  session(join(hex("ff 534d42 72 00000000"), [flags], new Uint8Array(25)));
const smb2 = (flags: number) =>
  session(join(hex("fe 534d42 4000 0000 00000000 0000 0000"), [flags], new Uint8Array(47)));
const netbios = "EEEFEDELFAFCEJEOEHCACACACACACACA"; // RFC 1001 §14.1
const SESSION_REQUEST = join(
  ...[hex("81 00 0044 20"), latin1(netbios), hex("00 20"), latin1(netbios), [0]],
);

checkCuts([
  ["ldap", "client", BIND],
  ["ldap", "client", SEARCH],
  ["ldap", "client", UNBIND],
  ["ldap", "client", START_TLS],
  ["ldap", "client", ldap(ber(0x50, [[3]]))],
  ["ldap", "client", ldap(octets("cn=a", 0x4a))],
  ["ldap", "server", result(0x61)],
  ["ldap", "server", result(0x65, true)],
  ["ldap", "server", result(0x78)],
  ["ldap", "server", ldap(ber(0x64, [octets("cn=a"), ber(0x30, [])]))],
  ["kerberos", "client", framed(AS_REQ)],
  ["kerberos", "client", framed(kerberos(0x6c, 12, 0xa1))],
  ["kerberos", "server", framed(kerberos(0x6b, 11))],
  ["kerberos", "server", framed(kerberos(0x6d, 13))],
  ["kerberos", "server", framed(KRB_ERROR)],
  ["smb", "client", smb1(0x18)],
  ["smb", "server", smb1(0x98)],
  ["smb", "client", smb2(0)],
  ["smb", "server", smb2(1)],
  ["smb", "client", session(join(hex("fd 534d42"), new Uint8Array(48)))],
  ["smb", "server", session(join(hex("fc 534d42"), new Uint8Array(48)))],
  ["smb", "client", SESSION_REQUEST],
]);

t.test("of the other side they are not", async (t) => {
  for (const bytes of [BIND, SEARCH, framed(AS_REQ), smb1(0x18), smb2(0)]) {
    t.equal(nameOf("server", bytes), "no");
  }
  for (const bytes of [result(0x61), framed(KRB_ERROR), smb1(0x98), smb2(1)]) {
    t.equal(nameOf("client", bytes), "no");
  }
});

/** RFC 3416 §3, RFC 3412 §6. */
const pdu = (tag: number) => ber(tag, [integer(9), integer(0), integer(0), ber(0x30, [])]);
const snmp = (version: number, tag: number) =>
  ber(0x30, [integer(version), octets("public"), pdu(tag)]);
const HEADER_DATA = ber(0x30, [
  ber(2, [[1, 2, 3, 4]]),
  ber(2, [[0, 255, 227]]),
  octets("\x04"),
  integer(3),
]);
const SNMP3 = ber(0x30, [integer(3), HEADER_DATA, octets("engine"), ber(0x30, [])]);
const TRAP = ber(0x30, [integer(0), octets("public"), ber(0xa4, [ber(6, [[0x2b, 6]])])]);

t.test("datagrams: CLDAP, Kerberos and its passwords, SNMP of three versions", async (t) => {
  t.equal(nameOfDatagram(SEARCH), "ldap");
  t.equal(nameOfDatagram(result(0x65)), "ldap");
  t.equal(nameOfDatagram(AS_REQ), "kerberos");
  t.equal(nameOfDatagram(KRB_ERROR), "kerberos");
  const ticket = kerberos(0x6e, 14);
  const password = join(u16(6 + ticket.length), u16(0xff80), u16(ticket.length), ticket);
  t.equal(nameOfDatagram(password), "kerberos", "RFC 3244 §2");
  for (const tag of [0xa0, 0xa1, 0xa2, 0xa3, 0xa5, 0xa8]) {
    t.equal(nameOfDatagram(snmp(1, tag)), "snmp");
  }
  t.equal(nameOfDatagram(snmp(0, 0xa0)), "snmp");
  t.equal(nameOfDatagram(TRAP), "snmp");
  t.equal(nameOfDatagram(SNMP3), "snmp");
});

t.test("what only looks alike", async (t) => {
  t.equal(nameOf("client", ber(0x30, [integer(7), octets("a")])), "no", "a SEQUENCE of another");
  t.equal(nameOf("client", ldap(ber(0x60, [integer(9), octets("")]))), "no", "LDAP of version 9");
  t.equal(nameOf("client", framed(kerberos(0x6a, 11, 0xa1))), "no", "AS-REQ that says AS-REP");
  t.equal(nameOf("client", hex("00 000020 ff 58585858")), "no", "a session without SMB");
  t.equal(nameOf("client", hex("82 000000")), "no", "a session's answer by a client");
  t.equal(nameOf("server", hex("82 000000")), "no", "four bytes alone");
  t.equal(nameOf("server", hex("82 000000"), 139), "smb", "at their port");
  t.equal(nameOfDatagram(ber(0x30, [integer(7), octets("public"), pdu(0xa0)])), "no", "version 7");
  t.equal(nameOfDatagram(snmp(1, 0xaf)), "no", "no such PDU");
  t.equal(nameOfDatagram(ber(0x30, [integer(4), integer(4)])), "no");
  t.equal(nameOfPair(BIND, result(0x61)), "ldap");
});
