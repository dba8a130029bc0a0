/** Draws the workloads by namespace, with the edges between them. */
import cytoscape, { type Core, type ElementDefinition } from "cytoscape";
import fcose from "cytoscape-fcose";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { VerdictWord } from "../verdict/verdict.ts";
import type { MapAnswer, MapEdge, MapNode } from "./answers.ts";
import { mapLook } from "./map-look.ts";
import { groupOf, spellBytes, spellCount } from "./spelling.ts";
import { WORD_ORDER, WORDS } from "./words.tsx";

cytoscape.use(fcose as never);

/** The engine embeds a style sheet unless one of this name is there; the CSP would refuse it. */
function forestallStyle(): void {
  const id = "__________cytoscape_stylesheet";
  if (document.getElementById(id)) return;
  const empty = document.createElement("template");
  empty.id = id;
  document.head.append(empty);
}

/** More cannot be told apart in a drawing: of more, the worst are drawn. */
const EDGES_LIMIT = 300;
/** Above this, the layout is drawn quickly rather than well. */
const PROOF_NODES_LIMIT = 150;

type Props = {
  answer: MapAnswer;
  selected: string | null;
  /** Words that the table is filtered by; none is all. */
  words: ReadonlySet<VerdictWord>;
  onSelect: (edge: string) => void;
};

export function ServiceMap({ answer: whole, selected, words, onSelect }: Props) {
  const answer = useMemo(() => worstOf(whole), [whole]);
  const holder = useRef<HTMLDivElement>(null);
  const core = useRef<Core | null>(null);
  const choose = useRef(onSelect);
  choose.current = onSelect;
  const [hovered, setHovered] = useState<string | null>(null);

  useEffect(() => {
    forestallStyle();
    const cy = cytoscape({
      ...{ container: holder.current, style: mapLook(), boxSelectionEnabled: false },
      ...{ userZoomingEnabled: false, autoungrabify: false, minZoom: 0.05, maxZoom: 3 },
    });
    core.current = cy;
    cy.on("tap", "edge", (event) => choose.current(event.target.id()));
    cy.on("mouseover", "edge", (event) => {
      event.target.addClass("hover");
      setHovered(event.target.id());
    });
    cy.on("mouseout", "edge", (event) => {
      event.target.removeClass("hover");
      setHovered(null);
    });
    const restyle = () => cy.style(mapLook());
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", restyle);
    const resized = new ResizeObserver(() => {
      cy.resize();
      cy.fit(undefined, 16);
    });
    resized.observe(holder.current!);
    return () => {
      dark.removeEventListener("change", restyle);
      resized.disconnect();
      cy.destroy();
    };
  }, []);

  useEffect(() => update(core.current!, answer), [answer]);
  useEffect(() => {
    core.current!.edges().forEach((edge) => {
      const own = edge.data("words") as VerdictWord[];
      edge.toggleClass("faded", words.size > 0 && !own.some((word) => words.has(word)));
      edge.toggleClass("selected", edge.id() === selected);
    });
  }, [answer, selected, words]);

  const zoom = (factor: number) => {
    const cy = core.current!;
    const renderedPosition = { x: cy.width() / 2, y: cy.height() / 2 };
    cy.zoom({ level: cy.zoom() * factor, renderedPosition });
  };
  const pointed = answer.edges.find(({ id }) => id === (hovered ?? selected));
  return (
    <figure class="map">
      <div class="canvas" ref={holder} role="img" aria-label={describe(whole)} />
      {answer.nodes.length === 0 && <p class="nothing">No edges were judged in this window.</p>}
      <figcaption>
        {answer.edges.length < whole.edges.length && (
          <strong>
            The {answer.edges.length} worst of {spellCount(whole.edges.length)} edges; the table
            lists all.
          </strong>
        )}
        {pointed ? <Pointed edge={pointed} /> : <Legend />}{" "}
        <div class="tools" role="group" aria-label="Map">
          <button aria-label="Zoom in" onClick={() => zoom(1.3)}>
            +
          </button>
          <button aria-label="Zoom out" onClick={() => zoom(1 / 1.3)}>
            −
          </button>
          <button onClick={() => core.current!.fit(undefined, 16)}>Fit</button>
        </div>
      </figcaption>
    </figure>
  );
}

/** The edges that are drawn, with the workloads that they join. */
function worstOf(answer: MapAnswer): MapAnswer {
  if (answer.edges.length <= EDGES_LIMIT) return answer;
  const order = (edge: MapEdge) => WORD_ORDER.indexOf(edge.worst);
  const edges = [...answer.edges].sort((a, b) => order(a) - order(b)).slice(0, EDGES_LIMIT);
  const joined = new Set(edges.flatMap(({ client, server }) => [client, server]));
  return { ...answer, edges, nodes: answer.nodes.filter(({ id }) => joined.has(id)) };
}

function Pointed({ edge }: { edge: MapEdge }) {
  const aspects = Object.entries(edge.aspects).filter(([, word]) => word !== null);
  return (
    <p class="pointed">
      <code>{edge.id}</code>
      {aspects.map(([aspect, word]) => (
        <span key={aspect} class={`word ${word}`}>
          <span class="symbol">{WORDS[word!].symbol}</span>
          {aspect} {word}
        </span>
      ))}
      <span>{[...edge.protocols, spellBytes(edge.bytes)].join(", ")}</span>
    </p>
  );
}

function Legend() {
  return (
    <ul class="legend" aria-label="Legend">
      {WORD_ORDER.map((word) => (
        <li key={word} class={word}>
          <svg width="34" height="8" aria-hidden="true">
            <line
              {...{ x1: 0, y1: 4, x2: 34, y2: 4, stroke: "currentColor" }}
              stroke-width={word === "violated" ? 3.4 : 1.8}
              stroke-dasharray={WORDS[word].dash?.join(" ") ?? "none"}
            />
          </svg>
          {WORDS[word].symbol} {word}
        </li>
      ))}
      <li>
        <span class="zone">◆</span> zone, double border
      </li>
    </ul>
  );
}

function describe({ nodes, edges }: MapAnswer): string {
  const told = WORD_ORDER.map(
    (word) => `${edges.filter((edge) => edge.worst === word).length} ${word}`,
  );
  const counts = `${nodes.length} workloads, ${edges.length} edges: ${told.join(", ")}`;
  return `Service map of ${counts}. The table of verdicts lists every edge.`;
}

/** Brings the drawing to what the answer says; places only what is new. */
function update(cy: Core, { nodes, edges }: MapAnswer): void {
  const wanted = new Map(elementsOf(nodes, edges).map((one) => [one.data.id!, one]));
  let isNew = false;
  cy.batch(() => {
    cy.elements().forEach((element) => {
      if (!wanted.has(element.id())) cy.remove(element);
    });
    for (const [id, element] of wanted) {
      const drawn = cy.getElementById(id);
      if (drawn.empty()) {
        cy.add(element);
        isNew = true;
      } else {
        drawn.data(element.data);
        drawn.classes(element.classes as string);
      }
    }
  });
  if (!isNew) return;
  const quality = nodes.length > PROOF_NODES_LIMIT ? "default" : "proof";
  const layout = {
    ...{ name: "fcose", quality, animate: false, randomize: false, padding: 16 },
    ...{ nodeSeparation: 75, idealEdgeLength: 85, nodeRepulsion: 6000, nestingFactor: 0.6 },
    ...{ gravity: 0.4, gravityCompound: 1.6, gravityRangeCompound: 1.2, numIter: 4000 },
    nodeDimensionsIncludeLabels: true,
  };
  cy.layout(layout as never).run();
  widen(cy);
  cy.fit(undefined, 16);
}

/** Stretches a drawing that is narrower than its frame: names are wider than they are high. */
function widen(cy: Core): void {
  const leaves = cy.nodes(":childless");
  const box = leaves.boundingBox({ includeLabels: false });
  const frame = cy.width() / Math.max(1, cy.height());
  const factor = Math.min(2.4, (frame * box.h) / Math.max(1, box.w));
  if (factor <= 1) return;
  leaves.positions((node) => {
    const { x, y } = node.position();
    return { x: box.x1 + (x - box.x1) * factor, y };
  });
}

function elementsOf(nodes: readonly MapNode[], edges: readonly MapEdge[]): ElementDefinition[] {
  const groups = new Map<string, MapNode[]>();
  for (const node of nodes) {
    const group = groupOf(node);
    groups.set(group, [...(groups.get(group) ?? []), node]);
  }
  const found: ElementDefinition[] = [];
  [...groups].forEach(([group, members], i) => {
    const zones = members[0]!.zones.join(", ");
    // One zone for all of them is told once, at the group.
    const isOne = zones !== "" && members.every((node) => node.zones.join(", ") === zones);
    const label = isOne ? `${group}  ◆ ${zones}` : group;
    const classes = isOne ? "group zoned" : "group";
    found.push({ data: { id: `group:${group}`, label, kind: "pod" }, classes });
    members.forEach((node, j) => {
      const own = isOne || node.zones.length === 0 ? "" : `\n◆ ${node.zones.join(", ")}`;
      found.push({
        data: {
          ...{ id: node.id, parent: `group:${group}`, kind: node.kind },
          label: `${node.name}${own}`,
        },
        classes: own === "" ? "" : "zoned",
        // Where the layout begins: groups side by side, so that the same map looks the same.
        position: {
          x: (i % 3) * 420 + (j % 3) * 110,
          y: Math.floor(i / 3) * 360 + Math.floor(j / 3) * 90,
        },
      });
    });
  });
  for (const { id, client, server, port, worst, aspects } of edges) {
    const label = `${WORDS[worst].symbol} ${port}`;
    const words = Object.values(aspects);
    found.push({
      data: { id, source: client, target: server, worst, words, label },
      classes: worst,
    });
  }
  return found;
}
