/** Writes protocol/row-schema.json, by which agents check their rows, from the rows' own types. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { Coverage } from "../protocol/coverage.ts";
import { Observation } from "../protocol/observation.ts";

export function formatRowSchema(): string {
  return `${JSON.stringify({ observation: Observation, coverage: Coverage }, null, 1)}\n`;
}

if (process.argv[1] === import.meta.filename) {
  writeFileSync(
    path.resolve(import.meta.dirname, "../protocol/row-schema.json"),
    formatRowSchema(),
  );
}
