/** Shapes of Consul's kinds (consul-k8s control-plane/api/v1alpha1). */
import Type, { type TSchema } from "typebox";
import { listAt, textAt, valueAt, type Json } from "../../../attribution/cluster-object.ts";
import { oneOf, only, orNull, port, text, texts } from "../../manifest/fields.ts";
import type { Fault } from "../../manifest/problem.ts";

const strict = { additionalProperties: false };
/** A field that decides nothing here. */
/** What decides nothing here. */
const unread = Type.Unknown();
const flag = orNull(Type.Boolean());
/** Strings that may be left out, empty, or null. */
const texted = (...names: string[]) =>
  Object.fromEntries(names.map((name) => [name, Type.Optional(orNull(text))]));

const jwt = orNull(
  only({
    providers: orNull(Type.Array(only({ name: text, verifyClaims: orNull(Type.Array(unread)) }))),
  }),
);
const action = orNull(oneOf("allow", "deny", ""));
const header = Type.Object(
  {
    ...texted("name", "exact", "prefix", "suffix", "contains", "regex"),
    ...Object.fromEntries(
      ["present", "ignoreCase", "invert"].map((name) => [name, Type.Optional(flag)]),
    ),
  },
  strict,
);
const permission = Type.Object(
  {
    action: oneOf("allow", "deny"),
    http: Type.Optional(
      orNull(
        Type.Object(
          {
            ...texted("pathExact", "pathPrefix", "pathRegex"),
            header: Type.Optional(orNull(Type.Array(header))),
            methods: Type.Optional(texts),
          },
          strict,
        ),
      ),
    ),
    jwt: Type.Optional(jwt),
  },
  strict,
);
const source = Type.Object(
  {
    name: Type.String({ minLength: 1 }),
    ...texted("namespace", "peer", "partition", "samenessGroup", "description"),
    action: Type.Optional(action),
    permissions: Type.Optional(orNull(Type.Array(permission))),
  },
  strict,
);
const serviceIntentions = Type.Object(
  {
    destination: Type.Object(
      { name: Type.String({ minLength: 1 }), ...texted("namespace") },
      strict,
    ),
    sources: Type.Array(source, { minItems: 1 }),
    jwt: Type.Optional(jwt),
  },
  strict,
);

const expose = orNull(
  only({
    checks: flag,
    paths: orNull(
      Type.Array(
        only({ listenerPort: port, path: text, localPathPort: port, protocol: orNull(text) }),
      ),
    ),
  }),
);
const mutualTLSMode = orNull(oneOf("", "strict", "permissive"));
const proxied = {
  mode: unread,
  transparentProxy: unread,
  mutualTLSMode,
  meshGateway: unread,
  expose,
  envoyExtensions: unread,
};
const serviceDefaults = only({
  ...proxied,
  protocol: orNull(text),
  externalSNI: orNull(text),
  ...Object.fromEntries(
    [
      ...["upstreamConfig", "destination", "maxInboundConnections", "localConnectTimeoutMs"],
      ...["localRequestTimeoutMs", "balanceInboundConnections", "rateLimits"],
    ].map((name) => [name, unread]),
  ),
});
const proxyDefaults = only({
  ...proxied,
  config: unread,
  accessLogs: unread,
  failoverPolicy: unread,
  prioritizeByLocality: unread,
});

const version = orNull(oneOf("", "TLS_AUTO", "TLSv1_0", "TLSv1_1", "TLSv1_2", "TLSv1_3"));
const directional = orNull(
  only({ tlsMinVersion: version, tlsMaxVersion: version, cipherSuites: texts, ecdhCurves: texts }),
);
const mesh = only({
  transparentProxy: unread,
  allowEnablingPermissiveMutualTLS: flag,
  tls: orNull(only({ incoming: directional, outgoing: directional })),
  http: unread,
  peering: unread,
  validateClusters: flag,
});

const exportedServices = only({
  services: orNull(
    Type.Array(
      Type.Object(
        {
          name: text,
          ...texted("namespace"),
          consumers: Type.Array(Type.Object(texted("partition", "peer", "samenessGroup"), strict)),
        },
        strict,
      ),
    ),
  ),
});

/** By kind and API group, the shape of `spec`. */
export const CONSUL_SPECS: Readonly<Record<string, TSchema>> = {
  "ServiceIntentions.consul.hashicorp.com": serviceIntentions,
  "ServiceDefaults.consul.hashicorp.com": serviceDefaults,
  "ProxyDefaults.consul.hashicorp.com": proxyDefaults,
  "Mesh.consul.hashicorp.com": mesh,
  "ExportedServices.consul.hashicorp.com": exportedServices,
};

/** Rules between the fields of intentions (agent/structs/config_entry_intentions.go Validate). */
export function findIntentionFaults(spec: Json): Fault[] {
  const faults: Fault[] = [];
  const fault = (reason: string, ...steps: (string | number)[]) =>
    faults.push({ path: ["spec", ...steps], reason });
  const check = (end: Json | undefined, ...steps: (string | number)[]) => {
    const [name, namespace] = [textAt(end, "name") ?? "", textAt(end, "namespace") ?? ""];
    for (const [field, value] of Object.entries({ name, namespace })) {
      if (value !== "*" && value.includes("*")) fault("must be * or hold no *", ...steps, field);
    }
    if (namespace === "*" && name !== "*") fault("must be * in every namespace", ...steps, "name");
  };
  const destination = valueAt(spec, "destination");
  check(destination, "destination");
  const isWide = textAt(destination, "name") === "*" || textAt(destination, "namespace") === "*";
  const seen = new Set<string>();
  listAt(spec, "sources").forEach((one, i) => {
    const steps = ["sources", i];
    check(one, ...steps);
    const names = ["peer", "partition", "samenessGroup"].filter((key) => textAt(one, key) !== null);
    if (names.length > 1) fault(`takes only one of ${names.join(", ")}`, ...steps);
    const permissions = listAt(one, "permissions");
    const hasAction = textAt(one, "action") !== null;
    if (permissions.length > 0 && hasAction)
      fault("must not stand beside permissions", ...steps, "action");
    if (permissions.length === 0 && !hasAction) fault("needs an action or permissions", ...steps);
    if (permissions.length > 0 && isWide) {
      fault("need a destination without *", ...steps, "permissions");
    }
    const key = ["name", "namespace", "peer", "samenessGroup", "partition"];
    const who = key.map((field) => textAt(one, field) ?? "").join("/");
    if (seen.has(who)) fault("is defined more than once", ...steps, "name");
    seen.add(who);
  });
  return faults;
}
