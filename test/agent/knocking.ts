/**
 * Tries ports of a host, and prints one line of JSON for each: the protocol, the port, and the
 * kernel's own word for how that ended.
 *
 *     node knocking.ts HOST tcp:PORT,udp:PORT,…
 */
import { createSocket } from "node:dgram";
import { connect } from "node:net";

const [host, places] = process.argv.slice(2) as [string, string];
const QUIET_MS = 300;

function knock(proto: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    const failed = (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message);
    if (proto === "tcp") {
      const socket = connect({ host, port, timeout: QUIET_MS });
      const done = (word: string) => {
        socket.destroy();
        resolve(word);
      };
      socket.on("error", failed);
      socket.on("connect", () => done("connected"));
      socket.on("timeout", () => done("silence"));
      return;
    }
    const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
    const timer = setTimeout(() => resolve("silence"), QUIET_MS);
    socket.on("error", (error) => {
      clearTimeout(timer);
      failed(error);
    });
    socket.connect(port, host, () => socket.send("anybody there?"));
  });
}

for (const place of places.split(",")) {
  const [proto = "", port = ""] = place.split(":");
  process.stdout.write(`${JSON.stringify([proto, port, await knock(proto, Number(port))])}\n`);
}
process.exit();
