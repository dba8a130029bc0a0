/**
 * Checks, in the browser, that an entry is in the evidence log: RFC 6962 inclusion under the root
 * of the checkpoint, and the checkpoint's Ed25519 signature (C2SP tlog-proof, signed-note).
 */

export type Step = {
  what: string;
  state: "ok" | "failed" | "unchecked";
  detail: string;
};

/** `included`: all that was checked is right, but the signature could not be checked. */
export type Checked = { outcome: "proven" | "included" | "failed"; steps: Step[] };

export type Claim = {
  index: number;
  /** The entry's text, as it is in the log. */
  entry: string;
  proof: string;
  /** Text of the verifier key (`name+id+base64`), or null when none is offered. */
  key: string | null;
  /** What the page shows, and the entry must hold. */
  shown: object;
};

type Parsed = {
  index: number;
  hashes: Uint8Array[];
  text: string;
  signatures: { name: string; bytes: Uint8Array }[];
  origin: string;
  size: number;
  root: Uint8Array;
};

const bytesOf = (text: string) => new TextEncoder().encode(text);
const ED25519 = 0x01;

export async function checkProof(claim: Claim): Promise<Checked> {
  const steps: Step[] = [];
  const note = (what: string, state: Step["state"], detail: string) =>
    steps.push({ what, state, detail });
  if (!globalThis.crypto?.subtle) {
    const detail = "this browser computes hashes only on https:// or on localhost";
    note("SHA-256 is available", "failed", detail);
    return { outcome: "failed", steps };
  }
  const parsed = parseProof(claim.proof);
  if (parsed === null || parsed.index !== claim.index) {
    note("The proof can be read", "failed", `it is no tlog-proof of entry ${claim.index}`);
    return { outcome: "failed", steps };
  }
  const { hashes, size, root, origin } = parsed;
  const leaf = await hash(Uint8Array.of(0x00), bytesOf(claim.entry));
  const found = await rootFrom(leaf, claim.index, size, hashes);
  const isIn = found !== null && equal(found, root);
  const path = `${hashes.length} hashes lead from SHA-256 ${hex(leaf).slice(0, 16)}… of the entry`;
  note(
    `Entry ${claim.index} is among the ${size} entries of ${origin}`,
    isIn ? "ok" : "failed",
    isIn
      ? `${path} to the checkpoint's root ${hex(root).slice(0, 16)}…`
      : "the hashes do not lead from the entry to the checkpoint's root",
  );
  steps.push(await checkSignature(parsed, claim.key));
  steps.push(compare(claim.entry, claim.shown));
  const failed = steps.some(({ state }) => state === "failed");
  const all = steps.every(({ state }) => state === "ok");
  return { outcome: failed ? "failed" : all ? "proven" : "included", steps };
}

/** Null unless the text is a proof with a checkpoint that can be read. */
function parseProof(proof: string): Parsed | null {
  const head = /^c2sp\.org\/tlog-proof@v1\nindex (0|[1-9]\d{0,15})\n((?:\S+\n)*)\n/.exec(proof);
  if (head === null) return null;
  const note = proof.slice(head[0].length);
  const split = note.lastIndexOf("\n\n");
  if (split < 0) return null;
  const text = note.slice(0, split + 1);
  const [origin, size, root] = text.split("\n");
  const hashes = head[2]!.split("\n").slice(0, -1).map(decode64);
  const rootBytes = decode64(root ?? "");
  const signatures = note
    .slice(split + 2)
    .split("\n")
    .flatMap((line) => {
      const parts = /^— (\S+) (\S+)$/.exec(line);
      const bytes = parts && decode64(parts[2]!);
      return parts && bytes ? [{ name: parts[1]!, bytes }] : [];
    });
  const whole = hashes.every((h) => h?.length === 32) && rootBytes?.length === 32;
  if (!whole || !origin || !/^[1-9]\d{0,15}$/.test(size ?? "")) return null;
  return {
    ...{ index: Number(head[1]), hashes: hashes as Uint8Array[], text, signatures, origin },
    ...{ size: Number(size), root: rootBytes! },
  };
}

/** The root that follows from the leaf (RFC 9162 §2.1.3.2); null when the path does not fit. */
async function rootFrom(leaf: Uint8Array, index: number, size: number, path: Uint8Array[]) {
  if (!Number.isSafeInteger(size) || index >= size) return null;
  let [node, last, found] = [index, size - 1, leaf];
  const up = () => {
    node = Math.floor(node / 2);
    last = Math.floor(last / 2);
  };
  for (const beside of path) {
    if (last === 0) return null;
    if (node % 2 === 1 || node === last) {
      found = await hash(Uint8Array.of(0x01), beside, found);
      while (node % 2 === 0 && node !== 0) up();
    } else {
      found = await hash(Uint8Array.of(0x01), found, beside);
    }
    up();
  }
  return last === 0 ? found : null;
}

async function checkSignature(parsed: Parsed, key: string | null): Promise<Step> {
  const step = (state: Step["state"], detail: string): Step => ({
    what: "The checkpoint is signed by the log's key",
    ...{ state, detail },
  });
  if (key === null) return step("unchecked", "the collector offers no verifier key");
  const parts = /^([^+]+)\+([0-9a-f]{8})\+(\S+)$/.exec(key.trim());
  const typed = parts && decode64(parts[3]!);
  if (!parts || typed?.length !== 33 || typed[0] !== ED25519) {
    return step("unchecked", "what is offered is no Ed25519 verifier key");
  }
  const [name, id] = [parts[1]!, parts[2]!];
  const named = (await hash(bytesOf(`${name}\n`), typed)).subarray(0, 4);
  if (hex(named) !== id || name !== parsed.origin) {
    return step("failed", `the key ${name}+${id} is not the one of ${parsed.origin}`);
  }
  const signed = parsed.signatures.find(
    (one) => one.name === name && hex(one.bytes.subarray(0, 4)) === id,
  );
  if (!signed) return step("failed", `no signature by ${name}+${id} is on it`);
  const { subtle } = globalThis.crypto;
  const point = Uint8Array.from(typed.subarray(1));
  const imported = await subtle
    .importKey("raw", point, { name: "Ed25519" }, false, ["verify"])
    .catch(() => null);
  if (imported === null) return step("unchecked", "this browser does not know Ed25519");
  const signature = Uint8Array.from(signed.bytes.subarray(4));
  const text = Uint8Array.from(bytesOf(parsed.text));
  const good = await subtle.verify({ name: "Ed25519" }, imported, signature, text);
  return good
    ? step("ok", `Ed25519, ${name}+${id}`)
    : step("failed", `the signature by ${name}+${id} is wrong`);
}

/** Holds the entry against what the page shows, field by field. */
function compare(entry: string, shown: object): Step {
  const what = "The entry holds what is shown here";
  let held: unknown;
  try {
    held = JSON.parse(entry);
  } catch {
    return { what, state: "failed", detail: "the entry is no JSON" };
  }
  const asked = shown as Record<string, unknown>;
  const found = [held, ...Object.values(Object(held) as object)].find(
    (part) => (Object(part) as { schema?: unknown }).schema === asked["schema"],
  ) as Record<string, unknown> | undefined;
  if (found === undefined) {
    const detail = `the entry holds no ${String(asked["schema"])}: compare it by eye`;
    return { what, state: "unchecked", detail };
  }
  const names = [...new Set([...Object.keys(found), ...Object.keys(asked)])];
  const apart = names.filter((name) => canonical(found[name]) !== canonical(asked[name]));
  return apart.length === 0
    ? { what, state: "ok", detail: `all ${names.length} fields agree` }
    : { what, state: "failed", detail: `it differs in ${apart.join(", ")}` };
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === "object" && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}

async function hash(...parts: Uint8Array[]): Promise<Uint8Array> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return new Uint8Array(await globalThis.crypto.subtle.digest("SHA-256", whole));
}

/** Null for text that is no base64, or that other base64 text decodes to as well. */
function decode64(text: string): Uint8Array | null {
  try {
    const binary = atob(text);
    if (btoa(binary) !== text) return null;
    return Uint8Array.from(binary, (c) => c.charCodeAt(0));
  } catch {
    return null;
  }
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

function hex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
