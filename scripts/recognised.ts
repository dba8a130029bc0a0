/**
 * Writes the README's table of what is recognised, from the tables by which it is recognised:
 *
 *     node scripts/recognised.ts
 */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { ENCAP_NAMES, PROTO_NAMES } from "../agent/assess/names.ts";
import { FAILURES } from "../agent/assess/words.ts";
import { WRAPPED_LINKS } from "../agent/capture/link-names.ts";
import { LinkType } from "../agent/decode/ethernet.ts";
import { DIALOGUES } from "../agent/identify/dialogue.ts";
import { CARRIED } from "../agent/identify/http2.ts";
import { SIGNATURES } from "../agent/identify/signatures.ts";
import { FOLLOWED } from "../agent/identify/upgrade.ts";
import { CIPHER_SUITES } from "../agent/tls/cipher-suites.ts";
import { VERSION_NAMES } from "../agent/tls/codes.ts";
import { MESHES } from "../agent/tls/mesh.ts";
import { ALERTS, EXTENSIONS, GROUPS, SIGNATURE_SCHEMES } from "../agent/tls/registry.ts";
import { CRYPTO_PROFILES } from "../protocol/crypto-profile.ts";
import type { ProtocolName } from "../protocol/flow-record.ts";

export const BEGIN = "<!-- written by scripts/recognised.ts -->";
export const END = "<!-- until here -->";

/** What the generator asks of a signature. */
type Row = {
  protocol: ProtocolName;
  side: "client" | "server" | "either";
  transport: "tcp" | "udp" | "both";
  source: string;
  ports?: readonly number[];
  midstream?: boolean;
};

const COLUMNS = [
  ...["protocol", "over", "told by the bytes of, and where they are specified"],
  ...["upgrade to TLS followed", "joined mid-stream", "ports that decide"],
];
const TRANSPORTS = { tcp: ["TCP"], udp: ["UDP"], both: ["TCP", "UDP"] } as const;
const SIDES = ["client", "server", "either"] as const;
const unique = (list: readonly string[]) => [...new Set(list)];

/** One line a protocol: over what, by which side's bytes, and where those are specified. */
export function protocolRows(signatures: readonly Row[]): string[] {
  const byProtocol = Map.groupBy(signatures, ({ protocol }) => protocol);
  return [...byProtocol]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([protocol, rows]) => {
      const over = unique(rows.flatMap(({ transport }) => TRANSPORTS[transport])).toSorted();
      const told = SIDES.flatMap((side) => {
        const sources = rows.filter((r) => r.side === side).map((r) => r.source);
        return sources.length === 0 ? [] : [`${side}: ${unique(sources).join(", ")}`];
      });
      const joined = rows.some((r) => r.midstream) ? "yes" : "";
      const ports = [...new Set(rows.flatMap((r) => r.ports ?? []))].toSorted((a, b) => a - b);
      const upgrade = DIALOGUES.has(protocol) || FOLLOWED.has(protocol) ? "yes" : "";
      const cells = [protocol, over.join(", "), told.join("; "), upgrade, joined, ports.join(", ")];
      return `| ${cells.join(" | ")} |`;
    });
}

/** The section's text between the markers. */
export function recognised(): string {
  const links = Object.entries(LinkType).map(([name, number]) => `${name} (${number})`);
  const wrapped = [...WRAPPED_LINKS].map(([number, name]) => `${name} (${number})`);
  const lines = [
    "By content, from either side. A port never names a protocol; where bytes are only likely, a",
    "registered port, or the other side's bytes, decide. What matches nothing is `unknown`.",
    "",
    `| ${COLUMNS.join(" | ")} |`,
    `|${COLUMNS.map(() => "---|").join("")}`,
    ...protocolRows([...SIGNATURES, ...CARRIED]),
    "",
    `- **Link layers** (LINKTYPE_ numbers): ${links.join(", ")}; inside of ` +
      `${wrapped.join(", ")}.`,
    `- **Wrappers**, told in \`encap\`: ${[...ENCAP_NAMES.values()].join(", ")}.`,
    `- **Flows by IP protocol**: ${[...PROTO_NAMES.values()].join(", ")}.`,
    `- **TLS versions**: ${unique([...VERSION_NAMES.values()]).join(", ")}. By IANA's names: ` +
      `${CIPHER_SUITES.size} cipher suites, ${GROUPS.size} groups, ${SIGNATURE_SCHEMES.size} ` +
      `signature schemes, ${EXTENSIONS.size} extensions, ${ALERTS.size} alerts.`,
    ...Object.entries(MESHES).map(([mesh, by]) => `- **Mesh ${mesh}**: ${by}.`),
    `- **Cryptography judged**: ${Object.values(CRYPTO_PROFILES).join(", ")}.`,
    "",
    "| failure | what it says |",
    "|---|---|",
    ...Object.entries(FAILURES).map(([code, words]) => `| \`${code}\` | ${words} |`),
  ];
  return lines.join("\n");
}

/** The text with its part between the markers replaced; null where they are not there. */
export function withRecognised(text: string): string | null {
  const from = text.indexOf(BEGIN);
  const to = text.indexOf(END);
  if (from < 0 || to < from) return null;
  return `${text.slice(0, from + BEGIN.length)}\n\n${recognised()}\n\n${text.slice(to)}`;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const file = path.join(import.meta.dirname, "../README.md");
  const text = withRecognised(readFileSync(file, "utf8"));
  if (text === null) throw new Error(`${file} lacks ${BEGIN} and ${END}`);
  writeFileSync(file, text);
}
