/** Tests policy history and diff, on a git repository and on an evidence log made here. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import t from "tap";
import { Declaration } from "../../collector/declaration.ts";
import { encodeEntry, type JsonObject } from "../../collector/evidence/entry.ts";
import { createKeys, EvidenceLog } from "../../collector/evidence/log.ts";
import { runDiff, runHistory } from "../../collector/history-command.ts";
import { toVersionEntry } from "../../collector/policy/history/version-entry.ts";
import { read } from "./manifests.ts";

const netpol = (name: string, spec: string) =>
  `---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: ${name}, ` +
  `namespace: pay}, spec: ${spec}}\n`;
const pod = (name: string, labels = "", env = "") => {
  const [namespace, own] = name.split("/");
  return (
    `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${own}-x1, namespace: ${namespace}, labels: ` +
    `{app: ${own}, pod-template-hash: x1${labels}}, annotations: {vault.example/token: hush, ` +
    `sidecar.istio.io/inject: "false"}, ownerReferences: [{kind: ReplicaSet, name: ${own}, ` +
    `controller: true}]}, spec: {containers: [{name: c, ports: [{containerPort: 8080}]${env}}]}}\n`
  );
};
const PODS = pod("pay/ledger") + pod("shop/web") + pod("shop/cart");
const DENY = netpol("deny", "{podSelector: {}}");
const WEB =
  "{podSelector: {matchLabels: {app: ledger}}, ingress: [{from: [{namespaceSelector: {}, " +
  "podSelector: {matchLabels: {app: web}}}], ports: [{port: 8080}]}]}";
const NOW = Date.parse("2026-11-22T12:00:00Z");

function folder(t: { teardown: (end: () => void) => void }): string {
  const made = mkdtempSync(path.join(tmpdir(), "wireproof-history-"));
  t.teardown(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

t.test("a git repository's commits are the history", async (t) => {
  const root = folder(t);
  const git = (words: string[], day?: number) => {
    const at = `2026-11-0${day}T10:00:00Z`;
    const who = { GIT_AUTHOR_DATE: at, GIT_COMMITTER_DATE: at };
    const env = { ...process.env, ...(day === undefined ? {} : who) };
    const done = spawnSync("git", ["-C", root, ...words], { env, encoding: "utf8" });
    if (done.status !== 0) throw new Error(done.stderr);
  };
  const manifests = path.join(root, "deploy", "k8s");
  mkdirSync(manifests, { recursive: true });
  const write = (text: string) => writeFileSync(path.join(manifests, "p.yaml"), text);
  const commit = (what: string, day: number) => {
    git(["add", "-A"]);
    git(["-c", "user.name=Jo", "-c", "user.email=jo@example.com", "commit", "-qm", what], day);
  };
  git(["init", "-q"]);
  writeFileSync(path.join(root, "other.txt"), "not below the folder");
  write(PODS);
  commit("Begin", 1);
  write(PODS + DENY);
  commit("Deny", 2);
  write(PODS + DENY + "---\n{kind: NetworkPolicy, broken\n");
  commit("Break", 3);
  write(PODS + DENY + netpol("web", WEB));
  commit("Let web in", 4);
  write(PODS + netpol("web", WEB));

  const options = { manifests, format: "text" };
  const rows = JSON.parse(runHistory(undefined, { ...options, format: "json" }, NOW).out);
  const told = rows.map((r: Record<string, string>) =>
    [
      r["at"]!.slice(0, 10),
      r["change"],
      r["name"],
      r["who"],
      r["source"]!.replace(/[0-9a-f]{7} /, ""),
    ].join(" "),
  );
  t.strictSame(told, [
    "2026-11-02 added deny Jo <jo@example.com> commit Deny",
    "2026-11-04 added web Jo <jo@example.com> commit Let web in",
    "2026-11-22 removed deny  not committed",
  ]);
  t.match(
    runHistory("pay/web", options, NOW).out,
    /^2026-11-04T10:00:00.000Z \+ NetworkPolicy pay\/web /,
  );
  t.equal(runHistory("nothing", options, NOW).out, "no change of any policy object\n");
  t.match(
    runHistory(undefined, { ...options, at: "2026-11-03" }, NOW).out,
    /^in force at 2026-11-03.*: 1\n.*pay\/deny\n$/,
  );

  const changed = (from: string, to: string) => {
    const { out } = runDiff({ ...options, from, to, format: "json" }, NOW);
    const { changes } = JSON.parse(out) as {
      changes: {
        client: string;
        server: string;
        ports: string[];
        from: { path: string };
        to: { path: string };
      }[];
    };
    return changes
      .filter(({ client }) => client.startsWith("shop/"))
      .map((c) => `${c.client}>${c.server} ${c.ports.join()} ${c.from.path}>${c.to.path}`);
  };
  const ledger = "pay/ledger[ReplicaSet]";
  t.strictSame(changed("2026-11-01T12:00:00Z", "2026-11-02T12:00:00Z"), [
    `shop/cart[ReplicaSet]>${ledger} 8080/tcp,other undeclared>denied`,
    `shop/web[ReplicaSet]>${ledger} 8080/tcp,other undeclared>denied`,
  ]);
  t.strictSame(changed("HEAD~1", "HEAD"), [
    `shop/web[ReplicaSet]>${ledger} 8080/tcp denied>allowed`,
  ]);
  t.strictSame(changed("HEAD", "now"), [], "the other policy isolates as well");
  const text = runDiff({ ...options, from: "HEAD~3", to: "HEAD" }, NOW).out;
  t.match(text, /: 2 policy objects differ/);
  t.match(text, /\n {2}added {4}NetworkPolicy pay\/deny\n/);
  t.match(
    text,
    /~ .*shop\/cart\[ReplicaSet\].* -> pay\/ledger\[ReplicaSet\] : 8080\/tcp, other ports\n {4}path {7}undeclared -> denied\n {4}because {4}denied by/,
  );
  for (const wrong of ["yesterday", "--help", "2026-99-99"]) {
    t.throws(() => runDiff({ ...options, from: wrong, to: "now" }, NOW), {
      code: "CONFIG_INSTANT",
    });
  }
  t.throws(() => runHistory(undefined, { format: "text" }, NOW), { code: "CONFIG_OPTION" });
});

t.test("a folder in no repository has no history, and that is told", async (t) => {
  const manifests = folder(t);
  writeFileSync(path.join(manifests, "p.yaml"), DENY);
  t.throws(() => runHistory(undefined, { manifests, format: "text" }, NOW), { code: "CONFIG_GIT" });
});

t.test("the evidence log gives policy and workloads of any instant back", async (t) => {
  const root = folder(t);
  createKeys(root, "test/log");
  const directory = path.join(root, "evidence");
  mkdirSync(directory);
  const signer = readFileSync(path.join(root, "evidence.key"), "utf8");
  const log = await EvidenceLog.open({ directory, signer, log: () => {} });
  const declaration = new Declaration(15_000, () => {});
  const write = async () => {
    const entries = declaration.changes.map(({ version, removed, type }) => {
      const entry = toVersionEntry(version, removed, type);
      return encodeEntry(JSON.parse(JSON.stringify(entry)) as JsonObject);
    });
    if (entries.length > 0) await log.appendAll(entries);
    declaration.logged(entries.length);
  };
  const secret = ", env: [{name: PASSWORD, value: hush}], args: [--key=hush]";
  for (const object of read(pod("pay/ledger", "", secret) + PODS + DENY).objects) {
    declaration.applyFirst(object, NOW - 7_200_000);
  }
  declaration.endFirst(NOW - 7_200_000);
  declaration.noteWorkloads(declaration.inventory.pods(NOW - 7_200_000), NOW - 7_200_000);
  await write();
  declaration.noteWorkloads(declaration.inventory.pods(NOW - 7_100_000), NOW - 7_100_000);
  t.equal(declaration.changes.length, 0, "the same pods are no change");
  const [open] = read(netpol("deny", "{podSelector: {}, ingress: [{}]}")).objects;
  declaration.apply(open!, NOW - 3_600_000, NOW - 3_700_000);
  await write();
  declaration.remove(open!, NOW - 60_000);
  await write();
  await log.close();

  const options = { evidence: directory, format: "text" };
  const rows = JSON.parse(runHistory(undefined, { ...options, format: "json" }, NOW).out);
  t.match(rows, [
    { at: null, change: "added", name: "deny" },
    { at: "2026-11-22T11:00:00.000Z", after: "2026-11-22T10:58:20.000Z", change: "changed" },
    { at: "2026-11-22T11:59:00.000Z", change: "removed" },
  ]);
  t.equal(rows.length, 3, "pods are no policy");
  const { out, warnings } = runDiff({ ...options, from: "90m", to: "30m" }, NOW);
  t.match(out, /1 policy objects differ/);
  t.match(
    out,
    /-> pay\/ledger\[ReplicaSet\] : 8080\/tcp, other ports\n {4}path {7}denied -> allowed/,
  );
  t.match(warnings[0], /evidence verify/);
  const whole = readFileSync(path.join(directory, "tile/entries/000.p/6"), "latin1");
  t.notMatch(whole, /hush/, "neither variables nor annotations of programs are kept");
  t.match(whole, /sidecar.istio.io\/inject/);
});
