/**
 * Plays recorded connections at a steady rate, each between ends of its own, and prints how many
 * frames and connections it sent. With `open`, none of them ends.
 *
 *     node connections.ts DEVICE CONNECTIONS_PER_SECOND CONNECTIONS FIRST handshakes|open
 */
import path from "node:path";
import { FrameSender } from "./sender.ts";
import { isEnd, loadTemplates, readdress } from "./traffic.ts";

const [device, ...rest] = process.argv.slice(2) as [string, ...string[]];
const [rate, total, first] = rest.slice(0, 3).map(Number) as [number, number, number];
const staysOpen = rest[3] === "open";

/** Connections that are under way at a time, a multiple of the templates. */
const TOGETHER = 64;
// A refused client leaves: it is no flow that stays open.
const loaded = await loadTemplates(path.resolve("test/golden"));
const templates = loaded.filter(({ name }) => name !== "mtls13-stranger");

type Placed = { frame: (typeof templates)[number]["frames"][number]; member: number; step: number };
const placed: Placed[] = [];
for (let member = 0; member < TOGETHER; member++) {
  const { frames } = templates[member % templates.length]!;
  for (const [step, frame] of frames.entries()) {
    if (staysOpen && isEnd(frame)) break;
    placed.push({ frame, member, step });
  }
}
placed.sort((a, b) => a.step - b.step || a.member - b.member);
const sender = new FrameSender(
  device,
  placed.map(({ frame }) => frame.bytes),
);
let at = 0;
const frames = placed.map(({ frame, member }) => {
  const view = new DataView(sender.bytes.buffer, at, frame.bytes.length);
  at += frame.bytes.length;
  return { frame: { ...frame, view }, member };
});

const startMs = performance.now();
const pause = new Int32Array(new SharedArrayBuffer(4));
let sent = 0;
let connections = 0;
while (connections < total) {
  const due = ((performance.now() - startMs) / 1000) * rate;
  if (due < connections + TOGETHER) {
    Atomics.wait(pause, 0, 0, 0.2);
    continue;
  }
  for (const { frame, member } of frames) readdress(frame, first + connections + member, 0);
  sent += sender.send();
  connections += TOGETHER;
}
console.log(JSON.stringify({ sent, connections, seconds: (performance.now() - startMs) / 1000 }));
