/** Building blocks for the shapes that declared objects are checked against. */
import Type, { type TObject, type TProperties, type TSchema } from "typebox";

/** A map that holds the given fields, each optional, and no others. */
export function only<P extends TProperties>(fields: P): TObject {
  const optional = Object.entries(fields).map(([key, type]) => [key, Type.Optional(type)]);
  return Type.Object(Object.fromEntries(optional), { additionalProperties: false });
}

/** The API takes `null` for a field that is left out. */
export const orNull = (type: TSchema) => Type.Union([type, Type.Null()]);
export const text = Type.String();
export const texts = orNull(Type.Array(text));
export const labels = orNull(Type.Record(text, Type.Union([text])));
export const port = Type.Integer({ minimum: 1, maximum: 65535 });
export const oneOf = (...names: string[]) => Type.Enum(names);

/** A selector that stands in a list, where none is null. */
export const listedSelector = only({
  matchLabels: labels,
  matchExpressions: orNull(
    Type.Array(
      Type.Object(
        {
          key: text,
          operator: oneOf("In", "NotIn", "Exists", "DoesNotExist"),
          values: Type.Optional(texts),
        },
        { additionalProperties: false },
      ),
    ),
  ),
});
export const selector = orNull(listedSelector);

export const ports = orNull(
  Type.Array(
    only({
      protocol: orNull(oneOf("TCP", "UDP", "SCTP")),
      port: orNull(Type.Union([port, text])),
      endPort: orNull(port),
    }),
  ),
);

export const peers = orNull(
  Type.Array(
    only({
      podSelector: selector,
      namespaceSelector: selector,
      ipBlock: orNull(
        Type.Object({ cidr: text, except: Type.Optional(texts) }, { additionalProperties: false }),
      ),
    }),
  ),
);
