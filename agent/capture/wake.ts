/** Names what the reader of a ring is woken for. */

/** Bits of a number. */
export const Wake = {
  frames: 1, // a block of the ring is ready
  links: 2, // interfaces came, went or changed, or routes, which tell pods' addresses
} as const;
