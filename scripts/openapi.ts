/** Writes collector/api/openapi.json from the table of routes. */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { formatOpenapi } from "../collector/api/openapi.ts";

const root = path.resolve(import.meta.dirname, "..");
const read = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")) as {
  version: string;
};
writeFileSync(path.join(root, "collector/api/openapi.json"), formatOpenapi(read.version));
