/** Tests what a resumed session of TLS ≤ 1.2 is told to go on from: by captures, and by names. */
import path from "node:path";
import t from "tap";
import { NO_SESSION, Sessions } from "../../agent/tls/sessions.ts";
import { FLOW_TABLE_DEFAULTS } from "../../agent/flow/flow-table.ts";
import { Line } from "../../agent/line.ts";
import type { Flow } from "../../protocol/flow-record.ts";
import { frameAt, viewOf } from "../frames.ts";
import { GOLDEN, framesOf } from "./captures.ts";
import type { Frame } from "./captures.ts";

/** The records of a line that saw nothing before. */
function read(frames: readonly Frame[]): Flow[] {
  const records: Flow[] = [];
  const table = { ...FLOW_TABLE_DEFAULTS, flows: 64, slots: 16 };
  const line = new Line({ table, revisions: false, reportIntervalMs: 1e9 }, (r) => records.push(r));
  for (const { bytes, timeUs, linkType } of frames) {
    frameAt(line, viewOf(bytes), 0, bytes.length, bytes.length, timeUs, linkType, 0);
  }
  line.finish();
  return records.sort((a, b) => (a.start < b.start ? -1 : 1));
}

t.test("a session goes on from the handshake that issued it", async (t) => {
  for (const name of ["tls12-session-id", "tls12-ticket"]) {
    const frames = await framesOf(path.join(GOLDEN, `${name}.pcap`));
    const [first, second] = read(frames);
    t.strictSame([first!.handshake, second!.handshake], ["complete", "resumed"], name);
    t.equal(first!.tls!.resumed_from, undefined);
    const { start, src_ip, src_port, dst_ip, dst_port, tls } = first!;
    const from = { start, src_ip, src_port, dst_ip, dst_port, mutual: tls!.mutual };
    t.strictSame(second!.tls!.resumed_from, from, name);
    t.equal(second!.tls!.mutual, "resumed");
    t.strictSame(second!.tls!.server_cert, tls!.server_cert, "its certificate is that one's");
    t.strictSame(second!.tls!.client_cert, tls!.client_cert);
    // Without the first flow nothing is known of it.
    const port = second!.src_port;
    const own = frames.filter(
      ({ bytes }) =>
        Buffer.from(bytes).readUInt16BE(34) === port ||
        Buffer.from(bytes).readUInt16BE(36) === port,
    );
    const [alone] = read(own);
    t.strictSame([alone!.tls!.mutual, alone!.tls!.resumed_from], ["resumed", undefined]);
  }
});

t.test("what two handshakes issued names neither; the oldest are forgotten", async (t) => {
  const sessions = new Sessions();
  const one = { origin: "one", serverChain: null, clientChain: null };
  const two = { ...one, origin: "two", clientChain: [] };
  sessions.issue({ id: "a", ticket: "b" }, one);
  t.equal(sessions.find({ id: "a", ticket: null }), one);
  t.equal(sessions.find({ id: "made up", ticket: "b" }), one, "a ticket counts before an id");
  sessions.issue({ id: null, ticket: "b" }, one);
  sessions.issue({ id: null, ticket: "b" }, { ...one });
  t.equal(sessions.find({ id: null, ticket: "b" }), one, "renewed, or seen at another interface");
  sessions.issue({ id: null, ticket: "b" }, two);
  t.equal(sessions.find({ id: null, ticket: "b" }), null);
  t.equal(sessions.find(NO_SESSION), null);
  for (let i = 0; i < 10_000; i++) sessions.issue({ id: `${i}`, ticket: null }, two);
  t.equal(sessions.find({ id: "a", ticket: null }), null);
  t.equal(sessions.find({ id: "9999", ticket: null }), two);
});
