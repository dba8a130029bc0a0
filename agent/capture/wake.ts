/** Names what the thread that waits for frames and the one that reads them tell each other. */

/** Why the reader is woken, as bits of a number. */
export const Wake = {
  frames: 1, // a block of the ring is ready
  links: 2, // interfaces came, went or changed, or routes, which tell pods' addresses
} as const;

/** What the waiting thread is given: file descriptors, and whose turn it is (1: its own). */
export type Waits = { ring: number; links: number; stop: number; turn: Int32Array };
