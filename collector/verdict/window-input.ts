/** Describes what a window is judged from. */
import type { Sighting } from "../attribution/attribute.ts";
import type { Holder } from "../attribution/holder.ts";
import type { Binding } from "../attribution/timeline.ts";
import type { NodeWord } from "./coverage.ts";
import type { DeclaredEdges } from "./declared-edges.ts";
import type { Expect } from "./expect.ts";

export type WindowInput = {
  /** [fromMs, toMs), milliseconds since the epoch. */
  fromMs: number;
  toMs: number;
  /** Milliseconds by which the clocks of agents, and of who followed the cluster, may be apart. */
  clocksApartMs: number;
  /** Of the window, and as far beside it as clocks differ; so is the coverage. */
  sightings: readonly Sighting[];
  coverage: readonly NodeWord[];
  pods: readonly Holder[];
  /** Those that lived at some time in the window, and when. */
  lives: readonly Binding<Holder>[];
  nodes: readonly Holder[];
  expect: Expect;
  zonesOf: (holder: Holder) => readonly string[];
  actorOf?: (holder: Holder) => string | null;
  /** Edges that are told as unproven where no traffic was seen on them. */
  declared: DeclaredEdges;
  /** Share of unreadable or unseen connections that `confirmed` bears. */
  tolerance: number;
};
