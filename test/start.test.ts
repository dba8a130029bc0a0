/** The start of a command: the bundle while its sources are as they were, else the sources. */
import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import t from "tap";

const ROOT = path.resolve(import.meta.dirname, "..");
const temporary = fs.mkdtempSync(path.join(os.tmpdir(), "wireproof-start-"));
t.teardown(() => fs.rmSync(temporary, { recursive: true, force: true }));

/** A checkout whose sources say "sources", with arguments, and whose bundle says "built". */
function checkout(name: string): string {
  const folder = path.join(temporary, name);
  fs.mkdirSync(path.join(folder, "node_modules"), { recursive: true });
  fs.mkdirSync(path.join(folder, "dist/program"), { recursive: true });
  const node = path.join(folder, "node_modules/.bin");
  fs.symlinkSync(path.join(ROOT, "node_modules/.bin"), node);
  for (const file of ["wireproof", "start.cjs"]) {
    fs.copyFileSync(path.join(ROOT, file), path.join(folder, file));
  }
  const source = path.join(folder, "wireproof.ts");
  fs.writeFileSync(source, 'console.log("sources", ...process.argv.slice(2));\n');
  const bundle = 'console.log("built", ...process.argv.slice(2));\n';
  fs.writeFileSync(path.join(folder, "dist/program/wireproof.cjs"), bundle);
  note(folder);
  return folder;
}

function note(folder: string): void {
  const { size, mtimeMs } = fs.statSync(path.join(folder, "wireproof.ts"));
  const noted = JSON.stringify({ "wireproof.ts": [size, mtimeMs] });
  fs.writeFileSync(path.join(folder, "dist/program/sources.json"), noted);
}

function run(command: string, args: readonly string[], options = {}): string {
  return execFileSync(command, args, { encoding: "utf8", ...options }).trim();
}

t.test("a bundle runs while its sources are as they were", async (t) => {
  const folder = checkout("fresh");
  const launcher = path.join(folder, "wireproof");
  const source = path.join(folder, "wireproof.ts");
  t.equal(run(launcher, ["inspect", "a b", "*"]), "built inspect a b *");
  fs.utimesSync(source, 1e9, 1e9);
  t.equal(run(launcher, []), "sources", "another time");
  note(folder);
  t.equal(run(launcher, []), "built");
  const { atimeMs, mtimeMs } = fs.statSync(source);
  fs.appendFileSync(source, "// more\n");
  fs.utimesSync(source, atimeMs / 1000, mtimeMs / 1000);
  t.equal(run(launcher, []), "sources", "another size");
  const list = path.join(folder, "dist/program/sources.json");
  fs.writeFileSync(list, '{"wireproof.ts":');
  t.equal(run(launcher, []), "sources", "a list that was cut off");
  fs.writeFileSync(list, '{"gone.ts":[1,1]}');
  t.equal(run(launcher, []), "sources", "a source that is gone");
  fs.rmSync(path.join(folder, "dist"), { recursive: true });
  t.equal(run(launcher, ["agent"]), "sources agent", "no bundle");
});

t.test("the launcher finds its checkout however it is called", async (t) => {
  const folder = checkout("called");
  const link = path.join(temporary, "link");
  fs.symlinkSync("called/wireproof", link);
  t.equal(run(link, ["x"]), "built x", "by a link");
  fs.symlinkSync("link", path.join(temporary, "wp"));
  const env = { ...process.env, PATH: `${temporary}:${process.env["PATH"]}` };
  t.equal(run("wp", ["x"], { env }), "built x", "by a link to it, in PATH");
  t.equal(run("./wireproof", ["x"], { cwd: folder }), "built x", "by a relative path");
  t.equal(run("sh", ["wireproof", "x"], { cwd: folder }), "built x", "by its shell");
  const dashed = checkout("-n a");
  t.equal(run("./-n a/wireproof", ["x"], { cwd: path.dirname(dashed) }), "built x", "odd names");
});

t.test("what the engine compiled is kept beside the packages, where it may", async (t) => {
  const folder = checkout("kept");
  const cache = path.join(folder, "node_modules/.cache");
  t.equal(run(path.join(folder, "wireproof"), []), "built");
  t.ok(fs.readdirSync(path.join(cache, "wireproof/compiled")).length > 0);
  fs.rmSync(cache, { recursive: true });
  fs.writeFileSync(cache, ""); // nothing can be made below a file
  const { stderr, stdout, status } = spawnSync(path.join(folder, "wireproof"), [], {
    encoding: "utf8",
  });
  t.strictSame([stdout, stderr, status], ["built\n", "", 0]);
});
