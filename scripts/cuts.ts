/**
 * Reads each labelled flow cut off behind every packet, and with every single packet lost, and
 * demands that nothing is said that is not so: `npm run cuts -- [FOLDER…]`. Knowing less never
 * asserts more.
 */
import path from "node:path";
import { faultsOf, framesOf, labelledIn, readFrames, recordsOf } from "./labelled.ts";
import type { Frame, Labelled } from "./labelled.ts";

/** Packets of a flow behind which it is not cut any more: its opening stands before. */
const PACKETS_LIMIT = 120;

export type Cut = { label: Labelled; how: string; fault: string };

/** What is false of the flow, however it was captured in part. */
function cutsOf(label: Labelled, frames: readonly Frame[]): { tried: number; cuts: Cut[] } {
  const cuts: Cut[] = [];
  let tried = 0;
  const attempt = (part: readonly Frame[], how: string) => {
    tried++;
    for (const record of recordsOf(label, readFrames(part))) {
      for (const fault of faultsOf(record, label.truth)) cuts.push({ label, how, fault });
    }
  };
  const most = Math.min(frames.length, PACKETS_LIMIT);
  for (let n = 1; n < most; n++) attempt(frames.slice(0, n), `cut behind packet ${n}`);
  for (let n = 0; n < most; n++) {
    attempt([...frames.slice(0, n), ...frames.slice(n + 1)], `packet ${n + 1} lost`);
  }
  return { tried, cuts };
}

/** Every `nth` labelled flow of the folders. */
export async function cutsIn(folders: readonly string[], nth = 1) {
  const all: Cut[] = [];
  let [flows, tried] = [0, 0];
  let [frames, read]: [Frame[], string] = [[], ""];
  for (const [i, label] of (await labelledIn(folders)).entries()) {
    if (label.clientPort === null || i % nth !== 0) continue;
    const file = path.join(label.folder, label.file);
    if (file !== read) frames = await framesOf((read = file));
    const ends = [label.clientPort, label.serverPort!].sort((a, b) => a - b).join(" ");
    const own = frames.filter((frame) => frame.ends === ends);
    const cut = cutsOf(label, own);
    flows++;
    tried += cut.tried;
    all.push(...cut.cuts);
  }
  return { flows, tried, cuts: all };
}

if (import.meta.main) {
  const folders = process.argv.slice(2);
  const golden = path.join(import.meta.dirname, "../test/golden");
  const { flows, tried, cuts } = await cutsIn(folders.length > 0 ? folders : [golden]);
  for (const { label, how, fault } of cuts) {
    console.log(`${label.file} ${label.clientPort}, ${how}: ${fault} (${label.truth.scene})`);
  }
  console.log(`${flows} flows read in ${tried} ways: ${cuts.length} false`);
  process.exitCode = cuts.length > 0 ? 1 : 0;
}
