/** Tells to which port of a pod Linkerd's client proxies bring a connection on the network. */
import { or, type Ternary } from "../../decision/ternary.ts";
import type { Carried } from "../mesh-say.ts";
import type { Server } from "./server.ts";
import { isAmong, type ClusterSettings, type WorkloadSettings } from "./settings.ts";

/**
 * Meshed clients reach an opaque port on the proxy's inbound port, and with transport mode
 * `transport-header` every port (linkerd.io 2.18, common-errors/network-policy; destination
 * endpoint_translator.go). Without a declared mode it is taken to be as before 2.18: the program's
 * own port, which only the packet filter inside the pod turns to the proxy. Null: the port itself.
 */
export function toCarried(
  identified: Ternary,
  port: number,
  server: Server | null,
  settings: WorkloadSettings,
  { transportMode }: ClusterSettings,
): Carried | null {
  if (identified === false || port === settings.adminPort) return null;
  const isOpaque = server?.protocol === "opaque" || isAmong(settings.opaque, port);
  if (or([transportMode.value === "transport-header", isOpaque]) === false) return null;
  return { ports: [settings.inboundPort], by: "Linkerd's client proxy" };
}
