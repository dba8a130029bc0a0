/** Shows the sample flows that a verdict names, as their packets told them. */
import type { Flow } from "../../protocol/flow-record.ts";
import type { SampleFlow } from "./answers.ts";
import { spellBytes } from "./spelling.ts";

export function FlowsList({ flows }: { flows: readonly SampleFlow[] }) {
  if (flows.length === 0) return <p class="quiet">No flow was seen.</p>;
  return (
    <ul class="flows">
      {flows.map(({ id, record }) => (
        <li key={id}>
          <code>{id}</code>
          {record === null ? <p class="quiet">Its record has expired.</p> : <Told flow={record} />}
        </li>
      ))}
    </ul>
  );
}

function Told({ flow }: { flow: Flow }) {
  const { tls } = flow;
  const accepted = { true: "accepted", false: "not accepted", null: "acceptance not known" }[
    String(flow.accepted) as "true" | "false" | "null"
  ];
  const told = [
    ...[flow.protocol ?? "protocol not known", flow.encryption],
    ...(tls
      ? [tls.version ?? "version not seen", tls.cipher_suite, tls.sni && `SNI ${tls.sni}`]
      : []),
    ...[tls && `mutual ${tls.mutual ?? "not known"}`],
    ...[flow.handshake && `handshake ${flow.handshake}`, flow.failure?.code, flow.state, accepted],
    ...flow.findings,
    ...flow.notes,
  ].filter((part) => part);
  return (
    <>
      <p>
        <code>
          {flow.src_ip}:{flow.src_port} → {flow.dst_ip}:{flow.dst_port}
        </code>{" "}
        {flow.start.slice(11, 23)} UTC
      </p>
      <p>{told.join(" · ")}</p>
      <p class="quiet">
        {flow.packets[0]} + {flow.packets[1]} packets, {spellBytes(flow.bytes[0])} +{" "}
        {spellBytes(flow.bytes[1])}, history <code>{flow.history || "–"}</code>
      </p>
    </>
  );
}
