/** Keeps what comes by a pipe in a file of its own, for who reads it twice. */
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { ConfigError } from "../../protocol/config-error.ts";
import { openPath, piecesOf } from "./byte-source.ts";
import type { Opened } from "./byte-source.ts";

export class KeptPipes {
  readonly #folders: string[] = [];

  /** A path that may be read again: of the file itself, or of a copy of what comes by the pipe. */
  async pathOf(file: string): Promise<string> {
    const opened = openPath(file);
    if (opened.isPipe) return this.#keep(file, opened);
    if (opened.fd !== 0) closeSync(opened.fd);
    return file;
  }

  async #keep(file: string, opened: Opened): Promise<string> {
    const pieces = await piecesOf(opened);
    try {
      const folder = mkdtempSync(path.join(tmpdir(), "wireproof-"));
      this.#folders.push(folder);
      const copy = path.join(folder, "capture");
      const fd = openSync(copy, "wx", 0o600);
      try {
        for (let piece; (piece = await pieces.next()) !== null;) {
          for (let at = 0; at < piece.length;) at += writeSync(fd, piece, at);
        }
      } finally {
        closeSync(fd);
      }
      return copy;
    } catch (error) {
      const reason = (error as NodeJS.ErrnoException).code ?? String(error);
      const what = `cannot keep what comes by ${file} for a second reading: ${reason}`;
      throw new ConfigError("CONFIG_CAPTURE_UNREADABLE", what, error);
    } finally {
      pieces.close();
    }
  }

  /** Removes the copies. */
  close(): void {
    for (const folder of this.#folders) rmSync(folder, { recursive: true });
  }
}
