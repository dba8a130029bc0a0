/** Multiplies recorded flows over many addresses, ports and sequence numbers. */
import path from "node:path";
import { readPcapFile } from "../../agent/capture/pcap-file.ts";

const GOLDEN = path.join(import.meta.dirname, "../../test/golden");

/** Flows of TLS 1.2 and 1.3, one-way, mutual, resumed, and of plaintext protocols; one a file. */
const RECORDED = [
  ...["tls12", "tls13", "tls13-sha384", "tls13-retry", "mtls12", "mtls13", "mtls13-ecdsa"],
  ...["nginx-mtls", "redis-mtls", "mtls13-declined", "mtls13-stranger", "postgres-tls"],
  ...["http", "redis", "postgres", "h2c"],
];
const FIN = 1;
const SYN = 2;

export type Frame = {
  bytes: Uint8Array<ArrayBuffer>;
  view: DataView;
  tcpAt: number;
  fromClient: boolean;
  payloadLength: number;
  flags: number;
  /** Microseconds after the flow's first frame. */
  afterUs: number;
};

/** One recorded connection. `bulkAt` is the last frame by which its server sent data. */
export type Template = { name: string; frames: Frame[]; bulkAt: number };

export async function loadTemplates(folder = GOLDEN): Promise<Template[]> {
  const templates: Template[] = [];
  for (const name of RECORDED) {
    const frames: Frame[] = [];
    let startUs = -1;
    let clientPort = -1;
    const clock = new Float64Array(1);
    await readPcapFile(path.join(folder, `${name}.pcap`), clock, (view, at, end) => {
      const timeUs = clock[0]!;
      const bytes = new Uint8Array(
        view.buffer as ArrayBuffer,
        view.byteOffset + at,
        end - at,
      ).slice();
      const own = new DataView(bytes.buffer);
      const tcpAt = 14 + (bytes[14]! & 15) * 4;
      const headerLength = (bytes[tcpAt + 12]! >> 4) * 4;
      if (startUs < 0) {
        startUs = timeUs;
        clientPort = own.getUint16(tcpAt);
      }
      frames.push({
        ...{ bytes, view: own, tcpAt, fromClient: own.getUint16(tcpAt) === clientPort },
        payloadLength: bytes.length - tcpAt - headerLength,
        ...{ flags: bytes[tcpAt + 13]!, afterUs: timeUs - startUs },
      });
    });
    const bulkAt = frames.findLastIndex((f) => !f.fromClient && f.payloadLength > 0);
    templates.push({ name, frames, bulkAt });
  }
  return templates;
}

/**
 * Writes a template's frame as that of flow `i`, in place: addresses in 10/8, a port, sequence
 * numbers. Segments behind the bulk stand `shift` bytes further in the server's stream.
 */
export function readdress(frame: Frame, i: number, shift: number): void {
  const { view, tcpAt, fromClient } = frame;
  const client = 0x0a000000 | (i & 0xffff);
  const server = 0x0a800000 | (i % 251);
  view.setInt32(26, fromClient ? client : server);
  view.setInt32(30, fromClient ? server : client);
  view.setUint16(fromClient ? tcpAt : tcpAt + 2, 20000 + ((i >>> 16) % 40000));
  const by = Math.imul(i, 0x9e3779b1);
  const key = fromClient ? "client" : "server";
  const own = offsets.get(frame) ?? {
    sequence: view.getInt32(tcpAt + 4),
    acknowledgment: view.getInt32(tcpAt + 8),
  };
  offsets.set(frame, own);
  const up = key === "client";
  view.setInt32(tcpAt + 4, (own.sequence + (up ? by : by + 77 + shift)) | 0);
  const acknowledges = (frame.flags & 16) !== 0;
  if (!acknowledges) return;
  view.setInt32(tcpAt + 8, (own.acknowledgment + (up ? by + 77 + shift : by)) | 0);
}

/** The sequence numbers as they were recorded. */
const offsets = new WeakMap<Frame, { sequence: number; acknowledgment: number }>();

export const isEnd = (frame: Frame): boolean => (frame.flags & (FIN | 4)) !== 0;
const isBeginning = (frame: Frame): boolean => (frame.flags & SYN) !== 0;

/** One segment of the server's that goes on where its recorded data ended, and its answer. */
export function bulkOf(template: Template, length: number): { data: Frame; answer: Frame } | null {
  const last = template.frames[template.bulkAt];
  const from = template.frames.find((f) => f.fromClient && !isBeginning(f));
  if (!last || !from || isEnd(last)) return null;
  const segment = (model: Frame, payload: number): Frame => {
    const headers = model.bytes.length - model.payloadLength;
    const bytes = new Uint8Array(headers + payload);
    bytes.set(model.bytes.subarray(0, headers));
    const view = new DataView(bytes.buffer);
    view.setUint16(16, bytes.length - 14);
    return { ...model, bytes, view, payloadLength: payload };
  };
  const data = segment(last, length);
  const headers = data.bytes.length - length;
  // A record of application data for TLS; for plaintext any bytes do.
  data.bytes.set([23, 3, 3, (length - 5) >> 8, (length - 5) & 255], headers);
  const behind = last.view.getInt32(last.tcpAt + 4) + last.payloadLength;
  data.view.setInt32(data.tcpAt + 4, behind | 0);
  const answer = segment(from, 0);
  answer.view.setInt32(answer.tcpAt + 4, last.view.getInt32(last.tcpAt + 8));
  answer.view.setInt32(answer.tcpAt + 8, (behind + length) | 0);
  return { data, answer };
}
