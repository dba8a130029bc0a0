/** Runs tap over the given test files, or all, and closes with one line that counts. */
import { spawn } from "node:child_process";
import { globSync } from "node:fs";

const [started, ...asked] = process.argv.slice(2);
const files = asked.length > 0 ? asked : globSync("test/**/*.test.ts").sort();
const tap = spawn("tap", ["run", "--reporter=tap", ...files], {
  stdio: ["ignore", "pipe", "inherit"],
});

let passed = 0;
let failed = 0;
let skipped = 0;
let rest = "";
const isTop = /^(not )?ok \d+ - (\S+\.ts)/;
const isAssert = /^ {4}(not )?ok \d+/;

/** Prints a line per file, and whole what failed; counts the tests directly inside each file. */
function take(line: string): void {
  const top = isTop.exec(line);
  if (top) {
    process.stdout.write(
      `${top[1] ? "FAILED" : "ok    "} ${line.replace(/^(not )?ok \d+ - /, "")}\n`,
    );
    if (top[1] && !/time=/.test(line)) failed++;
    return;
  }
  const one = isAssert.exec(line);
  if (one) {
    if (/# (SKIP|TODO)/i.test(line)) {
      skipped++;
      process.stdout.write(`left out: ${line.trim().replace(/^ok \d+ - /, "")}\n`);
    } else if (one[1]) failed++;
    else passed++;
  }
  if (/^\s*not ok/.test(line)) inFailure = true;
  if (inFailure) process.stdout.write(`${line}\n`);
  if (inFailure && /^\s*\.\.\.$/.test(line)) inFailure = false;
}
let inFailure = false;

tap.stdout.setEncoding("utf8");
tap.stdout.on("data", (text: string) => {
  const lines = (rest + text).split("\n");
  rest = lines.pop()!;
  lines.forEach(take);
});
tap.on("close", (code) => {
  if (rest) take(rest);
  if (code !== 0 && failed === 0) failed = 1;
  const seconds = Math.round(Date.now() / 1000 - Number(started));
  process.stdout.write(`\n${files.length} test files in ${seconds} s\n`);
  process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`);
  process.exitCode = failed > 0 || code !== 0 || passed === 0 ? 1 : 0;
});
