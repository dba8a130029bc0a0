/** Says what both sides of the uplink hold each other to; see `uplink.ts`. */

export const UPLINK_VERSION = 1;
/** WebSocket path and subprotocol. */
export const UPLINK_PATH = "/uplink/v1";
/** Largest message either side takes, in bytes. */
export const MESSAGE_BYTES_LIMIT = 4 << 20;
/** Most observations, and most coverages, in one batch. */
export const BATCH_ROWS_LIMIT = 1000;
/** Most rows of `Coverage.discards`. */
export const DISCARDS_LIMIT = 64;
