/** Exposes values to Prometheus that are kept elsewhere, and only read when they are asked for. */
import type { Counter, Gauge, Registry } from "prom-client";

/** One value, or one for each value of the label. */
export type Read = () => number | Readonly<Record<string, number>>;

export type AddMetric = (
  Kind: typeof Counter | typeof Gauge,
  name: string,
  help: string,
  read: Read,
  label?: string,
) => void;

/** Adds metrics whose names begin with `prefix`. */
export function metricsOf(registry: Registry, prefix: string): AddMetric {
  return (Kind, name, help, read, label) => {
    new Kind({
      ...{ name: `${prefix}${name}`, help, registers: [registry] },
      labelNames: label === undefined ? [] : [label],
      collect() {
        this.reset();
        const value = read();
        if (typeof value === "number") return this.inc(value);
        for (const [of, n] of Object.entries(value)) this.inc({ [label!]: of }, n);
      },
    });
  };
}
