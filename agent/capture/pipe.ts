/** Reads a pipe as bytes come, until its sender ends or the operator does (Ctrl-C). */
import { Socket } from "node:net";
import type { Pieces } from "./intake.ts";

/**
 * Behind the first Ctrl-C, until when the sender may end by itself, in milliseconds: tcpdump, which
 * the terminal tells as well, hands over what it still has.
 */
const GRACE_MS = 1000;

const SIGNALS = ["SIGINT", "SIGTERM"] as const;

export function piecesOfPipe(fd: number): Pieces {
  // No stream of node:fs: one of its threads would wait in read(2), and hold up the end.
  const socket = new Socket({ fd, readable: true, writable: false });
  const pieces = (socket as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  let timer: NodeJS.Timeout | null = null;
  let isStopped = false;
  const cut = () => {
    isStopped = true;
    socket.destroy();
  };
  const stop = () => {
    if (timer !== null) cut();
    else timer = setTimeout(cut, GRACE_MS);
  };
  for (const signal of SIGNALS) process.on(signal, stop);
  return {
    async next() {
      try {
        const { done, value } = await pieces.next();
        return done ? null : value;
      } catch (error) {
        if (isStopped) return null;
        throw error;
      }
    },
    get isStopped() {
      return isStopped;
    },
    close() {
      for (const signal of SIGNALS) process.off(signal, stop);
      if (timer !== null) clearTimeout(timer);
      socket.destroy();
    },
  };
}
