/** Shows one entry of the evidence log with its proof, which it checks when asked. */
import { useState } from "preact/hooks";
import type { Verdict } from "../verdict/verdict.ts";
import type { ProofAnswer } from "./answers.ts";
import { ask, askText } from "./ask.ts";
import { checkProof, type Checked } from "./proof.ts";

const MARKS = { ok: "✓", failed: "✕", unchecked: "–" } as const;
const OUTCOMES = {
  proven: "Proven: the log holds this verdict under a checkpoint signed by the key offered here.",
  included: "Only in part: what could be checked is right, and something could not be checked.",
  failed: "FAILED: this proof does not hold. Do not rely on what is shown.",
} as const;

/** Not checked here, whatever the outcome. */
const LIMITS = [
  "That the key is the log's: it came from this collector. Compare it with the one you were given.",
  "That nothing was cut off or rewritten by the key's holder: hold an earlier checkpoint against " +
    "the log with “wireproof evidence verify --since FILE”.",
  "That the verdict was true when it was written: the log proves that it is the one written.",
];

type State = { fetched: ProofAnswer; key: string | null; checked: Checked | null };

export function ProofView({ entry, verdict }: { entry: number | null; verdict: Verdict }) {
  const [state, setState] = useState<State | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  if (entry === null) {
    return <p class="quiet">This verdict is not in the evidence log: nothing proves it later.</p>;
  }
  const load = async () => {
    const fetched = await ask<ProofAnswer>("/api/evidence/prove", { index: String(entry) });
    const key = await askText("/api/evidence/key").catch(() => null);
    return { fetched, key };
  };
  const attempt = async (isChecking: boolean) => {
    setProblem(null);
    try {
      const { fetched, key } = await load();
      const claim = { ...fetched, index: entry, key, shown: verdict };
      setState({ fetched, key, checked: isChecking ? await checkProof(claim) : null });
    } catch (error) {
      setState(null);
      setProblem((error as Error).message);
    }
  };
  return (
    <div class="proof">
      <div class="actions">
        <button class="primary" onClick={() => void attempt(true)}>
          Verify the proof in this browser
        </button>
        <button onClick={() => void attempt(false)}>Show entry #{entry}</button>
      </div>
      <div role="status">
        {problem !== null && <p class="outcome failed">✕ No proof: {problem}</p>}
        {state?.checked && <Outcome checked={state.checked} />}
      </div>
      {state !== null && (
        <>
          <details open={state.checked === null}>
            <summary>Entry #{entry}, as it is in the log</summary>
            <pre tabIndex={0}>{indent(state.fetched.entry)}</pre>
          </details>
          <details>
            <summary>Inclusion proof and checkpoint</summary>
            <pre tabIndex={0}>{state.fetched.proof}</pre>
          </details>
          {state.key !== null && (
            <details>
              <summary>Verifier key</summary>
              <pre tabIndex={0}>{state.key}</pre>
            </details>
          )}
        </>
      )}
    </div>
  );
}

function Outcome({ checked: { outcome, steps } }: { checked: Checked }) {
  return (
    <>
      <p class={`outcome ${outcome}`}>
        {outcome === "failed" ? "✕" : outcome === "proven" ? "✓" : "–"} {OUTCOMES[outcome]}
      </p>
      <ul class="steps">
        {steps.map(({ what, state, detail }) => (
          <li key={what} class={state}>
            <span aria-label={state}>{MARKS[state]}</span>
            <div>
              {what}
              <small>
                {state === "unchecked" && "not checked: "}
                {detail}
              </small>
            </div>
          </li>
        ))}
      </ul>
      <p class="quiet">Not checked here:</p>
      <ul class="limits">
        {LIMITS.map((limit) => (
          <li key={limit}>{limit}</li>
        ))}
      </ul>
    </>
  );
}

/** For reading; the proof is of the text without the spaces. */
function indent(entry: string): string {
  try {
    return JSON.stringify(JSON.parse(entry), null, 2);
  } catch {
    return entry;
  }
}
