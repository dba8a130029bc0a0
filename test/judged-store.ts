/** Fills a store with judged windows and a real evidence log, for tests of the API and the page. */
import fs from "node:fs";
import path from "node:path";
import { encodeEntry, type JsonObject } from "../collector/evidence/entry.ts";
import { createKeys, EvidenceLog } from "../collector/evidence/log.ts";
import { openSqlite } from "../collector/store/sqlite.ts";
import type { Store, VerdictRow } from "../collector/store/store.ts";
import { REASONS } from "../collector/verdict/verdict.ts";
import type { Aspect, ClusterFinding, Edge, NodeCoverage } from "../collector/verdict/verdict.ts";
import type { Reason, Verdict, VerdictWord, WorkloadName } from "../collector/verdict/verdict.ts";

export const WINDOW_MS = 60_000;
export const FIRST_MS = Date.parse("2026-11-22T01:00:00Z");
export const WINDOWS = 3;

const ZONES: Record<string, string> = { pay: "cde", data: "datastores", legacy: "legacy" };
const FRONT = ["web", "cart", "orders", "catalog", "search"];

function workload(text: string): WorkloadName {
  const [namespace, name] = text.split("/") as [string, string];
  if (namespace === "external") {
    return { kind: "external", namespace: "", name, workloadKind: "", zones: [] };
  }
  const zone = FRONT.includes(name) ? "storefront" : ZONES[namespace];
  const zones = zone === undefined ? [] : [zone];
  return { kind: "pod", namespace, name, workloadKind: "Deployment", zones };
}

function spell({ kind, namespace, name, workloadKind }: WorkloadName): string {
  return kind === "pod" ? `${namespace}/${name}[${workloadKind}]` : `${kind}/${name}`;
}

export function edgeOf(client: string, server: string, port: number): Edge {
  const ends = { client: workload(client), server: workload(server) };
  const id = `${spell(ends.client)} -> ${spell(ends.server)} : ${port}/tcp`;
  return { id, ...ends, port, proto: "tcp" };
}

type Case = [string, string, number, Aspect, VerdictWord, Reason, string];
/** The newest window; in those before, plaintext was not yet accepted by `pay/receipts`. */
const CASES: readonly Case[] = [
  ["shop/web", "pay/receipts", 8080, "transport", "violated", "plaintext-accepted", "http"],
  ["shop/web", "pay/receipts", 8080, "path", "confirmed", "allowed-and-used", "http"],
  ["shop/probe", "pay/ledger", 8443, "transport", "confirmed", "plaintext-refused", "http"],
  ["shop/cart", "pay/billing", 8443, "transport", "unproven", "server-cert-expired", "tls"],
  ["shop/intruder", "pay/ledger", 8443, "transport", "confirmed", "client-cert-refused", "tls"],
  ["shop/web", "pay/invoices", 8443, "transport", "violated", "one-way-tls", "tls"],
  ["shop/probe", "data/postgres", 5432, "path", "confirmed", "denied-and-dropped", ""],
  ["shop/reports", "data/cache", 6379, "path", "violated", "denied-and-accepted", "redis"],
  ["shop/mailer", "shop/notify", 8080, "path", "unexpected", "nothing-declared", "http"],
  ["shop/cart", "pay/vault", 8200, "transport", "unproven", "not-exercised", ""],
  ["legacy/batch", "legacy/mainframe", 8080, "transport", "unproven", "no-agent", ""],
  ["shop/web", "pay/ledger", 8443, "transport", "confirmed", "mtls-inferred", "tls"],
  ["shop/web", "pay/ledger", 8443, "path", "undecidable", "rule-not-observable", "tls"],
  ["shop/orders", "pay/ledger", 8443, "transport", "confirmed", "mtls-inferred", "tls"],
  ["shop/cart", "pay/settlement", 8443, "transport", "confirmed", "mtls-observed", "tls"],
  ["shop/catalog", "data/cache", 6380, "transport", "nothing-demanded", "tls-undemanded", "tls"],
  ["shop/catalog", "data/postgres", 5432, "transport", "confirmed", "tls-observed", "postgresql"],
  ["shop/web", "shop/search", 8080, "path", "confirmed", "allowed-and-used", "http"],
  ["shop/web", "shop/catalog", 8080, "path", "confirmed", "allowed-and-used", "http2"],
  ["external/203.0.113.9", "shop/web", 8443, "path", "unexpected", "nothing-declared", "tls"],
];

export const RECEIPTS = edgeOf("shop/web", "pay/receipts", 8080).id;
/** A name as hostile as a log of strangers' bytes may hold. */
export const HOSTILE = '<img src=x onerror="window.pwned=1">';

function judge(fromMs: number, [client, server, port, aspect, ...said]: Case): Verdict {
  const [word, reason, protocol] = said;
  const edge = edgeOf(client, server, port);
  const seen = protocol !== "";
  const at = (ms: number) => new Date(ms).toISOString();
  return {
    schema: "wireproof.verdict/1",
    ...{ from: at(fromMs), to: at(fromMs + WINDOW_MS), edge, aspect, verdict: word, reason },
    sentence: `${spell(edge.client)} to ${spell(edge.server)} port ${port}: ${REASONS[reason]}.`,
    inferred: reason === "mtls-inferred",
    counts: {
      supporting: word === "confirmed" ? 4 : 0,
      contradicting: word === "violated" ? 4 : 0,
      unreadable: reason === "server-cert-expired" ? 4 : 0,
      pending: 0,
      undemanded: word === "nothing-demanded" ? 4 : 0,
    },
    bound: null,
    required: aspect === "transport" ? "mtls" : null,
    path: reason.startsWith("denied") ? "denied" : word === "unexpected" ? "undeclared" : "allowed",
    because:
      word === "unexpected"
        ? []
        : [
            {
              kind: aspect === "transport" ? "PeerAuthentication" : "NetworkPolicy",
              ...{ namespace: edge.server.namespace, name: "default", uid: null },
              resource_version: null,
              hash: "sha256:3f0c5d1e9a7b42c68d10f3a5e2b9c47786a0d1f2e3b4c5d6978899aabbccddee",
              rule: aspect === "transport" ? "spec.mtls.mode" : "spec.ingress[0].from",
              sentence:
                aspect === "transport"
                  ? `Namespace ${edge.server.namespace} requires mutual TLS of every workload.`
                  : "Ingress is allowed from the storefront alone.",
            },
          ],
    coverage: {
      client: reason === "no-agent" ? 0 : 1,
      server: reason === "no-agent" ? 0 : 1,
      ...{ delivered: seen ? 1840 : 0, dropped: 0, sampling: 1 },
    },
    provenance: { client: seen ? "address" : null, server: seen ? "address" : null },
    findings: reason === "server-cert-expired" ? ["certificate-expired-on-wire"] : [],
    protocols: seen ? [protocol] : [],
    tlsVersions: protocol === "tls" ? ["TLSv1.3"] : [],
    bytes: seen ? 5210 : 0,
    firstSeen: seen ? at(fromMs + 1000) : null,
    lastSeen: seen ? at(fromMs + 52_000) : null,
    flows: seen ? [`node-a/run1.3.${port}`, "node-a/run1.3.1"] : [],
    inGrace: false,
  };
}

/** As one more window is judged: appends its entries, then saves its rows. */
export async function judgeWindow(store: Store, log: EvidenceLog, index: number): Promise<void> {
  const fromMs = FIRST_MS + index * WINDOW_MS;
  const span = { fromMs, toMs: fromMs + WINDOW_MS };
  const early = index < WINDOWS - 1;
  const verdicts = CASES.map((one) =>
    early && one[5] === "plaintext-accepted"
      ? judge(fromMs, [...one.slice(0, 4), "confirmed", "plaintext-refused", "http"] as Case)
      : judge(fromMs, one),
  );
  const nodes: NodeCoverage[] = ["node-a", "node-b", "node-c"].map((node, i) => ({
    ...{ node, agent: i < 2, pods: i < 2 ? 9 : 2, podSeconds: i < 2 ? 540 : 120 },
    ...{ podSecondsWatched: i === 0 ? 540 : i === 1 ? 513 : 0, interfaces: i < 2 ? 10 : 0 },
    ...{ delivered: i < 2 ? 18_240 : 0, dropped: i === 1 ? 12 : 0 },
  }));
  const found: ClusterFinding[] = [
    { code: "blind-spot", subject: "node/node-c", sentence: "node-c runs 2 pods, and no agent." },
    {
      code: "scan",
      subject: "shop/scanner[Pod]",
      sentence: "shop/scanner tried 40 ports of 3 workloads in 4 s; 2 answered.",
    },
    { code: "uplink-gap", subject: `shop/${HOSTILE}[Pod]`, sentence: `Told of ${HOSTILE}.` },
  ].map((one) => ({
    ...one,
    from: new Date(fromMs).toISOString(),
    to: new Date(span.toMs).toISOString(),
  }));
  const entries = verdicts.map((v) => encodeEntry(v as unknown as JsonObject));
  const { first } = await log.appendAll(entries);
  const rows: VerdictRow[] = [
    ...verdicts.map((verdict, i) => ({
      ...{ ...span, edge: verdict.edge.id, aspect: verdict.aspect },
      body: { verdict, entry: first + i },
    })),
    ...nodes.map((coverage) => ({
      ...{ ...span, edge: `node/${coverage.node}`, aspect: "coverage" },
      body: { coverage, entry: null },
    })),
    ...found.map((finding) => ({
      ...{ ...span, edge: `${finding.code}/${finding.subject}`, aspect: "finding" },
      body: { finding, entry: null },
    })),
  ];
  store.saveVerdicts(rows, {});
}

async function addFlow(store: Store): Promise<void> {
  const record = {
    ...{ start: "2026-11-22T01:02:03.000001Z", end: "2026-11-22T01:02:03.250000Z" },
    ...({ proto: "tcp", src_ip: "10.244.1.10", src_port: 40312, dst_ip: "10.244.1.21" } as const),
    ...{ dst_port: 8080, client_basis: "syn", encap: [], packets: [6, 5], bytes: [512, 812] },
    ...({ state: "closed", midstream: false, protocol: "http", encryption: "plaintext" } as const),
    ...{ upgraded_from: null, handshake: null, failure: null, accepted: true, tls: null },
    ...{ history: "SsDdFf", findings: [], notes: [] },
  };
  const observation = {
    ...{ flow: "run1.3.8080", revision: 1, final: true, interface: "wpweb" },
    ...({ vantage: "client", isn: [1, 2], sampling: 1, record } as const),
  };
  const batch = { type: "batch", seq: 1, clock_ms: FIRST_MS } as const;
  const whole = { ...batch, coverage: [], observations: [observation as never] };
  await store.append({ node: "node-a", spool: "spool-aa", batch: whole, receivedMs: FIRST_MS });
}

/** A store, a log and its keys under `directory`. */
export async function fillStore(directory: string) {
  const evidence = path.join(directory, "evidence");
  const [signerFile, keyFile] = createKeys(directory, "wireproof.test/cluster");
  const signer = fs.readFileSync(signerFile!, "utf8");
  const log = await EvidenceLog.open({ directory: evidence, signer, log: () => {} });
  const store = openSqlite(path.join(directory, "store"));
  for (let i = 0; i < WINDOWS; i++) await judgeWindow(store, log, i);
  await addFlow(store);
  return { store, log, evidence, keyFile: keyFile!, signerFile: signerFile! };
}
