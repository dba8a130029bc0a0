/** Describes who listens while one flow is read, to explain it; ordinary reading has nobody. */
import type { Signature } from "../identify/signatures.ts";
import type { UpgradeState } from "../identify/upgrade.ts";
import type { TlsTrace } from "../tls/trace.ts";
import type { ProtocolName, RefusalName } from "../../protocol/flow-record.ts";

/** What one packet of the flow was; offsets are in the streams, -1 where they are not known. */
export type TracedPacket = {
  /** 0: the side that is taken for the client. */
  role: number;
  /** TCP flags; 0 for other protocols. */
  flags: number;
  offset: number;
  payloadLength: number;
  /** How much of the payload was captured, and where; the bytes are borrowed. */
  capturedLength: number;
  view: DataView;
  payloadAt: number;
  /** How far into the other side's stream the packet acknowledges. */
  acked: number;
};

export type Trace = TlsTrace & {
  packet(packet: TracedPacket): void;
  /** An ICMP error of this sender's quoted a packet of the flow, and refused it or did not. */
  error(kind: RefusalName, sender: string, refuses: boolean): void;
  /** The first bytes of a side, as many as had come, matched. */
  matched(role: number, signature: Signature, length: number): void;
  /** Nothing matched these first bytes of a side. */
  unmatched(role: number, length: number): void;
  upgraded(protocol: ProtocolName, state: UpgradeState): void;
  /** What opened a tunnel was said; the sides begin anew inside of it. */
  tunnelled(protocol: ProtocolName): void;
  /** TLS begins at these offsets of the client's and the server's stream. */
  beginsTls(clientFrom: number, serverFrom: number, inside: ProtocolName | null): void;
  /** TLS begins in packets of a protocol: its places are those in the TLS alone. */
  ridesIn(protocol: ProtocolName, source: string): void;
};
