/** Recognises encrypted protocols over UDP by the clear part of their first datagram. */
import { Match } from "./match.ts";

/** QUIC versions: 1 (RFC 9000), 2 (RFC 9369), and the drafts from 27 on. */
function isQuicVersion(version: number): boolean {
  const isDraft = version >>> 8 === 0xff0000 && (version & 0xff) >= 27;
  return version === 1 || version === 0x6b3343cf || isDraft;
}

/**
 * A QUIC long header (RFC 9000 §17.2): form and fixed bit, version, two connection identifiers of
 * at most 20 bytes, and something behind them.
 */
export function isQuic(view: DataView, at: number, end: number): Match {
  if (end - at < 21 || (view.getUint8(at) & 0xc0) !== 0xc0) return Match.no;
  if (!isQuicVersion(view.getUint32(at + 1))) return Match.no;
  const destination = view.getUint8(at + 5);
  if (destination > 20 || at + 6 + destination >= end) return Match.no;
  const source = view.getUint8(at + 6 + destination);
  return source <= 20 && at + 7 + destination + source < end ? Match.yes : Match.no;
}

/**
 * A DTLS record (RFC 6347 §4.1): content type, version 0xfeff or 0xfefd, epoch, sequence number,
 * and a length that the datagram holds. DTLS 1.3 sends its hellos in the same form.
 */
export function isDtls(view: DataView, at: number, end: number): Match {
  if (end - at < 14) return Match.no;
  const type = view.getUint8(at);
  const version = view.getUint16(at + 1);
  const isRecord = type >= 20 && type <= 26 && (version === 0xfeff || version === 0xfefd);
  const length = view.getUint16(at + 11);
  return isRecord && length > 0 && at + 13 + length <= end ? Match.yes : Match.no;
}

/** Lengths of WireGuard's messages by type (WireGuard paper §5.4); transport data has the least. */
const WIREGUARD = [0, 148, 92, 64, 32];

/** Type 1 to 4, three zero bytes, and that message's length; data is padded to 16. */
export function isWireguard(view: DataView, at: number, end: number): Match {
  const length = end - at;
  if (length < 32 || view.getUint32(at, true) > 4) return Match.no;
  const type = view.getUint8(at);
  if (type === 4) {
    // The counter, little-endian, begins at 0: its highest bytes stay so.
    const isCounter = view.getUint16(at + 14) === 0;
    return (length - 32) % 16 === 0 && isCounter ? Match.yes : Match.no;
  }
  return type > 0 && length === WIREGUARD[type] ? Match.yes : Match.no;
}

/**
 * An IKE header (RFC 7296 §3.1): SPIs, next payload, version 1.0 or 2.x, exchange type, flags,
 * message identifier, length of the whole; behind four zero bytes on port 4500 (RFC 3948 §2.2).
 */
export function isIke(view: DataView, at: number, end: number): Match {
  if (end - at > 4 && view.getUint32(at) === 0) at += 4;
  if (end - at < 28 || view.getUint32(at + 24) !== end - at) return Match.no;
  const version = view.getUint8(at + 17);
  const exchange = view.getUint8(at + 18);
  const is2 = version >> 4 === 2 && exchange >= 34 && exchange <= 44;
  const is1 = version === 0x10 && (exchange <= 6 || (exchange >= 32 && exchange <= 34));
  return exchange > 0 && (is1 || is2) ? Match.yes : Match.no;
}
