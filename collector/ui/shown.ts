/** Keeps what the page shows: the answers for one window, asked again whenever one was judged. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import type { CoverageAnswer, FindingsAnswer, MapAnswer, VerdictsAnswer } from "./answers.ts";
import type { WindowsAnswer, WindowSummary } from "./answers.ts";
import { ask } from "./ask.ts";

export type Span = { from: string; to: string };

export type Shown = {
  windows: WindowSummary[];
  verdicts: VerdictsAnswer;
  map: MapAnswer;
  coverage: CoverageAnswer;
  findings: FindingsAnswer;
};

export type Showing = {
  shown: Shown | null;
  /** Why the newest question was not answered; what is shown is then older. */
  problem: string | null;
  /** Whether news come by themselves. */
  isLive: boolean;
  /** Rises with each answer, for those who ask more. */
  revision: number;
};

const VERDICTS_LIMIT = 5000;

/** Null for `span` is the newest window, followed as new ones are judged. */
export function useShown(span: Span | null): Showing {
  const [showing, setShowing] = useState<Showing>({
    ...{ shown: null, problem: null, isLive: false, revision: 0 },
  });
  const asked = useRef(0);
  /** End of the newest window that was answered. */
  const newest = useRef<string | null>(null);
  const load = useCallback(async () => {
    const turn = ++asked.current;
    try {
      const limit = String(VERDICTS_LIMIT);
      const [verdicts, { windows }] = await Promise.all([
        ask<VerdictsAnswer>("/api/verdicts", span ? { ...span, limit } : { limit }),
        ask<WindowsAnswer>("/api/windows"),
      ]);
      // All else is asked of that same window, although a newer one may have been judged by now.
      const { from, to } = verdicts;
      const range: Record<string, string> = from !== null && to !== null ? { from, to } : {};
      const [map, coverage, findings] = await Promise.all([
        ask<MapAnswer>("/api/map", range),
        ask<CoverageAnswer>("/api/coverage", range),
        ask<FindingsAnswer>("/api/findings", range),
      ]);
      if (turn !== asked.current) return;
      newest.current = windows[0]?.to ?? null;
      const shown = { windows, verdicts, map, coverage, findings };
      setShowing((s) => ({ ...s, shown, problem: null, revision: s.revision + 1 }));
    } catch (error) {
      if (turn === asked.current) {
        setShowing((s) => ({ ...s, problem: (error as Error).message }));
      }
    }
  }, [span?.from, span?.to]);

  useEffect(() => void load(), [load]);
  useEffect(() => {
    const source = new EventSource("/api/live");
    const setLive = (isLive: boolean) => setShowing((s) => ({ ...s, isLive }));
    let isFirst = true;
    source.addEventListener("open", () => setLive(true));
    source.addEventListener("error", () => setLive(false));
    source.addEventListener("window", (event: MessageEvent<string>) => {
      const { to } = JSON.parse(event.data) as Span;
      // On connecting, it tells of the window that is there, and most likely is shown.
      if (!isFirst || to !== newest.current) void load();
      isFirst = false;
    });
    return () => source.close();
  }, [load]);
  return showing;
}
