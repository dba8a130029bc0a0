/** Condenses hellos into fingerprints: JA3 and JA3S (MD5 of lists), JA4 (FoxIO, client, BSD-3). */
import { createHash } from "node:crypto";
import { highestVersion } from "./client-hello.ts";
import type { ClientHello } from "./client-hello.ts";
import { Extension, isGrease } from "./codes.ts";
import type { ServerHello } from "./server-hello.ts";

const md5 = (text: string) => createHash("md5").update(text).digest("hex");
const hash12 = (text: string) =>
  text === "" ? "000000000000" : createHash("sha256").update(text).digest("hex").slice(0, 12);
const hex4 = (n: number) => n.toString(16).padStart(4, "0");
const plain = (list: readonly number[]) => list.filter((n) => !isGrease(n));

/** Computes a text once per hello; those that say the same are one object (`Interned`). */
function once<T extends object>(compute: (hello: T) => string): (hello: T) => string {
  const known = new WeakMap<T, string>();
  return (hello) => {
    let text = known.get(hello);
    if (text === undefined) known.set(hello, (text = compute(hello)));
    return text;
  };
}

/** JA3: version, ciphers, extensions, groups, point formats, in decimal; GREASE left out. */
export const ja3 = once((hello: ClientHello): string => {
  const lists = [hello.cipherSuites, hello.extensions, hello.groups];
  const text = lists.map((list) => plain(list).join("-")).join(",");
  return md5(`${hello.legacyVersion},${text},${hello.pointFormats.join("-")}`);
});

/** JA3S: version, cipher, extensions. */
export const ja3s = once((hello: ServerHello): string =>
  md5(`${hello.legacyVersion},${hello.cipherSuite},${hello.extensions.join("-")}`),
);

const JA4_VERSIONS: ReadonlyMap<number, string> = new Map([
  [0x0304, "13"],
  [0x0303, "12"],
  [0x0302, "11"],
  [0x0301, "10"],
  [0x0300, "s3"],
  [0x0002, "s2"],
  [0xfeff, "d1"],
  [0xfefd, "d2"],
  [0xfefc, "d3"],
]);

/** First and last character of the first ALPN name; of its hexadecimal where they are no ASCII. */
function ja4Alpn(alpn: readonly string[] | null): string {
  const name = alpn?.[0] ?? "";
  if (name === "") return "00";
  const first = name[0]!;
  const last = name.at(-1)!;
  if (/^[0-9A-Za-z]{2}$/.test(first + last)) return first + last;
  const hex = Buffer.from(name, "latin1").toString("hex");
  return hex[0]! + hex.at(-1)!;
}

/** JA4 of a client over TCP (`t`), QUIC (`q`) or DTLS (`d`). */
export function ja4(hello: ClientHello, transport: "t" | "q" | "d"): string {
  return transport + ja4Rest(hello);
}

const ja4Rest = once((hello: ClientHello): string => {
  const ciphers = plain(hello.cipherSuites);
  const extensions = plain(hello.extensions);
  const named = extensions.includes(Extension.serverName) ? "d" : "i";
  const two = (n: number) => String(Math.min(n, 99)).padStart(2, "0");
  const version = JA4_VERSIONS.get(highestVersion(hello)) ?? "00";
  const head = version + named + two(ciphers.length) + two(extensions.length) + ja4Alpn(hello.alpn);
  const sorted = extensions
    .filter((e) => e !== Extension.serverName && e !== Extension.alpn)
    .map(hex4)
    .sort()
    .join(",");
  const signatures = plain(hello.signatureAlgorithms).map(hex4).join(",");
  const tail =
    extensions.length === 0 ? "" : signatures === "" ? sorted : `${sorted}_${signatures}`;
  return `${head}_${hash12(ciphers.map(hex4).sort().join(","))}_${hash12(tail)}`;
});
