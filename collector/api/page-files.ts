/** Holds the built page's files, read once: what is not among them cannot be asked for. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";

export type PageFile = {
  type: string;
  bytes: Buffer;
  gzipped: Buffer;
  etag: string;
  /** Its name holds the hash of its content. */
  immutable: boolean;
};

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".woff2": "font/woff2",
  ".json": "application/json",
  ".txt": "text/plain; charset=utf-8",
};

/** By URL path: `/assets/main-4f2a.js`. Empty when the page was not built. */
export function readPageFiles(directory: string): Map<string, PageFile> {
  const files = new Map<string, PageFile>();
  let found;
  try {
    found = readdirSync(directory, { recursive: true, withFileTypes: true });
  } catch {
    return files;
  }
  for (const entry of found) {
    const type = TYPES[path.extname(entry.name)];
    if (!entry.isFile() || type === undefined) continue;
    const file = path.join(entry.parentPath, entry.name);
    const url = `/${path.relative(directory, file).split(path.sep).join("/")}`;
    const bytes = readFileSync(file);
    const etag = etagOf(bytes);
    const immutable = url.startsWith("/assets/");
    files.set(url, { type, bytes, gzipped: gzipSync(bytes), etag, immutable });
  }
  return files;
}

/** Weak, as the same content goes out compressed and plain (RFC 9110 §8.8.3). */
export function etagOf(bytes: Uint8Array): string {
  return `W/"${createHash("sha256").update(bytes).digest("base64url").slice(0, 27)}"`;
}

/** The page itself answers to every path that looks like one of its own. */
export function findPage(files: Map<string, PageFile>, url: string): PageFile | null {
  const found = files.get(url);
  if (found) return found;
  return /^\/(?:[\w-]+\/?)*$/.test(url) ? (files.get("/index.html") ?? null) : null;
}
