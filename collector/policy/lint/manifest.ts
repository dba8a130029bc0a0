/** Checks what of the manifests could not be read, is not valid, or is of a kind not read. */
import { groupKind, keyOf, type ClusterObject } from "../../attribution/cluster-object.ts";
import { formatObject } from "../decision/because.ts";
import { isKnownKind, isUnreadPolicy } from "../manifest/known-kinds.ts";
import { formatPath } from "../manifest/problem.ts";
import { CONFIGURATION, type Rule } from "./rule.ts";
import { nameSome, type Scope } from "./scope.ts";

export const MANIFEST = {
  unreadable: {
    id: "unreadable-document",
    title: "text that could not be read as an object",
    why: "What it declares is not known: whatever may depend on it is unproven.",
    remedy: "correct the text",
    level: "error",
    controls: CONFIGURATION,
  },
  invalid: {
    id: "invalid-field",
    title: "a field that its kind does not allow",
    why: "The API server, or the mesh, refuses the object, or reads it otherwise than it is meant.",
    remedy: "correct the field",
    level: "error",
    controls: CONFIGURATION,
  },
  twice: {
    id: "duplicate-object",
    title: "an object that is declared twice",
    why: "Which of the two holds depends on the order in which they are applied.",
    remedy: "keep one of them",
    level: "warning",
    controls: CONFIGURATION,
  },
  unreadPolicy: {
    id: "unread-policy-kind",
    title: "a policy of a kind that is not read",
    why: "It may allow, deny or encrypt, and is not held against anything.",
    remedy: "judge it by other means, or wait for its kind to be read",
    level: "warning",
    controls: CONFIGURATION,
  },
  unknownKind: {
    id: "unknown-kind",
    title: "objects of a kind that is not read",
    why: "They are no policy that is known, and are left out.",
    remedy: "nothing, unless the kind is a policy",
    level: "note",
    strict: "note",
  },
  foreign: {
    id: "not-a-manifest",
    title: "a file that holds no Kubernetes object",
    why: "It is left out.",
    remedy: "nothing, unless an object is meant",
    level: "note",
    strict: "note",
  },
  noReason: {
    id: "suppression-without-reason",
    title: "findings are ignored without a reason",
    why: "Without the annotation wireproof.io/ignore-reason they are told as before.",
    remedy: "add the reason, and who decided it",
    level: "warning",
    pci: "error",
    controls: CONFIGURATION,
  },
  noRule: {
    id: "suppression-of-unknown-rule",
    title: "a rule is ignored that does not exist",
    why: "The annotation wireproof.io/ignore names something that is never found.",
    remedy: "correct the rule's name",
    level: "warning",
    controls: CONFIGURATION,
  },
} as const satisfies Record<string, Rule>;

const RULES = MANIFEST;

export const IGNORE = "wireproof.io/ignore";
export const REASON = "wireproof.io/ignore-reason";

export function checkManifests(scope: Scope, ruleIds: ReadonlySet<string>): void {
  for (const problem of scope.declared.problems) {
    if (problem.about === "foreign") scope.reportProblem(RULES.foreign, problem);
    else if (problem.about === undefined) scope.reportProblem(RULES.unreadable, problem);
  }
  const seen = new Map<string, ClusterObject>();
  const unknown = new Map<string, ClusterObject[]>();
  for (const object of scope.declared.objects) {
    for (const { path, reason } of scope.faultsOf(object)) {
      const sentence = `${formatObject(object)}: ${formatPath(path)}: ${reason}`;
      scope.report(RULES.invalid, object, path, sentence);
    }
    const key = keyOf(object);
    const before = seen.get(key);
    seen.set(key, before ?? object);
    if (before !== undefined) {
      const { file, line } = before.source ?? { file: "?", line: 0 };
      const sentence = `${formatObject(object)} is declared in ${file}:${line} already`;
      scope.report(RULES.twice, object, ["metadata", "name"], sentence);
    }
    if (!isKnownKind(groupKind(object))) {
      const kind = `${object.kind} (${object.apiVersion})`;
      if (isUnreadPolicy(groupKind(object))) {
        const sentence = `${formatObject(object)} is a policy of a kind that is not read`;
        scope.report(RULES.unreadPolicy, object, ["kind"], sentence);
      } else unknown.set(kind, [...(unknown.get(kind) ?? []), object]);
    }
    checkSuppression(scope, object, ruleIds);
  }
  for (const [kind, objects] of unknown) {
    const who = nameSome(objects.map(formatObject));
    const sentence = `${objects.length} of kind ${kind}, not read: ${who}`;
    scope.report(RULES.unknownKind, objects[0]!, ["kind"], sentence);
  }
}

function checkSuppression(scope: Scope, object: ClusterObject, ruleIds: ReadonlySet<string>): void {
  const ignored = object.annotations[IGNORE];
  if (ignored === undefined) return;
  const path = ["metadata", "annotations", IGNORE];
  const name = formatObject(object);
  if ((object.annotations[REASON] ?? "").trim() === "") {
    const sentence = `${name} ignores ${ignored}, and gives no reason: it is not ignored`;
    scope.report(RULES.noReason, object, path, sentence);
  }
  for (const id of readIgnored(ignored)) {
    if (ruleIds.has(id)) continue;
    scope.report(RULES.noRule, object, path, `${name} ignores ${id}, which is no rule`);
  }
}

/** `id, id` */
export function readIgnored(text: string): string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}
