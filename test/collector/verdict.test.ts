/** Tests verdicts: one-liners of traffic, an expectation and coverage against a word and a reason. */
import { readFileSync } from "node:fs";
import path from "node:path";
import t, { type Test } from "tap";
import { attribute } from "../../collector/attribution/attribute.ts";
import { Inventory } from "../../collector/attribution/inventory.ts";
import type { Expectation } from "../../collector/policy/expectation.ts";
import type { Problem } from "../../collector/policy/manifest/problem.ts";
import type { CryptoProfile } from "../../protocol/crypto-profile.ts";
import { upperBound } from "../../collector/verdict/confidence.ts";
import { listDeclaredEdges } from "../../collector/verdict/declared-edges.ts";
import { pairSightings } from "../../collector/verdict/pair.ts";
import type { Sighting } from "../../collector/attribution/attribute.ts";
import { REASONS } from "../../collector/verdict/verdict.ts";
import type { Verdict } from "../../collector/verdict/verdict.ts";
import { judgeWindow } from "../../collector/verdict/window.ts";
import type { WindowInput } from "../../collector/verdict/window-input.ts";
import type { WindowJudgement } from "../../collector/verdict/window.ts";
import { toClusterObject } from "../../collector/attribution/cluster-object.ts";
import type { JsonMap } from "../../collector/attribution/cluster-object.ts";
import { clusterObjects, covered, NOBODY, PODS, seen } from "../seen.ts";
import { seeded } from "../../scripts/world/draw.ts";

const FROM = Date.parse("2026-11-22T01:00:00Z");
const TO = FROM + 60_000;
const APART_MS = 5_000;

const inventory = new Inventory();
for (const object of clusterObjects()) inventory.apply(object, -Infinity);

/**
 * `mtls denied:NetworkPolicy min=TLSv1.2 doubtful istio domain=cluster.local`: what is required of transport (`-` for
 * nothing), and the path with the kinds of the objects that decided it, the first one foremost.
 */
function expectation(text: string): Expectation {
  const [required, path, ...more] = text.split(" ") as [string, string, ...string[]];
  const [decision, ...kinds] = path.split(":");
  const because = (kind: string) => ({
    ...{ kind, namespace: "pay", name: "p", uid: null, resource_version: null, hash: "sha256:0" },
    ...{ rule: "spec", sentence: more.includes("in-band") ? "denial-in-band" : `${kind} says so` },
  });
  const problem: Problem = {
    ...{ file: "a.yaml", line: 1, column: 1, reason: "bad", kind: null, name: null },
    namespaces: "all",
  };
  return {
    path: decision as Expectation["path"],
    transport: {
      required: required === "-" ? null : (required as "mtls"),
      ...{ accepts: [], refuses: [] },
      minVersion: more.find((w) => w.startsWith("min="))?.slice(4) ?? null,
      ...toCrypto(more.find((w) => w.startsWith("crypto="))?.slice(7)),
      ...(more.includes("istio") ? { mesh: "istio" as const } : {}),
      trustDomain: more.find((w) => w.startsWith("domain="))?.slice(7) ?? null,
    },
    pathBecause: kinds.map(because),
    transportBecause: [because("PeerAuthentication")],
    doubts: more.includes("doubtful") ? [problem] : [],
  };
}

const toCrypto = (text: string | undefined) =>
  text === undefined ? {} : { crypto: text.split("+") as CryptoProfile[] };

type World = {
  /** Of every edge: within a grace more than one, the newest first. */
  expect?: readonly [string, ...string[]];
  /** The same, by what a connection shows: `plaintext`, `tls`, `mtls`, or nothing that is known. */
  expectShown?: (wire: string | null) => string;
  coverage?: readonly string[];
  tolerance?: number;
  /** Namespaces of servers to which nothing declares a path. */
  undeclared?: readonly string[];
  /** Another than that of `clusterObjects`. */
  inventory?: Inventory;
};

const EVERYTHING = Object.keys(PODS).map((name) => `${name} -10..70`);
const without = (...names: string[]) =>
  EVERYTHING.filter((line) => !names.includes(line.split(" ")[0]!));

function sightingsOf(lines: readonly string[], from = inventory): Sighting[] {
  return lines
    .flatMap((line) => seen(line, FROM))
    .map(({ node, observation }) => ({
      id: `${node}/${observation.flow}`,
      node,
      attributed: attribute(observation, from, APART_MS),
    }));
}

function judge(sightings: readonly Sighting[], world: World): WindowJudgement {
  return judgeWindow(inputFor(sightings, world));
}

function inputFor(sightings: readonly Sighting[], world: World): WindowInput {
  const expectations = (world.expect ?? ["mtls allowed:NetworkPolicy"]).map(expectation);
  const from = world.inventory ?? inventory;
  return {
    ...{ fromMs: FROM, toMs: TO, clocksApartMs: APART_MS, sightings },
    coverage: (world.coverage ?? EVERYTHING).map((line) => covered(line, FROM)),
    pods: from.pods(TO - 1),
    nodes: from.nodes(TO - 1),
    expect: (...question) => {
      const shown = world.expectShown?.(question[5]);
      const atStart = shown === undefined ? expectations : [expectation(shown)];
      return { atStart: atStart as [Expectation, ...Expectation[]], later: [] };
    },
    lives: from.podsBetween(FROM, TO),
    zonesOf: () => [],
    declared: {
      ...listDeclaredEdges(from.pods(TO - 1), () => expectations[0]!),
      undeclared: new Set(world.undeclared),
    },
    tolerance: world.tolerance ?? 0.01,
  };
}

function exercised(judgement: WindowJudgement): Verdict[] {
  return judgement.verdicts.filter((v) => v.firstSeen !== null);
}

/** `confirmed mtls-observed 1/0/0`: for, against, unreadable; `*` where it rests on inference. */
function tell(v: Verdict | undefined): string {
  if (!v) return "nothing";
  const { supporting, contradicting, unreadable, pending } = v.counts;
  const waiting = pending > 0 ? `/${pending}` : "";
  const star = v.inferred ? "*" : "";
  return `${v.verdict}${star} ${v.reason} ${supporting}/${contradicting}/${unreadable}${waiting}`;
}

type Aspect = "transport" | "path";

/** What comes of the traffic between the first line's ends. */
function verdict(aspect: Aspect, lines: readonly string[], world: World = {}): string {
  const found = exercised(judge(sightingsOf(lines, world.inventory), world));
  const edges = new Set(found.map((v) => v.edge.id));
  const [first] = [...edges].filter((id) => /^shop\/web\[/.test(id));
  return tell(found.find((v) => v.edge.id === first && v.aspect === aspect));
}

type Row = readonly [traffic: string, wanted: string, world?: World];

/** Each row's traffic is a list of one-liners, joined by commas. */
function check(t: Test, aspect: Aspect, rows: readonly Row[], common: World = {}): void {
  for (const [traffic, wanted, world] of rows) {
    const merged = { ...common, ...world };
    const why = `${traffic} | ${merged.expect?.join(" or ") ?? "mtls"}`;
    t.equal(verdict(aspect, traffic.split(", "), merged), wanted, why);
  }
}

// ---- transport -----------------------------------------------------------------------------

t.test("rule 1: mutual TLS required: what was accepted decides", async (t) => {
  check(t, "transport", [
    ["web > ledger mtls accepted", "confirmed mtls-observed 1/0/0"],
    ["web > ledger mtls? accepted", "confirmed* mtls-inferred 1/0/0"],
    ["web > ledger tls accepted", "violated one-way-tls 0/1/0"],
    ["web > ledger tls? accepted", "violated one-way-tls 0/1/0"],
    ["web > ledger tls-empty? accepted", "violated one-way-tls 0/1/0"],
    ["web > ledger plain accepted", "violated plaintext-accepted 0/1/0"],
    ["web > ledger ssh accepted", "violated plaintext-accepted 0/1/0"],
    ["web > ledger not-tls accepted", "violated plaintext-accepted 0/1/0"],
    ["web > ledger bytes accepted", "unproven mutual-unknown 0/0/1"],
    ["web > ledger unread accepted", "unproven mutual-unknown 0/0/1"],
    ["web > ledger resumed accepted", "unproven session-resumed 0/0/1"],
  ]);
});

t.test("rule 1: one contradiction among any number violates, with both counts", async (t) => {
  check(t, "transport", [
    [
      "web > ledger mtls accepted x99, web > ledger plain accepted",
      "violated plaintext-accepted 99/1/0",
    ],
    [
      "web > ledger mtls? accepted x40, web > ledger tls accepted x2, web > ledger resumed accepted",
      "violated one-way-tls 40/2/1",
    ],
    // Neither drops nor gaps take back what was seen.
    [
      "web > ledger plain accepted",
      "violated plaintext-accepted 0/1/0",
      { coverage: ["web 0-3 1+99"] },
    ],
  ]);
});

t.test("rule 1: TLS required: any TLS supports it, and any other bytes contradict", async (t) => {
  const expect = ["tls allowed:NetworkPolicy"] as const;
  const rows: Row[] = [
    ["web > ledger tls accepted", "confirmed tls-observed 1/0/0"],
    ["web > ledger mtls accepted", "confirmed tls-observed 1/0/0"],
    ["web > ledger resumed accepted", "confirmed tls-observed 1/0/0"],
    ["web > ledger unread accepted", "confirmed tls-observed 1/0/0"],
    ["web > ledger plain accepted", "violated plaintext-accepted 0/1/0"],
    ["web > ledger not-tls accepted", "violated plaintext-accepted 0/1/0"],
    ["web > ledger bytes accepted", "unproven mutual-unknown 0/0/1"],
  ];
  check(t, "transport", rows, { expect });
  const minimum = ["tls allowed:NetworkPolicy min=TLSv1.2"] as const;
  check(t, "transport", [
    ["web > ledger tls1.0 accepted", "violated version-too-low 0/1/0", { expect: minimum }],
    ["web > ledger tls accepted", "confirmed tls-observed 1/0/0", { expect: minimum }],
  ]);
});

t.test("a path's profiles of cryptography are held against what was negotiated", async (t) => {
  const expect = ["mtls allowed:NetworkPolicy crypto=post-quantum"] as const;
  const rows: Row[] = [
    ["web > ledger pq accepted", "confirmed mtls-observed 1/0/0"],
    ["web > ledger 3des accepted", "violated crypto-misses-profile 0/1/0"],
    [
      "web > ledger pq accepted, web > ledger 3des accepted",
      "violated crypto-misses-profile 1/1/0",
    ],
    ["web > ledger mtls accepted", "unproven crypto-not-seen 0/0/1"],
    ["web > ledger plain accepted", "violated plaintext-accepted 0/1/0"],
    ["web > ledger tls accepted", "violated one-way-tls 0/1/0"],
  ];
  check(t, "transport", rows, { expect });
});

t.test("nothing is said about transport where nothing is declared about it", async (t) => {
  const expect = ["- allowed:NetworkPolicy"] as const;
  check(t, "transport", [["web > ledger plain accepted", "nothing"]], { expect });
});

t.test("rule 1: what was seen through a gap is unproven", async (t) => {
  check(t, "transport", [
    ["web > ledger bytes accepted mid @c", "unproven joined-midstream 0/0/1"],
    // Bytes that are no TLS count from the SYN on only; what a grammar names, counts always.
    ["web > ledger not-tls accepted mid @c", "unproven joined-midstream 0/0/1"],
    ["web > ledger plain accepted mid @c", "violated plaintext-accepted 0/1/0"],
    ["web > ledger tls open mid @c", "unproven joined-midstream 0/0/1"],
    ["web > ledger mtls c-only @c", "unproven one-sided 0/0/1"],
    ["web > ledger mtls s-only @s", "unproven one-sided 0/0/1"],
    ["web > ledger mtls open", "unproven not-answered 0/0/1"],
    ["web > ledger mtls open live +40", "unproven not-answered 0/0/0/1"],
  ]);
});

t.test("the unreadable share is held against the tolerance, exactly", async (t) => {
  check(t, "transport", [
    [
      "web > ledger mtls accepted x99, web > ledger resumed accepted",
      "confirmed mtls-observed 99/0/1", // 1 of 100 is the tolerance
    ],
    [
      "web > ledger mtls accepted x98, web > ledger resumed accepted",
      "unproven partly-unreadable 98/0/1",
    ],
    [
      "web > ledger mtls accepted x98, web > ledger resumed accepted",
      "confirmed mtls-observed 98/0/1",
      { tolerance: 0.02 },
    ],
  ]);
});

t.test("rule 5: drops, and time that was not watched, take a proof back", async (t) => {
  const mtls = "web > ledger mtls accepted";
  const watched = (...lines: string[]) => ({ coverage: lines });
  check(t, "transport", [
    [mtls, "confirmed mtls-observed 1/0/0", watched("web 0-60 99+1", "ledger 0-60 99+1")],
    [mtls, "unproven capture-drops 1/0/0", watched("web 0-60 98+2", "ledger 0-60 98+2")],
    // All of it passes both ends: one that dropped nothing saw it.
    [mtls, "confirmed mtls-observed 1/0/0", watched("web 0-60 98+2", "ledger 0-60 99+1")],
    [mtls, "confirmed mtls-observed 1/0/0", watched("web 0-60", "ledger 0-60 50+50")],
    [mtls, "unproven capture-drops 1/0/0", watched("web 0-30", "ledger 0-60 50+50")],
    [mtls, "unproven capture-drops 1/0/0", watched("ledger 0-60 50+50")],
    [mtls, "confirmed mtls-observed 1/0/0", watched("web 0-59.4")], // all but the tolerance
    [mtls, "unproven partly-watched 1/0/0", watched("web 0-59.3")],
    [mtls, "unproven partly-watched 1/0/0", watched("web 0-20", "web 40-60", "ledger 30-60")],
    [mtls, "confirmed mtls-observed 1/0/0", watched("web 0-30", "web 20-60")],
    [mtls, "confirmed mtls-observed 1/0/0", watched("web 0-1", "ledger 0-60")],
  ]);
  // What a node lost on it does not know which interface, each of its pods may have lost.
  const node = (any: string) => watched("web 0-60 198+0", any);
  check(t, "transport", [
    [mtls, "confirmed mtls-observed 1/0/0", node("cart 0-60 0+1 any")],
    [mtls, "unproven capture-drops 1/0/0", node("cart 0-60 0+3 any")], // 3 of 201
    [mtls, "confirmed mtls-observed 1/0/0", node("twin-1 0-60 0+3 any")], // of another node
  ]);
});

t.test("rule 5: what could not be read, and what was given up, take a proof back", async (t) => {
  const mtls = "web > ledger mtls accepted";
  const confirmed = "confirmed mtls-observed 1/0/0";
  const lost = "unproven observations-lost 1/0/0";
  const watched = (...lines: string[]) => ({ coverage: [...EVERYTHING, ...lines] });
  const instead = (...lines: string[]) => ({ coverage: [...without("web", "ledger"), ...lines] });
  check(t, "transport", [
    [mtls, "unproven frames-unread 1/0/0", instead("web 0-60 malformed=2")],
    [mtls, confirmed, instead("web 0-60 malformed=1")],
    [mtls, confirmed, { coverage: [...without("web"), "web 0-60 malformed=90"] }], // read at ledger
    [mtls, confirmed, instead("web 0-60 notIp=50")],
    [mtls, "unproven frames-unread 1/0/0", instead("web 0-60 99+1 malformed=2")],
    [mtls, confirmed, { coverage: [...without("cart"), "cart 0-60 malformed=90"] }],
    // Each attempt that was not kept may have been one of the edge.
    [mtls, lost, instead("web 0-60 flood=web:5")],
    [mtls, lost, { coverage: [...without("ledger"), "ledger 0-60 flood=web:1"] }],
    [mtls, lost, { coverage: [...without("ledger"), "ledger 0-60 flood=*:1"] }],
    [mtls, confirmed, { coverage: [...without("ledger"), "ledger 0-60 flood=cart:900"] }],
    [mtls, confirmed, { coverage: [...without("cart"), "cart 0-60 flood=web:900"] }],
    // Observations of either interface, or of any of its node, in the window.
    [mtls, lost, watched("web 5-20 lost=1", "ledger 50-600 lost=1")],
    [mtls, lost, watched("cart 5-20 lost=1 any", "twin-1 5-20 lost=1 any")],
    [mtls, confirmed, watched("web 5-20 lost=9")], // ledger's agent lost nothing
    [mtls, confirmed, watched("cart 5-20 lost=100")],
    [mtls, confirmed, watched("web 60-90 lost=100")],
    [
      `${mtls} x99`,
      "confirmed mtls-observed 99/0/0",
      watched("web 5-20 lost=1", "ledger 5-20 lost=1"),
    ],
    [
      `${mtls} x98`,
      "unproven observations-lost 98/0/0",
      watched("web 5-20 lost=1", "ledger 5-20 lost=1"),
    ],
    // What contradicts stays a contradiction.
    [
      "web > ledger plain accepted",
      "violated plaintext-accepted 0/1/0",
      watched("web 5-20 lost=9"),
    ],
  ]);
  const expect = ["- denied:NetworkPolicy"] as const;
  const dropped = "web > ledger silent @c, cart > ledger plain accepted @s";
  check(t, "path", [
    [dropped, "confirmed denied-and-dropped 1/0/0", { expect }],
    [dropped, "unproven server-silent 0/0/1", { expect, ...watched("ledger 1-9 lost=1") }],
    [
      dropped,
      "unproven server-silent 0/0/1",
      { expect, coverage: [...without("ledger"), "ledger -10..70 malformed=2"] },
    ],
  ]);
});

t.test("an edge of which observations may have been given up is not called unused", async (t) => {
  const idle = (coverage: readonly string[]) => {
    const { verdicts, nodes } = judge([], { coverage });
    const edge = verdicts.find((v) => /web\[.*ledger\[/.test(v.edge.id));
    return [edge?.reason, edge?.coverage.lost, nodes.find((n) => n.node === "a")?.agent];
  };
  t.strictSame(idle(EVERYTHING), ["not-exercised", undefined, true]);
  t.strictSame(idle([...EVERYTHING, "web 0-60 lost=2"]), ["observations-lost", 2, true]);
  t.strictSame(idle(["web 0-60 lost=2"]), ["no-agent", undefined, false], "it watched nothing");
});

t.test(
  "rule 5: a sample is bounded by Clopper and Pearson, unreadable ones left out",
  async (t) => {
    const coverage = ["web 0-60 s0.1", "ledger 0-60 s0.1"];
    const rows: Row[] = [
      ["web > ledger mtls accepted x299", "confirmed mtls-observed 299/0/0"],
      ["web > ledger mtls accepted x298", "unproven sampling-bound 298/0/0"],
      [
        "web > ledger mtls accepted x298, web > ledger resumed accepted",
        "unproven sampling-bound 298/0/1",
      ],
      ["web > ledger mtls accepted x58", "unproven sampling-bound 58/0/0", { tolerance: 0.05 }],
      ["web > ledger mtls accepted x59", "confirmed mtls-observed 59/0/0", { tolerance: 0.05 }],
    ];
    check(t, "transport", rows, { coverage });
    const told = (traffic: string) =>
      exercised(judge(sightingsOf([traffic]), { coverage })).find((v) => v.aspect === "transport")!;
    t.equal(told("web > ledger mtls accepted x299").bound, 1 - 0.05 ** (1 / 299));
    t.equal(told("web > ledger resumed accepted x299").bound, 1, "nothing readable is no sample");
    const whole = exercised(judge(sightingsOf(["web > ledger mtls accepted"]), {}));
    t.equal(whole[0]!.bound, null, "unsampled");
  },
);

t.test("rule 4: a refusal proves what it refuses, and nothing else", async (t) => {
  const refusals: readonly [string, mtls: string, tls: string, any: string][] = [
    ["plain refused=plaintext-refused", "plaintext-refused", "plaintext-refused", ""],
    ["plain refused=plaintext-to-tls", "plaintext-refused", "plaintext-refused", ""],
    ["tls refused=client-cert-missing", "client-cert-missing", "", ""],
    ["mtls refused=client-cert-refused", "client-cert-refused", "", ""],
    ["mtls refused=client-cert-untrusted", "client-cert-refused", "", ""],
    ["mtls refused=client-cert-expired", "client-cert-refused", "", ""],
    ["tls left=server-cert-expired", "", "", ""],
    ["tls left=server-cert-refused", "", "", ""],
    ["tls refused=no-common-version", "", "", ""],
  ];
  for (const [how, ...wanted] of refusals) {
    (["mtls", "tls", "any"] as const).forEach((required, i) => {
      const expect = [`${required} allowed:NetworkPolicy`] as const;
      const found = verdict("transport", [`web > ledger ${how}`], { expect });
      if (wanted[i]) t.equal(found, `confirmed ${wanted[i]} 1/0/0`, `${how} | ${required}`);
      else t.match(found, /^unproven [a-z-]+ 0\/0\/1$/, `${how} | ${required}`);
    });
  }
  check(t, "transport", [
    ["web > ledger tls left=server-cert-expired", "unproven server-cert-expired 0/0/1"],
    ["web > ledger tls left=server-cert-name", "unproven server-cert-refused 0/0/1"],
    ["web > ledger tls refused=no-common-cipher", "unproven handshake-failed 0/0/1"],
  ]);
});

t.test("suites that do not encrypt, or authenticate nobody, are no encryption", async (t) => {
  for (const suite of ["null", "anon", "integrity"]) {
    for (const required of ["mtls", "tls"]) {
      const expect = [`${required} allowed:NetworkPolicy`] as const;
      const wanted = "violated suite-not-encrypting 0/1/0";
      check(t, "transport", [[`web > ledger ${suite} accepted`, wanted]], { expect });
    }
  }
});

t.test("a mesh's own demand is met by its own identities alone", async (t) => {
  const shown = (client: Partial<Sighting["attributed"]["client"]>, how = "meshed") =>
    sightingsOf([`web > ledger ${how} accepted`]).map((sighting) => ({
      ...sighting,
      attributed: {
        ...sighting.attributed,
        client: { ...sighting.attributed.client, ...client },
      },
    }));
  const own = { spiffe: "spiffe://cluster.local/ns/shop/sa/web" };
  const other = { spiffe: "spiffe://cluster.local/ns/dev/sa/curl", isOther: true };
  const alien = { spiffe: "spiffe://evil.example/ns/shop/sa/web" };
  const rows: [string, Sighting[], string][] = [
    ["istio domain=cluster.local", shown({}), "confirmed* mtls-inferred 1/0/0"],
    ["istio domain=cluster.local", shown(own), "confirmed* mtls-inferred 1/0/0"],
    ["istio", shown(own), "confirmed* mtls-inferred 1/0/0"],
    ["istio domain=cluster.local", shown(other), "violated foreign-identity 0/1/0"],
    ["istio domain=cluster.local", shown(alien), "violated foreign-identity 0/1/0"],
    ["istio", shown(other), "unproven identity-doubtful 0/0/1"],
    ["-", shown(other), "unproven identity-doubtful 0/0/1"],
    ["-", shown(alien), "confirmed* mtls-inferred 1/0/0"],
    ["istio domain=cluster.local", shown({}, "mtls?"), "unproven mesh-unseen 0/0/1"],
    ["-", shown({}, "mtls?"), "confirmed* mtls-inferred 1/0/0"],
  ];
  for (const [demands, sightings, wanted] of rows) {
    const judgement = judge(sightings, { expect: [`mtls allowed:NetworkPolicy ${demands}`] });
    const found = exercised(judgement);
    const why = `${demands} ${sightings[0]!.attributed.client.spiffe}`;
    t.equal(tell(found.find((v) => v.aspect === "transport")), wanted, why);
    // The path goes by the address, whoever was shown.
    const path = found.find((v) => v.aspect === "path");
    t.equal(path?.edge.id, "shop/web[Pod] -> pay/ledger[Pod] : 8443/tcp");
    t.equal(tell(path), "confirmed allowed-and-used 1/0/0");
    const isTold = judgement.findings.some((f) => f.code === "foreign-identity");
    t.equal(isTold, /foreign|doubtful/.test(wanted), why);
  }
});

t.test("where nothing declares paths at all, one finding says so for the namespace", async (t) => {
  const lines = ["web > ledger plain accepted", "cart > ledger rst", "ledger > web tls accepted"];
  const bare = judge(sightingsOf(lines), { expect: ["- undeclared"], undeclared: ["pay"] });
  t.strictSame(
    exercised(bare)
      .map((v) => `${v.edge.client.name} ${tell(v)}`)
      .sort(),
    [
      "cart nothing-demanded nothing-declared 0/0/0",
      "ledger unexpected nothing-declared 0/0/0",
      "web nothing-demanded nothing-declared 0/0/0",
    ],
  );
  const told = bare.findings.map(({ subject, sentence }) => `${subject}: ${sentence}`);
  t.match(told, [/^namespace\/pay: 2 edges lead into namespace pay, and nothing declares/]);
  // Asked of the policy itself: one path into a namespace is enough.
  const pods = inventory.pods(FROM);
  const some = listDeclaredEdges(pods, (_, server) =>
    expectation(server.name === "ledger" ? "- allowed:NetworkPolicy" : "- undeclared"),
  );
  t.strictSame([...some.undeclared], ["shop"]);
  t.strictSame([...listDeclaredEdges(pods, () => expectation("- denied")).undeclared], []);
});

t.test("what stays open for longer than agents take to tell of it is unreadable", async (t) => {
  check(t, "transport", [
    ["web > ledger mtls open live +29", "unproven not-answered 0/0/1"],
    ["web > ledger mtls open live +31", "unproven not-answered 0/0/0/1"],
    // It weighs against what others show.
    [
      "web > ledger mtls accepted, web > ledger mtls open live +31",
      "confirmed mtls-observed 1/0/0/1",
    ],
    ["web > ledger mtls accepted, web > ledger mtls open live", "unproven partly-unreadable 1/0/1"],
    // One side alone, or what was joined, tells no more with time.
    ["web > ledger mtls c-only live +50", "unproven one-sided 0/0/1"],
    ["web > ledger bytes mid live +50 @s", "unproven joined-midstream 0/0/1"],
  ]);
  const denied = { expect: ["- denied:NetworkPolicy"] } as const;
  check(t, "path", [
    ["web > ledger syn live @c +31", "unproven not-answered 0/0/0/1", denied],
    ["web > ledger syn live @c +29", "unproven server-silent 0/0/1", denied],
  ]);
});

t.test("what anything meets is no success, whatever was seen", async (t) => {
  for (const required of ["any", "plaintext"]) {
    const expect = [`${required} allowed:NetworkPolicy`] as const;
    check(
      t,
      "transport",
      [
        ["web > ledger plain accepted", "nothing-demanded plaintext-allowed 0/0/0"],
        ["web > ledger tls accepted", "nothing-demanded tls-undemanded 0/0/0"],
        ["web > ledger mtls accepted", "nothing-demanded mtls-undemanded 0/0/0"],
        // The one whom a stricter rule would refuse is told.
        [
          "web > ledger mtls accepted x5, web > ledger plain accepted",
          "nothing-demanded plaintext-allowed 0/0/0",
        ],
        ["web > ledger plain accepted basis=port", "unproven roles-unknown 0/0/1"],
      ],
      { expect },
    );
  }
  const expect = ["any allowed:NetworkPolicy min=TLSv1.2"] as const;
  check(t, "transport", [
    ["web > ledger tls accepted", "confirmed tls-observed 1/0/0", { expect }],
    ["web > ledger tls1.0 accepted", "violated version-too-low 0/1/0", { expect }],
    ["web > ledger plain accepted", "nothing-demanded plaintext-allowed 0/0/0", { expect }],
  ]);
});

t.test("a connection that never reached the server says nothing of its transport", async (t) => {
  check(t, "transport", [
    ["web > ledger rst", "nothing"],
    ["web > ledger silent", "nothing"],
    ["web > ledger client-rst", "nothing"],
    ["web > ledger mtls accepted, web > ledger rst x50", "confirmed mtls-observed 1/0/0"],
  ]);
});

t.test("what could not be read of the policy leaves nothing proven, nor refuted", async (t) => {
  const expect = ["mtls allowed:NetworkPolicy doubtful"] as const;
  const rows: Row[] = [
    ["web > ledger mtls accepted", "unproven policy-incomplete 0/0/1"],
    ["web > ledger plain accepted", "unproven policy-incomplete 0/0/1"],
  ];
  check(t, "transport", rows, { expect });
  check(t, "path", [["web > ledger plain accepted", "unproven policy-incomplete 0/0/1"]], {
    expect,
  });
});

t.test("within the grace of a change both versions must agree, and it says so", async (t) => {
  const tightened = ["mtls allowed:NetworkPolicy", "any allowed:NetworkPolicy"] as const;
  const closed = ["- denied:NetworkPolicy", "- allowed:NetworkPolicy"] as const;
  const opened = ["- allowed:NetworkPolicy", "- denied:NetworkPolicy"] as const;
  check(t, "transport", [
    ["web > ledger plain accepted", "unproven policy-changed 0/0/1", { expect: tightened }],
    ["web > ledger resumed accepted", "unproven session-resumed 0/0/1", { expect: tightened }],
    // One of them demands nothing: that it was met is no merit.
    ["web > ledger mtls accepted", "nothing-demanded mtls-undemanded 0/0/0", { expect: tightened }],
  ]);
  check(t, "path", [
    ["web > ledger plain accepted", "unproven policy-changed 0/0/1", { expect: closed }],
    // Of what is allowed a refusal says nothing; so both say no more than that.
    [
      "web > ledger rst @c, cart > ledger plain accepted @s",
      "unproven policy-changed 0/0/1",
      { expect: opened },
    ],
  ]);
  const [verdict] = exercised(
    judge(sightingsOf(["web > ledger plain accepted"]), { expect: closed }),
  );
  t.equal(verdict!.inGrace, true);
  t.match(verdict!.sentence, /the policy changed: only what all its versions say counts$/);
  t.equal(exercised(judge(sightingsOf(["web > ledger plain accepted"]), {}))[0]!.inGrace, false);
});

// ---- path ----------------------------------------------------------------------------------

t.test("an allowed path is shown by one acceptance; without one it is unproven", async (t) => {
  check(t, "path", [
    ["web > ledger plain accepted", "confirmed allowed-and-used 1/0/0"],
    ["web > ledger plain accepted, web > ledger rst x9", "confirmed allowed-and-used 1/0/0"],
    ["web > ledger rst", "unproven allowed-and-refused 0/0/1"],
    ["web > ledger silent", "unproven allowed-and-refused 0/0/1"],
    ["web > ledger syn live +40", "unproven not-answered 0/0/0/1"],
  ]);
});

t.test("rule 1: an acceptance on a denied path violates it, whatever else was seen", async (t) => {
  const expect = ["- denied:NetworkPolicy"] as const;
  const rows: Row[] = [
    ["web > ledger plain accepted", "violated denied-and-accepted 0/1/0"],
    ["web > ledger quiet open", "violated denied-and-accepted 0/1/0"], // SYN-ACK is enough here
    [
      "web > ledger silent @c x9, web > ledger plain accepted",
      "violated denied-and-accepted 9/1/0",
    ],
    ["web > ledger plain accepted mid", "violated denied-and-accepted 0/2/0"],
  ];
  check(t, "path", rows, { expect });
});

t.test("above the packet layer a connection is only accepted when it is answered", async (t) => {
  // The denial stands first; the NetworkPolicy behind it allows the path.
  const expect = ["- denied:AuthorizationPolicy:NetworkPolicy"] as const;
  const rows: Row[] = [
    ["web > ledger mtls accepted", "violated denied-and-accepted 0/1/0"],
    ["web > ledger mtls open", "unproven not-answered 0/0/1"],
    ["web > ledger mtls open live +40", "unproven not-answered 0/0/0/1"],
    // Refused behind the handshake: by the mesh, where the application is there for others.
    [
      "web > ledger mtls refused=client-cert-refused, cart > ledger mtls accepted",
      "confirmed denied-and-refused 1/0/0",
    ],
    ["web > ledger mtls refused=client-cert-refused", "unproven not-answered 0/0/1"],
    // It went away: its application may be down.
    ["web > ledger mtls refused=server-aborted", "unproven not-answered 0/0/1"],
    ["web > ledger mtls left=client-aborted", "unproven not-answered 0/0/1"],
  ];
  check(t, "path", rows, { expect });
});

t.test("rule 4: a reset by the server's own kernel is no proof of a packet filter", async (t) => {
  const others = "cart > ledger plain accepted @s";
  for (const kind of ["NetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy"]) {
    const expect = [`- denied:${kind}`] as const;
    const unwatched = { coverage: without("ledger") };
    const rows: Row[] = [
      ["web > ledger rst", "unproven reached-the-server 0/0/1"],
      ["web > ledger rst @s", "unproven reached-the-server 0/0/1"],
      ["web > ledger rst @c", "unproven served-nobody 0/0/1"],
      [`web > ledger rst @c, ${others}`, "confirmed denied-and-refused 1/0/0"],
      [`web > ledger rst @c, ${others}`, "unproven server-unseen 0/0/1", unwatched],
      [`web > ledger rst @c via=ledger-svc, ${others}`, "confirmed denied-and-refused 1/0/0"],
      ["web > ledger rst via=ledger-svc", "unproven reached-the-server 0/0/1"],
      // Of ICMP errors only those that say "prohibited" are a policy's; others are a route's.
      [`web > ledger prohibited @c, ${others}`, "confirmed denied-and-refused 1/0/0"],
      [`web > ledger unreachable @c, ${others}`, "unproven unreachable 0/0/1"],
      [`web > ledger no-port @c, ${others}`, "unproven unreachable 0/0/1"],
      [`web > ledger untold @c, ${others}`, "unproven unreachable 0/0/1"],
      ["web > ledger prohibited @c", "unproven served-nobody 0/0/1"],
    ];
    check(t, "path", rows, { expect });
  }
  const above = ["- denied:AuthorizationPolicy:NetworkPolicy"] as const;
  check(t, "path", [
    // Nor of what enforces behind a handshake, which never came about.
    ["web > ledger rst", "unproven not-answered 0/0/1", { expect: above }],
    ["web > ledger rst", "unproven not-answered 0/0/1", { expect: ["- denied:Segmentation"] }],
  ]);
});

t.test("rule 4: silence proves a denial only by what stands beside it", async (t) => {
  const expect = ["- denied:NetworkPolicy"] as const;
  const silent = "web > ledger silent @c";
  const others = "cart > ledger plain accepted @s";
  const world = (...coverage: string[]) => ({ coverage });
  const rows: Row[] = [
    // Left the client's veth, and did not reach the server's, which served others.
    [`${silent}, ${others}`, "confirmed denied-and-dropped 1/0/0"],
    [silent, "unproven served-nobody 0/0/1"],
    // Served on another port, by another protocol, by another pod: that is not the same.
    [`${silent}, cart > ledger plain accepted @s port=9000`, "unproven served-nobody 0/0/1"],
    [`${silent}, cart > ledger plain accepted @s udp`, "unproven served-nobody 0/0/1"],
    ["web > twin-1 silent @c, cart > twin-2 plain accepted @s", "unproven served-nobody 0/0/1"],
    [
      "web > twin-1 silent @c, cart > twin-1 plain accepted @s",
      "confirmed denied-and-dropped 1/0/0",
    ],
    // Nobody watched the server, or not while it was tried by any clock, or not all that came.
    ...[
      [],
      ["ledger 10..70"],
      ["ledger -10..2"],
      ["ledger -10..2", "ledger 2.1..70"],
      ["ledger -10..70 5+5"],
    ].map((lines): Row => [
      `${silent}, ${others}`,
      "unproven server-silent 0/0/1",
      world("web -10..70", ...lines),
    ]),
    [
      `${silent}, ${others}`,
      "confirmed denied-and-dropped 1/0/0",
      world("web -10..70", "ledger -10..2", "ledger 2..70"),
    ],
    [
      `${silent}, ${others}`,
      "unproven server-unseen 0/0/1",
      world("web -10..70", "ledger -10..70 s0.5"),
    ],
    // It reached the server, which says nothing.
    ["web > ledger silent", "unproven reached-the-server 0/0/1"],
    [`web > ledger silent, ${others}`, "unproven reached-the-server 0/0/1"],
    // Behind a Service it may be any of the pods: all of them must have been watched, and serve.
    [
      "web > twin-1 silent @c via=twin-svc, cart > twin-1 plain accepted, cart > twin-2 plain accepted",
      "confirmed denied-and-dropped 1/0/0",
    ],
    [
      "web > twin-1 silent @c via=twin-svc, cart > twin-1 plain accepted",
      "unproven served-nobody 0/0/1",
    ],
    [
      "web > twin-1 silent @c via=twin-svc, cart > twin-1 plain accepted, cart > twin-2 plain accepted",
      "unproven server-silent 0/0/1",
      world("web -10..70", "twin-1 -10..70"),
    ],
    // Still young, or given up by the client, or seen in one direction only.
    ["web > ledger syn live @c +40", "unproven not-answered 0/0/0/1"],
    ["web > ledger client-rst", "unproven reached-the-server 0/0/1"],
    ["web > ledger plain c-only @c", "unproven one-sided 0/0/1"],
  ];
  check(t, "path", rows, { expect });
});

t.test("a datagram that reached the server is not taken for one that was dropped", async (t) => {
  const expect = ["- denied:NetworkPolicy"] as const;
  const rows: Row[] = [
    [
      "web > ledger bytes silent udp @c, cart > ledger plain accepted udp",
      "confirmed denied-and-dropped 1/0/0",
    ],
    ["web > ledger bytes silent udp @c", "unproven served-nobody 0/0/1"],
    // One alone may have been lost.
    [
      "web > ledger bytes syn udp @c x20, cart > ledger plain accepted udp",
      "unproven server-silent 0/0/20",
    ],
    ["web > ledger syn @c, cart > ledger plain accepted udp", "unproven server-silent 0/0/1"],
    ["web > ledger rst @c, cart > ledger plain accepted", "confirmed denied-and-refused 1/0/0"],
    ["web > ledger bytes syn udp", "unproven reached-the-server 0/0/1"],
    ["web > ledger bytes syn udp x20", "unproven reached-the-server 0/0/20"],
    ["web > ledger plain accepted udp", "violated denied-and-accepted 0/1/0"],
  ];
  check(t, "path", rows, { expect });
});

t.test("who is the client must be more than a guess", async (t) => {
  const unknown = "unproven roles-unknown 0/0/1";
  const denied = { expect: ["- denied:NetworkPolicy"] } as const;
  const undeclared = { expect: ["- undeclared"] } as const;
  for (const basis of ["basis=first-seen mid", "basis=port mid"]) {
    check(t, "transport", [
      [`web > ledger mtls accepted ${basis} @c`, unknown],
      [`web > ledger plain accepted ${basis} @c`, unknown],
      [`web > ledger tls accepted ${basis} @s`, unknown],
      [`web > ledger bytes open ${basis} @c`, "unproven joined-midstream 0/0/1"],
    ]);
    check(t, "path", [
      [`web > ledger plain accepted ${basis} @c`, unknown, denied],
      [`web > ledger tls open ${basis} @c`, unknown, denied],
      [`web > ledger plain accepted ${basis} @c`, unknown, undeclared],
      [`web > ledger plain accepted ${basis} @c`, unknown],
      // Others show that the path is open: this one takes nothing from that.
      [
        `web > ledger mtls accepted, web > ledger mtls accepted ${basis} @c`,
        "confirmed allowed-and-used 1/0/0",
      ],
    ]);
  }
  check(t, "transport", [
    ["web > ledger plain accepted basis=handshake mid @c", "violated plaintext-accepted 0/1/0"],
    ["web > ledger mtls accepted basis=handshake mid @c", "confirmed mtls-observed 1/0/0"],
    // Where one sighting shows it, it is known, whatever another takes it for.
    [
      "web > ledger mtls accepted sport=20001 @c, ledger > web mtls accepted mid basis=first-seen sport=8443 port=20001 @only-up",
      "confirmed mtls-observed 1/0/0",
      { coverage: without("ledger") },
    ],
  ]);
});

t.test("of datagrams the client must have sent the first one", async (t) => {
  const denied = { expect: ["- denied:NetworkPolicy"] } as const;
  const violated = "violated denied-and-accepted 0/1/0";
  const unknown = "unproven roles-unknown 0/0/1";
  check(t, "path", [
    ["web > ledger plain accepted udp basis=handshake", violated, denied],
    ["web > ledger bytes accepted udp basis=port", violated, denied],
    ["web > ledger bytes accepted udp basis=first-seen", unknown, denied],
    ["web > ledger bytes accepted udp basis=port mid", unknown, denied],
    // What answers may have been sent to one that never asked.
    ["web > ledger plain accepted udp basis=handshake mid", unknown, denied],
    ["web > ledger bytes s-only udp basis=handshake @c", unknown, denied],
  ]);
});

t.test("made-up sources are one client, and take no proof back", async (t) => {
  const outside = Array.from({ length: 300 }, (_, i) => `198.51.100.${i % 250} > ledger rst @s`);
  const nobody = Array.from({ length: 100 }, (_, i) => `10.0.9.${i} > ledger rst @s`);
  const real = ["203.0.113.9 > ledger mtls accepted @s", "web > ledger mtls accepted"];
  const { verdicts, findings } = judge(sightingsOf([...outside, ...nobody, ...real]), {});
  const seen = verdicts.filter((v) => v.firstSeen !== null);
  t.strictSame([...new Set(seen.map((v) => v.edge.client.name))].sort(), [
    ...["203.0.113.9", "unanswered", "unattributed", "web"],
  ]);
  const of = (name: string) => seen.filter((v) => v.edge.client.name === name).map(tell);
  t.strictSame(of("unanswered"), ["unproven allowed-and-refused 0/0/300"]);
  t.strictSame(of("unattributed"), ["unproven not-attributable 0/0/100"]);
  t.strictSame(of("web"), ["confirmed allowed-and-used 1/0/0", "confirmed mtls-observed 1/0/0"]);
  t.strictSame(findings, []);
  // Whoever got an answer may have been any client.
  const held = judge(sightingsOf([...real, "10.0.9.7 > ledger plain accepted @s"]), {});
  const web = exercised(held).filter((v) => v.edge.client.name === "web");
  t.strictSame(web.map(tell), [
    "unproven not-attributable 1/0/0",
    "unproven not-attributable 1/0/0",
  ]);
});

t.test("an agent speaks only for pods on its node", async (t) => {
  const stolen = (lines: readonly string[]) =>
    sightingsOf(lines).map((sighting) => ({ ...sighting, node: "a" }));
  const denied = { expect: ["- denied:NetworkPolicy"] } as const;
  const told = judge(stolen(["cart > ledger plain accepted @s x3"]), denied);
  t.strictSame(exercised(told), []);
  const [found, ...others] = told.findings.filter(({ code }) => code === "foreign-pod");
  t.match(found?.sentence, /^the agent of node a told 3 connections .* elsewhere/);
  t.equal(found?.subject, "node/a");
  t.strictSame(others, []);
  // Its own end of the same connections is heard.
  const own = judge(sightingsOf(["cart > ledger plain accepted @c"]), {
    ...denied,
    coverage: without("ledger"),
  });
  t.equal(tell(exercised(own)[0]), "violated denied-and-accepted 0/1/0");
  // Nor does it watch for others.
  const claimed = covered("ledger -10..70", FROM);
  const world = { coverage: without("ledger", "web") };
  const told2 = sightingsOf(["web > ledger mtls accepted"]);
  t.equal(tell(exercised(judge(told2, world))[0]), "unproven partly-watched 1/0/0");
  for (const [node, wanted] of [
    ["a", "unproven partly-watched 1/0/0"],
    ["b", "confirmed allowed-and-used 1/0/0"],
  ] as const) {
    const { coverage, ...rest } = inputFor(told2, world);
    const input = { ...rest, coverage: [...coverage, { ...claimed, node }] };
    t.equal(tell(exercised(judgeWindow(input))[0]), wanted, node);
  }
});

t.test("a client that was not seen to take part has tried nothing", async (t) => {
  const denied = { expect: ["- denied:NetworkPolicy"] } as const;
  const undeclared = { expect: ["- undeclared"] } as const;
  const unseen = "unproven one-sided 0/0/1";
  check(t, "path", [
    ["web > ledger unasked @c", "unproven one-end-only 0/0/1", denied],
    ["web > ledger unasked", unseen, denied],
    ["web > ledger unasked @c", "unproven one-end-only 0/0/1", undeclared],
    ["web > ledger plain s-only @s", unseen, denied],
    ["web > ledger plain s-only @s", unseen, undeclared],
  ]);
});

t.test("what no observer can see is undecidable, unless it is contradicted", async (t) => {
  const inBand = ["- undecidable:AuthorizationPolicy in-band"] as const;
  const unseen = ["- undecidable:AuthorizationPolicy"] as const;
  for (const traffic of ["mtls accepted", "mtls open", "rst", "silent"]) {
    check(t, "path", [
      [`web > ledger ${traffic}`, "undecidable denial-in-band 0/0/0", { expect: inBand }],
      [`web > ledger ${traffic}`, "undecidable rule-not-observable 0/0/0", { expect: unseen }],
    ]);
  }
});

t.test("what nothing is declared about is unexpected, whatever came of it", async (t) => {
  const expect = ["- undeclared"] as const;
  const rows: Row[] = [
    ["web > ledger plain accepted", "unexpected nothing-declared 0/0/0"],
    ["web > ledger rst", "unexpected nothing-declared 0/0/0"],
    ["web > ledger silent", "unexpected nothing-declared 0/0/0"],
    ["web > ledger syn live +40", "unproven not-answered 0/0/0/1"],
  ];
  check(t, "path", rows, { expect });
});

t.test("an address that nobody is known to have held leaves the edge unproven", async (t) => {
  check(t, "path", [[`web > ${NOBODY} plain accepted @c`, "unproven not-attributable 0/0/1"]]);
  const found = exercised(judge(sightingsOf([`${NOBODY} > ledger plain accepted @s`]), {}));
  t.strictSame(found.map(tell), ["unproven not-attributable 0/0/1"]);
});

// ---- a cluster that changes ------------------------------------------------------------------

/** The same cluster, and what changes in it: `objects` at their second of the window. */
function changing(...changes: [second: number, change: JsonMap | "gone", name?: string][]) {
  const changed = new Inventory();
  const all = new Map(clusterObjects().map((object) => [object.name, object]));
  for (const object of all.values()) changed.apply(object, FROM - 3_600_000);
  for (const [second, change, name] of changes) {
    if (change === "gone") changed.remove(all.get(name!)!, FROM + second * 1000);
    else changed.apply(toClusterObject(change, null)!, FROM + second * 1000);
  }
  return changed;
}

const bodyOf = (name: string) => clusterObjects().find((object) => object.name === name)!.body;

t.test("behind a Service every pod counts that lived then, also one that died since", async (t) => {
  const expect = ["- denied:NetworkPolicy"] as const;
  const died = { expect, inventory: changing([40, "gone", "twin-1"]) };
  const tried = "web > twin-1 silent @c via=twin-svc +10, cart > twin-2 plain accepted +10";
  const served = "cart > twin-1 plain accepted +12";
  const unwatched = { coverage: without("twin-1") };
  check(t, "path", [
    [`${tried}, ${served}`, "confirmed denied-and-dropped 1/0/0", died],
    [`${tried}, ${served}`, "unproven server-silent 0/0/1", { ...died, ...unwatched }],
    [tried, "unproven served-nobody 0/0/1", died],
    // Who was there before the window is not known any more.
    [`${tried.replace("+10", "+-1")}, ${served}`, "unproven server-silent 0/0/1", died],
  ]);
});

t.test("that a pod served says nothing of another of its name", async (t) => {
  const expect = ["- denied:NetworkPolicy"] as const;
  const body = bodyOf("ledger");
  const metadata = { ...(body["metadata"] as JsonMap), uid: "uid-ledger-anew" };
  const inventory = changing([30, { ...body, metadata }]);
  const tried = "web > ledger silent @c +45";
  check(t, "path", [
    [`${tried}, cart > ledger plain accepted +10`, "unproven served-nobody 0/0/1"],
    [`${tried}, cart > ledger plain accepted +50`, "confirmed denied-and-dropped 1/0/0"],
  ], { expect, inventory }); // prettier-ignore
});

t.test("what went to a Service of several ports may be of any edge of its client", async (t) => {
  const service = {
    ...{ apiVersion: "v1", kind: "Service", metadata: { name: "ledger-svc", namespace: "pay" } },
    spec: {
      ...{ clusterIP: "10.96.0.1", selector: {} },
      ports: [{ port: 443, targetPort: "main", protocol: "TCP" }],
    },
  };
  const inventory = changing([-600, service]);
  const lines = ["web > ledger mtls accepted", "web > ledger plain accepted @c via=ledger-svc"];
  const world = { inventory, coverage: without("ledger") };
  const found = exercised(judge(sightingsOf(lines, inventory), world));
  const edge = found.filter((v) => v.edge.id.includes("pay/ledger"));
  t.strictSame(edge.map(tell), [
    "unproven not-attributable 1/0/0",
    "unproven not-attributable 1/0/0",
  ]);
});

// ---- pairing -------------------------------------------------------------------------------

const pairs = (...lines: string[]) => pairSightings(sightingsOf(lines), APART_MS);

t.test("whoever repeats one connection thousands of times makes no more to compare", async (t) => {
  const times = "x15000";
  t.equal(pairs(`web > ledger rst isn=7 sport=6 ${times}`).length, 1, "at both ends");
  const [up, ...others] = pairs(`web > ledger rst isn=7 sport=6 @up ${times}`);
  t.strictSame([up!.sightings.length, others.length], [60_000, 0], "at the uplinks, too");
});

t.test("two sightings are one connection by the client's sequence number", async (t) => {
  t.equal(pairs("web > ledger mtls accepted").length, 1, "at two veths, on two nodes");
  const [translated, ...more] = pairs("web > ledger mtls accepted via=ledger-svc");
  t.equal(more.length, 0, "across Service translation");
  t.equal(translated!.port, 8443, "the server's own port stands");
  t.equal(translated!.serverProvenance, "address");
  t.strictSame([translated!.atClient, translated!.atServer], [true, true]);
  const same = ["isn=7 sport=4000 @c", "isn=7 sport=4000 @s"];
  const both = (later: string) =>
    pairs(`web > ledger plain open ${same[0]} +1`, `web > ledger plain open ${same[1]} +${later}`);
  t.equal(both("5.9").length, 1, "clocks of nodes differ a little");
  // The first one ended at 2.5 s.
  t.equal(both("7.4").length, 1, "the server's end saw the SYN when it was sent again");
  t.equal(both("7.6").length, 2, "a number that is used again is another connection");
  t.equal(both("14400").length, 2, "and hours later as well");
  t.equal(pairs("web > ledger plain open isn=7", "web > ledger plain open isn=7").length, 2);
  t.equal(pairs("web > ledger plain open mid").length, 2, "without a number nothing is paired");
});

t.test("sightings of one connection are merged: what any of them knows, and no more", async (t) => {
  const at = "isn=7 sport=4000";
  const [half] = pairs(`web > ledger unread open @c ${at}`, `web > ledger mtls? accepted @s ${at}`);
  t.strictSame([half!.posture, half!.inferred, half!.accepted], ["mtls", true, true]);
  const [differ] = pairs(`web > ledger tls open @c ${at}`, `web > ledger mtls open @s ${at}`);
  t.equal(differ!.posture, "unknown", "one read a certificate, the other none");
  check(t, "transport", [
    [
      `web > ledger tls accepted @c ${at}, web > ledger mtls accepted @s ${at}`,
      "unproven mutual-unknown 0/0/1",
    ],
    [
      `web > ledger mtls accepted @c ${at}, web > ledger mtls refused=server-aborted @s ${at}`,
      "unproven sightings-disagree 0/0/1",
    ],
    [
      `web > ledger plain accepted @c ${at}, web > ledger mtls accepted @s ${at}`,
      "unproven sightings-disagree 0/0/1",
    ],
    [
      `web > ledger plain accepted @c ${at}, web > ledger plain refused=plaintext-refused @s ${at}`,
      "unproven sightings-disagree 0/0/1",
    ],
    // One says that the server refused it for certain, the other that it may have died.
    [
      `web > ledger plain refused=plaintext-refused @c ${at}, web > ledger plain refused=server-aborted @s ${at}`,
      "unproven refusal-likely 0/0/1",
    ],
  ]);
  check(t, "path", [
    // It came to the server; that is said by both.
    [
      `web > ledger plain accepted @c ${at}, web > ledger plain refused=plaintext-refused @s ${at}`,
      "violated denied-and-accepted 0/1/0",
    ],
    [
      `web > ledger plain accepted @c ${at}, web > ledger rst @s ${at}`,
      "unproven sightings-disagree 0/0/1",
    ],
  ], { expect: ["- denied:NetworkPolicy"] }); // prettier-ignore
});

t.test("a SYN that came to the server when it was sent again is one connection", async (t) => {
  const at = "isn=7 sport=4000";
  const lines = [`web > ledger plain accepted @c ${at} +1`, `web > ledger plain accepted @s ${at}`];
  const late = (seconds: number) => [lines[0]!, `${lines[1]!} +${seconds}`];
  // Sent again after 1, 3 and 7 s (RFC 6298 §2, §5.5).
  for (const seconds of [2, 4, 8]) {
    const sightings = sightingsOf(late(seconds)).map((s) => withEnd(s, FROM + 20_000));
    t.equal(pairSightings(sightings, 1_000).length, 1, `${seconds} s`);
  }
});

/** The same, but that it lived until then. */
function withEnd(sighting: Sighting, endMs: number): Sighting {
  const { attributed } = sighting;
  const { observation } = attributed;
  const record = { ...observation.record, end: new Date(endMs).toISOString() };
  return { ...sighting, attributed: { ...attributed, observation: { ...observation, record } } };
}

t.test("one number and port towards two servers hides neither connection", async (t) => {
  const at = "isn=7 sport=4000";
  const evil = `web > ledger plain accepted ${at} answer=70`;
  const violated = "violated plaintext-accepted 0/1/0";
  check(t, "transport", [
    [`${evil}, web > twin-1 mtls accepted ${at} answer=80`, violated],
    [`${evil} via=ledger-svc, web > twin-1 mtls accepted ${at} answer=80`, violated],
    // Where the second server is in it, too, it answers with the first one's number.
    [`${evil}, web > twin-1 mtls accepted ${at} answer=70`, violated],
    [`web > twin-1 mtls accepted ${at} answer=70, ${evil} via=ledger-svc`, violated],
    [`${evil}, web > twin-1 rst @c ${at}`, violated],
  ].map(([traffic, wanted]): Row => [traffic!, wanted!])); // prettier-ignore
});

t.test("SCTP, which has no such number, is paired by its ends", async (t) => {
  t.equal(pairs("web > ledger plain open sctp").length, 1);
  check(t, "path", [
    [
      "web > ledger bytes accepted sctp",
      "violated denied-and-accepted 0/1/0",
      { expect: ["- denied:NetworkPolicy"] },
    ],
  ]);
});

t.test("datagrams are paired by their ends, and never two of one end", async (t) => {
  t.equal(pairs("web > ledger plain open udp").length, 1);
  const reused = "web > ledger plain open udp @c sport=53";
  t.equal(pairs(reused, reused).length, 2);
});

// ---- what is told beside verdicts ----------------------------------------------------------

t.test("what a sample does not show is unproven, and never taken for silence", async (t) => {
  const tenth = EVERYTHING.map((line) => `${line} s0.1`);
  const denied = ["- denied:NetworkPolicy"] as const;
  const world = { coverage: tenth, tolerance: 0.02, expect: denied };
  check(t, "path", [
    // 149 without a contradiction bound their rate below 2 % (Wilks).
    ["web > ledger silent @c x149", "unproven server-unseen 0/0/149", world],
    ["web > ledger rst @c x149", "unproven server-unseen 0/0/149", world],
    [
      "web > ledger rst @c x149, cart > ledger mtls accepted",
      "confirmed denied-and-refused 149/0/0",
      { expect: denied },
    ],
    // Nor does it show that the attempt came to nobody.
    [
      "web > ledger silent @c x149, cart > ledger mtls accepted",
      "unproven server-unseen 0/0/149",
      world,
    ],
    ["web > ledger mtls accepted", "violated denied-and-accepted 0/1/0", world],
  ]);
  check(t, "transport", [
    ["web > ledger mtls accepted x149", "confirmed mtls-observed 149/0/0"],
    ["web > ledger mtls accepted x148", "unproven sampling-bound 148/0/0"],
    // The agents' own word stands where their coverage is not there yet.
    [
      "web > ledger mtls accepted sampling=0.1 x148",
      "unproven sampling-bound 148/0/0",
      { coverage: EVERYTHING },
    ],
  ], { coverage: tenth, tolerance: 0.02 }); // prettier-ignore
  const quiet = (coverage: readonly string[]) =>
    judge([], { coverage }).verdicts.find((v) => /^shop\/web.*pay\/ledger/.test(v.edge.id))!;
  t.equal(tell(quiet(tenth)), "unproven not-in-sample 0/0/0");
  t.match(quiet(tenth).sentence, /no traffic was seen on the edge in the sample of flows/);
  t.equal(tell(quiet([])), "unproven no-agent 0/0/0");
  const [told] = exercised(
    judge(sightingsOf(["web > ledger mtls accepted sampling=0.1"]), { coverage: tenth }),
  );
  t.match(told!.sentence, /\(1 for, 0 against, 0 unreadable, in a sample of 10 %\)/);
});

t.test("what only one end shows, and what slips past a denial, are findings", async (t) => {
  const told = (lines: readonly string[], world: World = {}) =>
    judge(sightingsOf(lines), world).findings.map((f) => `${f.code} ${f.subject}`);
  const forged = ["web > ledger plain accepted @c x9"];
  t.strictSame(told(forged), ["one-end-only shop/web[Pod]"], "one about all of them");
  t.strictSame(told(forged, { coverage: without("ledger") }), [], "the other end was not watched");
  t.strictSame(told(["web > ledger plain accepted"]), []);
  // Which rule counts hangs on what the client shows.
  const slips = (wire: string | null) => (wire === "mtls" ? "- denied:A" : "- allowed:A");
  const always = () => "- denied:A";
  t.strictSame(told(["web > ledger plain accepted x2"], { expectShown: slips }), [
    "denial-slipped-past pay/ledger[Pod]",
  ]);
  t.strictSame(told(["web > ledger mtls accepted"], { expectShown: slips }), []);
  t.strictSame(told(["web > ledger plain refused=plaintext-refused"], { expectShown: slips }), []);
  t.strictSame(told(["web > ledger plain accepted"], { expectShown: always }), []);
  // One that shows nothing takes the place of one that could not be read.
  const shown = (wire: string | null) => (wire === null ? "- undecidable:A" : "- allowed:A");
  check(t, "path", [
    ["web > ledger resumed accepted", "undecidable rule-not-observable 0/0/0"],
    [
      "web > ledger mtls accepted x99, web > ledger resumed accepted",
      "confirmed allowed-and-used 99/0/1",
    ],
    [
      "web > ledger mtls accepted, web > ledger resumed accepted",
      "unproven partly-unreadable 1/0/1",
    ],
  ], { expectShown: shown }); // prettier-ignore
});

t.test("the README lists every reason, with its sentence and a remedy", async (t) => {
  const readme = readFileSync(path.join(import.meta.dirname, "../../README.md"), "utf8");
  const rows = [...readme.matchAll(/^\| `([a-z0-9-]+)` +\| (.+?) +\| (.+?) +\|$/gm)];
  const listed = rows.filter(([, reason]) => reason! in REASONS);
  t.strictSame(Object.fromEntries(listed.map(([, reason, said]) => [reason, said])), REASONS);
});

t.test("a scan is found in a sample, by fewer targets, and says so", async (t) => {
  const scan = (targets: number, sampling: number) => {
    const line = (_: unknown, i: number) =>
      `web > ledger rst port=${1000 + i} @c sampling=${sampling}`;
    return judge(sightingsOf(Array.from({ length: targets }, line)), {}).findings;
  };
  t.equal(scan(4, 0.1).length, 0, "too few to say anything");
  t.match(
    scan(5, 0.1)[0]!.sentence,
    /5 of them accepted nothing, in a sample of 10 % of all flows$/,
  );
  t.equal(scan(9, 0.5).length, 0);
  t.equal(scan(10, 0.5).length, 1);
});

t.test("an interface that lacks a direction proves nothing, and the other end's may", async (t) => {
  const web = [...without("web"), "web 0-60 one-way"];
  const ledger = [...without("ledger"), "ledger 0-60 one-way"];
  const both = [...without("web", "ledger"), "web 0-60 one-way", "ledger 0-60 one-way"];
  const denied = ["- denied:NetworkPolicy"] as const;
  check(t, "transport", [
    ["web > ledger mtls accepted", "confirmed mtls-observed 1/0/0", { coverage: web }],
    ["web > ledger mtls accepted", "confirmed mtls-observed 1/0/0", { coverage: ledger }],
    ["web > ledger mtls accepted", "unproven one-direction 1/0/0", { coverage: both }],
    [
      "web > ledger mtls accepted @c",
      "unproven one-direction 1/0/0",
      { coverage: [...without("web", "ledger"), "web 0-60 one-way"] },
    ],
    ["web > ledger tls c-only @c", "unproven one-direction 0/0/1", { coverage: web }],
    ["web > ledger tls c-only @c", "unproven one-sided 0/0/1"],
    ["web > ledger plain accepted", "violated plaintext-accepted 0/1/0", { coverage: both }],
  ]);
  check(t, "path", [
    // The SYN left the client, and the server's interface shows what comes to it: a proof.
    [
      "web > ledger silent @c, cart > ledger plain accepted @s",
      "confirmed denied-and-dropped 1/0/0",
      { expect: denied },
    ],
    [
      "web > ledger silent @c, cart > ledger plain accepted @s",
      "confirmed denied-and-dropped 1/0/0",
      { expect: denied, coverage: web },
    ],
    // Where it does not show that, the SYN may have come past it.
    [
      "web > ledger silent @c",
      "unproven server-unseen 0/0/1",
      { expect: denied, coverage: ledger },
    ],
    // Others were answered, and this one's answer may have been led past the client's interface.
    [
      "web > ledger silent @c, cart > ledger mtls accepted",
      "unproven one-direction 0/0/1",
      { expect: denied, coverage: both },
    ],
    // So too where the server's end was watched for a part of the time.
    [
      "web > ledger silent udp @c, cart > ledger udp accepted",
      "unproven one-direction 0/0/1",
      { expect: denied, coverage: [...web.filter((w) => !w.startsWith("ledger")), "ledger 20-60"] },
    ],
    // Not a byte of payload, and yet the agent saw that it went on.
    [
      "web > ledger silent one-way @c",
      "unproven one-direction 0/0/1",
      { expect: denied, coverage: web },
    ],
    ["web > ledger silent one-way @c", "unproven one-sided 0/0/1", { expect: denied }],
  ]);
  const { findings, nodes } = judge([], { coverage: web });
  t.strictSame(
    findings.map((f) => `${f.code} ${f.subject}`),
    ["one-direction node/a"],
  );
  t.match(findings[0]!.sentence, /one direction past 1 of 2 interfaces/);
  t.strictSame(
    nodes.map((n) => n.oneDirection),
    [1, undefined],
  );
});

t.test("what uplinks and tunnels show is no second connection", async (t) => {
  check(t, "transport", [
    ["web > ledger mtls accepted @up", "confirmed mtls-observed 1/0/0"],
    [
      "web > ledger mtls accepted @up @c x3",
      "confirmed mtls-observed 3/0/0",
      { coverage: without("ledger") },
    ],
    ["web > ledger mtls accepted @up @c x3", "unproven one-end-only 0/0/3"],
    ["web > ledger mtls accepted @snat via=ledger-svc", "confirmed mtls-observed 1/0/0"],
    ["web > ledger plain accepted udp @up", "violated plaintext-accepted 0/1/0"],
    ["web > ledger mtls accepted mid @up @c", "confirmed mtls-observed 1/0/0"],
    // One port of the client's again, later: two connections, each seen at four places.
    [
      "web > ledger mtls accepted sport=5 isn=7 @up, web > ledger mtls accepted sport=5 isn=8 @up +9",
      "confirmed mtls-observed 2/0/0",
    ],
    // One that was joined midway may be either of two that cannot be one: they stay two.
    [
      "web > ledger mtls accepted sport=6 mid @only-up, " +
        "web > ledger mtls accepted sport=6 isn=7 @only-up, " +
        "web > ledger plain accepted sport=6 isn=8 @only-up +2",
      "violated plaintext-accepted 1/1/0",
      { coverage: [] },
    ],
    // Whatever passes an uplink has passed the pods' interfaces.
    ["web > ledger plain accepted @only-up", "unproven one-end-only 0/0/1"],
    [
      "web > ledger plain accepted @only-up",
      "unproven one-end-only 0/0/1",
      { coverage: without("web") },
    ],
  ]);
  const nodes = judge(sightingsOf(["web > ledger mtls accepted @snat"]), {}).verdicts;
  t.strictSame(
    nodes.filter((v) => v.firstSeen !== null).map((v) => v.edge.id),
    new Array(2).fill("shop/web[Pod] -> pay/ledger[Pod] : 8443/tcp"),
    "under the node's address it is no edge of its own",
  );
});

t.test("what only uplinks show is one connection, and proves nothing of a pod", async (t) => {
  check(t, "transport", [
    ["web > ledger plain accepted @only-up", "violated plaintext-accepted 0/1/0"],
    ["web > ledger mtls accepted @only-up", "unproven partly-watched 1/0/0"],
  ], { coverage: without("web", "ledger").concat("web 0-60 uplink", "ledger 0-60 uplink") }); // prettier-ignore
  const [a] = judge([], { coverage: ["web 0-60 10+0", "cart 0-60 90+0 uplink"] }).nodes;
  t.strictSame([a!.interfaces, a!.delivered], [1, 10], "its frames are not counted again");
});

t.test("a declared edge without traffic is unproven: not exercised, or not watched", async (t) => {
  const quiet = (coverage: readonly string[]) =>
    judge([], { coverage })
      .verdicts.filter((v) => v.edge.id.startsWith("shop/web[Pod] -> pay/ledger[Pod]"))
      .map((v) => `${v.aspect} ${tell(v)}`);
  t.strictSame(quiet(EVERYTHING), ["transport unproven not-exercised 0/0/0"]);
  t.strictSame(quiet(without("web")), ["transport unproven not-exercised 0/0/0"]);
  t.strictSame(quiet(without("web", "ledger")), ["transport unproven no-agent 0/0/0"]);
  // Through a mesh's tunnel nobody sees which port is meant.
  for (const [line, wanted] of [
    ["web > ledger mtls? accepted port=15008", "covered-by-tunnel"],
    ["web > ledger mtls? accepted port=4143", "covered-by-tunnel"],
    ["web > ledger mtls? accepted port=9000", "not-exercised"],
    ["cart > ledger mtls? accepted port=15008", "not-exercised"],
  ] as const) {
    const told = judge(sightingsOf([line]), {}).verdicts.filter((v) => v.firstSeen === null);
    const of = told.find((v) => /^shop\/web.*pay\/ledger.*8443/.test(v.edge.id));
    t.equal(tell(of), `unproven ${wanted} 0/0/0`, line);
  }
  t.equal(judge([], { expect: ["any allowed:NetworkPolicy"] }).verdicts.length, 0);
  t.equal(judge([], { expect: ["mtls undeclared"] }).verdicts.length, 0);
});

t.test(
  "a scan is told from twenty targets on, of which seven tenths accepted nothing",
  async (t) => {
    const scan = (targets: number, accepted: number) => {
      const lines = Array.from(
        { length: targets },
        (_, i) => `web > ledger ${i < accepted ? "plain accepted" : "rst"} port=${1000 + i} @c`,
      );
      return judge(sightingsOf(lines), {}).findings.filter((f) => f.code === "scan");
    };
    t.equal(scan(19, 0).length, 0);
    t.equal(scan(20, 0).length, 1);
    t.equal(scan(20, 6).length, 1, "14 of 20 are seven tenths");
    t.equal(scan(20, 7).length, 0);
    t.equal(scan(30, 30).length, 0, "a busy client is accepted");
    const [told] = scan(20, 0);
    t.equal(told!.subject, "shop/web[Pod]");
    t.match(told!.sentence, /20 different targets on 20 ports.*20 of them accepted nothing/);
    // Joined midway, a server may be taken for the client of all its clients.
    const lines = (how: string) =>
      Array.from({ length: 20 }, (_, i) => `web > ledger ${how} port=${1000 + i} @c`);
    const joined = lines("bytes open mid basis=first-seen");
    t.strictSame(judge(sightingsOf(joined), {}).findings, []);
    const datagrams = lines("bytes syn udp basis=first-seen");
    t.equal(judge(sightingsOf(datagrams), {}).findings.length, 1, "who sends has tried");
    const again = Array.from({ length: 50 }, () => "web > ledger rst @c port=1000");
    t.equal(judge(sightingsOf(again), {}).findings.length, 0, "one target tried often is no scan");
  },
);

t.test("a node with pods and without an agent is a blind spot", async (t) => {
  const codes = (coverage: readonly string[]) =>
    judge([], { coverage }).findings.map((f) => `${f.code} ${f.subject}`);
  t.strictSame(codes(EVERYTHING), []);
  t.strictSame(codes(without("ledger", "twin-1", "twin-2")), ["blind-spot node/b"]);
  t.strictSame(codes([]), ["blind-spot node/a", "blind-spot node/b"]);
  const [a] = judge([], { coverage: ["web 0-30 90+10"] }).nodes;
  t.strictSame(
    [a!.agent, a!.pods, a!.podSecondsWatched, a!.podSeconds, a!.delivered, a!.dropped],
    [true, 2, 30, 120, 90, 10],
  );
});

// ---- the bound -----------------------------------------------------------------------------

t.test("the bound agrees with published sample sizes", async (t) => {
  // Wilks' table, one-sided 95 %: the smallest n that shows a rate below 5 %, and below 1 %, with
  // 0, 1, 2 … contradictions seen.
  const table: readonly [rate: number, sizes: number[]][] = [
    [0.05, [59, 93, 124, 153, 181, 208]],
    [0.01, [299, 473, 628]],
  ];
  for (const [rate, sizes] of table) {
    sizes.forEach((n, seenOnes) => {
      t.ok(upperBound(seenOnes, n) < rate, `${seenOnes} of ${n} is below ${rate}`);
      t.ok(upperBound(seenOnes, n - 1) >= rate, `${seenOnes} of ${n - 1} is not`);
    });
  }
  t.equal(upperBound(0, 10).toFixed(4), "0.2589");
  t.equal(upperBound(1, 10).toFixed(4), "0.3942");
  t.equal(upperBound(0, 0), 1);
  t.equal(upperBound(5, 5), 1);
});

t.test("at the bound, so few contradictions are seen in one of twenty samples", async (t) => {
  for (let n = 1; n <= 60; n += 7) {
    for (let k = 0; k < n; k++) {
      const p = upperBound(k, n);
      let sum = 0; // P(X <= k), term by term
      let ways = 1n;
      for (let i = 0; i <= k; i++) {
        sum += Number(ways) * p ** i * (1 - p) ** (n - i);
        ways = (ways * BigInt(n - i)) / BigInt(i + 1);
      }
      if (Math.abs(sum - 0.05) > 1e-9) t.fail(`${k} of ${n}: ${p} gives ${sum}`);
    }
  }
  t.ok(upperBound(3, 1_000_000) < 8e-6, "large samples do not underflow");
  t.ok(upperBound(3, 1_000_000) > 7e-6);
});

// ---- laws ----------------------------------------------------------------------------------

const WORDS = [
  ...["mtls accepted", "mtls? accepted", "tls accepted", "plain accepted", "not-tls accepted"],
  ...["resumed accepted", "unread accepted", "bytes accepted", "mtls open", "rst", "silent"],
  ...["syn live", "client-rst", "plain refused=plaintext-refused", "mtls c-only"],
  ...["mtls refused=client-cert-refused", "tls left=server-cert-expired", "bytes accepted mid"],
];
const PLACES = ["", " @c", " @s", " via=ledger-svc", " @c via=ledger-svc"];
const EXPECTED = [
  ...["mtls allowed:NetworkPolicy", "tls allowed:NetworkPolicy", "any undeclared"],
  ...["- denied:NetworkPolicy", "mtls denied:AuthorizationPolicy", "tls undecidable:X"],
  ...["mtls allowed:NetworkPolicy doubtful", "any allowed:NetworkPolicy"],
];
const COVERAGES = [
  EVERYTHING,
  without("ledger"),
  ["web 0-60 90+10", "ledger 0-60"],
  ["web 0-30", "ledger 0-60 s0.5"],
  [],
];

t.test("laws of verdicts, over random traffic", async (t) => {
  const seed = Number(process.env["SEED"] ?? 20261122);
  t.comment(`SEED=${seed}`);
  const random = seeded(seed);
  const pick = <T>(list: readonly T[]) => list[Math.floor(random() * list.length)]!;
  const counts: Record<string, number> = {};
  for (let round = 0; round < 2500; round++) {
    const lines = Array.from(
      { length: 1 + Math.floor(random() * 5) },
      () => `web > ledger ${pick(WORDS)}${pick(PLACES)} x${pick([1, 1, 2, 30])}`,
    );
    const world = {
      expect: (random() < 0.2 ? [pick(EXPECTED), pick(EXPECTED)] : [pick(EXPECTED)]) as [string],
      coverage: pick(COVERAGES),
      tolerance: pick([0, 0.01, 0.5]),
    };
    const sightings = sightingsOf(lines);
    const found = exercised(judge(sightings, world));
    const why = `SEED=${seed} round ${round}: ${lines.join(", ")} | ${JSON.stringify(world)}`;
    for (const v of found) {
      const { supporting, contradicting, unreadable } = v.counts;
      counts[v.verdict] = (counts[v.verdict] ?? 0) + 1;
      if (v.verdict !== "confirmed") continue;
      const share = unreadable / (supporting + unreadable);
      if (contradicting > 0 || supporting === 0) t.fail(`confirmed by ${tell(v)}: ${why}`);
      if (share > world.tolerance) t.fail(`confirmed with ${share} unreadable: ${why}`);
      const watched = Math.max(v.coverage.client, v.coverage.server);
      if (watched < 0.9) t.fail(`confirmed with ${watched} watched: ${why}`);
      if (world.expect[0].includes("doubtful")) t.fail(`confirmed in doubt: ${why}`);
      if (v.inferred && v.aspect !== "transport") t.fail(`a path is not inferred: ${why}`);
    }
    // The order in which sightings came in changes nothing.
    const shuffled = [...sightings].sort(() => random() - 0.5);
    const again = exercised(judge(shuffled, world));
    t.strictSame(again.map(tell), found.map(tell), why);
    // Watching less proves nothing more.
    const blind = exercised(judge(sightings, { ...world, coverage: [] }));
    if (blind.some((v) => v.verdict === "confirmed")) t.fail(`confirmed unwatched: ${why}`);
    // What cannot be read never turns into success what was none.
    const more = exercised(
      judge([...sightings, ...sightingsOf(["web > ledger unread accepted x40"])], {
        ...world,
        expect: ["mtls allowed:NetworkPolicy"],
        tolerance: 0.01,
      }),
    ).find((v) => v.aspect === "transport");
    if (more?.verdict === "confirmed") t.fail(`40 unreadable ones were passed over: ${why}`);
    // And a contradiction always shows.
    const against = exercised(
      judge([...sightings, ...sightingsOf(["web > ledger plain accepted"])], {
        ...world,
        expect: ["mtls denied:NetworkPolicy"],
      }),
    );
    if (!against.every((v) => v.verdict === "violated")) t.fail(`not violated: ${why}`);
  }
  const words = ["confirmed", "violated", "unproven", "undecidable", "unexpected"];
  for (const word of words) t.ok((counts[word] ?? 0) > 50, `${word} came up`);
});
