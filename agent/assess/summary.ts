/** Counts flows by what was proven of them, and says it in a few lines. */
import { CRYPTO_PROFILES, CRYPTO_PROFILE_NAMES } from "../../protocol/crypto-profile.ts";
import type { Flow } from "../../protocol/flow-record.ts";
import { printable } from "./sentence.ts";
import type { Paint, Tone } from "./sentence.ts";
import { failureWords } from "./words.ts";

/** What is counted apart, in the order in which it is told. */
const KINDS = {
  mutual: ["mutual TLS, and accepted", "good"],
  shown: ["mutual TLS, acceptance not seen", "good"],
  oneWay: ["one-way TLS", "weak"],
  resumed: ["TLS, resumed: the client not proven again", "weak"],
  open: ["TLS, client certificate not known", "weak"],
  failed: ["TLS, handshake failed", "bad"],
  other: ["other encryption", "good"],
  plaintext: ["plaintext", "bad"],
  unknown: ["unknown protocol", "dim"],
  none: ["no payload", "dim"],
} as const satisfies Record<string, readonly [string, Tone]>;
type Kind = keyof typeof KINDS;

/** A flow's kind, and by what it is told further; null where nothing is. */
function kindOf(r: Flow): [Kind, string | null] {
  // Also where TLS covers a login alone: the data is what counts.
  if (r.encryption === "plaintext" && r.handshake !== "failed") return ["plaintext", r.protocol];
  if (r.encryption === "tls" || (r.tls && r.encryption !== "unknown")) {
    if (r.handshake === "failed") return ["failed", null];
    switch (r.tls?.mutual ?? null) {
      case "yes":
        return [r.accepted === true ? "mutual" : "shown", "certificate read"];
      case "inferred-yes":
        return [r.accepted === true ? "mutual" : "shown", "inferred"];
      case "no":
        return ["oneWay", "read"];
      case "inferred-no":
      case "inferred-declined":
        return ["oneWay", "inferred"];
      case "resumed":
        return ["resumed", null];
      default:
        return ["open", r.encryption === "tls" ? null : r.encryption];
    }
  }
  if (r.encryption === "unknown") return ["unknown", null];
  if (r.encryption === "none") return ["none", r.state];
  return ["other", r.protocol];
}

/** Client stacks that are told. */
const STACKS = 5;

type Counts = Map<string, number>;
const add = (map: Counts, key: string) => map.set(key, (map.get(key) ?? 0) + 1);
const sorted = (map: Counts) =>
  [...map].toSorted(([a, n], [b, m]) => m - n || (a < b ? -1 : a > b ? 1 : 0));

export class Summary {
  #flows = 0;
  readonly #kinds = new Map<Kind, { flows: number; details: Counts }>();
  readonly #failures = new Map<string, { flows: number; words: string }>();
  readonly #stacks: Counts = new Map();
  readonly #crypto: Counts = new Map();
  #judged = 0;

  add(r: Flow): void {
    this.#flows++;
    const [kind, detail] = kindOf(r);
    const own = this.#kinds.get(kind) ?? { flows: 0, details: new Map<string, number>() };
    own.flows++;
    if (detail !== null) add(own.details, detail);
    this.#kinds.set(kind, own);
    if (r.failure) {
      const { code } = r.failure;
      const failure = this.#failures.get(code) ?? { flows: 0, words: failureWords(r.failure) };
      failure.flows++;
      this.#failures.set(code, failure);
    }
    if (r.tls?.ja4) add(this.#stacks, r.tls.ja4);
    if (!r.tls?.crypto || r.tls.version === null) return;
    this.#judged++;
    for (const profile of CRYPTO_PROFILE_NAMES) {
      const judged = r.tls.crypto[profile];
      if (judged) add(this.#crypto, `${profile} ${judged.verdict}`);
    }
  }

  /** `total` is how many flows there were before a filter. */
  text(total: number, paint: Paint): string {
    const flows = total === 1 ? "1 flow" : `${total} flows`;
    const head = this.#flows === total ? flows : `${this.#flows} of ${flows} match`;
    const lines = ["", paint("strong", head)];
    for (const [kind, [words, tone]] of Object.entries(KINDS)) {
      const own = this.#kinds.get(kind as Kind);
      if (!own) continue;
      const details = sorted(own.details).map(([name, n]) => `${name} ${n}`);
      const behind = details.length > 0 ? `: ${details.join(", ")}` : "";
      lines.push(`${this.#share(own.flows)}  ${paint(tone, words)}${behind}`);
    }
    if (this.#failures.size > 0) {
      lines.push("", paint("strong", "refused or failed"));
      const all = [...this.#failures].toSorted(([, a], [, b]) => b.flows - a.flows);
      for (const [code, { flows: n, words }] of all) {
        lines.push(`${this.#share(n)}  ${code}: ${words}`);
      }
    }
    if (this.#stacks.size > 0) {
      const left = this.#stacks.size - STACKS;
      const more = left > 0 ? `, the ${STACKS} most frequent of ${this.#stacks.size}` : "";
      lines.push("", paint("strong", `client stacks by JA4${more}`));
      for (const [ja4, n] of sorted(this.#stacks).slice(0, STACKS)) {
        lines.push(`${this.#share(n)}  ${printable(ja4)}`);
      }
    }
    if (this.#judged > 0) lines.push("", ...this.#cryptoLines(paint));
    return `${lines.join("\n")}\n`;
  }

  #share(n: number): string {
    return `${String(n).padStart(7)}  ${((100 * n) / this.#flows).toFixed(1).padStart(5)} %`;
  }

  #cryptoLines(paint: Paint): string[] {
    const lines = [paint("strong", `cryptography: of ${this.#judged} flows that negotiated TLS`)];
    for (const profile of CRYPTO_PROFILE_NAMES) {
      const of = (verdict: string) => this.#crypto.get(`${profile} ${verdict}`) ?? 0;
      lines.push(
        `  ${CRYPTO_PROFILES[profile].padEnd(26)} ${of("meets")} meet it, ` +
          `${of("misses")} miss it, ${of("undecidable")} undecidable`,
      );
    }
    lines.push(
      "  undecidable: nothing seen misses it, and not all that it asks for is on the wire",
    );
    return lines;
  }
}
