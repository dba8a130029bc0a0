/** Loads eBPF programs that look at what a socket receives; told is why one is refused. */
import { bpfNeeds, fixedBytes } from "./bpf-map.ts";
import { RefusedCall } from "./system-calls.ts";
import type { SystemCalls } from "./system-calls.ts";

/** Of linux/bpf.h. */
const PROG_LOAD = 5;
const SOCKET_FILTER = 1;
/** Our own: programs call no helper that asks for the GPL. */
const LICENSE = "Apache-2.0";
/** What the verifier says of a program that it refuses; only its end is told. */
const LOG_BYTES = 1 << 16;
const LOG_TOLD = 300;

/** Returns a file descriptor; throws `RefusedCall`. */
export function loadProgram(
  calls: SystemCalls,
  name: string,
  program: Uint8Array<ArrayBuffer>,
): number {
  const license = fixedBytes(16);
  license.set(new TextEncoder().encode(LICENSE));
  // bpf_attr of PROG_LOAD: type | instructions | program | license | log level | log size | log
  const attributes = new DataView(new ArrayBuffer(72));
  attributes.setUint32(0, SOCKET_FILTER, true);
  attributes.setUint32(4, program.length / 8, true);
  attributes.setBigUint64(8, calls.addressOf(program), true);
  attributes.setBigUint64(16, calls.addressOf(license), true);
  new Uint8Array(attributes.buffer).set(new TextEncoder().encode(name), 48);
  const bytes = new Uint8Array(attributes.buffer);
  const fd = calls.bpfMake(PROG_LOAD, bytes);
  if (fd >= 0) return fd;
  // Once more, for the reason.
  const log = fixedBytes(LOG_BYTES);
  attributes.setUint32(24, 1, true);
  attributes.setUint32(28, log.length, true);
  attributes.setBigUint64(32, calls.addressOf(log), true);
  const again = calls.bpfMake(PROG_LOAD, bytes);
  if (again >= 0) return again;
  const code = calls.errorName(-fd);
  const end = log.indexOf(0);
  const said = Buffer.from(log.buffer, 0, end < 0 ? log.length : end).toString("latin1");
  const told = said.trim().slice(-LOG_TOLD).replaceAll(/\s+/g, " ");
  throw new RefusedCall("eBPF program", code, bpfNeeds(code) || told);
}
