/** Lists every route of the API: what it takes, what it answers, and how that is found out. */
import { open } from "node:fs/promises";
import path from "node:path";
import type { TSchema } from "typebox";
import { FINDINGS } from "../../protocol/finding.ts";
import { OperatorError } from "../evidence/operator-error.ts";
import { proveEntry, VerificationError } from "../evidence/verify.ts";
import type { Store } from "../store/store.ts";
import * as answers from "./answers.ts";
import { noCounts } from "../verdict/verdict.ts";
import { Judged, spell, type Range } from "./judged.ts";
import { gatherEdge } from "./one-edge.ts";
import type { Parameter, Question } from "./question.ts";
import { drawMap } from "./service-map.ts";

/** What routes answer from. */
export type Sources = {
  store: Store;
  judged: Judged;
  evidenceDirectory: string;
  /** File and text of the log's verifier key; null when none was configured. */
  key: { file: string; text: string } | null;
  metrics: () => Promise<string>;
  samples: () => answers.SampleGroup[];
};

export type Answer =
  | { status: number; json: object }
  | { status: 200; type: string; body: string | NodeJS.ReadableStream; immutable?: boolean };

export type Route = {
  /** Ends in `/*` where the rest of the path is the route's to read. */
  path: string;
  sentence: string;
  parameters: readonly Parameter[];
  answers: TSchema | string;
  answer: (
    sources: Sources,
    question: Question,
    rest: string,
    nowMs: number,
  ) => Promise<Answer> | Answer;
};

const FROM_TO: readonly Parameter[] = [
  {
    ...{ name: "from", form: "time" },
    sentence: "Windows that end after this; without `from` and `to`, the newest window.",
  },
  { name: "to", form: "time", sentence: "Windows that begin before this." },
];
const ASPECT: Parameter = { name: "aspect", form: "aspect", sentence: "Only this aspect." };

const ok = (json: object): Answer => ({ status: 200, json });
export const refuse = (status: number, error: string): Answer => ({ status, json: { error } });
const TEXT = "text/plain; charset=utf-8";
const METRICS = "text/plain; version=0.0.4; charset=utf-8";
const BYTES = "application/octet-stream";
const NOTHING = { from: null, to: null, truncated: false } as const;

/** C2SP tlog-tiles: every path that a log can have, and no other. */
const TILE = /^(?:entries|\d|[1-5]\d|6[0-3])(?:\/x\d{3}){0,6}\/\d{3}(?:\.p\/[1-9]\d{0,2})?$/;

/** The asked range; the newest window that holds such rows when none was asked for. */
function rangeOf({ judged }: Sources, { from, to }: Question, aspects?: string[]): Range | null {
  if (from === undefined && to === undefined) return judged.newest(aspects);
  return { fromMs: from ?? 0, toMs: to ?? 253402300799999 };
}

export const ROUTES: readonly Route[] = [
  {
    path: "/api/verdicts",
    sentence: "The verdicts of a time; counts are of all that match, before `verdict` and `limit`.",
    parameters: [
      ...FROM_TO,
      { name: "edge", form: "text", sentence: "Only this edge, by its id." },
      ASPECT,
      { name: "verdict", form: "verdict", sentence: "Only verdicts of this word." },
      { name: "limit", form: "count", most: 20_000, otherwise: 5000, sentence: "Most verdicts." },
    ],
    answers: answers.VerdictsAnswer,
    answer: (sources, question) => {
      const range = rangeOf(sources, question);
      if (range === null) return ok({ ...NOTHING, counts: noCounts(), verdicts: [] });
      const { edge, aspect, verdict: word, limit } = question;
      const { verdicts, truncated } = sources.judged.verdicts(range, edge, aspect);
      const counts = noCounts();
      for (const { verdict } of verdicts) counts[verdict.verdict]++;
      const asked = word ? verdicts.filter((v) => v.verdict.verdict === word) : verdicts;
      const more = truncated || asked.length > limit!;
      return ok({ ...spell(range), truncated: more, counts, verdicts: asked.slice(0, limit) });
    },
  },
  {
    path: "/api/windows",
    sentence: "Recent windows that hold verdicts, newest first, with their counts.",
    parameters: [
      {
        ...{ name: "limit", form: "count", most: 500, otherwise: 30 },
        sentence: "How many windows back from the newest are looked at.",
      },
    ],
    answers: answers.WindowsAnswer,
    answer: async ({ judged }, { limit }, _, nowMs) =>
      ok({ windows: await judged.summaries(limit!, nowMs) }),
  },
  {
    path: "/api/map",
    sentence: "Workloads, and the edges between them with the worst verdict over both aspects.",
    parameters: FROM_TO,
    answers: answers.MapAnswer,
    answer: (sources, question) => {
      const range = rangeOf(sources, question);
      if (range === null) return ok({ ...NOTHING, nodes: [], edges: [] });
      const { verdicts, truncated } = sources.judged.verdicts(range);
      return ok({ ...spell(range), truncated, ...drawMap(verdicts.map((v) => v.verdict)) });
    },
  },
  {
    path: "/api/edges",
    sentence: "One edge: its newest verdicts, those before, sample flows, findings, entries.",
    parameters: [
      { name: "id", form: "text", required: true, sentence: "The edge's id." },
      {
        name: "to",
        form: "time",
        sentence: "As of then; otherwise as of the newest window's end.",
      },
      {
        ...{ name: "windows", form: "count", most: 1500, otherwise: 60 },
        sentence: "How many windows back from there are looked at.",
      },
    ],
    answers: answers.EdgeAnswer,
    answer: ({ store, judged }, { id, to, windows }) => {
      const found = gatherEdge(store, judged, id!, windows!, to);
      return found ? ok(found) : refuse(404, "no such edge was judged in these windows");
    },
  },
  {
    path: "/api/coverage",
    sentence: "What each node watched, and what it missed.",
    parameters: FROM_TO,
    answers: answers.CoverageAnswer,
    answer: (sources, question) => {
      const range = rangeOf(sources, question, ["coverage"]);
      const samples = sources.samples();
      if (range === null) return ok({ ...NOTHING, nodes: [], samples });
      return ok({ ...spell(range), ...sources.judged.coverage(range), samples });
    },
  },
  {
    path: "/api/findings",
    sentence: "Findings about many flows, and about what was not watched.",
    parameters: FROM_TO,
    answers: answers.FindingsAnswer,
    answer: (sources, question) => {
      // No findings is an answer about the newest judged window, not about an older one.
      const range = rangeOf(sources, question, ["transport", "path", "coverage"]);
      if (range === null) return ok({ ...NOTHING, findings: [] });
      const { findings, truncated } = sources.judged.findings(range);
      const told = findings.map((found) => {
        const kind = FINDINGS.find(({ code }) => code === found.finding.code);
        return { ...found, severity: kind?.severity ?? null, meaning: kind?.sentence ?? null };
      });
      return ok({ ...spell(range), truncated, findings: told });
    },
  },
  {
    path: "/api/evidence/checkpoint",
    sentence: "The evidence log's signed head: keep copies where its owner cannot change them.",
    parameters: [],
    answers: TEXT,
    answer: ({ evidenceDirectory }) => readLogFile(evidenceDirectory, "checkpoint", TEXT),
  },
  {
    path: "/api/evidence/key",
    sentence: "The key that verifies checkpoints; trust it only if you know it from elsewhere.",
    parameters: [],
    answers: TEXT,
    answer: ({ key }) =>
      key
        ? { status: 200, type: TEXT, body: `${key.text}\n` }
        : refuse(404, "no verifier key is configured"),
  },
  {
    path: "/api/evidence/prove",
    sentence: "One entry, and the proof that it is in the log under the newest checkpoint.",
    parameters: [
      { name: "index", form: "index", required: true, sentence: "The entry's index, from 0." },
    ],
    answers: answers.ProofAnswer,
    answer: ({ evidenceDirectory, key }, { index }) => prove(evidenceDirectory, index!, key?.file),
  },
  {
    path: "/api/evidence/tile/*",
    sentence: "A tile of the log, as C2SP tlog-tiles names it: tile/0/000, tile/entries/000.p/7.",
    parameters: [],
    answers: BYTES,
    answer: ({ evidenceDirectory }, _, rest) =>
      TILE.test(rest)
        ? readLogFile(evidenceDirectory, `tile/${rest}`, BYTES)
        : refuse(404, "no log has a tile of this name"),
  },
  {
    path: "/metrics",
    sentence: "Counters of the collector, for Prometheus.",
    parameters: [],
    answers: METRICS,
    answer: async ({ metrics }) => ({ status: 200, type: METRICS, body: await metrics() }),
  },
  {
    path: "/healthz",
    sentence: "Whether the store answers.",
    parameters: [],
    answers: answers.HealthAnswer,
    answer: ({ store }) => {
      store.cursor("healthz");
      return ok({ status: "ok" });
    },
  },
];

function prove(directory: string, index: number, keyFile: string | undefined): Answer {
  try {
    return ok(proveEntry(directory, index, keyFile));
  } catch (error) {
    // The files contradict each other: whoever asks for proof must hear it.
    if (error instanceof VerificationError) return refuse(500, error.message);
    const missing = error instanceof OperatorError && error.code === "CONFIG_EVIDENCE_PROVE";
    if (missing) return refuse(404, "the log holds no entry of this index");
    throw error;
  }
}

/** The file is held open while it is sent: a partial tile may be removed meanwhile. */
async function readLogFile(directory: string, name: string, type: string): Promise<Answer> {
  const file = await open(path.join(directory, name)).catch(() => null);
  if (!(await file?.stat())?.isFile()) {
    await file?.close();
    return refuse(404, "the log has no such file");
  }
  const immutable = name.startsWith("tile/");
  return { status: 200, type, body: file!.createReadStream(), immutable };
}
