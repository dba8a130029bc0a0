/** Teaches `wireproof policy lint`: what stands behind its flags in `--help`. */
import { FAMILIES } from "./families.ts";
import { levelOf, PROFILES, type Rule } from "./rule.ts";

const WIDTH = 40;

/** `istio-mtls-permissive  warning  error error error  1.2.6 2.2.5 164.312(e)(1)` */
function formatRule(rule: Rule): string {
  const levels = [null, ...PROFILES].map((profile) => levelOf(rule, profile).padEnd(7));
  const controls = [...(rule.controls?.pci ?? []), ...(rule.controls?.hipaa ?? [])].join(" ");
  const name = `${rule.id}${rule.needsPods ? " *" : ""}`.padEnd(WIDTH);
  return `  ${name} ${levels.join(" ")} ${controls}`.trimEnd();
}

const rules = FAMILIES.flatMap(({ title, rules: of }) => [
  `\n  ${title}`,
  ...of.map(formatRule),
]).join("\n");

export const LINT_MANUAL = `
What it says
  Each finding as file:line:column of the field that causes it, level, rule, a sentence; what to do
  stands behind the first of each rule; the last line counts. Nothing is sent, and no cluster asked:
  the manifests alone are read, all of them together, so give the whole folder.

  wireproof policy lint --manifests deploy
  wireproof policy lint --manifests deploy --profile pci --fail-on warning
  kubectl get -A -o json ns,pods,svc,netpol,peerauthentications,authorizationpolicies |
    wireproof policy lint --manifests -
  wireproof policy lint --manifests deploy --format sarif > wireproof.sarif     for code review

--profile: which findings are how grave
  pci      PCI DSS 4.0.1, for a folder whose workloads handle card data
  hipaa    45 CFR 164.312, for one whose workloads handle health records
  strict   every level one step graver, but for what is only told
  A finding speaks to a part of the controls beside its rule; none is met or missed by it alone.
  PCI 4.2.1 asks for encryption on open, public networks: within the cluster it is no requirement.

--at TIME: waivers are held against this time (RFC 3339), not against now

Ignoring a finding: annotations on the object, or on its pod template, with the reason
  metadata:
    annotations:
      wireproof.io/ignore: network-allow-all, istio-mtls-disabled
      wireproof.io/ignore-reason: "DNS serves every pod; NET-12, jo@example.com"
  It is counted as suppressed, and SARIF keeps it with its reason. Without a reason it counts.

Rules, with their levels: without a profile, pci, hipaa, strict; and controls of PCI and HIPAA
  *  rests on which pods there are: not made where no pod or workload is among the manifests
${rules}

Exit codes: 0 nothing at the level of --fail-on or above it, 1 something, 2 wrong use or nothing
readable.
`;
