/** Names the two sides of a connection, and keeps one's place in its stream of TLS records. */
export const CLIENT = 0;
export const SERVER = 1;

export class Side {
  hellos = 0;
  changedCipher = false;
  /** Records of type 22 behind a change of cipher: TLS ≤ 1.2, the Finished is the first. */
  encryptedHandshakes = 0;
  applicationRecords = 0;
  records = 0;
  partial: Uint8Array<ArrayBuffer> | null = null;
  partialLength = 0;
}
