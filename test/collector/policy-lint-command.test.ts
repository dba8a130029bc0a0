/** Tests how `wireproof policy lint` tells what it finds, and how it ends. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import t from "tap";
import { runLint } from "../../collector/policy/lint/lint-command.ts";
import { formatText } from "../../collector/policy/lint/format.ts";
import { LEVELS } from "../../collector/policy/lint/rule.ts";
import { formatSarif } from "../../collector/policy/lint/sarif.ts";
import { NOW_MS, pa, mode, strict, meshed, run } from "./linting.ts";

t.test("profiles raise levels", async (t) => {
  const text = pa("default", mode("PERMISSIVE"));
  const levels = (["pci", "hipaa", "strict"] as const).map((p) => run(text, p).findings[0]!.level);
  t.equal(run(text).findings[0]!.level, "warning");
  t.strictSame(levels, ["error", "error", "error"]);
});

t.test("without any pod some checks are not made, and that is said once", async (t) => {
  const text = formatText(run(strict));
  t.match(
    text,
    "no pod or workload among the manifests: these checks were not made\n    selector-matches",
  );
  t.equal(text.split("were not made").length, 2);
  t.notMatch(formatText(run(meshed + strict)), "were not made");
});

type Sarif = {
  version: string;
  runs: {
    tool: { driver: { rules: { id: string; defaultConfiguration: object }[] } };
    invocations: { toolExecutionNotifications: unknown[] }[];
    originalUriBaseIds?: Record<string, { uri: string }>;
    results: {
      ruleId: string;
      ruleIndex: number;
      level: string;
      message: { text: string };
      locations: {
        physicalLocation: {
          artifactLocation: { uri: string; uriBaseId: string };
          region: { startLine: number; startColumn: number };
        };
      }[];
      partialFingerprints: Record<string, string>;
      suppressions: { kind: string; justification: string }[];
    }[];
  }[];
};

const sarif = (text: string, manifests = "deploy") =>
  JSON.parse(formatSarif(run(text), manifests, ["a.yaml"])) as Sarif;

t.test("SARIF 2.1.0", async (t) => {
  const ignored = pa(
    "p",
    mode("DISABLE"),
    ", annotations: {wireproof.io/ignore: istio-mtls-disabled, wireproof.io/ignore-reason: why}",
  );
  const text =
    meshed + ignored + pa("q", mode("PERMISSIVE")).replace("namespace: a", "namespace: b");
  const { version, runs } = sarif(text);
  t.equal(version, "2.1.0");
  const { tool, results } = runs[0]!;
  t.ok(results.length > 2);
  for (const { ruleId, ruleIndex, level, message, locations } of results) {
    t.equal(tool.driver.rules[ruleIndex]!.id, ruleId);
    t.ok((LEVELS as readonly string[]).includes(level));
    t.match(message.text, /\. What to do: /);
    const { artifactLocation, region } = locations[0]!.physicalLocation;
    t.strictSame(artifactLocation, { uri: "deploy/a.yaml", uriBaseId: "%SRCROOT%" });
    t.ok(region.startLine >= 1 && region.startColumn >= 1);
  }
  const disabled = results.find(({ ruleId }) => ruleId === "istio-mtls-disabled")!;
  t.match(disabled.suppressions, [{ kind: "inSource", justification: "why" }]);
  const prints = (of: Sarif) =>
    of.runs[0]!.results.map((r) => r.partialFingerprints["wireproof/v1"]);
  t.equal(new Set(prints(sarif(text))).size, results.length, "each has its own");
  t.strictSame(prints(sarif(`# moved\n\n${text}`)), prints(sarif(text)), "and keeps it");
  t.equal(sarif(strict).runs[0]!.invocations[0]!.toolExecutionNotifications.length > 0, true);

  const uri = (manifests: string) => {
    const [first] = sarif(text, manifests).runs;
    const { artifactLocation } = first!.results[0]!.locations[0]!.physicalLocation;
    return [artifactLocation.uri, first!.originalUriBaseIds?.["MANIFESTS"]?.uri];
  };
  t.strictSame(uri("./deploy/x y/"), ["deploy/x%20y/a.yaml", undefined]);
  t.strictSame(uri("deploy/a.yaml"), ["deploy/a.yaml", undefined], "one file");
  t.strictSame(uri("/srv/m"), ["a.yaml", "file:///srv/m/"]);
  t.strictSame(uri("."), ["a.yaml", undefined]);
});

t.test("policy lint", async (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), "wireproof-lint-"));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const write = (text: string) => writeFileSync(path.join(dir, "a.yaml"), text);
  const code = (options: object) => runLint({ manifests: dir, ...options }, NOW_MS).exitCode;
  write(pa("default", mode("PERMISSIVE")));
  t.equal(code({}), 0, "a warning is below error");
  t.equal(code({ failOn: "warning" }), 1);
  t.equal(code({ failOn: "note" }), 1, "and above note");
  t.equal(code({ profile: "pci" }), 1);
  write(strict);
  t.equal(code({ failOn: "note" }), 0);
  const out = runLint({ manifests: dir }, NOW_MS).out;
  t.match(out, /0 errors, 0 warnings, 0 notes, 0 suppressed\n$/);
  write("replicas: 1\n");
  t.equal(code({}), 2, "nothing is read");
  for (const wrong of [
    { profile: "soc" },
    { format: "xml" },
    { failOn: "never" },
    { at: "tomorrow" },
    { at: "2026-13-45" },
    { manifests: path.join(dir, "none") },
  ]) {
    t.throws(() => code(wrong), { code: /^CONFIG_/ });
  }
  write(
    "apiVersion: wireproof.io/v1\nkind: Segmentation\nmetadata: {name: s}\nspec:\n" +
      "  zones: []\n  default: {betweenZones: deny}\n" +
      "  waivers: [{who: j, why: w, until: '2026-12-31', from: '*'}]\n",
  );
  t.notMatch(runLint({ manifests: dir }, NOW_MS).out, "waiver-expired");
  t.match(runLint({ manifests: dir, at: "2027-01-02" }, NOW_MS).out, "waiver-expired");
  const json = JSON.parse(runLint({ manifests: dir, format: "json" }, NOW_MS).out) as {
    findings: { rule: string; line: number; remedy: string }[];
    counts: object;
  };
  t.match(json.findings[0], { rule: "segmentation-waiver-broad", line: 7 });
  t.strictSame(json.counts, { error: 0, warning: 1, note: 0, suppressed: 0 });
});

t.test("an item of a list is told by its own place", async (t) => {
  const item = (name: string, value: string) => ({
    ...{ apiVersion: "security.istio.io/v1", kind: "PeerAuthentication" },
    ...{ metadata: { name, namespace: name }, spec: { mtls: { mode: value } } },
  });
  const items = [item("a", "STRICT"), item("b", "DISABLE")];
  const text = JSON.stringify({ kind: "List", items }, null, 2);
  const [finding] = run(text).findings;
  t.match(finding, { field: "spec.mtls.mode", object: { namespace: "b" } });
  const line = text.split("\n")[finding!.line - 1]!;
  t.equal(line.slice(finding!.column - 1), '"mode": "DISABLE"');
});

t.test("the demo's manifests", async (t) => {
  const manifests = path.resolve(import.meta.dirname, "../../scripts/scene/manifests");
  const { out, exitCode } = runLint({ manifests, format: "json" }, NOW_MS);
  t.equal(exitCode, 1);
  const { findings } = JSON.parse(out) as {
    findings: {
      rule: string;
      file: string;
      field: string;
      object: { namespace: string; name: string };
    }[];
  };
  const told = findings
    .filter(({ rule }) => !/^(unknown-kind|network-no-default-deny-egress)$/.test(rule))
    .map(({ rule, object, field }) => `${rule} ${object.namespace}/${object.name} ${field}`);
  const optedOut = [
    "catalog",
    "search",
    "notify",
    "reports",
    "probe",
    "intruder",
    "scanner",
    "mailer",
  ];
  t.strictSame(
    told.map((line) => line.replace(/-[0-9a-f]{8,10}-[a-z0-9]{5} /, " ")).sort(),
    [
      // Redis speaks for itself, in plaintext on 6379, with its own TLS on 6380.
      "istio-mtls-disabled data/cache spec.portLevelMtls.6379.mode",
      "istio-mtls-permissive data/cache spec.portLevelMtls.6380.mode",
      "istio-mtls-permissive data/postgres spec.portLevelMtls.5432.mode",
      "istio-mtls-permissive shop/default spec.mtls.mode",
      ...optedOut.map(
        (name) => `mesh-opted-out shop/${name} metadata.labels.sidecar.istio.io/inject`,
      ),
      "network-allow-all-pods kube-system/dns-for-all spec.ingress[0].from[0].namespaceSelector",
      ...["data", "fleet", "kube-system", "legacy", "shop"].map(
        (name) => `network-no-default-deny-ingress /${name} metadata.name`,
      ),
      // Who lets ambient's port in lets in every port inside of it.
      "mesh-tunnel-port-opens-all fleet/tracker-callers spec.ingress[0]",
      // The namespace selector of from-shop takes shop's pods that are in no zone, too.
      "segmentation-forbids-allowed pay/from-shop spec.ingress[0]",
      "segmentation-path-no-version /scene spec.paths[6].transport",
    ].sort(),
  );
});

t.test("strangers' input never throws", async (t) => {
  const odd = ["null", "[]", "1", "x", "{}", "[null]", "{mode: [1]}"];
  const kinds = [
    ...["PeerAuthentication security.istio.io/v1", "AuthorizationPolicy security.istio.io/v1"],
    ...["DestinationRule networking.istio.io/v1", "NetworkPolicy networking.k8s.io/v1"],
    ...["Server policy.linkerd.io/v1", "AuthorizationPolicy policy.linkerd.io/v1"],
    ...["ServiceIntentions consul.hashicorp.com/v1", "Mesh consul.hashicorp.com/v1"],
    ...["Segmentation wireproof.io/v1", "ClusterNetworkPolicy policy.networking.k8s.io/v1"],
    ...["AdminNetworkPolicy policy.networking.k8s.io/v1", "Pod v1", "Service v1", "Namespace v1"],
    ...["Deployment apps/v1", "ConfigMap v1", "CronJob batch/v1"],
  ];
  const fields = ["spec", "selector", "host", "rules", "ingress", "egress", "ports", "zones"];
  for (const kind of kinds) {
    const [name, version] = kind.split(" ");
    const texts = odd.flatMap((value) => [
      `spec: ${value}`,
      ...fields.map((field) => `spec: {${field}: ${value}}`),
      ...fields.map((field) => `spec: {template: {${field}: ${value}}, ${field}: [${value}]}`),
    ]);
    const all = texts.map(
      (text, i) => `---\napiVersion: ${version}\nkind: ${name}\nmetadata: {name: n${i}}\n${text}\n`,
    );
    t.doesNotThrow(() => run(meshed + all.join("")), kind);
  }
});
