/** Keeps on disk what a scene has made, so that a later run removes what a crashed one left. */
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { removeNetwork } from "./network.ts";
import { endCommands, killGroup, startTimeOf } from "./processes.ts";

const FOLDER = "/run/wireproof-scene";

/** A process and when it started, which tells it from a later one with its id. */
export type Mark = { pid: number; started: string };

export type Made = {
  run: string;
  lane: number;
  owner: Mark;
  namespaces: string[];
  uplink: string;
  /** Temporary folder with configurations and private keys. */
  folder: string;
  processes: Mark[];
};

const fileOf = (run: string) => path.join(FOLDER, `${run}.json`);

export function markOf(pid: number): Mark {
  return { pid, started: startTimeOf(pid) ?? "" };
}

/** Written before a thing is made, so that it is known whatever happens next. */
export function keep(made: Made): void {
  mkdirSync(FOLDER, { recursive: true, mode: 0o700 });
  writeFileSync(fileOf(made.run), JSON.stringify(made));
}

function readAll(): Made[] {
  try {
    return readdirSync(FOLDER)
      .filter((file) => file.endsWith(".json"))
      .map((file) => JSON.parse(readFileSync(path.join(FOLDER, file), "utf8")) as Made);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

const isAlive = (mark: Mark) => mark.started !== "" && startTimeOf(mark.pid) === mark.started;

/** Ends the processes that are still the same ones, then removes namespaces, folder and record. */
export function removeMade(made: Made): void {
  endCommands();
  for (const mark of made.processes) if (isAlive(mark)) killGroup(mark.pid, "SIGKILL");
  removeNetwork(made.namespaces, made.uplink);
  rmSync(made.folder, { recursive: true, force: true });
  rmSync(fileOf(made.run), { force: true });
}

/** Removes what runs left whose process is gone; returns the lanes of those that still run. */
export function removeLeftovers(say: (line: string) => void): number[] {
  const taken: number[] = [];
  for (const made of readAll()) {
    if (isAlive(made.owner)) taken.push(made.lane);
    else {
      say(`removing what run ${made.run} left behind`);
      removeMade(made);
    }
  }
  return taken;
}
