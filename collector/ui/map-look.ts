/** Dresses the map: every word has a colour, a line and a symbol of its own. */
import type { StylesheetJson } from "cytoscape";
import { WORD_ORDER, WORDS } from "./words.tsx";

/** Colours come from the style sheet, so that the map follows light and dark. */
export function mapLook(): StylesheetJson {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
  const font = { "font-family": style.getPropertyValue("--sans").trim() };
  return [
    {
      selector: "node",
      style: {
        ...font,
        label: "data(label)",
        shape: "round-rectangle",
        width: 20,
        height: 20,
        "background-color": colour("surface"),
        "border-width": 1.5,
        "border-color": colour("ink-2"),
        color: colour("ink"),
        "font-size": 14,
        "text-valign": "bottom",
        "text-margin-y": 4,
        "text-wrap": "wrap",
        "text-background-color": colour("surface-2"),
        "text-background-opacity": 0.85,
        "text-background-padding": "1px",
      },
    },
    { selector: 'node[kind != "pod"]', style: { shape: "diamond", width: 24, height: 24 } },
    {
      selector: "node.zoned",
      style: { "border-width": 4, "border-style": "double", "border-color": colour("zone") },
    },
    {
      selector: "node.group",
      style: {
        shape: "round-rectangle",
        "background-color": colour("surface-2"),
        "background-opacity": 1,
        "border-width": 1,
        "border-color": colour("line"),
        "border-style": "solid",
        padding: "18px",
        "font-size": 15,
        "font-weight": 600,
        color: colour("ink-2"),
        "text-valign": "top",
        "text-margin-y": -4,
        "text-background-opacity": 0,
      },
    },
    {
      selector: "node.group.zoned",
      style: { "border-width": 3, "border-style": "double", "border-color": colour("zone") },
    },
    {
      selector: "edge",
      style: {
        ...font,
        label: "data(label)",
        "curve-style": "bezier",
        "control-point-step-size": 34,
        "target-arrow-shape": "triangle",
        "arrow-scale": 0.8,
        width: 1.8,
        "font-size": 13,
        "font-weight": 600,
        "text-background-color": colour("surface"),
        "text-background-opacity": 1,
        "text-background-padding": "2px",
        "text-background-shape": "roundrectangle",
      },
    },
    ...WORD_ORDER.map((word) => ({
      selector: `edge.${word}`,
      style: {
        "line-color": colour(word),
        "target-arrow-color": colour(word),
        color: colour(word),
        ...(WORDS[word].dash === null
          ? { "line-style": "solid" as const }
          : { "line-style": "dashed" as const, "line-dash-pattern": [...WORDS[word].dash] }),
      },
    })),
    { selector: "edge.violated", style: { width: 3.4, "arrow-scale": 1 } },
    {
      selector: "edge.hover",
      style: { "underlay-color": colour("ink-2"), "underlay-opacity": 0.2 },
    },
    {
      selector: "edge.selected",
      style: {
        "underlay-color": colour("focus"),
        "underlay-opacity": 0.35,
        "underlay-padding": 5,
        "z-index": 10,
      },
    },
    { selector: "edge.faded", style: { opacity: 0.18 } },
  ];
}
