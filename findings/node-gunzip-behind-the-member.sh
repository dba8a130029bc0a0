#!/bin/sh
# Node's gunzip and what stands behind a gzip member (RFC 1952 §2.2: members follow each other).
#
# Seen with the npm package node 24.21.0 (its zlib.createGunzip):
# - bytes that are no member behind a whole one, in the same write: the error is right, and of the
#   whole member's content not a byte is handed over before it; `gzip -dc` prints it, then complains;
# - a member behind padding of zeros: ends without an error, and the second member is not read.
# A capture that was cut and appended to loses what was good of it, or does so without a word.
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
import { createGunzip, gzipSync } from "node:zlib";

async function unpack(bytes) {
  const stream = createGunzip();
  let text = "";
  stream.on("data", (chunk) => (text += chunk));
  const over = new Promise((resolve) => {
    stream.on("end", () => resolve("end"));
    stream.on("error", (error) => resolve(error.code));
  });
  stream.end(bytes);
  const how = await over;
  return `${JSON.stringify(text)} ${how}`;
}
const [one, two] = [gzipSync("one "), gzipSync("two")];
console.log(process.version);
console.log(`two members: ${await unpack(Buffer.concat([one, two]))}`);
console.log(`a member, other bytes: ${await unpack(Buffer.concat([one, Buffer.from("other bytes")]))}`);
console.log(`a member, zeros, a member: ${await unpack(Buffer.concat([one, Buffer.alloc(8), two]))}`);
JS
node_modules/.bin/node try.mjs | tee seen
cat >wanted <<'TXT'
v24.21.0
two members: "one two" end
a member, other bytes: "" Z_DATA_ERROR
a member, zeros, a member: "one " end
TXT
cmp -s seen wanted || { echo "this has changed"; exit 1; }
