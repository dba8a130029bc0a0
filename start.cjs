/**
 * Starts the program: what `npm run build` made of it, while its sources are as they were then; else
 * the sources. Plain JavaScript, since to strip types costs more than all else that a start does.
 *
 * What the engine compiles is kept beside the packages, and its user alone may write there who may
 * write the packages as well; where it cannot be written, all is compiled anew. The engine checks
 * what it finds there against the source's bytes, its own version and its flags.
 */
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { enableCompileCache } = require("node:module");

const CACHE = path.join(__dirname, "node_modules/.cache/wireproof/compiled");
const BUILT = path.join(__dirname, "dist/program");

/** Reports whether each source has the size and the time that the build noted of it. */
function isFresh() {
  try {
    const sources = JSON.parse(fs.readFileSync(path.join(BUILT, "sources.json"), "utf8"));
    return Object.entries(sources).every(([file, [size, mtimeMs]]) => {
      const stat = fs.statSync(path.join(__dirname, file));
      return stat.size === size && stat.mtimeMs === mtimeMs;
    });
  } catch {
    return false; // nothing was built, or a source is gone
  }
}

enableCompileCache(CACHE);
if (isFresh()) require(path.join(BUILT, "wireproof.cjs"));
else void import("./wireproof.ts");
