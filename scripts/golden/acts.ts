/** Acts that the golden captures share: what was made, and who says what over a socket. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import type { Server, Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { TLSSocket, connect as connectTls } from "node:tls";
import { until } from "../scene/processes.ts";
import type { Stage, Truth } from "./stage.ts";

/** Plaintext that the server answered; `null` is a protocol that nobody knows. */
export const plain = (protocol: string | null, accepted: boolean | null = true): Truth => ({
  ...{ protocol, encryption: protocol === null ? "unknown" : "plaintext", handshake: null },
  accepted,
  failure: null,
});

export const tls13 = (more: Truth = {}): Truth => ({
  ...{ protocol: "tls", encryption: "tls", handshake: "complete", accepted: true, failure: null },
  version: "TLSv1.3",
  ...more,
});

/** Little was answered where HTTP/2 was chosen, which says as much of itself before any answer. */
export const ONCE: Truth = { accepted: null, answered: true };

/** TLS 1.3 behind a plaintext negotiation, without a client certificate. */
export const upgraded = (protocol: string, more: Truth = {}): Truth =>
  tls13({ protocol, upgraded_from: protocol, mutual: "inferred-no", ...more });

/** TLS was asked for and refused; the client went on in plaintext, or left. */
export const wentOn = (protocol: string): Truth => ({
  ...plain(protocol),
  findings: ["upgrade-refused"],
});
export const gaveUp = (protocol: string): Truth => ({
  ...plain(protocol, false),
  ...{ failure: "upgrade-refused", findings: ["upgrade-refused"] },
});

/** Encrypted by other means than TLS. */
export const sealed = (protocol: string, more: Truth = {}): Truth => ({
  ...{ protocol, encryption: "encrypted-other", handshake: null, failure: null },
  ...more,
});

export const curl = (...more: string[]) => ["curl", "-sS", "--max-time", "5", ...more];

/** Runs a server of Node's own while the client acts. */
export async function beside(
  server: Server,
  port: number,
  act: () => Promise<void>,
): Promise<void> {
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  try {
    await act();
  } finally {
    server.close();
  }
}

/** Connects, writes, and waits for the end; resolves to what came. */
export async function send(port: number, text: string): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  let said = "";
  socket.on("data", (bytes: Buffer) => (said += bytes.toString("latin1")));
  socket.on("error", () => {});
  socket.write(text);
  await new Promise((resolve) => socket.on("close", resolve));
  return said;
}

/** What a client says, and what must be in the answer before it says the next. */
export type Asked = readonly [say: string | Buffer, answer: string | Buffer];

/** Speaks to a real server as its protocol prescribes, turn by turn, and takes its leave. */
export async function ask(port: number, turns: readonly Asked[]): Promise<void> {
  const socket = connect(port, "127.0.0.1");
  let said = Buffer.alloc(0);
  socket.on("data", (bytes: Buffer) => (said = Buffer.concat([said, bytes])));
  socket.on("error", () => {});
  await once(socket, "connect");
  for (const [say, answer] of turns) {
    if (say.length > 0) {
      said = Buffer.alloc(0);
      socket.write(say);
    }
    const heard = () => said.includes(answer);
    await until(`the server answers ${answer.toString("latin1")}`, 5000, heard);
  }
  socket.end();
  await until("the server ends", 2000, () => socket.closed).finally(() => socket.destroy());
}

/** Bytes written as pairs of hexadecimal digits, with white space anywhere. */
export const hex = (...parts: readonly string[]): Buffer =>
  Buffer.from(parts.join("").replaceAll(/\s/g, ""), "hex");

/** Bytes behind their length, in so many bytes, highest first. */
export function counted(width: 1 | 2 | 4, ...parts: readonly (string | Buffer)[]): Buffer {
  const bytes = Buffer.concat(parts.map((part) => Buffer.from(part)));
  const length = Buffer.alloc(width);
  length.writeUIntBE(bytes.length, 0, width);
  return Buffer.concat([length, bytes]);
}

/** One side's bytes of a constructed exchange. */
export type Turn = readonly [side: "client" | "server", bytes: string | Buffer];

/** Both sides of a constructed exchange over TCP: each turn once the one before has arrived. */
export async function exchange(
  port: number,
  turns: readonly Turn[],
  then?: (client: Socket, server: Socket) => Promise<void>,
): Promise<void> {
  const listener = createServer({ noDelay: true });
  const accepted = once(listener, "connection");
  await beside(listener, port, async () => {
    const client = connect({ port, host: "127.0.0.1", noDelay: true });
    const [server] = (await accepted) as [Socket];
    const come = new Map<Socket, number>();
    for (const socket of [client, server]) {
      come.set(socket, 0);
      socket.on("error", () => {});
      socket.on("data", (bytes: Buffer) => come.set(socket, come.get(socket)! + bytes.length));
    }
    for (const [side, bytes] of turns) {
      const [from, to] = side === "client" ? [client, server] : [server, client];
      const wanted = come.get(to)! + Buffer.byteLength(bytes);
      from.write(bytes);
      await until("the other side has it", 2000, () => come.get(to)! >= wanted);
    }
    if (then) await then(client, server);
    client.end();
    server.end();
    await until("both have ended", 2000, () => client.closed && server.closed);
  });
}

/** Begins TLS on both sockets of an exchange; one line and its answer go through it. */
export function thenTls(stage: Stage): (client: Socket, server: Socket) => Promise<void> {
  return async (client, server) => {
    client.removeAllListeners("data");
    server.removeAllListeners("data");
    const [cert, key] = [stage.certificate("server"), stage.key("server")].map((file) =>
      readFileSync(file),
    );
    const far = new TLSSocket(server, { isServer: true, cert: cert!, key: key! });
    far.on("error", () => {});
    far.on("data", () => far.write("olleh\n"));
    const ca = readFileSync(stage.file("golden-ca.pem"));
    const near = connectTls({ socket: client, servername: "server.golden", ca });
    await once(near, "secureConnect");
    near.write("hello\n");
    await once(near, "data");
    near.end();
    await sleep(50);
    far.end();
  };
}

/** The same over UDP. A server without a turn says nothing. */
export async function exchangeDatagrams(port: number, turns: readonly Turn[]): Promise<void> {
  const [client, server] = [createSocket("udp4"), createSocket("udp4")];
  let come = 0;
  let clientPort = 0;
  client.on("message", () => come++);
  server.on("message", (_, from) => {
    clientPort = from.port;
    come++;
  });
  server.bind(port, "127.0.0.1");
  client.bind(0, "127.0.0.1");
  await Promise.all([once(server, "listening"), once(client, "listening")]);
  try {
    for (const [n, [side, bytes]] of turns.entries()) {
      if (side === "client") client.send(bytes, port, "127.0.0.1");
      else server.send(bytes, clientPort, "127.0.0.1");
      await until("the datagram comes", 2000, () => come > n);
    }
  } finally {
    client.close();
    server.close();
  }
}
