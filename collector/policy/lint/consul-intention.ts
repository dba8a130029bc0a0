/** Checks where Consul's intentions and proxies let in more than is named. */
import { isMap, listAt, textAt, valueAt } from "../../attribution/cluster-object.ts";
import { formatObject } from "../decision/because.ts";
import { ConsulSettings } from "../mesh/consul/settings.ts";
import { ACCESS, ENCRYPTION, type Rule } from "./rule.ts";
import { numbered, type Scope } from "./scope.ts";

const graver = { pci: "error", hipaa: "error" } as const;

export const CONSUL_INTENTION = {
  wildcard: {
    id: "consul-wildcard-allow",
    title: "an intention that allows every service",
    why: "Every service of the mesh may call the destination.",
    remedy: "name the services that may call",
    level: "warning",
    ...graver,
    controls: ACCESS,
  },
  permissive: {
    id: "consul-mtls-permissive",
    title: "mutual TLS is permissive",
    why: "What is not mutual TLS goes to the program, past all intentions.",
    remedy: "set strict as soon as every caller is in the mesh",
    level: "warning",
    ...graver,
    controls: ENCRYPTION,
  },
  mayBePermissive: {
    id: "consul-permissive-allowed",
    title: "services may be made permissive",
    why: "Whoever may write service-defaults can switch mutual TLS off for a service.",
    remedy: "set allowEnablingPermissiveMutualTLS to false once the migration is over",
    level: "warning",
    pci: "error",
    controls: ENCRYPTION,
  },
  defaultAllow: {
    id: "consul-default-allow",
    title: "without an intention everything is allowed",
    why: "A pair of services that no intention speaks of may talk.",
    remedy: "set default_intention_policy to deny, or the access lists' default policy",
    level: "warning",
    ...graver,
    controls: ACCESS,
  },
  oldVersion: {
    id: "consul-weak-tls-version",
    title: "proxies take TLS below 1.2",
    why: "TLS 1.0 and 1.1 are withdrawn (RFC 8996).",
    remedy: "set tlsMinVersion to TLSv1_2 or TLSv1_3",
    level: "warning",
    ...graver,
    controls: ENCRYPTION,
  },
  exposed: {
    id: "consul-exposed-path",
    title: "a path that proxies open in plaintext",
    why: "Whoever reaches the listener's port may ask for the path, without any identity.",
    remedy: "drop the path, or guard the port by NetworkPolicy",
    level: "note",
    controls: ENCRYPTION,
  },
} as const satisfies Record<string, Rule>;

const RULES = CONSUL_INTENTION;
const GROUP = "consul.hashicorp.com/";

export function checkConsul(scope: Scope): void {
  for (const entry of scope.ofKind("ServiceIntentions", GROUP)) {
    const to = textAt(entry.body, "spec", "destination", "name") ?? "";
    for (const [i, source] of numbered(listAt(entry.body, "spec", "sources"))) {
      if (textAt(source, "name") !== "*" || textAt(source, "action") !== "allow") continue;
      const what = to === "*" ? "every service call every other" : `every service call ${to}`;
      const sentence = `${formatObject(entry)} lets ${what}`;
      scope.report(RULES.wildcard, entry, ["spec", "sources", i, "action"], sentence);
    }
  }
  for (const kind of ["ServiceDefaults", "ProxyDefaults"]) {
    for (const entry of scope.ofKind(kind, GROUP)) {
      if (textAt(entry.body, "spec", "mutualTLSMode") === "permissive") {
        const sentence = `${formatObject(entry)}: what is not mutual TLS passes by the intentions`;
        scope.report(RULES.permissive, entry, ["spec", "mutualTLSMode"], sentence);
      }
      for (const [i, path] of numbered(listAt(entry.body, "spec", "expose", "paths"))) {
        const where = `${textAt(path, "path")} on port ${String(valueAt(path, "listenerPort"))}`;
        const sentence = `${formatObject(entry)} opens ${where} in plaintext`;
        scope.report(RULES.exposed, entry, ["spec", "expose", "paths", i], sentence);
      }
    }
  }
  for (const mesh of scope.ofKind("Mesh", GROUP)) {
    const spec = valueAt(mesh.body, "spec");
    if (valueAt(spec, "allowEnablingPermissiveMutualTLS") === true) {
      const path = ["spec", "allowEnablingPermissiveMutualTLS"];
      const sentence = `${formatObject(mesh)} lets services be made permissive`;
      scope.report(RULES.mayBePermissive, mesh, path, sentence);
    }
    const version = textAt(spec, "tls", "incoming", "tlsMinVersion");
    if (version === "TLSv1_0" || version === "TLSv1_1") {
      const path = ["spec", "tls", "incoming", "tlsMinVersion"];
      scope.report(RULES.oldVersion, mesh, path, `${formatObject(mesh)}: proxies take ${version}`);
    }
  }
  checkDefault(scope);
}

/** Told by the servers' own settings alone: where they are not declared, nothing is known. */
function checkDefault(scope: Scope): void {
  const { objects } = scope.declared;
  const { action, because } = new ConsulSettings(objects, scope.faultsOf).defaultAction;
  const [first] = because;
  if (action !== "allow" || first === undefined) return;
  const map = objects.find(
    (o) => o.kind === first.kind && o.namespace === first.namespace && o.name === first.name,
  );
  if (map === undefined) return;
  const last = first.rule.split(".").at(-1)!;
  const files = valueAt(map.body, "data");
  const file = Object.entries(isMap(files) ? files : {}).find(
    ([, text]) => typeof text === "string" && text.includes(`"${last}"`),
  )?.[0];
  const path = ["data", ...(file === undefined ? [] : [file])];
  scope.report(RULES.defaultAllow, map, path, first.sentence);
}
