/** Writes collector/policy/segmentation.schema.json, for editors, from the shape that is read. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { formatSegmentationSchema } from "../collector/policy/segmentation-shape.ts";

const root = path.resolve(import.meta.dirname, "..");
const file = path.join(root, "collector/policy/segmentation.schema.json");
writeFileSync(file, formatSegmentationSchema());
