/** Recognises LDAP and Kerberos by the head of a message, in BER. */
import { Fields } from "./fields.ts";
import { Match } from "./match.ts";
import type { Test } from "./match.ts";

/** Longest text that is waited for before a later field decides. */
const NAME_LIMIT = 2048;

/** Tags of LDAP's operations (RFC 4511 §4.2 to §4.13), as they stand behind the message's id. */
const LDAP_REQUESTS = [0x60, 0x42, 0x63, 0x66, 0x68, 0x4a, 0x6c, 0x6e, 0x50, 0x77];
const LDAP_RESPONSES = [0x61, 0x64, 0x65, 0x67, 0x69, 0x6b, 0x6d, 0x6f, 0x73, 0x78, 0x79];

/** SEQUENCE { messageID INTEGER, protocolOp CHOICE … } (RFC 4511 §4.1.1). */
const ldap = (operations: readonly number[]): Test => {
  return (view, at, end) => {
    if (view.getUint8(at) !== 0x30) return Match.no;
    const f = new Fields(view, at, end);
    const length = f.element(0x30);
    const messageEnd = f.at + length;
    f.integer();
    const operation = f.uint8();
    f.expect(operations.includes(operation));
    const operationLength = f.length();
    f.expect(f.at + operationLength <= messageEnd);
    ldapOperation(f, operation, operationLength);
    return f.match;
  };
};

/** The first fields of an operation. */
function ldapOperation(f: Fields, operation: number, length: number): void {
  switch (operation) {
    case 0x60: {
      // BindRequest { version INTEGER (1 .. 127), name, … }
      const version = f.integer();
      f.expect(version >= 1 && version <= 3);
      f.element(0x04);
      return;
    }
    case 0x63: {
      // SearchRequest { baseObject, scope ENUMERATED, … }
      const base = f.element(0x04);
      f.expect(base <= NAME_LIMIT);
      f.skip(base);
      f.expect(f.integer(0x0a) <= 3);
      return;
    }
    case 0x42: // UnbindRequest ::= NULL
      return f.expect(length === 0);
    case 0x50: // AbandonRequest ::= MessageID
      return f.expect(length >= 1 && length <= 4);
    case 0x4a: // DelRequest ::= LDAPDN
      return f.run(Math.min(length, NAME_LIMIT), (byte) => byte >= 0x20);
    case 0x77: {
      // ExtendedRequest { requestName [0] LDAPOID, … }: digits and dots
      const oid = f.element(0x80);
      f.expect(oid >= 3 && oid <= 128);
      f.run(oid, (byte) => byte === 0x2e || (byte >= 0x30 && byte <= 0x39));
      return;
    }
    case 0x79: {
      // IntermediateResponse { responseName [0], responseValue [1] }
      const tag = f.uint8();
      return f.expect(tag === 0x80 || tag === 0x81);
    }
    case 0x64: // SearchResultEntry { objectName, … }
    case 0x66: // ModifyRequest { object, … }
    case 0x68: // AddRequest { entry, … }
    case 0x6c: // ModifyDNRequest { entry, … }
    case 0x6e: // CompareRequest { entry, … }
    case 0x73: // SearchResultReference ::= SEQUENCE OF URI
      f.element(0x04);
      return;
    default: // LDAPResult { resultCode ENUMERATED, matchedDN, … }
      f.integer(0x0a);
      f.element(0x04);
  }
}

export const isLdapRequest = ldap(LDAP_REQUESTS);
export const isLdapResponse = ldap(LDAP_RESPONSES);

/** Application tags of Kerberos messages with their msg-type (RFC 4120 §5.10). */
const KERBEROS: ReadonlyMap<number, number> = new Map([
  [0x6a, 10], // AS-REQ
  [0x6b, 11], // AS-REP
  [0x6c, 12], // TGS-REQ
  [0x6d, 13], // TGS-REP
  [0x6e, 14], // AP-REQ
  [0x6f, 15], // AP-REP
  [0x74, 20], // KRB-SAFE
  [0x75, 21], // KRB-PRIV
  [0x76, 22], // KRB-CRED
  [0x7e, 30], // KRB-ERROR
]);
const KERBEROS_REQUESTS = [0x6a, 0x6c, 0x6e];
const KERBEROS_REPLIES = [0x6b, 0x6d, 0x6f, 0x7e];
const KERBEROS_OTHERS = [0x74, 0x75, 0x76];

/**
 * [APPLICATION n] SEQUENCE { pvno 5, msg-type n, … }: KDC-REQ counts its fields from 1, all others
 * from 0 (RFC 4120 §5.4.1).
 */
function kerberosMessage(f: Fields, tags: readonly number[]): void {
  const tag = f.uint8();
  f.expect(tags.includes(tag));
  f.length();
  f.element(0x30);
  const first = tag === 0x6a || tag === 0x6c ? 0xa1 : 0xa0;
  f.expect(f.element(first) === 3);
  f.expect(f.integer() === 5);
  f.expect(f.element(first + 1) === 3);
  f.expect(f.integer() === KERBEROS.get(tag));
}

const kerberosDatagram = (tags: readonly number[]): Test => {
  return (view, at, end) => {
    if (!tags.includes(view.getUint8(at))) return Match.no;
    const f = new Fields(view, at, end);
    kerberosMessage(f, tags);
    return f.match;
  };
};

/** Over TCP behind four bytes of length, whose highest bit is reserved (RFC 4120 §7.2.2). */
const kerberosStream = (tags: readonly number[]): Test => {
  return (view, at, end) => {
    if (view.getUint8(at) !== 0) return Match.no;
    const f = new Fields(view, at, end);
    const length = f.uint32();
    f.expect(length >= 20 && length <= 0xfffff);
    kerberosMessage(f, tags);
    return f.match;
  };
};

export const isKerberosDatagram = kerberosDatagram([...KERBEROS.keys()]);
export const isKerberosRequest = kerberosStream(KERBEROS_REQUESTS);
export const isKerberosReply = kerberosStream(KERBEROS_REPLIES);
export const isKerberosOther = kerberosStream(KERBEROS_OTHERS);

/** Length, version (1, or 0xff80 to set one), length of the AP-REQ, AP-REQ (RFC 3244 §2). */
export function isKerberosPassword(view: DataView, at: number, end: number): Match {
  const f = new Fields(view, at, end);
  const length = f.uint16();
  const version = f.uint16();
  const ticket = f.uint16();
  f.expect(length <= end - at && (version === 1 || version === 0xff80) && ticket < length);
  const tag = f.uint8();
  // KRB-ERROR stands where a reply has no AP-REP.
  f.expect(tag === 0x6e || tag === 0x6f || (tag === 0x7e && ticket === 0));
  f.length();
  f.element(0x30);
  f.expect(f.element(0xa0) === 3);
  f.expect(f.integer() === 5);
  return f.match;
}
