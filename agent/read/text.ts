/** Makes texts of bytes, one character a byte (ISO 8859-1). */

/**
 * The memory that was read last, as bytes: openings stand in few blocks. One call of the engine
 * makes the text; a character at a time, or as a list of numbers, takes ten times as long
 * (`npm run bench -- inspect`: 60 ms of session ids in 20,000 flows).
 */
let bytes = Buffer.alloc(0);

export function latin1Of(view: DataView, at: number, end: number): string {
  if (bytes.buffer !== view.buffer) bytes = Buffer.from(view.buffer as ArrayBuffer);
  return bytes.toString("latin1", view.byteOffset + at, view.byteOffset + end);
}
