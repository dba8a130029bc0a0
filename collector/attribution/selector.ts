/** Matches Kubernetes label selectors (`metav1.LabelSelector`) against labels. */
import { labelsAt, listAt, textAt, type Json, type Labels } from "./cluster-object.ts";

export type Requirement = {
  key: string;
  operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
  values: ReadonlySet<string>;
};

/** All requirements hold; none at all selects everything. */
export type Selector = readonly Requirement[];

/** Reads a selector that is known to be well-formed; an unknown operator throws. */
export function readSelector(value: Json | undefined): Selector {
  const equal = Object.entries(labelsAt(value, "matchLabels")).map(([key, text]) =>
    requirement(key, "In", [text]),
  );
  const expressions = listAt(value, "matchExpressions").map((expression) =>
    requirement(
      textAt(expression, "key") ?? "",
      textAt(expression, "operator") ?? "",
      listAt(expression, "values").map(String),
    ),
  );
  return [...equal, ...expressions];
}

/** Reports whether all of `wanted`, a selector of labels only, is among the labels. */
export function hasLabels(labels: Labels, wanted: Labels): boolean {
  return Object.keys(wanted).every((key) => labels[key] === wanted[key]);
}

function requirement(key: string, operator: string, values: readonly string[]): Requirement {
  switch (operator) {
    case "In":
    case "NotIn":
    case "Exists":
    case "DoesNotExist":
      return { key, operator, values: new Set(values) };
    default:
      throw new TypeError(`label selector: operator ${JSON.stringify(operator)}`);
  }
}

/** Reports whether the labels satisfy the selector; a missing label satisfies `NotIn`. */
export function selects(selector: Selector, labels: Labels): boolean {
  return selector.every(({ key, operator, values }) => {
    const present = Object.hasOwn(labels, key);
    switch (operator) {
      case "In":
        return present && values.has(labels[key]!);
      case "NotIn":
        return !present || !values.has(labels[key]!);
      case "Exists":
        return present;
      case "DoesNotExist":
        return !present;
    }
  });
}
