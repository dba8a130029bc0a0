/** Lists the findings about many flows, the gravest first. */
import type { ToldFinding } from "./answers.ts";

const GRAVITY = ["critical", "high", "medium", "low", "info", null];

export function FindingsList({ findings }: { findings: readonly ToldFinding[] }) {
  if (findings.length === 0) return <p class="nothing">No findings in this window.</p>;
  const sorted = [...findings].sort(
    (a, b) => GRAVITY.indexOf(a.severity) - GRAVITY.indexOf(b.severity),
  );
  return (
    <ul class="findings">
      {sorted.map(({ finding, severity, meaning, entry }) => (
        <li key={`${finding.code} ${finding.subject}`}>
          <span class={`severity ${severity ?? "info"}`}>{severity ?? "unrated"}</span>
          <div>
            <p>
              <strong>{finding.code}</strong> <code>{finding.subject}</code>
              {entry !== null && <span class="tag">entry #{entry}</span>}
            </p>
            <p>{finding.sentence}</p>
            {meaning !== null && meaning !== finding.sentence && <p class="quiet">{meaning}</p>}
          </div>
        </li>
      ))}
    </ul>
  );
}
