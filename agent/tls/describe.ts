/** Puts handshake messages and the sizes of encrypted records into words, with their places. */
import { Cursor } from "../read/cursor.ts";
import { readCertificate } from "./certificate.ts";
import { CIPHER_SUITES } from "./cipher-suites.ts";
import { PRESENTED_MINIMUM } from "./client-flight.ts";
import type { ClientFlight, FlightOffers } from "./client-flight.ts";
import { readAlpn, readUint16List } from "./client-hello.ts";
import { ContentType, Extension, HandshakeType } from "./codes.ts";
import { isDtlsVersion, isGrease, signatureName, versionName } from "./codes.ts";
import { ALERTS, EXTENSIONS, GROUPS } from "./registry.ts";
import { readServerHello, readServerKeyExchange } from "./server-hello.ts";

/** What a message is, where that is written, and its fields, each with its place in the message. */
export type Described = { what: string; source: string; details: string[] };

/** Entries of one list that are written out. */
const LIST_LIMIT = 40;
const CERTIFICATES_LIMIT = 16;

const hex4 = (n: number) => `0x${n.toString(16).padStart(4, "0")}`;
/** A code's name, its number where it has none, and GREASE as that. */
function named(table: ReadonlyMap<number, string>, code: number): string {
  return isGrease(code) ? `GREASE (${hex4(code)})` : (table.get(code) ?? hex4(code));
}
const groupName = (code: number): string => named(GROUPS, code);
const suiteName = (code: number): string => named(CIPHER_SUITES, code);
const extensionName = (code: number): string => named(EXTENSIONS, code);
export const alertName = (code: number): string => ALERTS.get(code) ?? String(code);
const version = (code: number) =>
  isGrease(code) ? `GREASE (${hex4(code)})` : (versionName(code) ?? hex4(code));

function listed(names: readonly string[]): string {
  const kept = names.slice(0, LIST_LIMIT);
  const left = names.length - kept.length;
  return `${kept.join(", ")}${left > 0 ? `, and ${left} more` : ""}`;
}

const RECORDS: ReadonlyMap<number, string> = new Map([
  [0, "SSLv2-style hello"],
  [ContentType.changeCipherSpec, "change_cipher_spec"],
  [ContentType.alert, "alert"],
  [ContentType.handshake, "handshake"],
  [ContentType.applicationData, "application_data"],
  [ContentType.heartbeat, "heartbeat"],
]);
export const recordName = (type: number): string => RECORDS.get(type) ?? `type ${type}`;

/** Handshake messages (RFC 8446 §4, RFC 5246 §7.4), and where each is described. */
const MESSAGES: ReadonlyMap<number, readonly [string, string]> = new Map([
  [HandshakeType.helloRequest, ["HelloRequest", "RFC 5246 §7.4.1.1"]],
  [HandshakeType.clientHello, ["ClientHello", "RFC 8446 §4.1.2"]],
  [HandshakeType.serverHello, ["ServerHello", "RFC 8446 §4.1.3"]],
  [HandshakeType.newSessionTicket, ["NewSessionTicket", "RFC 5077 §3.3"]],
  [HandshakeType.certificate, ["Certificate", "RFC 5246 §7.4.2"]],
  [HandshakeType.serverKeyExchange, ["ServerKeyExchange", "RFC 5246 §7.4.3"]],
  [HandshakeType.certificateRequest, ["CertificateRequest", "RFC 5246 §7.4.4"]],
  [HandshakeType.serverHelloDone, ["ServerHelloDone", "RFC 5246 §7.4.5"]],
  [HandshakeType.certificateVerify, ["CertificateVerify", "RFC 5246 §7.4.8"]],
  [HandshakeType.clientKeyExchange, ["ClientKeyExchange", "RFC 5246 §7.4.7"]],
  [HandshakeType.finished, ["Finished", "RFC 5246 §7.4.9"]],
  [HandshakeType.certificateStatus, ["CertificateStatus", "RFC 6066 §8"]],
]);

/** What was negotiated before, which later messages are read by. */
export type Negotiated = { suite: number; version: number };

/** Describes the message in `[at, end)`, header included. */
export function describeMessage(
  view: DataView,
  at: number,
  end: number,
  negotiated: Negotiated | null,
): Described {
  const type = view.getUint8(at);
  const [name, source] = MESSAGES.get(type) ?? [`handshake message ${type}`, "RFC 8446 §4"];
  const described: Described = { what: `${name}, ${end - at} bytes`, source, details: [] };
  const c = new Cursor(view, at + 4, end);
  const tell = (from: number, text: string) => {
    described.details.push(`${from - at}..${c.at - at}  ${text}`);
  };
  switch (type) {
    case HandshakeType.clientHello:
      describeClientHello(c, tell);
      break;
    case HandshakeType.serverHello: {
      describeServerHello(c, tell);
      const read = readServerHello(new Cursor(view, at + 4, end));
      if (read?.isHelloRetryRequest) {
        described.what = `HelloRetryRequest, ${end - at} bytes: it looks like a ServerHello`;
        described.source = "RFC 8446 §4.1.4";
      }
      break;
    }
    case HandshakeType.certificate:
      describeCertificates(c, tell);
      break;
    case HandshakeType.serverKeyExchange:
      describeKeyExchange(view, at + 4, end, negotiated, described);
      break;
  }
  if (!c.ok) described.details.push("lengths inside it contradict each other");
  return described;
}

type Tell = (from: number, text: string) => void;

/** Returns the legacy version. */
function describeHelloHead(c: Cursor, tell: Tell): number {
  let from = c.at;
  const legacyVersion = c.uint16();
  tell(from, `legacy_version ${version(legacyVersion)}`);
  from = c.at;
  c.skip(32);
  tell(from, "random");
  from = c.at;
  const length = c.uint8();
  c.skip(length);
  tell(from, `session id, ${length} bytes`);
  return legacyVersion;
}

function describeClientHello(c: Cursor, tell: Tell): void {
  const legacyVersion = describeHelloHead(c, tell);
  let from = c.at;
  if (isDtlsVersion(legacyVersion)) {
    const length = c.uint8();
    c.skip(length);
    tell(from, `cookie, ${length} bytes`); // RFC 6347 §4.2.1
    from = c.at;
  }
  const suites = readUint16List(c, c.uint16());
  tell(from, `${suites.length} cipher suites: ${listed(suites.map(suiteName))}`);
  from = c.at;
  c.skip(c.uint8());
  tell(from, "compression methods");
  describeExtensions(c, tell, true);
}

function describeServerHello(c: Cursor, tell: Tell): void {
  describeHelloHead(c, tell);
  let from = c.at;
  tell(from, `cipher suite ${suiteName(c.uint16())}`);
  from = c.at;
  c.skip(1);
  tell(from, "compression method");
  describeExtensions(c, tell, false);
}

function describeExtensions(c: Cursor, tell: Tell, isClient: boolean): void {
  if (!c.more) return;
  let from = c.at;
  const outer = c.enter(c.uint16());
  while (c.more) {
    from = c.at;
    const type = c.uint16();
    const length = c.uint16();
    const extension = c.enter(length);
    const said = length === 0 ? "" : sayExtension(c, type, isClient);
    c.leave(extension);
    tell(from, `extension ${extensionName(type)}${said === "" ? "" : `: ${said}`}`);
  }
  c.leave(outer);
}

/** What stands in an extension; empty for those whose content is of no use here. */
function sayExtension(c: Cursor, type: number, isClient: boolean): string {
  switch (type) {
    case Extension.serverName: {
      if (!isClient) return "";
      c.skip(3);
      return c.latin1(c.uint16());
    }
    case Extension.alpn:
      return listed(readAlpn(c));
    case Extension.supportedGroups:
      return listed(readUint16List(c, c.uint16()).map(groupName));
    case Extension.signatureAlgorithms:
      return listed(readUint16List(c, c.uint16()).map(signatureName));
    case Extension.supportedVersions:
      if (!isClient) return version(c.uint16());
      return listed(readUint16List(c, c.uint8()).map(version));
    case Extension.keyShare: {
      if (!isClient) return groupName(c.uint16());
      const outer = c.enter(c.uint16());
      const shares: string[] = [];
      while (c.more) {
        const group = c.uint16();
        const length = c.uint16();
        c.skip(length);
        shares.push(`${groupName(group)} (${length} bytes)`);
      }
      c.leave(outer);
      return listed(shares);
    }
    default:
      return "";
  }
}

function describeCertificates(c: Cursor, tell: Tell): void {
  const outer = c.enter(c.uint24());
  if (!c.more) tell(c.at, "an empty list: no certificate");
  for (let i = 0; c.more && i < CERTIFICATES_LIMIT; i++) {
    const from = c.at;
    const length = c.uint24();
    const at = c.at;
    c.skip(length);
    if (!c.ok) break;
    const read = readCertificate(c.view, at, at + length);
    const said = read
      ? `${read.subject || "(no subject)"}, ${read.key ?? "unknown key"}, signed by ` +
        `${read.signature ?? "an unknown algorithm"}, until ${read.notAfter ?? "?"}`
      : "no readable certificate";
    tell(from, `${length} bytes: ${said}`);
  }
  c.leave(outer);
}

function describeKeyExchange(
  view: DataView,
  at: number,
  end: number,
  negotiated: Negotiated | null,
  into: Described,
): void {
  if (!negotiated) return;
  const suite = CIPHER_SUITES.get(negotiated.suite) ?? "";
  const read = readServerKeyExchange(new Cursor(view, at, end), suite, negotiated.version);
  if (!read) return;
  if (read.group !== null) into.details.push(`group ${groupName(read.group)}`);
  if (read.primeBits !== null) into.details.push(`DHE over a prime of ${read.primeBits} bits`);
  if (read.signature !== null) into.details.push(`signed by ${signatureName(read.signature)}`);
  if (read.group !== null) into.source = "RFC 8422 §5.4";
}

/** What the sizes of a client's encrypted TLS 1.3 records say, as sums that can be followed. */
export function describeFlight(
  lengths: readonly number[],
  hashBytes: number,
  offers: FlightOffers,
  flight: ClientFlight,
): Described {
  const finished = 4 + hashBytes;
  const hash = hashBytes === 48 ? "SHA-384" : "SHA-256";
  const details = [
    `lengths of its encrypted records: ${lengths.slice(0, LIST_LIMIT).join(", ")}`,
    `each adds 1 byte of content type and 16 of tag: 17 (RFC 8446 §5.2)`,
    `Finished: 4 + ${hashBytes} (${hash}) = ${finished}, alone in a record ${finished + 17}`,
    `empty Certificate: 8, alone in a record 25, joined with the Finished ${8 + finished + 17}`,
  ];
  if (offers.settings) {
    details.push("application settings were offered: EncryptedExtensions may come first, 10");
  }
  if (offers.earlyData) details.push("early data was offered: what came before is left out");
  if (offers.psk) details.push("a PSK was selected: no certificate is asked for (RFC 8446 §4.3.2)");
  const what = {
    none: "the client's flight is exactly a Finished: it sent no Certificate, so it was not asked",
    declined: "the client's flight is an empty Certificate and a Finished: asked, it had none",
    presented: "the client's flight has room for a Certificate and its CertificateVerify",
    certificate: "the client's flight begins with a Certificate; that it ends well is not seen yet",
    padded: "the client's records are padded to whole blocks: their sizes tell nothing",
    alert: "the client answered the server's flight with what has an alert's size",
    unclear: "the sizes of the client's flight fit no sum: nothing is concluded from them",
    incomplete: "the client's flight has not come whole",
  }[flight.kind];
  const records = flight.records > 0 ? lengths.slice(0, flight.records) : [];
  if (flight.kind === "presented" || flight.kind === "certificate") {
    const first = lengths.find((n) => n > PRESENTED_MINIMUM);
    details.push(`${first}: none of these sums, and above ${PRESENTED_MINIMUM}: a Certificate`);
    const verify = records.at(-2);
    if (records.length > 2 && verify !== undefined) {
      details.push(`CertificateVerify: 8 + a signature of ${verify - 25} + 17 = ${verify}`);
    }
  }
  if (records.length > 0) {
    details.push(`the Finished is in the record of ${records.at(-1)}, which ends the flight`);
  }
  return { what, source: "RFC 8446 §4.4", details };
}
