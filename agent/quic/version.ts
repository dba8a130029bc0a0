/** Lists the QUIC versions whose Initial packets can be opened, with what differs among them. */

/** Long packet types, as names; the two bits on the wire differ by version (RFC 9369 §3.2). */
export const PacketType = { initial: 0, zeroRtt: 1, handshake: 2, retry: 3 } as const;
export type PacketType = (typeof PacketType)[keyof typeof PacketType];

export type QuicVersion = {
  /** Salt of the Initial secrets, hexadecimal. */
  salt: string;
  /** Before `key`, `iv` and `hp` in the labels of the packet keys. */
  label: "quic" | "quicv2";
  /** Added to the wire's two type bits, modulo 4, to get a `PacketType`. */
  typeShift: number;
  /** Type of the CRYPTO frame: RFC 9000 §19.6, or Google's own. */
  cryptoFrame: number;
};

const version = (salt: string, differing: Partial<QuicVersion> = {}): QuicVersion => ({
  ...{ salt, label: "quic", typeShift: 0, cryptoFrame: 0x06 },
  ...differing,
});

const V1 = version("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"); // RFC 9001 §5.2
const V2 = version("0dede3def700a6db819381be6e269dcbf9bd2ed9", {
  ...{ label: "quicv2", typeShift: 3 }, // RFC 9369 §3.3
});
const DRAFT_29 = version("afbfec289993d24c9e9786f19c6111e04390a899");
const DRAFT_23 = version("c3eef712c72ebb5a11a7d2432bb46365bef9f502");
const DRAFT_22 = version("7fbcdb0e7c66bbe9193a96cd21519ebd7a02644a");

/** Versions that are not drafts of the IETF; those are told by their number. */
const VERSIONS: ReadonlyMap<number, QuicVersion> = new Map([
  [0x00000001, V1],
  [0x6b3343cf, V2],
  [0xfaceb001, DRAFT_22], // mvfst, Meta's, by the drafts that it follows
  [0xfaceb002, DRAFT_23],
  [0xfaceb00e, DRAFT_23],
  [0x54303530, version("7ff579e5acd072915580304c43a2367c60488310", { cryptoFrame: 0x08 })], // T050
  [0x54303531, version("7a4edef4e7ccee5fa4506c19124fc8ccda6e033d", { cryptoFrame: 0x08 })], // T051
]);

/** Reports whether a version is there to make a server name its own (RFC 9000 §15). */
function isReserved(number: number): boolean {
  return (number & 0x0f0f0f0f) === 0x0a0a0a0a;
}

/**
 * What else a version's Initials may be protected as, when they do not open: those of a reserved
 * version are, by some clients, as those of the last drafts.
 */
export function otherVersionOf(number: number): QuicVersion | null {
  return isReserved(number) ? DRAFT_29 : null;
}

/** What is known of a version (uint32); null where its salt is not, or it has no TLS inside. */
export function quicVersionOf(number: number): QuicVersion | null {
  if (isReserved(number)) return V1;
  if (number >>> 8 !== 0xff0000) return VERSIONS.get(number) ?? null;
  const draft = number & 0xff;
  if (draft === 22) return DRAFT_22;
  if (draft >= 23 && draft <= 28) return DRAFT_23;
  if (draft >= 29 && draft <= 32) return DRAFT_29;
  return draft === 33 || draft === 34 ? V1 : null;
}
