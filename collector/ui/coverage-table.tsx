/** Shows what each node watched, naming what it did not. */
import type { NodeCoverage } from "../verdict/verdict.ts";
import type { CoverageAnswer } from "./answers.ts";
import { spellCount, spellShare } from "./spelling.ts";

/** What nobody saw on the node, in sentences; none when all of it was watched. */
export function blindSpots(node: NodeCoverage): string[] {
  const pods = node.pods === 1 ? "1 pod" : `${node.pods} pods`;
  if (!node.agent) return [`No agent reported: nothing of its ${pods} was watched.`];
  const spots: string[] = [];
  const missed = node.podSeconds - node.podSecondsWatched;
  if (missed > 0) {
    const share = spellShare(node.podSecondsWatched, node.podSeconds);
    spots.push(`${spellCount(Math.ceil(missed))} pod-seconds not watched (${share} were).`);
  }
  if (node.dropped > 0) {
    spots.push(`The kernel dropped ${spellCount(node.dropped)} frames before they were read.`);
  }
  return spots;
}

/** Which agents read other flows than the others, in a sentence; empty when none does. */
function samplesDiffer({ samples }: CoverageAnswer): string {
  if (samples.length < 2) return "";
  const told = samples.map(({ rate, key, nodes }) => {
    const drawn = key === null ? "" : ` by key ${key}`;
    return `${Number(rate.toPrecision(3))}${drawn} at ${nodes.join(", ")}`;
  });
  return (
    `Connected agents read different samples of all flows (${told.join("; ")}): of a connection ` +
    "one end alone may be seen."
  );
}

export function CoverageTable({ answer }: { answer: CoverageAnswer }) {
  const nodes = answer.nodes.map(({ coverage }) => coverage);
  const sum = (of: (node: NodeCoverage) => number) => nodes.reduce((all, n) => all + of(n), 0);
  const watched = sum((node) => node.podSecondsWatched);
  const existed = sum((node) => node.podSeconds);
  const blind = nodes.filter((node) => blindSpots(node).length > 0);
  if (nodes.length === 0) {
    return <p class="nothing">No coverage is recorded for this window: nothing is proven by it.</p>;
  }
  return (
    <div>
      <p class="lead">
        {spellShare(watched, existed)} of {spellCount(Math.round(existed))} pod-seconds were
        watched.{" "}
        {blind.length === 0
          ? "No blind spot is known."
          : `Blind spots: ${blind.map(({ node }) => node).join(", ")}.`}
      </p>
      {samplesDiffer(answer) && <p class="lead">{samplesDiffer(answer)}</p>}
      <div class="scroll" tabIndex={0} role="region" aria-label="Table of coverage">
        <table>
          <thead>
            <tr>
              <th scope="col">Node</th>
              <th scope="col">Agent</th>
              <th scope="col" class="number">
                Pods
              </th>
              <th scope="col">Pod time watched</th>
              <th scope="col" class="number">
                Interfaces
              </th>
              <th scope="col" class="number">
                Delivered
              </th>
              <th scope="col" class="number">
                Dropped
              </th>
              <th scope="col">Blind spots</th>
            </tr>
          </thead>
          <tbody>
            {nodes.map((node) => (
              <tr key={node.node} class={node.agent ? "" : "blind"}>
                <th scope="row">{node.node}</th>
                <td>{node.agent ? "reports" : "✕ none"}</td>
                <td class="number">{node.pods}</td>
                <td>
                  <meter
                    {...{
                      min: 0,
                      max: Math.max(node.podSeconds, 1),
                      value: node.podSecondsWatched,
                    }}
                    aria-label={`${node.node}: pod time watched`}
                  />{" "}
                  {spellShare(node.podSecondsWatched, node.podSeconds)}
                </td>
                <td class="number">
                  {node.interfaces}
                  {node.oneDirection ? ` (${node.oneDirection} in one direction)` : ""}
                </td>
                <td class="number">{spellCount(node.delivered)}</td>
                <td class="number">{spellCount(node.dropped)}</td>
                <td class="prose">{blindSpots(node).join(" ") || "none known"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}
