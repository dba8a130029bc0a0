/** Reads which ports are VXLAN's beside the usual ones. */
import { ConfigError } from "../protocol/config-error.ts";

/** Most ports that may be named: the kernel's program compares each of them. */
const PORTS_LIMIT = 8;

/** Ports by commas; null names none. `command` is who asks. Throws `ConfigError`. */
export function parseVxlanPorts(text: string | null, command: string): number[] {
  if (text === null) return [];
  const ports = text.split(",").map((part) => (/^\s*\d+\s*$/.test(part) ? Number(part) : NaN));
  const areAll = ports.every((port) => port >= 1 && port <= 65535);
  if (areAll && ports.length <= PORTS_LIMIT) return ports;
  const wanted = `up to ${PORTS_LIMIT} ports from 1 to 65535, by commas`;
  const told = `${command}: --vxlan-port must be ${wanted}, not ${text}`;
  throw new ConfigError("CONFIG_VXLAN_PORT", told);
}
