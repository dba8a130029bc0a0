/** Tests the evidence log: its trees exhaustively, its files under tampering and failing disks. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import t from "tap";
import { encodeEntry, parseEntry, type JsonObject } from "../../collector/evidence/entry.ts";
import { createKeys, DISK, EvidenceLog, type LogFiles } from "../../collector/evidence/log.ts";
import {
  checkConsistency,
  checkInclusion,
  EMPTY_ROOT,
  hashLeaf,
  hashNode,
  proveConsistency,
  proveInclusion,
  treeHash,
  type ReadNode,
} from "../../collector/evidence/merkle.ts";
import {
  formatKeys,
  openCheckpoint,
  parseSigner,
  parseVerifier,
  signCheckpoint,
} from "../../collector/evidence/note.ts";
import { decodeEntries, Edge, encodeEntries, tilePath } from "../../collector/evidence/tile.ts";
import { formatReport, proveEntry, verifyLog } from "../../collector/evidence/verify.ts";

const root = path.resolve(import.meta.dirname, "../..");
const temporary = fs.mkdtempSync(path.join(os.tmpdir(), "wireproof-evidence-"));
t.teardown(() => fs.rmSync(temporary, { recursive: true, force: true }));
let directories = 0;
const fresh = () => path.join(temporary, String(++directories));
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const quiet = () => {};

// ---- trees ---------------------------------------------------------------------------------

/** The obvious slow tree, straight from RFC 6962 §2.1: D[n] split at the largest power of two. */
function slowRoot(leaves: readonly Uint8Array[]): Uint8Array {
  if (leaves.length === 0) return EMPTY_ROOT;
  if (leaves.length === 1) return leaves[0]!;
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return hashNode(slowRoot(leaves.slice(0, k)), slowRoot(leaves.slice(k)));
}

function readerOf(leaves: readonly Uint8Array[]): ReadNode {
  const kept = new Map<string, Uint8Array>();
  const read: ReadNode = (level, index) => {
    if (level === 0) return leaves[index]!;
    const name = `${level}/${index}`;
    const known = kept.get(name);
    if (known) return known;
    const hash = hashNode(read(level - 1, index * 2), read(level - 1, index * 2 + 1));
    kept.set(name, hash);
    return hash;
  };
  return read;
}

const bits = (bytes: Uint8Array) => bytes.length * 8;
function flip(bytes: Uint8Array, bit: number): Uint8Array {
  const flipped = Uint8Array.from(bytes);
  flipped[bit >> 3]! ^= 1 << (bit & 7);
  return flipped;
}

const LEAVES = Array.from({ length: 65 }, (_, i) => hashLeaf(Buffer.from(`entry ${i}`)));

t.test("the reference tree of Certificate Transparency", (t) => {
  // github.com/google/certificate-transparency, cpp/merkletree/merkle_tree_test.cc
  const inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"];
  inputs.push("606162636465666768696a6b6c6d6e6f");
  const roots = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
  ];
  const leaves = inputs.map((text) => hashLeaf(Buffer.from(text, "hex")));
  const read = readerOf(leaves);
  roots.forEach((known, size) => t.equal(hex(treeHash(size, read)), known));
  t.strictSame(proveInclusion(5, 8, read).map(hex), [
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
  ]);
  t.strictSame(proveConsistency(1, 8, read).map(hex), [
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
  ]);
  t.strictSame(proveConsistency(6, 8, read).map(hex), [
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
  ]);
  t.strictSame(proveConsistency(2, 5, read).map(hex), [
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
  ]);
  t.end();
});

t.test("every tree of 0..64 leaves: every root, every proof", (t) => {
  const read = readerOf(LEAVES);
  const roots = LEAVES.map((_, size) => treeHash(size, read));
  let checks = 0;
  for (let size = 0; size <= 64; size++) {
    if (!Buffer.from(roots[size]!).equals(slowRoot(LEAVES.slice(0, size)))) t.fail(`root ${size}`);
    for (let index = 0; index < size; index++, checks++) {
      const proof = proveInclusion(index, size, read);
      const check = (i: number, n: number, leaf = LEAVES[index]!, r = roots[size]!) =>
        checkInclusion(proof, i, n, leaf, r);
      if (!check(index, size)) t.fail(`inclusion ${index} of ${size}`);
      if (proof.length > Math.ceil(Math.log2(size))) t.fail(`long proof ${index} of ${size}`);
      if (check(index, size, LEAVES[index + 1])) t.fail("another leaf passes");
      if (size > 1 && check((index + 1) % size, size)) t.fail("another index passes");
      if (check(index, size, LEAVES[index], roots[size - 1])) t.fail("another root passes");
      if (check(size, size) || check(-1, size) || check(0.5, size)) t.fail("no such index passes");
      const shorter = proof.slice(0, -1);
      const longer = [...proof, LEAVES[0]!];
      for (const wrong of [longer, ...(size > 1 ? [shorter] : [])]) {
        if (checkInclusion(wrong, index, size, LEAVES[index]!, roots[size]!)) t.fail("length");
      }
    }
    for (let old = 0; old <= size; old++, checks++) {
      const proof = proveConsistency(old, size, read);
      const check = (p = proof, o = roots[old]!, r = roots[size]!) =>
        checkConsistency(p, old, o, size, r);
      if (!check()) t.fail(`consistency ${old} to ${size}`);
      if (check(proof, flip(roots[old]!, 0))) t.fail("another old root passes");
      if (old > 0 && check(proof, roots[old], flip(roots[size]!, 0))) t.fail("another root passes");
      if (check([...proof, LEAVES[0]!])) t.fail("a longer proof passes");
      if (proof.length > 0 && check(proof.slice(1))) t.fail("a shorter proof passes");
      if (checkConsistency(proof, size + 1, roots[old]!, size, roots[size]!)) t.fail("shrinks");
    }
  }
  t.comment(`${checks} proofs`);
  t.throws(() => proveInclusion(3, 3, read), RangeError);
  t.throws(() => proveConsistency(4, 3, read), RangeError);
  t.end();
});

t.test("every single-bit corruption of a small proof is refused", (t) => {
  const read = readerOf(LEAVES);
  for (let size = 1; size <= 9; size++) {
    const whole = treeHash(size, read);
    for (let index = 0; index < size; index++) {
      const proof = proveInclusion(index, size, read);
      const leaf = LEAVES[index]!;
      for (let bit = 0; bit < 256; bit++) {
        if (checkInclusion(proof, index, size, flip(leaf, bit), whole)) t.fail("leaf");
        if (checkInclusion(proof, index, size, leaf, flip(whole, bit))) t.fail("root");
        proof.forEach((hash, i) => {
          const bad = proof.with(i, flip(hash, bit));
          if (checkInclusion(bad, index, size, leaf, whole)) t.fail("proof");
        });
      }
      const old = index + 1;
      const older = treeHash(old, read);
      const consistency = proveConsistency(old, size, read);
      for (let bit = 0; bit < 256; bit++) {
        consistency.forEach((hash, i) => {
          const bad = consistency.with(i, flip(hash, bit));
          if (checkConsistency(bad, old, older, size, whole)) t.fail("consistency");
        });
      }
    }
  }
  t.pass();
  t.end();
});

t.test("the growing edge has the root of the whole, across tile borders", (t) => {
  const edge = new Edge();
  const leaves: Uint8Array[] = [];
  const tiles: string[] = [];
  const read = readerOf(leaves);
  for (let i = 0; i < 66_000; i++) {
    leaves.push(hashLeaf(Uint8Array.of(i >> 16, (i >> 8) & 0xff, i & 0xff)));
    edge.add(leaves[i]!, (tile) => tiles.push(tilePath(tile)));
    if (i > 700 && i % 4999 !== 0 && Math.abs(i - 65536) > 2) continue;
    if (hex(edge.root()) !== hex(treeHash(i + 1, read))) t.fail(`root at ${i + 1}`);
  }
  t.strictSame(tiles.slice(0, 2), ["tile/0/000", "tile/0/001"]);
  t.strictSame(tiles.slice(255, 258), ["tile/0/255", "tile/1/000", "tile/0/256"]);
  t.end();
});

t.test("paths and bundles are those of tlog-tiles", (t) => {
  t.equal(tilePath({ level: 0, index: 1234067, width: 256 }), "tile/0/x001/x234/067");
  t.equal(tilePath({ level: 0, index: 1000, width: 256 }), "tile/0/x001/000");
  t.equal(tilePath({ level: "entries", index: 5, width: 3 }), "tile/entries/005.p/3");
  const entries = ["", "a", "x".repeat(300)].map((text) => Buffer.from(text));
  const bundle = encodeEntries(entries);
  t.strictSame(decodeEntries(bundle, 3)?.map(hex), entries.map(hex));
  for (let cut = 0; cut < bundle.length; cut++) {
    if (decodeEntries(bundle.subarray(0, cut), 3)) t.fail(`cut at ${cut}`);
  }
  for (const count of [0, 2, 4]) t.equal(decodeEntries(bundle, count), null);
  t.throws(() => encodeEntries([Buffer.alloc(65536)]), RangeError);
  t.end();
});

t.test("entries are canonical JSON objects", (t) => {
  const entry = { b: [1, null, { z: "ü\u2028", a: 1e21 }], "": false, a: { "10": 1, "9": 2 } };
  const text = '{"":false,"a":{"10":1,"9":2},"b":[1,null,{"a":1e+21,"z":"ü\u2028"}]}';
  t.equal(Buffer.from(encodeEntry(entry)).toString(), text);
  t.strictSame(parseEntry(Buffer.from(text)), entry);
  for (const bad of ["", "[]", "1", '{"b":1,"a":2}', '{"a": 1}', '{"a":1}\n', '{"a":1.0}', "{"]) {
    t.equal(parseEntry(Buffer.from(bad)), null, bad);
  }
  t.equal(parseEntry(Uint8Array.of(0x7b, 0xff, 0x7d)), null);
  const none = { a: undefined } as unknown as JsonObject;
  for (const bad of [none, { a: NaN }, { a: "\ud800" }]) t.throws(() => encodeEntry(bad));
  t.end();
});

// ---- checkpoints ---------------------------------------------------------------------------

t.test("keys and checkpoints are those of signed-note", (t) => {
  // The example key of golang.org/x/mod/sumdb/note.
  const pub = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
  const key = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
  const signed =
    "If you think cryptography is the answer to your problem,\n" +
    "then you don't know what your problem is.\n\n— PeterNeumann " +
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
  const verifier = parseVerifier(pub)!;
  t.ok(parseSigner(key) && verifier);
  const opened = openCheckpoint(Buffer.from(signed), verifier);
  t.equal(opened.problem, "what is signed is not a checkpoint", "the signature itself is good");
  const changed = openCheckpoint(Buffer.from(signed.replace("then", "than")), verifier);
  t.equal(changed.problem, "its signature by PeterNeumann is wrong");

  const keys = formatKeys("log.example/one", Buffer.alloc(32, 7));
  const own = parseVerifier(keys.verifier)!;
  const note = signCheckpoint(3, EMPTY_ROOT, parseSigner(keys.signer)!);
  const good = openCheckpoint(Buffer.from(note), own);
  t.match(good, { problem: null, checkpoint: { origin: "log.example/one", size: 3 } });
  for (let bit = 0; bit < bits(Buffer.from(note)); bit++) {
    const bad = openCheckpoint(flip(Buffer.from(note), bit), own);
    if (bad.problem === null) t.fail(`bit ${bit} is not noticed`);
  }
  for (let cut = 0; cut < note.length; cut++) {
    if (openCheckpoint(Buffer.from(note).subarray(0, cut), own).problem === null) t.fail("cut");
  }
  const other = parseVerifier(formatKeys("log.example/one", Buffer.alloc(32, 8)).verifier)!;
  t.match(openCheckpoint(Buffer.from(note), other).problem, /by the key given/);
  const both = `${note}— witness.example ${Buffer.alloc(68, 1).toString("base64")}\n`;
  t.equal(openCheckpoint(Buffer.from(both), own).problem, null, "others' signatures stand beside");
  for (const bad of ["", "x", pub.replace("c74f", "c74e"), pub.slice(0, -4), `${pub}=`]) {
    t.equal(parseVerifier(bad), null, bad);
  }
  t.equal(parseSigner(pub), null);
  t.end();
});

t.test("OpenSSL judges the signature", (t) => {
  const keys = formatKeys("log.example/one", Buffer.alloc(32, 7));
  const [text, signature] = signCheckpoint(3, EMPTY_ROOT, parseSigner(keys.signer)!).split(
    "\n\n— log.example/one ",
  );
  const directory = fresh();
  fs.mkdirSync(directory);
  const file = (name: string) => path.join(directory, name);
  fs.writeFileSync(file("text"), `${text}\n`);
  fs.writeFileSync(file("sig"), Buffer.from(signature!, "base64").subarray(4));
  const key = parseVerifier(keys.verifier)!.key;
  fs.writeFileSync(file("pub.pem"), key.export({ format: "pem", type: "spki" }));
  const options = ["-in", file("text"), "-sigfile", file("sig"), "-inkey", file("pub.pem")];
  try {
    const verify = ["pkeyutl", "-verify", "-pubin", "-rawin", ...options];
    t.match(execFileSync("openssl", verify).toString(), /Verified Successfully/);
  } catch (error) {
    if ((error as { code?: string }).code !== "ENOENT") throw error;
    t.pass("openssl is not installed", { skip: true });
  }
  t.end();
});

// ---- the log -------------------------------------------------------------------------------

const entryOf = (i: number) => encodeEntry({ n: i, text: `entry ${i}` });
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

type Made = { directory: string; pub: string; signer: string };

async function makeLog(...appends: number[]): Promise<Made & { checkpoints: string[] }> {
  const directory = fresh();
  const [key, pub] = createKeys(`${directory}-keys`, "log.example");
  const signer = fs.readFileSync(key!, "utf8");
  const log = await EvidenceLog.open({ directory, signer, log: quiet });
  const checkpoints = [log.checkpoint];
  for (const count of appends) {
    const { size } = log;
    const done = await log.appendAll(range(size, size + count).map(entryOf));
    t.strictSame(done, { first: size, size: size + count });
    checkpoints.push(log.checkpoint);
  }
  await log.close();
  return { directory, pub: pub!, signer, checkpoints };
}

function keep(note: string): string {
  const file = fresh();
  fs.writeFileSync(file, note);
  return file;
}

t.test("a log verifies, goes on where it stood, and proves its entries", async (t) => {
  const made = await makeLog(1, 2, 252, 1, 1, 300, 600);
  const report = verifyLog(made.directory, made.pub);
  t.match(report, { ok: true, size: 1157, entries: 1157, problems: [], origin: "log.example" });
  t.match(report.limits[0], /no earlier checkpoint was given/);
  t.match(formatReport(report), /VERIFIED/);
  for (const note of made.checkpoints) {
    const since = verifyLog(made.directory, made.pub, keep(note));
    t.ok(since.ok);
    t.equal(since.since, Number(note.split("\n")[1]));
    t.notMatch(formatReport(since), /no earlier checkpoint/);
  }
  const log = await EvidenceLog.open({ ...made, log: quiet });
  t.equal(log.size, 1157);
  await t.rejects(EvidenceLog.open({ ...made, log: quiet }), { code: "CONFIG_EVIDENCE_IN_USE" });
  t.strictSame(await log.appendAll([]), { first: 1157, size: 1157 });
  await Promise.all([log.appendAll([entryOf(1157)]), log.appendAll([entryOf(1158)])]);
  await log.close();
  await t.rejects(log.appendAll([entryOf(0)]), /closed/);
  t.match(verifyLog(made.directory, made.pub), { ok: true, size: 1159 });
  t.notOk(fs.existsSync(path.join(made.directory, "tile/0/000.p")), "partial tiles are tidied");

  const leaves = range(0, 1159).map((i) => hashLeaf(entryOf(i)));
  for (const index of [0, 1, 255, 256, 1023, 1024, 1157, 1158]) {
    const proven = proveEntry(made.directory, index, made.pub);
    t.equal(proven.entry, Buffer.from(entryOf(index)).toString());
    const [head, ...lines] = proven.proof.slice(0, proven.proof.indexOf("\n\n")).split("\n");
    t.equal(head, "c2sp.org/tlog-proof@v1");
    t.equal(lines.shift(), `index ${index}`);
    const hashes = lines.map((line) => Buffer.from(line, "base64"));
    t.ok(checkInclusion(hashes, index, 1159, leaves[index]!, slowRoot(leaves)));
  }
  t.throws(() => proveEntry(made.directory, 1159), { code: "CONFIG_EVIDENCE_PROVE" });
  t.throws(() => proveEntry(fresh(), 0), { code: "CONFIG_EVIDENCE_PROVE" });
  const none = fresh();
  t.throws(() => verifyLog(none, made.pub), { code: "CONFIG_EVIDENCE" });
  t.throws(() => verifyLog(made.directory, none), { code: "CONFIG_EVIDENCE_FILE" });
  t.throws(() => verifyLog(made.directory, made.pub, none), { code: "CONFIG_EVIDENCE_FILE" });
  t.throws(() => createKeys(`${made.directory}-keys`, "x"), { code: "CONFIG_EVIDENCE_KEY" });
});

t.test("every flipped bit in any file of a small log is found", async (t) => {
  const made = await makeLog(2, 1);
  const files = ["checkpoint", "tile/entries/000.p/3", "tile/0/000.p/3"];
  for (const name of files) {
    const file = path.join(made.directory, name);
    const bytes = fs.readFileSync(file);
    for (let bit = 0; bit < bits(bytes); bit++) {
      fs.writeFileSync(file, flip(bytes, bit));
      if (verifyLog(made.directory, made.pub).ok) t.fail(`${name}: bit ${bit}`);
    }
    for (let cut = 0; cut < bytes.length; cut++) {
      fs.writeFileSync(file, bytes.subarray(0, cut));
      if (verifyLog(made.directory, made.pub).ok) t.fail(`${name}: cut at ${cut}`);
    }
    fs.rmSync(file);
    t.match(verifyLog(made.directory, made.pub), { ok: false }, `${name} missing`);
    fs.writeFileSync(file, bytes);
  }
  t.ok(verifyLog(made.directory, made.pub).ok);
});

t.test("tampering is found, and named", async (t) => {
  const made = await makeLog(300, 400);
  const at = (name: string) => path.join(made.directory, name);
  const tamper = (what: string, wanted: RegExp | null, change: () => void, since?: string) => {
    const before = `${made.directory}-before`;
    fs.cpSync(made.directory, before, { recursive: true });
    change();
    const report = verifyLog(made.directory, made.pub, since);
    t.equal(report.ok, wanted === null, what);
    if (wanted) t.match(report.problems.join("\n"), wanted, what);
    fs.rmSync(made.directory, { recursive: true });
    fs.renameSync(before, made.directory);
  };
  const bundle = (change: (entries: Uint8Array[]) => Uint8Array[]) => () => {
    const file = at("tile/entries/001");
    const entries = decodeEntries(fs.readFileSync(file), 256)!;
    fs.writeFileSync(file, encodeEntries(change(entries)));
  };
  /** A forger without the key: everything is computed anew, but the signature. */
  const rebuild = async (entries: Uint8Array[], signer: string) => {
    fs.rmSync(at("tile"), { recursive: true });
    fs.rmSync(at("checkpoint"));
    const log = await EvidenceLog.open({ directory: made.directory, signer, log: quiet });
    await log.appendAll(entries);
    await log.close();
    return log.checkpoint;
  };
  tamper(
    "edit",
    /^entry 300 is not what/,
    bundle((e) => e.with(44, entryOf(9))),
  );
  tamper(
    "delete",
    /does not hold exactly 256/,
    bundle((e) => e.toSpliced(44, 1)),
  );
  tamper(
    "reorder",
    /^entries 300 to 301 are not what/,
    bundle((e) => [e[0]!, ...e.slice(1)].with(44, e[45]!).with(45, e[44]!)),
  );
  tamper(
    "insert",
    /does not hold/,
    bundle((e) => [...e, entryOf(1)]),
  );
  tamper("bundle missing", /entries\/001 is missing: entries from 256/, () =>
    fs.rmSync(at("tile/entries/001")),
  );
  tamper("swapped bundles", /^entries 0 to 255 are not what.*\nentries 256 to 511/, () => {
    fs.renameSync(at("tile/entries/000"), at("x"));
    fs.renameSync(at("tile/entries/001"), at("tile/entries/000"));
    fs.renameSync(at("x"), at("tile/entries/001"));
  });
  tamper(
    "swapped tiles",
    /^entries 0 to 255 are not what the log committed to .tile\/0\/000/,
    () => {
      fs.renameSync(at("tile/0/000"), at("x"));
      fs.renameSync(at("tile/0/001"), at("tile/0/000"));
      fs.renameSync(at("x"), at("tile/0/001"));
    },
  );
  tamper("level 1", /tile\/1\/000.p\/2 is not/, () => {
    const bytes = fs.readFileSync(at("tile/1/000.p/2"));
    fs.writeFileSync(at("tile/1/000.p/2"), bytes.reverse());
  });
  tamper("another's checkpoint", /does not count: .*by the key given/, () => {
    const other = parseSigner(formatKeys("log.example", Buffer.alloc(32)).signer)!;
    fs.writeFileSync(at("checkpoint"), signCheckpoint(700, EMPTY_ROOT, other));
  });
  tamper("entry and tile agree", /root of the entries is not the signed one/, () => {
    bundle((e) => e.with(44, entryOf(9)))();
    const bytes = fs.readFileSync(at("tile/0/001"));
    bytes.set(hashLeaf(entryOf(9)), 44 * 32);
    fs.writeFileSync(at("tile/0/001"), bytes);
  });
  const since = keep(made.checkpoints[2]!);
  const cut = () => fs.writeFileSync(at("checkpoint"), made.checkpoints[1]!);
  tamper("cut back, unseen without --since", null, cut);
  tamper("cut back", /the log was cut: .* 700 entries, and now there are 300/, cut, since);
  const bad = keep(made.checkpoints[2]!.replace("700", "701"));
  tamper("a forged earlier checkpoint", /earlier checkpoint does not count/, () => {}, bad);

  // The key's holder writes the log anew: only the earlier checkpoint finds it.
  const forged = range(0, 700).map(entryOf).with(5, entryOf(9));
  const before = `${made.directory}-before`;
  fs.cpSync(made.directory, before, { recursive: true });
  await rebuild(forged, made.signer);
  t.ok(verifyLog(made.directory, made.pub).ok);
  for (const note of made.checkpoints.slice(1)) {
    const report = verifyLog(made.directory, made.pub, keep(note));
    t.match(report.problems[0], /entries are not those of the earlier checkpoint/);
  }
  fs.rmSync(made.directory, { recursive: true });
  fs.renameSync(before, made.directory);
});

/** A disk whose call number `fails` fails, having done half of a write. */
function failing(fails: number): { files: LogFiles; calls: () => number } {
  let calls = 0;
  const wrapped = Object.entries(DISK).map(([name, call]) => [
    name,
    async (...args: unknown[]) => {
      const run = call as (...a: unknown[]) => unknown;
      if (calls++ !== fails) return run(...args);
      if (name === "write") {
        const bytes = args[1] as Uint8Array;
        await run(args[0], bytes.subarray(0, bytes.length >> 1), args[2]);
      }
      if (name === "rename" && fails % 2 === 0) await run(...args);
      throw Object.assign(new Error(`${name} failed`), { code: "EIO" });
    },
  ]);
  return { files: Object.fromEntries(wrapped) as LogFiles, calls: () => calls };
}

t.test("each call to the disk fails once: it signs no more, and recovers", async (t) => {
  for (let fails = 0; ; fails++) {
    const disk = failing(fails);
    const directory = fresh();
    const signer = formatKeys("log.example", Buffer.alloc(32, 1)).signer;
    const pub = keep(formatKeys("log.example", Buffer.alloc(32, 1)).verifier);
    const lines: string[] = [];
    const options = { directory, signer, log: (_: string, line: string) => void lines.push(line) };
    const seen: string[] = [];
    const see = () => {
      const file = path.join(directory, "checkpoint");
      if (fs.existsSync(file)) seen.push(fs.readFileSync(file, "utf8"));
    };
    try {
      const log = await EvidenceLog.open({ ...options, files: disk.files });
      for (const count of [1, 254, 3]) {
        const { size } = log;
        const entries = range(size, size + count).map(entryOf);
        const stopped = await log.appendAll(entries).then(
          () => null,
          (error: Error) => error,
        );
        see();
        if (stopped) {
          t.match(stopped.message, /has stopped, and signs nothing more/);
          await t.rejects(log.appendAll(entries), /has stopped/, "fatal for good");
          t.equal(lines.length, 1, "told once");
          t.equal(log.fatal, stopped);
          t.equal(log.size, size, "what is not signed is not counted");
          break;
        }
      }
      await log.close();
    } catch (error) {
      if ((error as { code?: string }).code !== "EIO") throw error;
      see();
    }
    // What was seen holds for ever: after a crash here, and after going on.
    const again = await EvidenceLog.open(options);
    const { size } = again;
    await again.appendAll(range(size, 260).map(entryOf));
    await again.close();
    for (const note of seen) {
      const report = verifyLog(directory, pub, keep(note));
      t.ok(report.ok, `call ${fails}: ${report.problems}`);
    }
    t.match(verifyLog(directory, pub), { ok: true, size: 260 });
    if (disk.calls() <= fails) {
      t.comment(`${fails} calls`);
      break;
    }
  }
});

t.test("a torn or damaged log is carried on, or not opened", async (t) => {
  const made = await makeLog(5);
  const at = (name: string) => path.join(made.directory, name);
  const options = { ...made, log: quiet };
  fs.writeFileSync(at("checkpoint.next"), "half a check");
  fs.mkdirSync(at("tile/0/000.p"), { recursive: true });
  fs.writeFileSync(at("tile/0/000.p/6"), "torn");
  let log = await EvidenceLog.open(options);
  await log.appendAll([entryOf(5)]);
  await log.close();
  t.match(verifyLog(made.directory, made.pub), { ok: true, size: 6 });

  // The crash came between step 2 and step 3: the append has happened.
  fs.renameSync(at("checkpoint"), at("checkpoint.next"));
  fs.writeFileSync(at("checkpoint"), made.checkpoints[1]!);
  log = await EvidenceLog.open(options);
  t.equal(log.size, 6);
  await log.close();
  t.notOk(fs.existsSync(at("checkpoint.next")));

  const refused = async (what: RegExp) => {
    await t.rejects(EvidenceLog.open(options), { code: "CONFIG_EVIDENCE_DAMAGED", message: what });
  };
  const swap = async (name: string, bytes: Uint8Array | null, what: RegExp) => {
    const whole = fs.readFileSync(at(name));
    if (bytes) fs.writeFileSync(at(name), bytes);
    else fs.rmSync(at(name));
    await refused(what);
    fs.writeFileSync(at(name), whole);
  };
  await swap("checkpoint", null, /there are tiles, but no checkpoint/);
  await swap("checkpoint", Buffer.from("x"), /not a signed note/);
  await swap("tile/0/000.p/6", null, /000.p\/6 is missing/);
  await swap("tile/0/000.p/6", Buffer.alloc(32 * 6), /do not agree/);
  await swap("tile/entries/000.p/6", encodeEntries(range(1, 7).map(entryOf)), /do not agree/);
  await t.rejects(EvidenceLog.open({ ...options, signer: "x" }), { code: "CONFIG_EVIDENCE_KEY" });
  log = await EvidenceLog.open(options);
  await t.rejects(log.appendAll([Buffer.alloc(65536)]), RangeError);
  t.equal(log.fatal, null, "a long entry is the caller's mistake, not the disk's");
  await log.close();
});

t.test("the commands: exit codes, text and JSON", async (t) => {
  const made = await makeLog(3);
  const run = (...args: string[]) => {
    try {
      const stdout = execFileSync(process.execPath, ["wireproof.ts", "evidence", ...args], {
        cwd: root,
        stdio: "pipe",
      });
      return { status: 0, out: stdout.toString() };
    } catch (error) {
      const { status, stdout, stderr } = error as Record<"stdout" | "stderr", Buffer> & {
        status: number;
      };
      return { status, out: `${stdout}${stderr}` };
    }
  };
  const keys = fresh();
  t.match(run("keygen", "--dir", keys), { status: 0, out: /evidence\.pub/ });
  t.match(run("verify", made.directory, "--key", made.pub), { status: 0, out: /^log.example: 3/ });
  const json = run("verify", made.directory, "--key", made.pub, "--format", "json");
  t.match(JSON.parse(json.out), { ok: true, size: 3 });
  t.match(run("prove", made.directory, "--index", "1"), { status: 0, out: /^{"n":1,.*\n\nc2sp/ });
  t.match(run("verify", made.directory, "--key", path.join(keys, "evidence.pub")), {
    status: 1,
    out: /FAILED/,
  });
  t.match(run("verify", made.directory), { status: 2 });
  t.match(run("verify", keys, "--key", made.pub), { status: 2, out: /no evidence log is there/ });
});
