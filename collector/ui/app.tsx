/** Lays the page out: counts above, the map, the tables, the evidence of one edge beside them. */
import { useCallback, useEffect, useState } from "preact/hooks";
import type { VerdictWord } from "../verdict/verdict.ts";
import { askText } from "./ask.ts";
import { blindSpots, CoverageTable } from "./coverage-table.tsx";
import { EdgePanel } from "./edge-panel.tsx";
import { FindingsList } from "./findings-list.tsx";
import { ServiceMap } from "./service-map.tsx";
import { useShown, type Shown, type Span } from "./shown.ts";
import { spellCount, spellWindow } from "./spelling.ts";
import { Past, Summary } from "./summary.tsx";
import { VerdictTable } from "./verdict-table.tsx";

const NO_WORDS: ReadonlySet<VerdictWord> = new Set();

/** The edge is part of the address, so that its evidence can be sent to somebody. */
function edgeInAddress(): string | null {
  const text = new URLSearchParams(location.hash.slice(1)).get("edge");
  return text === "" ? null : text;
}

export function App() {
  const [span, setSpan] = useState<Span | null>(null);
  const [words, setWords] = useState(NO_WORDS);
  const [edge, setEdge] = useState(edgeInAddress);
  const { shown, problem, isLive, revision } = useShown(span);
  useEffect(() => {
    const follow = () => setEdge(edgeInAddress());
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  const select = useCallback((id: string) => {
    location.hash = new URLSearchParams({ edge: id }).toString();
  }, []);
  const close = useCallback(() => {
    history.pushState(null, "", location.pathname);
    setEdge(null);
  }, []);
  const toggle = (word: VerdictWord) => {
    const next = new Set(words);
    if (!next.delete(word)) next.add(word);
    setWords(next);
  };
  return (
    <div class={edge === null ? "app" : "app with-panel"}>
      <TopBar {...{ shown, span, isLive, revision, onNewest: () => setSpan(null) }} />
      {problem !== null && (
        <p class="problem" role="alert">
          {problem} {shown && "What is shown is older."}
        </p>
      )}
      {shown?.verdicts.truncated && (
        <p class="problem">
          This window holds more verdicts than the {spellCount(shown.verdicts.verdicts.length)} that
          the table lists
          {shown.map.truncated ? "; the counts and the map are incomplete, too." : "."}
        </p>
      )}
      {shown === null ? (
        <p class="nothing">{problem === null ? "Asking the collector…" : ""}</p>
      ) : (
        <main>
          <div class="top">
            <Summary {...{ counts: shown.verdicts.counts, words, onToggle: toggle }} />
            <Past {...{ windows: shown.windows, selected: span, onSelect: setSpan }} />
          </div>
          <ServiceMap {...{ answer: shown.map, selected: edge, words, onSelect: select }} />
          <Tables {...{ shown, words, edge, onSelect: select }} />
        </main>
      )}
      {edge !== null && <EdgePanel {...{ id: edge, span, revision, onClose: close }} />}
    </div>
  );
}

type TopBarProps = {
  shown: Shown | null;
  span: Span | null;
  isLive: boolean;
  revision: number;
  onNewest: () => void;
};

function TopBar({ shown, span, isLive, revision, onNewest }: TopBarProps) {
  const [head, setHead] = useState<string[]>([]);
  useEffect(() => {
    askText("/api/evidence/checkpoint").then(
      (text) => setHead(text.split("\n").slice(0, 3)),
      () => setHead([]),
    );
  }, [revision]);
  const { from = null, to = null } = shown?.verdicts ?? {};
  return (
    <header class="bar-top">
      <h1>Wireproof</h1>
      {head.length === 3 && (
        <a class="log" href="/api/evidence/checkpoint" title={`Root ${head[2]}: keep a copy`}>
          evidence log <strong>{head[0]}</strong>, {spellCount(Number(head[1]))} entries
        </a>
      )}
      <span class="window">
        {from !== null && to !== null ? spellWindow(from, to) : "Nothing was judged yet."}
      </span>
      {span === null ? (
        <span class={isLive ? "live on" : "live"} role="status">
          {isLive ? "● live" : "○ not connected"}
        </span>
      ) : (
        <button onClick={onNewest}>Back to the newest</button>
      )}
    </header>
  );
}

const TABS = ["Verdicts", "Coverage", "Findings"] as const;
type Tab = (typeof TABS)[number];

type TablesProps = {
  shown: Shown;
  words: ReadonlySet<VerdictWord>;
  edge: string | null;
  onSelect: (id: string) => void;
};

function Tables({ shown, words, edge, onSelect }: TablesProps) {
  const [tab, setTab] = useState<Tab>("Verdicts");
  const blind = shown.coverage.nodes.filter((n) => blindSpots(n.coverage).length > 0).length;
  const badges: Record<Tab, string> = {
    Verdicts: spellCount(shown.verdicts.verdicts.length),
    Coverage: blind === 0 ? "" : `${blind} with blind spots`,
    Findings: spellCount(shown.findings.findings.length),
  };
  const step = (event: KeyboardEvent) => {
    const by = { ArrowRight: 1, ArrowLeft: TABS.length - 1 }[event.key];
    if (by === undefined) return;
    const next = TABS[(TABS.indexOf(tab) + by) % TABS.length]!;
    setTab(next);
    document.getElementById(`tab-${next}`)?.focus();
  };
  return (
    <section class="tables">
      <div class="tabs" role="tablist" aria-label="Tables" onKeyDown={step}>
        {TABS.map((name) => (
          <button
            {...{ key: name, id: `tab-${name}`, role: "tab", tabIndex: name === tab ? 0 : -1 }}
            aria-selected={name === tab}
            aria-controls="tables"
            onClick={() => setTab(name)}
          >
            {name} <span class="badge">{badges[name]}</span>
          </button>
        ))}
      </div>
      <div id="tables" role="tabpanel" aria-labelledby={`tab-${tab}`}>
        {tab === "Verdicts" && (
          <VerdictTable
            {...{ verdicts: shown.verdicts.verdicts, words, selected: edge, onSelect }}
          />
        )}
        {tab === "Coverage" && <CoverageTable answer={shown.coverage} />}
        {tab === "Findings" && <FindingsList findings={shown.findings.findings} />}
      </div>
    </section>
  );
}
