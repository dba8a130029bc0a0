/** Writes and reads IP addresses, which decoding keeps as four int32 words. */

/** Text of an address; `::ffff:a.b.c.d` is written as IPv4, IPv6 as RFC 5952 says. */
export function formatAddress(w0: number, w1: number, w2: number, w3: number): string {
  if (w0 === 0 && w1 === 0 && w2 === 0xffff) {
    return `${w3 >>> 24}.${(w3 >>> 16) & 255}.${(w3 >>> 8) & 255}.${w3 & 255}`;
  }
  const groups: number[] = [];
  for (const w of [w0, w1, w2, w3]) groups.push(w >>> 16, w & 0xffff);
  let zerosAt = -1;
  let zeros = 1; // one zero group alone is not shortened
  for (let i = 0; i < 8; i++) {
    let run = 0;
    while (i + run < 8 && groups[i + run] === 0) run++;
    if (run > zeros) {
      zeros = run;
      zerosAt = i;
    }
    i += run;
  }
  const hex = (part: number[]) => part.map((g) => g.toString(16)).join(":");
  if (zerosAt < 0) return hex(groups);
  return `${hex(groups.slice(0, zerosAt))}::${hex(groups.slice(zerosAt + zeros))}`;
}

/** The second that was written last, and its text: times come in runs. */
let lastSecond = NaN;
let lastText = "";

/** Three digits each. */
const THREE = Array.from({ length: 1000 }, (_, n) => String(n).padStart(3, "0"));

/** Writes microseconds since the epoch as RFC 3339 in UTC. */
export function formatTime(us: number): string {
  const second = Math.floor(us / 1e6);
  if (!(second >= -62135596800 && second <= 253402300799)) return "0001-01-01T00:00:00.000000Z";
  if (second !== lastSecond) {
    lastSecond = second;
    lastText = new Date(second * 1000).toISOString().slice(0, 19);
  }
  // Beyond 2^53 the difference is rounded, maybe out of the second.
  const micros = Math.max(0, Math.min(999_999, Math.floor(us - second * 1e6)));
  return `${lastText}.${THREE[(micros / 1000) | 0]}${THREE[micros % 1000]}Z`;
}

/** An address as eight groups of 16 bits, IPv4 as ::ffff:a.b.c.d; null where it is none. */
function groupsOf(text: string): number[] | null {
  const four = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (four) {
    const [a, b, c, d] = four.slice(1).map(Number) as [number, number, number, number];
    if (Math.max(a, b, c, d) > 255) return null;
    return [0, 0, 0, 0, 0, 0xffff, (a << 8) | b, (c << 8) | d];
  }
  const halves = text.split("::");
  if (halves.length > 2 || !text.includes(":")) return null;
  const [head, tail] = halves.map((half) => (half === "" ? [] : half.split(":")));
  const missing = 8 - head!.length - (tail?.length ?? 0);
  if (tail ? missing < 1 : missing !== 0) return null;
  const all = [...head!, ...new Array<string>(missing).fill("0"), ...(tail ?? [])];
  if (!all.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return null;
  return all.map((group) => parseInt(group, 16));
}

/** The four words of an address, as decoding keeps them; null where it is none. */
export function addressWords(text: string): number[] | null {
  const groups = groupsOf(text);
  return groups && [0, 2, 4, 6].map((i) => (groups[i]! << 16) | groups[i + 1]!);
}

/** Reads `10.0.0.0/8`: a test whether an address lies inside. Null where it is no network. */
export function parseNetwork(text: string): ((address: string) => boolean) | null {
  const slash = text.indexOf("/");
  const bits = text.slice(slash + 1);
  const network = groupsOf(text.slice(0, slash));
  if (!network || !/^\d{1,3}$/.test(bits)) return null;
  const isFour = !text.includes(":");
  if (Number(bits) > (isFour ? 32 : 128)) return null;
  const length = Number(bits) + (isFour ? 96 : 0);
  return (address) => {
    const groups = address.includes(":") === isFour ? null : groupsOf(address);
    if (!groups) return false;
    for (let i = 0; i * 16 < length; i++) {
      const kept = Math.min(16, length - i * 16);
      if ((groups[i]! ^ network[i]!) >>> (16 - kept) !== 0) return false;
    }
    return true;
  };
}
