/**
 * One end of a private network without secrets: makes `tun0` in the network namespace in which it
 * runs, and sends what is routed to it as datagrams, as WireGuard does by its own. Prints a line
 * when it is there.
 *
 *     node vpn.ts ADDRESS LOCAL REMOTE
 */
import { spawnSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { openSync, read, writeSync } from "node:fs";
import koffi from "koffi";

const [address, local, remote] = process.argv.slice(2) as [string, string, string];
const PORT = 51_820;
/** Of linux/if_tun.h: a device of bare IP packets, of which nothing is told beside. */
const TUNSETIFF = 0x400454ca;
const IFF_TUN_NO_PI = 0x1001;

process.stdin.resume().on("end", () => process.exit()); // with the program that runs it
const tunnel = openSync("/dev/net/tun", "r+");
const ioctl = koffi.load(null).func("int ioctl(int fd, ulong request, void *argument)") as (
  fd: number,
  request: number,
  argument: Uint8Array,
) => number;
const request = Buffer.alloc(40); // struct ifreq: its name(16), flags(2)
request.write("tun0");
request.writeUInt16LE(IFF_TUN_NO_PI, 16);
if (ioctl(tunnel, TUNSETIFF, request) < 0) throw new Error(`TUNSETIFF: errno ${koffi.errno()}`);
for (const args of [`addr add ${address}/24 dev tun0`, "link set tun0 up"]) {
  spawnSync("ip", args.split(" "), { stdio: "inherit" });
}
const socket = createSocket("udp4");
socket.on("message", (packet) => writeSync(tunnel, packet));
socket.bind(PORT, local, () => {
  const packet = Buffer.alloc(2048);
  const next = () =>
    read(tunnel, packet, 0, packet.length, null, (error, length) => {
      if (error) throw error;
      socket.send(packet.subarray(0, length), PORT, remote, next);
    });
  next();
  console.log("ready");
});
