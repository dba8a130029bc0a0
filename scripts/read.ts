/**
 * Reads captures whose truth is known, and prints what was told, what was left open and what is
 * false: `npm run read -- [FOLDER…] [--open]`. Without a folder: the golden captures. `--open`
 * lists what was not told. Exits with 1 where anything is false.
 */
import path from "node:path";
import { faultsOf, framesOf, labelledIn, readFrames, recordsOf } from "./labelled.ts";
import { tellsCertificate } from "./labelled.ts";
import type { Labelled } from "./labelled.ts";
import type { Flow } from "../protocol/flow-record.ts";

const GOLDEN = path.join(import.meta.dirname, "../test/golden");
const EMPTY = { flows: 0, missing: 0, false: 0, accepted: 0, ofAccepted: 0, shown: 0, ofShown: 0 };

const folders = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
const showsOpen = process.argv.includes("--open");
const labelled = await labelledIn(folders.length > 0 ? folders : [GOLDEN]);
const sums = new Map<string, typeof EMPTY>();
let flows: Flow[] = [];
let read = "";
for (const label of labelled) {
  const file = path.join(label.folder, label.file);
  if (file !== read) flows = readFrames(await framesOf((read = file)));
  const sum = sums.get(label.folder) ?? { ...EMPTY };
  sums.set(label.folder, sum);
  weigh(label, recordsOf(label, flows), sum);
}

function weigh(label: Labelled, records: readonly Flow[], sum: typeof EMPTY): void {
  const { truth } = label;
  const name = `${label.file}${label.clientPort === null ? "" : ` ${label.clientPort}`}`;
  sum.flows++;
  if (records.length === 0) {
    sum.missing++;
    console.log(`missing: ${name}: ${truth.scene}`);
    return;
  }
  const faults = new Set(records.flatMap((record) => faultsOf(record, truth)));
  sum.false += faults.size;
  for (const fault of faults) console.log(`FALSE: ${name}: ${fault} (${truth.scene})`);
  if (truth.accepted === true) {
    const isTold = records.some((record) => record.accepted === true);
    sum.ofAccepted++;
    if (isTold) sum.accepted++;
    else if (showsOpen) console.log(`open: ${name}: accepted (${truth.scene})`);
  }
  if (truth.certificate !== null && truth.certificate !== "resumed") {
    const isTold = records.some(tellsCertificate);
    sum.ofShown++;
    if (isTold) sum.shown++;
    else if (showsOpen)
      console.log(`open: ${name}: certificate ${truth.certificate} (${truth.scene})`);
  }
}

const share = (n: number, of: number) =>
  of === 0 ? "-" : `${n} of ${of} (${((100 * n) / of).toFixed(1)} %)`;
for (const [folder, sum] of sums) {
  console.log(
    `${path.basename(folder)}: ${sum.flows} labelled, ${sum.missing} missing, ` +
      `${sum.false} false; ` +
      `told of what was accepted ${share(sum.accepted, sum.ofAccepted)}, ` +
      `of certificates ${share(sum.shown, sum.ofShown)}`,
  );
}
const isFalse = [...sums.values()].some((sum) => sum.false > 0 || sum.missing > 0);
if (labelled.length === 0) console.error("read: no truth.tsv or truth.json was found there");
process.exitCode = labelled.length === 0 ? 2 : isFalse ? 1 : 0;
