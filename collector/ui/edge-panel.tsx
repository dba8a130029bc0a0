/** Shows the evidence of one edge, from the expectation down to the proof in the log. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import type { Provenance, Verdict } from "../verdict/verdict.ts";
import type { EdgeAnswer, PastVerdict, VerdictEntry } from "./answers.ts";
import { ask } from "./ask.ts";
import { FlowsList } from "./flows-list.tsx";
import { ProofView } from "./proof-view.tsx";
import type { Span } from "./shown.ts";
import { spellBytes, spellClock, spellCount, spellShare, spellWindow } from "./spelling.ts";
import { spellWorkload } from "./spelling.ts";
import { Word, WORDS } from "./words.tsx";

type Props = {
  id: string;
  /** The window shown; null follows the newest. */
  span: Span | null;
  revision: number;
  onClose: () => void;
};

export function EdgePanel({ id, span, revision, onClose }: Props) {
  const [answer, setAnswer] = useState<EdgeAnswer | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    let isWanted = true;
    const asked = { id, ...(span ? { to: span.to } : {}) };
    ask<EdgeAnswer>("/api/edges", asked).then(
      (found) => isWanted && (setAnswer(found), setProblem(null)),
      (error: Error) => isWanted && setProblem(error.message),
    );
    return () => void (isWanted = false);
  }, [id, span?.to, revision]);
  useEffect(() => heading.current?.focus(), [id]);
  useEffect(() => {
    const leave = (event: KeyboardEvent) => event.key === "Escape" && onClose();
    addEventListener("keydown", leave);
    return () => removeEventListener("keydown", leave);
  }, [onClose]);
  const isThis = answer?.edge.id === id;
  return (
    <aside class="panel" aria-label="Evidence of one edge">
      <header>
        <div>
          <p class="eyebrow">Evidence</p>
          <h2 ref={heading} tabIndex={-1}>
            {isThis ? <Ends answer={answer} /> : id}
          </h2>
        </div>
        <button class="close" aria-label="Close the evidence" onClick={onClose}>
          ✕
        </button>
      </header>
      {problem !== null && <p class="problem">{problem}</p>}
      {isThis && (
        <>
          {answer.latest.map((one) => (
            <OneAspect key={one.verdict.aspect} {...{ one, span }} />
          ))}
          <Part title="Sample flows">
            <FlowsList flows={answer.flows} />
          </Part>
          {answer.findings.length > 0 && (
            <Part title="Findings about either end">
              <ul class="plain">
                {answer.findings.map(({ finding }) => (
                  <li key={`${finding.code} ${finding.subject}`}>
                    <strong>{finding.code}</strong> <code>{finding.subject}</code>:{" "}
                    {finding.sentence}
                  </li>
                ))}
              </ul>
            </Part>
          )}
          <Part title="Before">
            <History history={answer.history} />
          </Part>
        </>
      )}
    </aside>
  );
}

function Ends({ answer: { edge } }: { answer: EdgeAnswer }) {
  const ends = [edge.client, edge.server].map((end) => (
    <span class="end" key={end.name}>
      {spellWorkload(end)}
      {end.actor && <span class="actor tag">{end.actor}</span>}
      {end.zones.map((zone) => (
        <span class="zone tag" key={zone}>
          ◆ {zone}
        </span>
      ))}
    </span>
  ));
  return (
    <>
      {ends[0]} <span aria-label="to">→</span> {ends[1]}{" "}
      <span class="port">
        {edge.port}/{edge.proto}
      </span>
    </>
  );
}

function Part({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section>
      <h3>{title}</h3>
      {children}
    </section>
  );
}

type AspectProps = { one: VerdictEntry; span: Span | null };

function OneAspect({ one: { verdict: v, entry }, span }: AspectProps) {
  const isOther = span !== null && v.from !== span.from;
  const facts: [string, ComponentChildren][] = [
    ["Declared", declared(v)],
    ["Connections", counted(v)],
    ["Coverage", covered(v)],
    ["Identity", `client: ${known(v.provenance.client)}; server: ${known(v.provenance.server)}`],
    ["Speaks", [...v.protocols, ...v.tlsVersions].join(", ") || "nothing was seen"],
    ["Seen", seen(v)],
    ["Findings", v.findings.join(", ") || "none"],
  ];
  return (
    <section class={`aspect ${v.verdict}`} aria-label={`${v.aspect}: ${v.verdict}`}>
      <h3>
        {v.aspect} <Word word={v.verdict} />
        {v.inferred && <span class="tag">rests on inference</span>}
        {v.inGrace && <span class="tag">within a policy's grace</span>}
      </h3>
      <p class="sentence">{v.sentence}</p>
      {isOther && (
        <p class="problem">
          Not judged in the window shown; this is of {spellWindow(v.from, v.to)}.
        </p>
      )}
      <dl>
        {facts.map(([name, told]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{told}</dd>
          </div>
        ))}
      </dl>
      <h4>Because</h4>
      {v.because.length === 0 && <p class="quiet">No declared object speaks of it.</p>}
      <ul class="because">
        {v.because.map((b) => (
          <li key={`${b.kind} ${b.namespace} ${b.name} ${b.rule}`}>
            <p>
              <strong>{b.kind}</strong> {b.namespace && `${b.namespace}/`}
              {b.name} <code>{b.rule}</code>
            </p>
            <p>{b.sentence}</p>
            <p class="quiet">
              <code title={b.hash}>{b.hash.slice(0, 23)}…</code>{" "}
              {b.resource_version === null
                ? "from a file: no version"
                : `version ${b.resource_version}, uid ${b.uid}`}
            </p>
          </li>
        ))}
      </ul>
      <h4>In the log</h4>
      {/* Another entry is another proof: what was checked of the old one does not stay. */}
      <ProofView key={`${v.from} ${entry}`} {...{ entry, verdict: v }} />
    </section>
  );
}

function declared(v: Verdict): string {
  const required = v.required === null ? "nothing about transport" : `${v.required} required`;
  return v.aspect === "transport" ? required : `path ${v.path}`;
}

function counted({ counts, bound }: Verdict): string {
  const parts = [
    `${spellCount(counts.supporting)} for`,
    `${spellCount(counts.contradicting)} against`,
    `${spellCount(counts.unreadable)} unreadable`,
    `${spellCount(counts.pending)} under way`,
  ];
  if (bound === null) return `${parts.join(", ")}; not sampled`;
  const most = `${(Math.ceil(bound * 10_000) / 100).toFixed(2)} %`;
  return `${parts.join(", ")}; sampled: at most ${most} contradict (95 % one-sided)`;
}

function covered({ coverage: c }: Verdict): string {
  const watched = (end: number) => (end === 0 ? "not watched" : `${spellShare(end, 1)} watched`);
  const frames = `${spellCount(c.delivered)} frames, ${spellCount(c.dropped)} dropped`;
  const sampling = c.sampling === 1 ? "" : `, ${spellShare(c.sampling, 1)} of flows`;
  return `client ${watched(c.client)}, server ${watched(c.server)}; ${frames}${sampling}`;
}

function known(provenance: Provenance): string {
  return provenance === null
    ? "not known"
    : { certificate: "read from a certificate", address: "from its address", inferred: "inferred" }[
        provenance
      ];
}

function seen(v: Verdict): string {
  const window = spellWindow(v.from, v.to);
  if (v.firstSeen === null || v.lastSeen === null) return `nothing in ${window}`;
  const [first, last] = [spellClock(v.firstSeen), spellClock(v.lastSeen)];
  return `${first} to ${last}, ${spellBytes(v.bytes)}; window ${window}`;
}

/** Most of the past that is drawn. */
const HISTORY_LIMIT = 120;

function History({ history }: { history: readonly PastVerdict[] }) {
  return (
    <table class="history">
      <thead>
        <tr>
          <th scope="col">Window</th>
          <th scope="col">Aspect</th>
          <th scope="col">Verdict</th>
          <th scope="col">Reason</th>
          <th scope="col" class="number">
            Entry
          </th>
        </tr>
      </thead>
      <tbody>
        {history.slice(0, HISTORY_LIMIT).map((past) => (
          <tr key={`${past.from} ${past.aspect}`}>
            <td title={spellWindow(past.from, past.to)}>{spellClock(past.from)}</td>
            <td>{past.aspect}</td>
            <td>
              <span class={`word ${past.verdict}`}>
                <span class="symbol" aria-hidden="true">
                  {WORDS[past.verdict].symbol}
                </span>
                {past.verdict}
              </span>
            </td>
            <td>{past.reason}</td>
            <td class="number">{past.entry === null ? "–" : `#${past.entry}`}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
