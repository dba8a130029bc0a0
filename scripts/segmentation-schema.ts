/** Writes the schema of segmentation files, for editors, from the shape that is read. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { formatSegmentationSchema } from "../collector/policy/segmentation/shape.ts";

const root = path.resolve(import.meta.dirname, "..");
const file = path.join(root, "collector/policy/segmentation/segmentation.schema.json");
writeFileSync(file, formatSegmentationSchema());
