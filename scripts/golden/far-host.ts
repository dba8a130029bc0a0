/** Makes a second host for the golden captures: a network namespace behind a virtual cable. */
import { openSync } from "node:fs";
import { killGroup, mustRun, startProcess, until } from "../scene/processes.ts";

/** The cable's end on this side, which tcpdump listens at; addresses of RFC 5737. */
export const WIRE = "wire0";
export const NEAR = "192.0.2.1";
export const FAR = "192.0.2.2";

/** A namespace lives as long as the process in it. */
export class FarHost {
  readonly #pid: number;

  private constructor(pid: number) {
    this.#pid = pid;
  }

  static async make(): Promise<FarHost> {
    // It ends with this process, however that ends.
    const argv = ["unshare", "--net", "setpriv", "--pdeathsig", "KILL", "sleep", "infinity"];
    const nowhere = openSync("/dev/null", "w");
    const { pid } = startProcess(argv, nowhere);
    const far = new FarHost(pid!);
    try {
      await until("the far host is there", 2000, async () => {
        const own = await mustRun(["readlink", "/proc/self/ns/net"]);
        return own !== (await mustRun(["readlink", `/proc/${pid}/ns/net`]));
      });
      const cable = ["ip", "link", "add", WIRE, "type", "veth", "peer", "name", WIRE];
      await mustRun([...cable, "netns", String(pid)]);
      for (const [host, address] of [
        [[], NEAR],
        [far.there(), FAR],
      ] as const) {
        await mustRun([...host, "ip", "link", "set", "lo", "up"]);
        await mustRun([...host, "ip", "address", "add", `${address}/24`, "dev", WIRE]);
        await mustRun([...host, "ip", "link", "set", WIRE, "up"]);
      }
    } catch (error) {
      far.end();
      throw error;
    }
    return far;
  }

  /** What to put in front of a command so that it runs there. */
  there(...command: readonly string[]): string[] {
    return ["nsenter", "--target", String(this.#pid), "--net", ...command];
  }

  end(): void {
    killGroup(this.#pid, "SIGKILL");
  }
}
