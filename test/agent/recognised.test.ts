/** Checks that the README's table of what is recognised is what the tables say, and whole. */
import { readFileSync } from "node:fs";
import path from "node:path";
import t from "tap";
import { FAILURES } from "../../agent/assess/words.ts";
import { DIALOGUES } from "../../agent/identify/dialogue.ts";
import { FOLLOWED } from "../../agent/identify/upgrade.ts";
import { FAILURE_CODES } from "../../protocol/flow-record.ts";
import { protocolRows, withRecognised } from "../../scripts/recognised.ts";

const root = path.join(import.meta.dirname, "../..");

t.test("the README's section is what scripts/recognised.ts writes", async (t) => {
  const readme = readFileSync(path.join(root, "README.md"), "utf8");
  t.equal(withRecognised(readme), readme, "run node scripts/recognised.ts");
  t.equal(withRecognised("no markers"), null);
});

t.test("one line a protocol: sides and sources once, ports in order", async (t) => {
  const row = { protocol: "ftp", transport: "tcp" } as const;
  t.strictSame(
    protocolRows([
      { ...row, side: "server", source: "RFC 959 §5.4", ports: [2121, 21] },
      { ...row, side: "server", source: "RFC 959 §5.4" },
      { ...row, side: "client", source: "RFC 959 §4.1", midstream: true },
      { protocol: "dns", side: "either", transport: "both", source: "RFC 1035 §4.1" },
    ]),
    [
      "| dns | TCP, UDP | either: RFC 1035 §4.1 |  |  |  |",
      "| ftp | TCP | client: RFC 959 §4.1; server: RFC 959 §5.4 | yes | yes | 21, 2121 |",
    ],
  );
});

t.test("every failure has its words, every upgrade one way to be followed", async (t) => {
  t.strictSame(Object.keys(FAILURES).toSorted(), [...FAILURE_CODES].toSorted());
  t.strictSame(
    [...FOLLOWED].filter((protocol) => DIALOGUES.has(protocol)),
    [],
  );
});
