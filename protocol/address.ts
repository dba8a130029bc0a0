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

/** Writes microseconds since the epoch as RFC 3339 in UTC. */
export function formatTime(us: number): string {
  const ms = Math.floor(us / 1000);
  if (!(ms >= -62135596800000 && ms <= 253402300799999)) return "0001-01-01T00:00:00.000000Z";
  const micros = String(Math.floor(us - ms * 1000)).padStart(3, "0");
  return `${new Date(ms).toISOString().slice(0, -1)}${micros}Z`;
}
