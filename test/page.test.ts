/** Tests the page in a real browser: what it shows, and what it makes of a proof that is forged. */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { chromium, type Browser, type Page } from "playwright-core";
import t, { type Test } from "tap";
import { build } from "vite";
import type * as api from "../collector/api/answers.ts";
import { startApi } from "../collector/api/server.ts";
import { hashLeaf, hashNode, proveInclusion, treeHash } from "../collector/evidence/merkle.ts";
import type { ReadNode } from "../collector/evidence/merkle.ts";
import { formatKeys, parseSigner, signCheckpoint } from "../collector/evidence/note.ts";
import type * as ui from "../collector/ui/answers.ts";
import { checkProof } from "../collector/ui/proof.ts";
import { fillStore, FIRST_MS, judgeWindow, RECEIPTS, WINDOW_MS, WINDOWS } from "./judged-store.ts";

const CHROMIUM = "/usr/bin/chromium";
const FLAGS = [
  ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
  ...["--disable-quic", "--no-first-run", "--disable-component-update", "--disable-sync"],
];
const skip = fs.existsSync(CHROMIUM) ? false : `there is no ${CHROMIUM}: the page was not tried`;

/** Does not compile when the API answers what the page does not expect. */
export const agree = {
  verdicts: (answer: api.VerdictsAnswer): ui.VerdictsAnswer => answer,
  windows: (answer: api.WindowsAnswer): ui.WindowsAnswer => answer,
  map: (answer: api.MapAnswer): ui.MapAnswer => answer,
  edge: (answer: api.EdgeAnswer): ui.EdgeAnswer => answer,
  coverage: (answer: api.CoverageAnswer): ui.CoverageAnswer => answer,
  findings: (answer: api.FindingsAnswer): ui.FindingsAnswer => answer,
  proof: (answer: api.ProofAnswer): ui.ProofAnswer => answer,
};

const SAMPLES = [
  { rate: 1, key: null, nodes: ["node-a"] },
  { rate: 1 / 8, key: "00112233445566ff", nodes: ["node-b", "node-c"] },
];

t.test("the page's own check of proofs agrees with the log's, for every small tree", async (t) => {
  const { signer, verifier } = formatKeys("small.test/log", new Uint8Array(32).fill(7));
  const shown = { schema: "wireproof.test/1" };
  const entries = Array.from({ length: 33 }, (_, i) => `{"n":${i},"schema":"wireproof.test/1"}`);
  const leaves = entries.map((entry) => hashLeaf(Buffer.from(entry)));
  const read: ReadNode = (level, index) =>
    level === 0
      ? leaves[index]!
      : hashNode(read(level - 1, index * 2), read(level - 1, index * 2 + 1));
  let tried = 0;
  for (let size = 1; size <= entries.length; size++) {
    const note = signCheckpoint(size, treeHash(size, read), parseSigner(signer)!);
    for (let index = 0; index < size; index++) {
      const hashes = proveInclusion(index, size, read).map((hash) => Buffer.from(hash));
      const write = (given: Buffer[]) => {
        const lines = given.map((hash) => `${hash.toString("base64")}\n`).join("");
        return `c2sp.org/tlog-proof@v1\nindex ${index}\n${lines}\n${note}`;
      };
      const held = { ...shown, n: index };
      const claim = { index, entry: entries[index]!, key: verifier, shown: held };
      const check = async (change: object, proof: string) =>
        (await checkProof({ ...claim, proof, ...change })).outcome;
      const outcomes = [
        await check({}, write(hashes)),
        await check({ key: null }, write(hashes)),
        await check({ entry: entries[(index + 1) % 33]!, shown: {} }, write(hashes)),
        await check({}, write([...hashes, Buffer.alloc(32)])),
        hashes.length === 0 ? "failed" : await check({}, write(hashes.slice(1))),
        hashes.length < 2 ? "failed" : await check({}, write([...hashes].reverse())),
      ];
      const wanted = ["proven", "included", "failed", "failed", "failed", "failed"];
      if (outcomes.join() !== wanted.join()) t.strictSame(outcomes, wanted, `${index} of ${size}`);
      tried++;
    }
  }
  t.equal(tried, (33 * 34) / 2);
});

type Drawn = { label: string; word: string; line: string; dash: string; colour: string };

/** What the map's engine has drawn; a canvas tells nothing by itself. */
function readMap(page: Page): Promise<Drawn[]> {
  return page.evaluate(() => {
    type Element = { data(name: string): string; style(name: string): string };
    type Held = { _cyreg: { cy: { edges(): { map<T>(of: (e: Element) => T): T[] } } } };
    const holder = document.querySelector(".canvas") as unknown as Held;
    return holder._cyreg.cy.edges().map((edge) => ({
      label: edge.data("label"),
      word: edge.data("worst"),
      line: edge.style("line-style"),
      dash: String(edge.style("line-dash-pattern")),
      colour: edge.style("line-color"),
    }));
  });
}

const rows = (page: Page) => page.locator(".verdicts tbody tr");
const openEdge = (page: Page) =>
  page
    .getByRole("button", { name: `Evidence of ${RECEIPTS}` })
    .first()
    .press("Enter");
const verify = async (page: Page): Promise<string> => {
  await page.getByRole("button", { name: "Verify the proof" }).first().click();
  const outcome = await page.locator(".outcome").textContent();
  return outcome ?? "";
};

t.test("the page", { skip, timeout: 110_000 }, async (t) => {
  const temporary = fs.mkdtempSync(path.join(os.tmpdir(), "wireproof-page-"));
  const uiDirectory = path.join(temporary, "ui");
  const root = path.resolve(import.meta.dirname, "../collector/ui");
  await build({ root, logLevel: "error", build: { outDir: uiDirectory, emptyOutDir: true } });
  const { store, log, evidence, keyFile } = await fillStore(temporary);
  const told: string[] = [];
  const served = await startApi({
    ...{ store, evidenceDirectory: evidence, evidenceKeyFile: keyFile, uiDirectory },
    ...{ host: "127.0.0.1", port: 0, metrics: async () => "", samples: () => SAMPLES },
    log: (level, text) => told.push(`${level} ${text}`),
  });
  const browser: Browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
  t.teardown(async () => {
    await browser.close();
    await served.close();
    await log.close();
    await store.close();
    fs.rmSync(temporary, { recursive: true, force: true });
  });
  const complaints: string[] = [];
  const foreign: string[] = [];
  const open = async (width = 1280): Promise<Page> => {
    const page = await browser.newPage({ viewport: { width, height: 900 } });
    page.setDefaultTimeout(15_000);
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("request", (request) => {
      if (!request.url().startsWith(served.address)) foreign.push(request.url());
    });
    await page.goto(served.address);
    await rows(page).first().waitFor();
    return page;
  };
  const page = await open();

  await t.test("shows the counts, and counts nothing but confirmed as success", async (t) => {
    const summary = await page.locator(".summary").innerText();
    t.match(summary.replace(/\s+/g, " "), /^50 % confirmed: 10 of 20 verdicts/);
    const tiles = await page.locator(".tile").allInnerTexts();
    t.strictSame(
      tiles.map((text) => text.split(/\s+/)),
      [
        ["✕", "3", "violated"],
        ["!", "2", "unexpected"],
        ["?", "3", "unproven"],
        ["~", "1", "undecidable"],
        ["–", "1", "nothing-demanded"],
        ["✓", "10", "confirmed"],
      ],
    );
  });

  await t.test("draws every edge, each word unlike the others without its colour", async (t) => {
    const drawn = await readMap(page);
    t.equal(drawn.length, 18);
    const labels = drawn.map(({ label }) => label);
    for (const label of ["✕ 8080", "? 8200", "! 8080", "~ 8443", "– 6380", "✓ 5432"]) {
      t.ok(labels.includes(label), label);
    }
    const looks = new Set(drawn.map((d) => `${d.word} ${d.label[0]} ${d.line} ${d.colour}`));
    t.equal(looks.size, 6, "one look for each word");
    const lines = new Set(
      drawn.filter((d) => d.line === "dashed").map((d) => `${d.word} ${d.dash}`),
    );
    t.equal(new Set([...lines].map((line) => line.replace(/^\S+ /, ""))).size, 4, "four dashes");
    const solid = drawn.filter((d) => d.line === "solid").map((d) => d.word);
    t.strictSame([...new Set(solid)].sort(), ["confirmed", "violated"]);
    const aria = await page.locator(".canvas").getAttribute("aria-label");
    t.match(aria, "18 edges: 3 violated, 2 unexpected, 3 unproven, 1 undecidable, 1 nothing-dema");
    t.match(aria, "nothing-demanded, 8 confirmed");
  });

  await t.test("filters and sorts the table", (t) => checkTable(t, page));

  await t.test("opens an edge by keyboard, and proves its entry", async (t) => {
    await openEdge(page);
    const panel = page.locator(".panel");
    await panel.locator(".aspect").first().waitFor();
    const text = await panel.innerText();
    for (const part of ["PeerAuthentication pay/default", "spec.mtls.mode", "mtls required"]) {
      t.match(text, part);
    }
    t.match(text, "0 for, 4 against, 0 unreadable");
    t.match(text, "10.244.1.10:40312 → 10.244.1.21:8080");
    t.match(text, "Its record has expired");
    t.match(await verify(page), "✓ Proven");
    const steps = await page.locator(".steps li").allInnerTexts();
    t.match(steps.join(" "), "Entry 40 is among the 60 entries of wireproof.test/cluster");
    t.match(steps.join(" "), "Ed25519, wireproof.test/cluster+");
    t.match(steps.join(" "), "all 24 fields agree");
    t.match(await page.locator(".limits").innerText(), "wireproof evidence verify --since");
  });

  await t.test("tells a forged proof", (t) => checkForged(t, page));

  await t.test("does not call proven what it could not check", async (t) => {
    await page.route("**/api/evidence/key", (route) => route.fulfill({ body: "no key" }));
    t.match(await verifyAgain(page, "included"), "Only in part");
    t.match(await page.locator(".steps").innerText(), "not checked: what is offered is no Ed25519");
    await page.unroute("**/api/evidence/key");
  });

  await t.test("shows an older window with its own evidence", async (t) => {
    await page.locator(".bar").first().click();
    await page.getByText("01:00:00–01:01:00 UTC", { exact: false }).first().waitFor();
    const aspect = page.locator(".aspect").first();
    await aspect.getByText("plaintext was tried, and the server refused it").waitFor();
    t.match(await aspect.locator("h3").innerText(), "confirmed");
    t.match(await verify(page), "✓ Proven");
    await page.keyboard.press("Escape");
    await page.locator(".panel").waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Back to the newest" }).click();
    await page.locator(".live").waitFor();
  });

  await t.test("names blind spots, and shows strangers' names as text", async (t) => {
    await page.getByRole("tab", { name: "Coverage" }).click();
    const coverage = await page.locator("#tables").innerText();
    t.match(
      coverage,
      "87.7 % of 1\u202f200 pod-seconds were watched. Blind spots: node-b, node-c.",
    );
    t.match(coverage, "No agent reported: nothing of its 2 pods was watched.");
    t.match(coverage, "The kernel dropped 12 frames");
    t.match(coverage, "(1 at node-a; 0.125 by key 00112233445566ff at node-b, node-c)");
    await page.getByRole("tab", { name: "Coverage" }).press("ArrowRight");
    t.match(await page.locator("#tables").innerText(), '<img src=x onerror="window.pwned=1">');
    t.equal(await page.evaluate(() => "pwned" in globalThis), false);
    await page.getByRole("tab", { name: "Verdicts" }).click();
  });

  await t.test("follows what is judged while it is open", async (t) => {
    await judgeWindow(store, log, WINDOWS);
    const end = new Date(FIRST_MS + (WINDOWS + 1) * WINDOW_MS).toISOString().slice(11, 19);
    await page.getByText(`–${end} UTC`, { exact: false }).first().waitFor();
    await page.getByText("80 entries").waitFor();
    t.equal(await page.locator(".bar").count(), WINDOWS + 1);
  });

  await t.test("fits a narrow screen", async (t) => {
    const narrow = await open(480);
    const width = () => narrow.evaluate(() => document.documentElement.scrollWidth);
    t.ok((await width()) <= 480, "nothing sticks out");
    await openEdge(narrow);
    await narrow.locator(".aspect").first().waitFor();
    t.ok((await width()) <= 480, "nor does the panel");
    await narrow.close();
  });

  t.strictSame(complaints, [], "the browser complains about nothing");
  t.strictSame(foreign, [], "nothing is asked of anybody else");
  t.strictSame(told, [], "nor does the server");

  await t.test("says when the collector is away", async (t) => {
    await served.close();
    await page.getByText("not connected").waitFor();
    t.pass("it does");
  });
});

async function checkTable(t: Test, page: Page): Promise<void> {
  const texts = async () => (await rows(page).allInnerTexts()).map((text) => text.split(/\s+/));
  t.equal(await rows(page).count(), 20);
  await page.getByRole("button", { name: "violated" }).first().click();
  t.strictSame(
    (await texts()).map(([, word]) => word),
    ["violated", "violated", "violated"],
  );
  await page.getByRole("button", { name: "violated" }).first().click();
  await page.getByLabel("Filter by text").fill("LEDGER mtls");
  t.equal(await rows(page).count(), 2);
  await page.getByLabel("Filter by text").fill("");
  await page.getByLabel("Namespace").selectOption("legacy");
  t.equal(await rows(page).count(), 1);
  await page.getByLabel("Namespace").selectOption("");
  await page.getByLabel("Aspect").selectOption("path");
  t.equal(await rows(page).count(), 8);
  await page.getByLabel("Aspect").selectOption("");
  await page.getByLabel("Filter by text").fill("nothing has this name");
  await page.getByText("No verdict answers to this filter.").waitFor();
  await page.getByLabel("Filter by text").fill("");
  const port = page.getByRole("columnheader", { name: "Port" });
  await port.getByRole("button").click();
  t.equal(await port.getAttribute("aria-sort"), "ascending");
  t.match(await rows(page).first().innerText(), "5432");
  await port.getByRole("button").click();
  t.match(await rows(page).first().innerText(), "8443");
}

type Proof = { index: number; entry: string; proof: string };

/** Forges the answer in each way, and expects to be told what does not hold. */
async function checkForged(t: Test, page: Page): Promise<void> {
  const other = (text: string) => (text.startsWith("A") ? "B" : "A") + text.slice(1);
  const line = (proof: string, at: number, change: (text: string) => string) => {
    const lines = proof.split("\n");
    lines[at] = change(lines[at]!);
    return lines.join("\n");
  };
  // The proof: its name, the index, six hashes, an empty line, then origin, size, root of the log.
  const forgeries: [string, (real: Proof) => Proof, RegExp][] = [
    [
      "another entry",
      (real) => ({ ...real, entry: real.entry.replace('"violated"', '"confirmed"') }),
      /do not lead from the entry.*differs in verdict/s,
    ],
    [
      "another hash",
      (real) => ({ ...real, proof: line(real.proof, 4, other) }),
      /do not lead from the entry/,
    ],
    [
      "another root",
      (real) => ({ ...real, proof: line(real.proof, 11, other) }),
      /do not lead from the entry.*the signature by .* is wrong/s,
    ],
    [
      "another size",
      (real) => ({ ...real, proof: line(real.proof, 10, () => "61") }),
      /the signature by .* is wrong/,
    ],
    [
      "another log",
      (real) => ({ ...real, proof: line(real.proof, 9, () => "elsewhere.test/x") }),
      /is not the one of elsewhere.test/,
    ],
    ["no proof", (real) => ({ ...real, proof: "hello" }), /is no tlog-proof of entry 40/],
    [
      "the proof of another entry",
      (real) => ({ ...real, proof: line(real.proof, 1, () => "index 41") }),
      /is no tlog-proof of entry 40/,
    ],
  ];
  for (const [name, forge, expected] of forgeries) {
    await page.route("**/api/evidence/prove?*", async (route) => {
      const real = (await (await route.fetch()).json()) as Proof;
      await route.fulfill({ json: forge(real) });
    });
    const settled = page.waitForResponse(/evidence\/key/);
    await page.getByRole("button", { name: "Verify the proof" }).first().click();
    await settled;
    await page.locator(".outcome.failed").waitFor();
    t.match(await page.locator(".outcome").innerText(), "✕ FAILED", name);
    await page.locator(".steps .failed").first().waitFor();
    const found = await page.locator(".steps").innerText();
    t.match(found, expected, name);
    await page.unroute("**/api/evidence/prove?*");
    t.match(await verifyAgain(page), "✓ Proven", `${name}: the real one still holds`);
  }
}

async function verifyAgain(page: Page, outcome = "proven"): Promise<string> {
  await page.getByRole("button", { name: "Verify the proof" }).first().click();
  await page.locator(`.outcome.${outcome}`).waitFor();
  return page.locator(".outcome").innerText();
}
