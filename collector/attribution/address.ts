/** Reads IP addresses and address ranges (RFC 4291 §2.2, RFC 4632) into comparable numbers. */

/** An address as a number: IPv4 in 32 bits, IPv6 in 128. */
export type Address = { family: 4 | 6; value: bigint };

/** Both ends inclusive. */
export type AddressRange = { family: 4 | 6; first: bigint; last: bigint };

/** Null when the text is no address. An IPv4 address inside IPv6 (`::ffff:a.b.c.d`) is IPv4. */
export function parseAddress(text: string): Address | null {
  if (!text.includes(":")) return parseIpv4(text);
  const value = parseIpv6(text);
  if (value === null) return null;
  if (value >> 32n === 0xffffn) return { family: 4, value: value & 0xffffffffn };
  return { family: 6, value };
}

function parseIpv4(text: string): Address | null {
  const parts = text.split(".");
  if (parts.length !== 4) return null;
  let value = 0;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part)) return null;
    const octet = Number(part);
    if (octet > 255) return null;
    value = value * 256 + octet;
  }
  return { family: 4, value: BigInt(value) };
}

function parseIpv6(text: string): bigint | null {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const head = readGroups(halves[0]!, halves.length === 1);
  const tail = halves.length === 2 ? readGroups(halves[1]!, true) : [];
  if (head === null || tail === null) return null;
  const gap = 8 - head.length - tail.length;
  if (halves.length === 2 ? gap < 1 : gap !== 0) return null;
  const groups = [...head, ...new Array<number>(gap).fill(0), ...tail];
  return groups.reduce((value, group) => (value << 16n) | BigInt(group), 0n);
}

/** Groups of 16 bits; the last may be a dotted IPv4 address where `last` says so. */
function readGroups(text: string, last: boolean): number[] | null {
  if (text === "") return [];
  const groups: number[] = [];
  const parts = text.split(":");
  for (const [i, part] of parts.entries()) {
    if (/^[0-9a-fA-F]{1,4}$/.test(part)) groups.push(parseInt(part, 16));
    else {
      const dotted = last && i === parts.length - 1 ? parseIpv4(part) : null;
      if (dotted === null) return null;
      groups.push(Number(dotted.value >> 16n), Number(dotted.value & 0xffffn));
    }
  }
  return groups;
}

/** `10.0.0.0/8`, or a single address. Null when it is neither; host bits are ignored. */
export function parseRange(text: string): AddressRange | null {
  const [start, length, ...rest] = text.split("/");
  if (rest.length > 0) return null;
  const address = parseAddress(start!);
  if (address === null) return null;
  const bits = address.family === 4 ? 32 : 128;
  if (length !== undefined && !/^(0|[1-9]\d{0,2})$/.test(length)) return null;
  const prefix = length === undefined ? bits : Number(length);
  if (prefix > bits) return null;
  const size = BigInt(bits - prefix);
  const first = (address.value >> size) << size;
  return { family: address.family, first, last: first + (1n << size) - 1n };
}

/** RFC 1918 §3, RFC 6598 §7 (shared with carriers), RFC 4193 §3.1 (unique local). */
const PRIVATE = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"].map(
  (text) => parseRange(text)!,
);

/** Reports whether an address means somebody else in each network: none of the Internet's. */
export function isPrivate(address: Address): boolean {
  return PRIVATE.some((range) => inRange(range, address));
}

export function inRange(range: AddressRange, address: Address): boolean {
  return (
    range.family === address.family && range.first <= address.value && address.value <= range.last
  );
}

/** One spelling for each address (RFC 5952), so that texts compare; null when it is no address. */
export function toCanonicalAddress(text: string): string | null {
  const address = parseAddress(text);
  return address === null ? null : formatAddress(address);
}

export function formatAddress({ family, value }: Address): string {
  if (family === 4) {
    return [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 0xffn)).join(".");
  }
  const groups: string[] = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n) {
    groups.push(((value >> shift) & 0xffffn).toString(16));
  }
  const text = groups.join(":");
  // The longest run of two zero groups or more, the first of equals, is written `::`.
  const runs = [...text.matchAll(/(?<![0-9a-f])0(?::0)+(?![0-9a-f])/g)].sort(
    (a, b) => b[0].length - a[0].length,
  );
  const run = runs[0];
  if (run === undefined) return text;
  const before = text.slice(0, run.index).replace(/:$/, "");
  const after = text.slice(run.index + run[0].length).replace(/^:/, "");
  return `${before}::${after}`;
}
