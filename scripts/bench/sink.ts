/**
 * Acknowledges what agents bring over mutual TLS as the collector does, and keeps none of it.
 *
 *     node sink.ts PORT KEYS_FOLDER
 */
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import path from "node:path";
import { Packr, Unpackr } from "msgpackr";
import { WebSocketServer } from "ws";
import { MESSAGE_BYTES_LIMIT } from "../../protocol/uplink-limits.ts";
import type { Batch, Hello } from "../../protocol/uplink.ts";

const [port, folder] = process.argv.slice(2) as [string, string];
const keys = (name: string) => readFileSync(path.join(folder, name));
const packr = new Packr({ useRecords: true });
const unpackr = new Unpackr({ useRecords: true });

const server = createServer({
  ...{ key: keys("collector-key.pem"), cert: keys("collector.pem"), ca: keys("ca.pem") },
  ...{ requestCert: true, rejectUnauthorized: true },
});
const perMessageDeflate = { zlibDeflateOptions: { level: 1 }, threshold: 256 };
const sockets = new WebSocketServer({ server, maxPayload: MESSAGE_BYTES_LIMIT, perMessageDeflate });
sockets.on("connection", (socket) => {
  const say = (message: object) =>
    socket.send(packr.pack({ ...message, clock_ms: Date.now() }), { compress: false });
  socket.on("error", () => {});
  socket.on("message", (data) => {
    const said = unpackr.unpack(data as Buffer) as Hello | Batch;
    if (said.type === "hello") say({ type: "welcome", acknowledged: said.first_seq - 1 });
    else say({ type: "ack", seq: said.seq });
  });
});
server.listen(Number(port), "127.0.0.1", () => console.log("ready"));
