/**
 * Sends segments of many TCP connections at a steady rate, and prints how many it sent.
 *
 *     node load.ts DEVICE PACKETS_PER_SECOND SECONDS BYTES FLOWS SERVER_PORT
 */
import { FrameSender } from "./sender.ts";

const [device, ...numbers] = process.argv.slice(2) as [string, ...string[]];
const [rate, seconds, bytes, flows, port] = numbers.map(Number) as [
  ...[packetsPerSecond: number, seconds: number, bytes: number],
  ...[flows: number, port: number],
];

const ETHERNET = 14;
const HEADERS = ETHERNET + 20 + 20;
const payload = bytes - HEADERS;
const frames = Array.from({ length: flows }, (_, i) => {
  const frame = new Uint8Array(bytes).fill(0x17);
  const view = new DataView(frame.buffer);
  frame.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0]);
  view.setUint16(ETHERNET + 2, bytes - ETHERNET);
  view.setUint32(ETHERNET + 4, 0);
  view.setUint16(ETHERNET + 8, (64 << 8) | 6);
  view.setUint16(ETHERNET + 10, 0);
  view.setUint32(ETHERNET + 12, 0x0a000000 + (i & 0xffff));
  view.setUint32(ETHERNET + 16, 0x0a800001);
  view.setUint16(ETHERNET + 20, 20_000 + (i >> 16));
  view.setUint16(ETHERNET + 22, port);
  view.setUint32(ETHERNET + 24, 1);
  view.setUint32(ETHERNET + 28, 1);
  frame.set([0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0, 0x17, 3, 3, 1, 0], ETHERNET + 32);
  return frame;
});
const sender = new FrameSender(device, frames);
const view = new DataView(sender.bytes.buffer);
const startMs = performance.now();
const pause = new Int32Array(new SharedArrayBuffer(4));
let sent = 0;
let place = 0;
for (;;) {
  const passedMs = performance.now() - startMs;
  if (passedMs >= seconds * 1000) break;
  const due = Math.floor((passedMs / 1000) * rate);
  if (due - sent < 64) {
    Atomics.wait(pause, 0, 0, 0.2);
    continue;
  }
  const until = Math.min(flows, place + due - sent);
  sent += sender.send(place, until);
  place = until;
  if (place < flows) continue;
  place = 0;
  // The next segment of each.
  for (let i = 0; i < flows; i++) {
    const at = i * bytes + ETHERNET + 24;
    view.setUint32(at, (view.getUint32(at) + payload) >>> 0);
  }
}
console.log(JSON.stringify({ sent, seconds: (performance.now() - startMs) / 1000 }));
