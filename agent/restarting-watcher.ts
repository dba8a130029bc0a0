/**
 * Runs one watcher in this thread. Where it ends by a fault another takes its place, so that what
 * strangers send never blinds a node for longer than that takes: an agent that ended would be
 * started anew ever more slowly. What was not told by then is given up, and is a gap in coverage.
 */
import { ConfigError } from "../protocol/config-error.ts";
import { RestartDelay } from "./restart-delay.ts";
import { Watcher } from "./watcher.ts";
import type { WatcherOptions } from "./watcher.ts";

export class RestartingWatcher {
  /** Watchers that ended by a fault. */
  faults = 0;
  readonly #options: WatcherOptions;
  #watcher: Watcher | null = null;
  #started = 0;
  readonly #delay = new RestartDelay();
  /** It is told that none can be opened. */
  #isRefused = false;
  #timer: NodeJS.Timeout | null = null;
  #isEnding = false;

  private constructor(options: WatcherOptions) {
    this.#options = options;
  }

  /** Opens the capture, which hands over nothing before `begin`; throws `ConfigError`. */
  static async open(options: WatcherOptions): Promise<RestartingWatcher> {
    const restarting = new RestartingWatcher(options);
    await restarting.#open();
    return restarting;
  }

  async #open(): Promise<void> {
    const { run, config } = this.#options;
    const number = ++this.#started;
    const onFault = (error: unknown) => this.#restart(error);
    this.#watcher = await Watcher.open({
      ...this.#options,
      run: number === 1 ? run : `${run}r${number}`,
      // A recording would begin from its first frame, and come to the same.
      ...(config.replay === null ? { onFault } : {}),
    });
  }

  #restart(error: unknown): void {
    this.faults++;
    const told = (error instanceof Error && error.stack) || String(error);
    this.#options.log("error", `reading ended by a fault, and is begun anew: ${told}`);
    this.#openSoon();
  }

  #openSoon(): void {
    if (this.#isEnding) return;
    this.#timer = setTimeout(() => {
      this.#open().then(
        () => this.#begin(),
        (error: unknown) => this.#refused(error),
      );
    }, this.#delay.next());
  }

  #begin(): void {
    this.#isRefused = false;
    if (this.#isEnding) this.#watcher?.end();
    else this.#watcher?.begin();
  }

  /** Told once for as long as it lasts. */
  #refused(error: unknown): void {
    const told = error instanceof ConfigError ? error.message : String(error);
    if (!this.#isRefused) this.#options.log("error", `reading cannot begin anew: ${told}`);
    this.#isRefused = true;
    this.#openSoon();
  }

  /** Of the latest watcher. */
  get line(): Watcher["line"] {
    return this.#watcher!.line;
  }

  get capture(): Watcher["capture"] {
    return this.#watcher!.capture;
  }

  get sightings(): Watcher["sightings"] {
    return this.#watcher!.sightings;
  }

  begin(): void {
    this.#watcher?.begin();
  }

  tellCoverage(): void {
    if (this.#watcher?.tellCoverage()) this.#delay.reset();
  }

  /** Tells all that is known, and ends. */
  end(): void {
    this.#isEnding = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#watcher?.end();
  }
}
