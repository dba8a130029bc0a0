/**
 * Bundles the program into `dist/program`, so that a start need not find, strip and link some
 * hundred files: `start.cjs` runs it while the sources are as they are now. CommonJS, because the
 * engine makes all of a built-in module's exports when an ES module imports it: `node:fs` brings
 * streams and promises along by that.
 */
import { renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { rolldown } from "rolldown";
import type { Plugin } from "rolldown";

const ROOT = path.resolve(import.meta.dirname, "..");
const OUT = path.join(ROOT, "dist/program");
/** Where it is made: nobody starts what is there in part. */
const MAKING = `${OUT}.new`;

/** Packages that are bundled as well: short commands load them. Others stay where they are. */
const BUNDLED = /^(commander|yaml|typebox)(\/|$)/;
const isApart = (id: string) => !/^[./\0]/.test(id) && !BUNDLED.test(id);

/** Commander loads `node:child_process` for commands in files of their own: we have none. */
const isUnused = (id: string, from = "") =>
  id === "node:child_process" && from.includes("/commander/");

const plugin: Plugin = {
  name: "program",
  resolveId(id, from) {
    if (isUnused(id, from)) return "\0unused";
    // The demo finds its files from where its own source stands.
    const isDemo = id === "./scripts/scene/demo.ts";
    return isDemo ? { id: path.relative(OUT, path.join(ROOT, id)), external: true } : null;
  },
  load: (id) => (id === "\0unused" ? "export {};" : null),
  /** Built-in modules are loaded when they are first used: `node:crypto` alone takes some 10 ms. */
  renderChunk(code) {
    const loaded = /^let (node_\w+) = require\("(node:\w+)"\);$/gm;
    for (const [declared, name, module] of code.matchAll(loaded)) {
      if (code.includes(`__toESM(${name}`)) continue; // its default is used
      code = code
        .replaceAll(new RegExp(`\\b${name}\\.`, "g"), `(${name}()).`)
        .replace(declared, `const ${name} = () => require("${module}");`);
    }
    return code;
  },
};

rmSync(MAKING, { recursive: true, force: true });
const bundle = await rolldown({
  cwd: ROOT,
  input: { wireproof: "wireproof.ts", "watcher-worker": "agent/watcher-worker.ts" },
  platform: "node",
  external: (id, from) => isApart(id) && !isUnused(id, from),
  plugins: [plugin],
  logLevel: "warn",
});
const { output } = await bundle.write({
  dir: MAKING,
  format: "cjs",
  entryFileNames: "[name].cjs",
  chunkFileNames: "[name].cjs",
});
const modules = output.flatMap((part) => (part.type === "chunk" ? part.moduleIds : []));
const own = modules
  .filter((file) => path.isAbsolute(file) && !file.includes("node_modules"))
  .map((file) => path.relative(ROOT, file));
const noted = [...new Set([...own, "package-lock.json"])].sort().map((file) => {
  const { size, mtimeMs } = statSync(path.join(ROOT, file));
  return [file, [size, mtimeMs]];
});
writeFileSync(path.join(MAKING, "sources.json"), JSON.stringify(Object.fromEntries(noted)));
rmSync(OUT, { recursive: true, force: true });
renameSync(MAKING, OUT);
