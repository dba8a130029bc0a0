/** Writes the classic BPF program that lets pass the frames of the interfaces under watch alone. */

/** Instructions of linux/filter.h: code(2) | jump if true(1) | jump if false(1) | k(4). */
const LOAD_WORD = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_EQUAL = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RETURN = 0x06; // BPF_RET | BPF_K
/** SKF_AD_OFF + SKF_AD_IFINDEX: a load from there gives the interface's index. */
const INTERFACE_INDEX = -0x1000 + 8;
/** BPF_MAXINSNS. */
const INSTRUCTIONS_LIMIT = 4096;

/**
 * The program: it cuts frames to `snap` bytes, 0 of other interfaces. Beyond some two thousand
 * interfaces it lets all pass, and the reader tells them apart.
 */
export function interfaceFilter(indexes: readonly number[], snap: number): Uint8Array<ArrayBuffer> {
  const fits = indexes.length * 2 + 2 <= INSTRUCTIONS_LIMIT;
  const lines: (readonly [code: number, whenTrue: number, whenFalse: number, k: number])[] = fits
    ? [
        [LOAD_WORD, 0, 0, INTERFACE_INDEX],
        ...indexes.flatMap((index) => [
          [JUMP_EQUAL, 0, 1, index] as const,
          [RETURN, 0, 0, snap] as const,
        ]),
        [RETURN, 0, 0, 0],
      ]
    : [[RETURN, 0, 0, snap]];
  const bytes = new Uint8Array(new ArrayBuffer(lines.length * 8));
  const view = new DataView(bytes.buffer);
  lines.forEach(([code, whenTrue, whenFalse, k], i) => {
    view.setUint16(i * 8, code, true);
    view.setUint8(i * 8 + 2, whenTrue);
    view.setUint8(i * 8 + 3, whenFalse);
    view.setInt32(i * 8 + 4, k, true);
  });
  return bytes;
}
