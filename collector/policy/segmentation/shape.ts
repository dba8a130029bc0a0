/**
 * Describes the segmentation file: which workloads form a zone, and which paths may cross zones.
 *
 *     apiVersion: wireproof.io/v1
 *     kind: Segmentation
 *     metadata: { name: cards }
 *     spec:
 *       zones: # an end that several zones select is in the first of them
 *         - { name: cards, scope: cde, select: { namespaces: [pay], labels: { tier: card } } }
 *         - { name: shop, scope: out-of-scope, select: { namespaces: [web] } }
 *         - { name: bank, select: { cidrs: [198.51.100.0/24] } }
 *       paths: # from, to: a zone, or "*" for any end, in a zone or not
 *         - { from: shop, to: cards, ports: [8443, 9000-9010/udp], transport: mtls }
 *         - { from: cards, to: bank, ports: [443], transport: tls, minVersion: TLSv1.2 }
 *         - { from: shop, to: cards, ports: [8444], transport: mtls, crypto: [sp800-52r2] }
 *       default: { betweenZones: deny } # an end in no zone is outside of all of them
 *       actors: # whose traffic has a name of its own: probes, Prometheus, a scanner
 *         - { name: kubelet, kind: probe, select: { nodes: true } }
 *         # access to these zones, on these ports, goes through it alone: whoever else comes, is
 *         # neither of the zone nor on a path, is denied
 *         - { name: hoop, kind: access-gateway, select: { namespaces: [access] }, to: [cards],
 *             ports: [22, 5432], only: true }
 *       waivers: # a path that is let pass for a time, although it is denied
 *         - { who: jo@example.com, why: CARD-77, until: 2026-12-31, from: shop, to: cards }
 *
 * `select` takes an end that is in one of the namespaces *and* carries all of the labels, or whose
 * address is in one of the ranges; `nodes: true` takes the nodes themselves. Paths stand before
 * actors, and actors before the default. `segmentation.schema.json` beside this file says the same
 * to editors (`# yaml-language-server: $schema=…`).
 */
import Type from "typebox";
import { CRYPTO_PROFILE_NAMES } from "../../../protocol/crypto-profile.ts";
import type { Fault } from "../manifest/problem.ts";

const name = Type.String({ minLength: 1, maxLength: 253 });
const port = Type.Union([
  Type.Integer({ minimum: 1, maximum: 65535 }),
  Type.String({ pattern: "^[0-9]{1,5}(-[0-9]{1,5})?(/(tcp|udp|sctp))?$" }),
]);
const ports = Type.Optional(Type.Array(port));
const strict = { additionalProperties: false };

const select = Type.Object(
  {
    namespaces: Type.Optional(Type.Array(name)),
    labels: Type.Optional(Type.Record(Type.String(), Type.String())),
    cidrs: Type.Optional(Type.Array(Type.String())),
    nodes: Type.Optional(Type.Literal(true)),
  },
  { ...strict, minProperties: 1 },
);

const zone = Type.Object(
  { name, scope: Type.Optional(Type.Enum(["cde", "phi", "out-of-scope"])), select },
  strict,
);

const path = Type.Object(
  {
    from: name,
    to: name,
    ports,
    transport: Type.Optional(Type.Enum(["mtls", "tls", "plaintext", "any"])),
    minVersion: Type.Optional(Type.Enum(["TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"])),
    /** Published profiles that the negotiated cryptography must meet, all of them. */
    crypto: Type.Optional(Type.Array(Type.Enum([...CRYPTO_PROFILE_NAMES]), { minItems: 1 })),
  },
  strict,
);

const actor = Type.Object(
  {
    name,
    kind: Type.Optional(name),
    select,
    to: Type.Optional(Type.Array(name)),
    ports,
    only: Type.Optional(Type.Boolean()),
  },
  strict,
);

const waiver = Type.Object(
  {
    who: name,
    why: name,
    /** RFC 3339, or a date, which ends with that day, UTC. */
    until: Type.String({ pattern: "^\\d{4}-\\d{2}-\\d{2}(T.*)?$" }),
    from: Type.Optional(name),
    to: Type.Optional(name),
    ports,
  },
  strict,
);

/** The `spec` of a Segmentation. */
export const Segmentation = Type.Object(
  {
    zones: Type.Array(zone),
    paths: Type.Optional(Type.Array(path)),
    default: Type.Optional(
      Type.Object({ betweenZones: Type.Optional(Type.Enum(["deny", "undeclared"])) }, strict),
    ),
    actors: Type.Optional(Type.Array(actor)),
    waivers: Type.Optional(Type.Array(waiver)),
  },
  strict,
);
export type Segmentation = Type.Static<typeof Segmentation>;

/** What the shape cannot say: zones named twice, or named and not there; ranges and dates. */
export function findSegmentationFaults(spec: Segmentation): Fault[] {
  const faults: Fault[] = [];
  const names = spec.zones.map((z) => z.name);
  names.forEach((known, i) => {
    if (names.indexOf(known) < i) {
      faults.push({ path: ["spec", "zones", i, "name"], reason: `zone ${known} is there twice` });
    }
  });
  const check = (known: string | undefined, path: (string | number)[]) => {
    if (known === undefined || known === "*" || names.includes(known)) return;
    faults.push({ path: ["spec", ...path], reason: `there is no zone ${known}` });
  };
  (spec.paths ?? []).forEach((p, i) => {
    check(p.from, ["paths", i, "from"]);
    check(p.to, ["paths", i, "to"]);
  });
  (spec.actors ?? []).forEach((a, i) => {
    (a.to ?? []).forEach((to, j) => check(to, ["actors", i, "to", j]));
    if (a.only && (a.to ?? []).length === 0) {
      const reason = "needs zones in `to`: access to them goes through the actor alone";
      faults.push({ path: ["spec", "actors", i, "only"], reason });
    }
  });
  (spec.waivers ?? []).forEach((w, i) => {
    check(w.from, ["waivers", i, "from"]);
    check(w.to, ["waivers", i, "to"]);
    if (Number.isNaN(Date.parse(w.until))) {
      faults.push({ path: ["spec", "waivers", i, "until"], reason: "must be a date or a time" });
    }
  });
  return faults;
}

/** The JSON Schema of a whole Segmentation, as text. */
export function formatSegmentationSchema(): string {
  const schema = {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Segmentation",
    description: "Which workloads form a zone, and which paths may cross zones.",
    type: "object",
    required: ["apiVersion", "kind", "metadata", "spec"],
    properties: {
      apiVersion: { const: "wireproof.io/v1" },
      kind: { const: "Segmentation" },
      metadata: { type: "object", required: ["name"], properties: { name: { type: "string" } } },
      spec: Segmentation,
    },
  };
  return `${JSON.stringify(schema, null, 2)}\n`;
}
