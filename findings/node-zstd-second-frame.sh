#!/bin/sh
# Node's zstd decompressor and files of several frames (RFC 8878 §3: a file is one or more frames).
#
# Seen with the npm package node 24.21.0 (its zlib.createZstdDecompress and zlib.zstdDecompressSync):
# - two frames that arrive in one write: the stream ends behind the first one, without an error, and
#   the second frame's bytes are lost; `zstd -d` of the same file gives both;
# - the same two frames in a write each: both are decompressed;
# - a skippable frame in front of a frame, in one write: not a byte comes out, and no error.
# Who reads files by stream gets all or a part of them, by where the disk's chunks happen to end.
#
# Exits with 0 where this is still so, with 1 where it has changed, with 2 where it cannot be tried.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM
cd "$folder"
npm install --no-audit --no-fund --silent --prefix . node@24.21.0 >install.log 2>&1 || {
  echo "cannot install node@24.21.0:"; tail -n 3 install.log; exit 2
}
cat >try.mjs <<'JS'
import { createZstdDecompress, zstdCompressSync } from "node:zlib";

async function unpack(writes) {
  const stream = createZstdDecompress();
  let text = "";
  stream.on("data", (bytes) => (text += bytes));
  const over = new Promise((resolve) => {
    stream.on("end", () => resolve("end"));
    stream.on("error", (error) => resolve(error.code));
  });
  for (const bytes of writes) {
    stream.write(bytes);
    await new Promise((resolve) => setImmediate(resolve));
  }
  stream.end();
  const how = await over;
  return `${JSON.stringify(text)} ${how}`;
}
const [one, two] = [zstdCompressSync("one "), zstdCompressSync("two")];
const skippable = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
console.log(process.version);
console.log(`two frames, one write: ${await unpack([Buffer.concat([one, two])])}`);
console.log(`two frames, two writes: ${await unpack([one, two])}`);
console.log(`skippable and a frame, one write: ${await unpack([Buffer.concat([skippable, one])])}`);
JS
node_modules/.bin/node try.mjs | tee seen
cat >wanted <<'TXT'
v24.21.0
two frames, one write: "one " end
two frames, two writes: "one two" end
skippable and a frame, one write: "" end
TXT
cmp -s seen wanted || { echo "this has changed"; exit 1; }
