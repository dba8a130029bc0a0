/**
 * Writes the tables of `agent/tls` that name IANA's numbers, from the registries' CSV files:
 *
 *     node scripts/iana.ts FOLDER
 *
 * FOLDER holds the files that the registries offer for download, under their own names (`FILES`);
 * a table whose file is not there stays as it is, so each can be brought up to date by itself.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { CIPHER_SUITES } from "../agent/tls/cipher-suites.ts";
import { ALERTS, ALPN_IDS, EXTENSIONS, GROUPS } from "../agent/tls/registry.ts";
import { SIGNATURE_SCHEMES } from "../agent/tls/registry.ts";

type Table = ReadonlyMap<number, string>;

/** The CSV file of each registry. */
export const FILES = {
  cipherSuites: "tls-parameters-4.csv",
  alerts: "tls-parameters-6.csv",
  groups: "tls-parameters-8.csv",
  signatureSchemes: "tls-signaturescheme.csv",
  extensions: "tls-extensiontype-values-1.csv",
  alpn: "alpn-protocol-ids.csv",
} as const;

/** Fields of a CSV text, row by row (RFC 4180): quoted ones may hold commas, quotes and lines. */
export function readCsv(text: string): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  for (const m of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/g)) {
    if (m[0] === "" && row.length === 0) continue;
    row.push(m[1] === undefined ? m[2]! : m[1].replaceAll('""', '"'));
    if (m[3] === ",") continue;
    rows.push(row);
    row = [];
  }
  return rows;
}

/** `0xC0,0x2B`, `0x0403` or `29` as a number; NaN for a range, which names nothing. */
export function readCode(text: string): number {
  const pair = /^0x([0-9A-F]{2}),0x([0-9A-F]{2})$/i.exec(text);
  if (pair) return parseInt(pair[1]! + pair[2]!, 16);
  return /^(0x[0-9A-F]+|\d+)$/i.test(text) ? Number(text) : NaN;
}

/** Rows that name a number: neither reserved nor unassigned. Remarks in brackets are left out. */
export function readTable(text: string): Map<number, string> {
  const table = new Map<number, string>();
  for (const [value = "", description = ""] of readCsv(text).slice(1)) {
    const code = readCode(value);
    const name = description.replace(/\s*\(.*$/s, "").trim();
    if (Number.isNaN(code) || /^(reserved|unassigned|private)\b/i.test(name) || name === "")
      continue;
    table.set(code, name);
  }
  return table;
}

/** Protocols by their identification sequence; the registry writes it in bytes, then in quotes. */
export function readAlpnIds(text: string): Map<string, string> {
  const ids = new Map<string, string>();
  for (const [protocol = "", sequence = ""] of readCsv(text).slice(1)) {
    const id = /\("?([^")]+)"?\)\s*$/.exec(sequence)?.[1];
    if (id !== undefined && !/^reserved/i.test(protocol)) ids.set(id, protocol.trim());
  }
  return ids;
}

/** What the registry says, and behind it what is seen on the wire without being registered. */
function over(known: Table, read: Table): Table {
  return new Map([...known, ...read].toSorted(([a], [b]) => a - b));
}

const hex = (code: number) => `0x${code.toString(16).padStart(4, "0")}`;

function source(name: string, sentence: string, table: Table, write: (code: number) => string) {
  const rows = [...table].map(([code, text]) => `  [${write(code)}, ${JSON.stringify(text)}],`);
  return `/** ${sentence} */
export const ${name}: ReadonlyMap<number, string> = new Map([
${rows.join("\n")}
]);
`;
}

function writeTables(folder: string): void {
  const read = (file: string) => {
    const at = path.join(folder, file);
    return existsSync(at) ? readFileSync(at, "utf8") : null;
  };
  const table = (known: Table, file: string): Table => {
    const text = read(file);
    return text === null ? known : over(known, readTable(text));
  };
  const alpnText = read(FILES.alpn);
  const alpn = alpnText === null ? ALPN_IDS : new Map([...ALPN_IDS, ...readAlpnIds(alpnText)]);
  const made = "Written by `scripts/iana.ts`, not by hand.";
  const suites = source(
    "CIPHER_SUITES",
    `Names TLS cipher suites as IANA registers them; written by \`scripts/iana.ts\`, not by hand.`,
    table(CIPHER_SUITES, FILES.cipherSuites),
    hex,
  );
  const rest = [
    source("GROUPS", "TLS Supported Groups.", table(GROUPS, FILES.groups), String),
    source(
      "SIGNATURE_SCHEMES",
      "TLS SignatureScheme; TLS 1.2 uses the same numbers for a hash and a signature.",
      table(SIGNATURE_SCHEMES, FILES.signatureSchemes),
      hex,
    ),
    source("EXTENSIONS", "TLS ExtensionType Values.", table(EXTENSIONS, FILES.extensions), String),
    source("ALERTS", "TLS Alerts.", table(ALERTS, FILES.alerts), String),
  ];
  const ids = [...alpn].map(([id, text]) => `  [${JSON.stringify(id)}, ${JSON.stringify(text)}],`);
  const names = `/** TLS ALPN Protocol IDs. */
export const ALPN_IDS: ReadonlyMap<string, string> = new Map([
${ids.join("\n")}
]);
`;
  const head = `/** Names the numbers of TLS as IANA registers them. ${made} */\n`;
  const room = path.join(import.meta.dirname, "../agent/tls");
  const files = [
    ["cipher-suites.ts", suites],
    ["registry.ts", `${head}\n${rest.join("\n")}\n${names}`],
  ] as const;
  for (const [file, text] of files) writeFileSync(path.join(room, file), text);
  execFileSync("npx", ["prettier", "--write", ...files.map(([file]) => path.join(room, file))], {
    stdio: "inherit",
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const folder = process.argv[2];
  if (folder === undefined || !existsSync(folder)) {
    process.stderr.write(`iana: name the folder that holds ${Object.values(FILES).join(", ")}\n`);
    process.exitCode = 2;
  } else writeTables(folder);
}
