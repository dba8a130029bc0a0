/** Says a flow in one line, for people: who, to whom, over what, and how it ended. */
import type { Flow, Tls } from "../../protocol/flow-record.ts";
import { endWords, failureWords, targetWords, versionWords } from "./words.ts";

/** What a part of a line means; a terminal shows it by colour. */
export type Tone = "good" | "weak" | "bad" | "dim" | "strong";
export type Paint = (tone: Tone, text: string) => string;

const CODES: Readonly<Record<Tone, number>> = { good: 32, weak: 33, bad: 31, dim: 2, strong: 1 };

/** Colours for a terminal (ECMA-48 SGR), or none. */
export function painter(colour: boolean): Paint {
  return colour ? (tone, text) => `\u001b[${CODES[tone]}m${text}\u001b[0m` : (_, text) => text;
}

/** Text from the wire, without what would move a terminal's cursor or change its state. */
export function printable(text: string): string {
  return text.replaceAll(
    /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
    (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}

/** Columns that an end of a flow takes; longer ones push the rest to the right. */
const END_COLUMNS = 21;

function end(ip: string, port: number): string {
  return `${ip.includes(":") ? `[${ip}]` : ip}${port === 0 ? "" : `:${port}`}`;
}

const isMutual = (tls: Tls) => tls.mutual === "yes" || tls.mutual === "inferred-yes";

/** `mutual TLS 1.3 (inferred) for pay.example inside postgresql`. */
function tlsWords({ tls, upgraded_from, encryption }: Flow & { tls: Tls }): string {
  const name = versionWords(tls.version ?? (encryption === "dtls" ? "DTLS" : "TLS"));
  const version = encryption === "quic" ? `${name} in QUIC` : name;
  const how = {
    yes: `mutual ${version}`,
    no: `one-way ${version}`,
    "inferred-yes": `mutual ${version} (inferred)`,
    "inferred-declined": `one-way ${version} (inferred: asked, the client had no certificate)`,
    "inferred-no": `one-way ${version} (inferred)`,
    resumed: `resumed ${version}, the client not proven again`,
  };
  const words = tls.mutual === null ? version : how[tls.mutual];
  const identity = tls.client_certificate?.san[0] ?? tls.client_cert_subject;
  const client = identity === null ? "" : ` as ${identity}`;
  const asked = tls.mesh_target ? targetWords(tls.mesh_target) : tls.sni;
  const server = asked === null ? "" : ` for ${asked}`;
  const isInside = upgraded_from !== null && encryption !== "plaintext";
  const inside = isInside ? ` inside ${upgraded_from}` : "";
  const mesh = tls.mesh === null ? "" : ` in ${tls.mesh}`;
  return `${words}${client}${server}${inside}${mesh}`;
}

function what(r: Flow): string {
  if (r.tls && r.encryption === "plaintext") {
    return `plaintext ${r.protocol} behind a login in ${tlsWords({ ...r, tls: r.tls })}`;
  }
  if (r.tls) return tlsWords({ ...r, tls: r.tls });
  switch (r.encryption) {
    case "none":
      return `${r.proto} without payload`;
    case "unknown":
      return r.protocol === null ? "an unknown protocol" : `${r.protocol}, then unknown`;
    case "plaintext":
      return `plaintext ${r.protocol}`;
    default:
      return `${r.protocol ?? r.encryption}, encrypted`;
  }
}

function outcome(r: Flow): string {
  if (r.failure) {
    const { code, alert, confidence } = r.failure;
    const told = alert === null ? code : `${code}, alert ${alert}`;
    const maybe = confidence === "likely" ? "probably " : "";
    return `FAILED: ${maybe}${failureWords(r.failure)} (${told})`;
  }
  const ended = endWords(r);
  if (r.accepted === true) return `accepted, ${ended}`;
  if (r.handshake === "incomplete") return `handshake incomplete, ${ended}`;
  return ended;
}

function toneOf(r: Flow): Tone {
  if (r.failure) return "bad";
  if (r.encryption === "plaintext") return "bad";
  if (r.tls) return isMutual(r.tls) ? "good" : "weak";
  return r.encryption === "none" || r.encryption === "unknown" ? "dim" : "good";
}

/** One line for flow `number`. */
export function flowLine(r: Flow, number: number, paint: Paint): string {
  const client = end(r.src_ip, r.src_port).padEnd(END_COLUMNS);
  const server = end(r.dst_ip, r.dst_port).padEnd(END_COLUMNS);
  const via = r.encap.length > 0 ? ` via ${r.encap.join(" ")}` : "";
  const size = paint("dim", `${r.packets[0]}/${r.packets[1]} packets${via}`);
  const said = printable(`${what(r)}; ${outcome(r)}`);
  const head = `${String(number).padStart(5)}  ${r.start.slice(11, 23)}`;
  const ends = `${paint("dim", head)}  ${client} → ${server}`;
  return `${ends}  ${paint(toneOf(r), said)}  ${size}`;
}
