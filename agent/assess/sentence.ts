/** Says a flow in one line, and a capture in a few, for people. */
import type { Flow } from "../../protocol/flow-record.ts";

function ends(r: Flow): string {
  const bracket = (ip: string) => (ip.includes(":") ? `[${ip}]` : ip);
  return `${bracket(r.src_ip)}:${r.src_port} -> ${bracket(r.dst_ip)}:${r.dst_port}`;
}

const MUTUAL_WORDS: Record<string, string> = {
  yes: "mutual (client certificate read)",
  no: "one-way",
  "inferred-yes": "mutual (inferred)",
  "inferred-declined": "one-way: client declined its certificate (inferred)",
  "inferred-no": "one-way (inferred)",
  resumed: "resumed: client not proven again",
};

function what(r: Flow): string {
  if (r.tls) {
    const inside = r.upgraded_from ? ` inside ${r.upgraded_from}` : "";
    const mutual = r.tls.mutual === null ? "" : `, ${MUTUAL_WORDS[r.tls.mutual]}`;
    const sni = r.tls.sni === null ? "" : ` to ${r.tls.sni}`;
    return `${r.tls.version ?? "TLS"}${inside}${mutual}${sni}`;
  }
  switch (r.encryption) {
    case "none":
      return "no payload";
    case "unknown":
      return "unknown protocol";
    case "plaintext":
      return `plaintext ${r.protocol}`;
    default:
      return `${r.protocol ?? r.encryption}, encrypted`;
  }
}

function outcome(r: Flow): string {
  if (r.failure) {
    const by = r.failure.side === null ? "" : ` by the ${r.failure.side}`;
    const alert = r.failure.alert === null ? "" : `, alert ${r.failure.alert}`;
    return `FAILED ${r.failure.code}${by} (${r.failure.basis}${alert})`;
  }
  if (r.accepted === true) return "accepted";
  if (r.handshake === "incomplete") return "handshake incomplete";
  return r.state;
}

/** One line for one flow: who, to whom, what, and how it ended. */
export function flowLine(r: Flow): string {
  const size = `${r.packets[0]}/${r.packets[1]} packets`;
  const via = r.encap.length > 0 ? ` via ${r.encap.join(" ")}` : "";
  return `${r.start.slice(11, 23)} ${r.proto} ${ends(r)}  ${what(r)}; ${outcome(r)}; ${size}${via}`;
}

/** Counts flows by what was proven of them. */
export class Summary {
  #flows = 0;
  readonly #kinds = new Map<string, number>();
  readonly #failures = new Map<string, number>();

  add(r: Flow): void {
    this.#flows++;
    const add = (map: Map<string, number>, key: string) => map.set(key, (map.get(key) ?? 0) + 1);
    add(this.#kinds, kindOf(r));
    if (r.failure) add(this.#failures, r.failure.code);
  }

  text(): string {
    const list = (map: Map<string, number>) =>
      [...map].sort((a, b) => b[1] - a[1]).map(([k, n]) => `  ${String(n).padStart(7)}  ${k}\n`);
    const failed = this.#failures.size > 0 ? `failed:\n${list(this.#failures).join("")}` : "";
    return `\n${this.#flows} flows\n${list(this.#kinds).join("")}${failed}`;
  }
}

function kindOf(r: Flow): string {
  if (r.tls) {
    if (r.handshake === "failed") return "TLS, handshake failed";
    if (r.tls.mutual === "yes" || r.tls.mutual === "inferred-yes") return "mutual TLS";
    if (r.tls.mutual === null) return "TLS, mutual or not: unknown";
    return r.tls.mutual === "resumed" ? "TLS, resumed" : "one-way TLS";
  }
  if (r.encryption === "plaintext") return `plaintext ${r.protocol}`;
  if (r.encryption === "unknown") return "unknown protocol";
  return r.encryption === "none" ? "no payload" : `encrypted ${r.protocol ?? ""}`;
}
