/** Tests the demo as a person runs it: every case comes out, and nothing stays behind. */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import t, { type Test } from "tap";
import { readExpectation } from "../scripts/scene/expectation.ts";
import type { Made } from "../scripts/scene/leftovers.ts";
import { needed } from "../scripts/scene/packages.ts";
import { startTimeOf } from "../scripts/scene/processes.ts";

t.setTimeout(280_000);

const root = path.resolve(import.meta.dirname, "..");
const LIMIT_MS = 80_000;
const { cases } = readExpectation();

/** Why the scene cannot stand here; false where it can. */
function whyNotLive(): string | false {
  if (process.getuid?.() !== 0) return "not root: network namespaces cannot be made";
  const missing = needed();
  if (missing.length > 0) return `not installed: ${missing.join(", ")}`;
  const probe = spawnSync("unshare", ["--net", "true"]);
  return probe.status === 0 ? false : "network namespaces cannot be made here";
}

class Demo {
  readonly child: ChildProcess;
  out = "";
  /** What the scene has written down that it made; null in a replay. */
  made: Made | null = null;
  readonly ended: Promise<number | null>;

  constructor(...args: string[]) {
    // A process group of its own, as a shell gives to what is run in the foreground.
    this.child = spawn("./wireproof", ["demo", ...args], {
      ...{ cwd: root, detached: true },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.child.stdout!, this.child.stderr!]) {
      stream.on("data", (text: Buffer) => (this.out += text.toString()));
    }
    const state = `/run/wireproof-scene/${this.child.pid!.toString(36)}.json`;
    const look = setInterval(() => {
      try {
        this.made = JSON.parse(readFileSync(state, "utf8")) as Made;
      } catch {
        // Not there yet, being written just now, or gone again.
      }
    }, 50);
    const late = setTimeout(() => this.signal("SIGINT"), LIMIT_MS);
    this.ended = new Promise((resolve) => {
      this.child.on("close", (code) => {
        clearInterval(look);
        clearTimeout(late);
        resolve(code);
      });
    });
  }

  /** As Ctrl-C does: to the whole group. */
  signal(name: NodeJS.Signals): void {
    process.kill(-this.child.pid!, name);
  }

  async untilSaid(text: string): Promise<void> {
    while (!this.out.includes(text)) {
      if (this.child.exitCode !== null) throw new Error(`ended without "${text}":\n${this.out}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** The temporary folder with the logs. */
  get folder(): string {
    return /logs in (\S+)\)/.exec(this.out)![1]!;
  }

  checkNothingLeft(t: Test): void {
    const { made, folder } = this;
    t.notOk(existsSync(folder), "its folder is gone");
    t.strictSame(processesWith(folder), [], "collector and agents are gone");
    if (made === null) return;
    const { stdout } = spawnSync("ip", ["netns", "list"], { encoding: "utf8" });
    const there = new Set(stdout.split("\n").map((line) => line.split(" ")[0]));
    t.strictSame(
      made.namespaces.filter((name) => there.has(name)),
      [],
      "no namespace of its is left",
    );
    const alive = made.processes.filter(({ pid, started }) => startTimeOf(pid) === started);
    t.strictSame(alive, [], "no server of its is left");
    t.not(spawnSync("ip", ["link", "show", made.uplink]).status, 0, "its link is gone");
    t.notOk(existsSync(made.folder), "the scene's folder is gone");
    t.notOk(existsSync(`/run/wireproof-scene/${made.run}.json`), "and its note of all this");
  }
}

/** Processes whose command line names the folder. */
function processesWith(folder: string): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
        return command.includes(folder) ? [`${pid} ${command}`] : [];
      } catch {
        return [];
      }
    });
}

function checkCases(t: Test, out: string, wanted: typeof cases): void {
  const lines = out.split("\n");
  for (const { title, verdict, reason, finding } of wanted) {
    const line = lines.find((l) => l.includes(`  ${title}: `)) ?? "(no line)";
    t.ok(line.startsWith("ok "), line);
    if (verdict !== null) t.ok(line.includes(`: ${verdict} ${reason}`), `${verdict} ${reason}`);
    if (finding !== null) t.ok(line.includes(`finding ${finding}`), finding);
  }
  t.notMatch(out, /MISSED/);
  t.match(out, /^VERIFIED: /m);
  const count = `${wanted.length} of ${wanted.length} cases as declared`;
  t.equal(out.trimEnd().split("\n").at(-1), count);
}

const why = whyNotLive();

t.test(
  "live: every case comes out as declared, the evidence verifies",
  { skip: why },
  async (t) => {
    const demo = new Demo("--once");
    t.equal(await demo.ended, 0, "exit code");
    checkCases(t, demo.out, cases);
    t.ok(demo.made && demo.made.processes.length >= 10, "it had made real servers");
    t.notMatch(demo.out, /left out/);
    demo.checkNothingLeft(t);
  },
);

t.test("live: Ctrl-C in the middle removes everything", { skip: why }, async (t) => {
  const demo = new Demo("--once");
  await demo.untilSaid("agents run; page:");
  t.ok(processesWith(demo.folder).length >= 3, "collector and agents run");
  demo.signal("SIGINT");
  const since = Date.now();
  t.equal(await demo.ended, 1);
  t.ok(Date.now() - since < 10_000, "soon");
  t.match(demo.out, /stopped before every case came out/);
  t.ok(demo.made !== null, "it had made a scene");
  demo.checkNothingLeft(t);
});

t.test("replayed: every case but the live ones comes out, and those are named", async (t) => {
  const demo = new Demo("--once", "--replay");
  t.equal(await demo.ended, 0, "exit code");
  const leftOut = cases.filter((c) => c.needs_live);
  checkCases(
    t,
    demo.out,
    cases.filter((c) => !c.needs_live),
  );
  t.ok(leftOut.length > 0);
  for (const { id, title } of leftOut) t.match(demo.out, `left out  ${id}: ${title}`);
  t.equal(demo.made, null, "no namespaces");
  demo.checkNothingLeft(t);
});

t.test("two mistakes of the operator are told in one sentence each", async (t) => {
  for (const args of [
    ["--port", "many"],
    ["--port", "70000"],
  ]) {
    const demo = new Demo("--once", "--replay", ...args);
    t.equal(await demo.ended, 2, args.join(" "));
    t.match(demo.out.trimEnd(), /^wireproof: demo: --port [^\n]*$/, args.join(" "));
  }
});
