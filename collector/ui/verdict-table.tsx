/** Lists the verdicts of a window: sorted, filtered, each the way to its evidence. */
import { useMemo, useState } from "preact/hooks";
import type { Verdict, VerdictWord } from "../verdict/verdict.ts";
import type { VerdictEntry } from "./answers.ts";
import { groupOf, spellBytes, spellCount, spellWorkload } from "./spelling.ts";
import { WORD_ORDER, Word } from "./words.tsx";

type Column = {
  name: string;
  /** What rows are ordered by. */
  key: (v: Verdict, entry: number | null) => string | number;
  isNumber?: true;
  title?: string;
};

const COLUMNS: readonly Column[] = [
  { name: "Verdict", key: (v) => WORD_ORDER.indexOf(v.verdict) },
  { name: "Aspect", key: (v) => v.aspect },
  { name: "Client", key: (v) => spellWorkload(v.edge.client) },
  { name: "Server", key: (v) => spellWorkload(v.edge.server) },
  { name: "Port", key: (v) => v.edge.port, isNumber: true },
  { name: "Reason", key: (v) => v.reason },
  { name: "Speaks", key: (v) => v.protocols.join() },
  {
    ...{ name: "For", key: (v) => v.counts.supporting, isNumber: true },
    title: "Connections that support the expectation",
  },
  {
    ...{ name: "Against", key: (v) => v.counts.contradicting, isNumber: true },
    title: "Connections that contradict it",
  },
  {
    ...{ name: "Unread", key: (v) => v.counts.unreadable, isNumber: true },
    title: "Connections that could not be read",
  },
  { name: "Bytes", key: (v) => v.bytes, isNumber: true },
  {
    ...{ name: "Entry", key: (_, entry) => entry ?? -1, isNumber: true },
    title: "Index in the evidence log",
  },
];

/** Rows drawn at first; the rest on demand. */
const ROWS_FIRST = 300;

type Props = {
  verdicts: readonly VerdictEntry[];
  words: ReadonlySet<VerdictWord>;
  selected: string | null;
  onSelect: (edge: string) => void;
};

export function VerdictTable({ verdicts, words, selected, onSelect }: Props) {
  const [aspect, setAspect] = useState("");
  const [namespace, setNamespace] = useState("");
  const [text, setText] = useState("");
  const [order, setOrder] = useState({ column: 0, isDown: false });
  const [rows, setRows] = useState(ROWS_FIRST);
  const namespaces = useMemo(() => {
    const ends = verdicts.flatMap(({ verdict: { edge } }) => [edge.client, edge.server]);
    return [...new Set(ends.map(groupOf))].sort();
  }, [verdicts]);
  const listed = useMemo(() => {
    const wanted = text.trim().toLowerCase().split(/\s+/);
    const { key } = COLUMNS[order.column]!;
    const sign = order.isDown ? -1 : 1;
    return verdicts
      .filter(({ verdict: v }) => {
        const groups = [groupOf(v.edge.client), groupOf(v.edge.server)];
        if (words.size > 0 && !words.has(v.verdict)) return false;
        if (aspect !== "" && v.aspect !== aspect) return false;
        if (namespace !== "" && !groups.includes(namespace)) return false;
        const zones = [...v.edge.client.zones, ...v.edge.server.zones];
        const found = [v.edge.id, v.reason, v.sentence, ...v.protocols, ...zones, ...v.findings];
        const whole = found.join(" ").toLowerCase();
        return wanted.every((word) => whole.includes(word));
      })
      .map((row) => ({ row, by: key(row.verdict, row.entry) }))
      .sort((a, b) => sign * (a.by < b.by ? -1 : a.by > b.by ? 1 : 0))
      .map(({ row }) => row);
  }, [verdicts, words, aspect, namespace, text, order]);

  return (
    <div class="verdicts">
      <form class="filter" role="search" onSubmit={(event) => event.preventDefault()}>
        <input
          type="search"
          placeholder="Filter by name, reason, zone, protocol"
          aria-label="Filter by text"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <select
          aria-label="Aspect"
          value={aspect}
          onChange={(event) => setAspect(event.currentTarget.value)}
        >
          <option value="">Both aspects</option>
          <option value="transport">transport</option>
          <option value="path">path</option>
        </select>
        <select
          aria-label="Namespace"
          value={namespace}
          onChange={(event) => setNamespace(event.currentTarget.value)}
        >
          <option value="">All namespaces</option>
          {namespaces.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
        <output>
          {spellCount(listed.length)} of {spellCount(verdicts.length)}
        </output>
      </form>
      <div class="scroll" tabIndex={0} role="region" aria-label="Table of verdicts">
        <table>
          <thead>
            <tr>
              {COLUMNS.map(({ name, isNumber, title }, i) => {
                const isBy = order.column === i;
                const sorted = isBy ? (order.isDown ? "descending" : "ascending") : "none";
                const turn = () => setOrder({ column: i, isDown: isBy && !order.isDown });
                return (
                  <th key={name} scope="col" class={isNumber ? "number" : ""} aria-sort={sorted}>
                    <button title={title} onClick={turn}>
                      {name}
                      <span aria-hidden="true">{isBy ? (order.isDown ? "↓" : "↑") : ""}</span>
                    </button>
                  </th>
                );
              })}
            </tr>
          </thead>
          <tbody>
            {listed.slice(0, rows).map((row) => (
              <Row
                key={`${row.verdict.from} ${row.verdict.edge.id} ${row.verdict.aspect}`}
                {...{ row, isSelected: row.verdict.edge.id === selected, onSelect }}
              />
            ))}
          </tbody>
        </table>
        {listed.length === 0 && (
          <p class="nothing">
            {verdicts.length === 0
              ? "No verdicts in this window."
              : "No verdict answers to this filter."}
          </p>
        )}
        {listed.length > rows && (
          <button class="more" onClick={() => setRows(rows * 4)}>
            Show more of {spellCount(listed.length)}
          </button>
        )}
      </div>
    </div>
  );
}

type RowProps = { row: VerdictEntry; isSelected: boolean; onSelect: (edge: string) => void };

function Row({ row: { verdict: v, entry }, isSelected, onSelect }: RowProps) {
  const count = (n: number) => <td class={`number ${n === 0 ? "zero" : ""}`}>{spellCount(n)}</td>;
  return (
    <tr class={isSelected ? "selected" : ""} onClick={() => onSelect(v.edge.id)}>
      <td>
        <Word word={v.verdict} />
      </td>
      <td>{v.aspect}</td>
      <th scope="row">
        <button aria-label={`Evidence of ${v.edge.id}`} aria-expanded={isSelected}>
          {spellWorkload(v.edge.client)}
        </button>
      </th>
      <td>{spellWorkload(v.edge.server)}</td>
      <td class="number">{v.edge.port}</td>
      <td title={v.sentence}>
        {v.reason}
        {v.inferred && <span class="tag">inferred</span>}
        {v.inGrace && <span class="tag">grace</span>}
      </td>
      <td>{v.protocols.join(", ")}</td>
      {count(v.counts.supporting)}
      {count(v.counts.contradicting)}
      {count(v.counts.unreadable)}
      <td class={`number ${v.bytes === 0 ? "zero" : ""}`}>{spellBytes(v.bytes)}</td>
      <td class="number">{entry === null ? "–" : `#${entry}`}</td>
    </tr>
  );
}
