/** Lists the golden captures of TLS stacks: Go's, Java's, Node's and GnuTLS, on both sides. */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { mustRun } from "../scene/processes.ts";
import { tls13 } from "./acts.ts";
import type { Case, Holder, Stage, Truth } from "./stage.ts";

const SNI = "ecdsa.golden";

const named = (mutual: string | null, more: Truth = {}): Truth =>
  tls13({ sni: SNI, mutual, ...more });

const refused = (failure: string, more: Truth = {}): Truth => ({
  ...{ protocol: "tls", encryption: "tls", handshake: "failed", accepted: false, failure },
  ...{ version: "TLSv1.3", sni: SNI },
  ...more,
});

/** The server closed without an answer, as who denies does: not to be known from the wire. */
const NO_ANSWER: Truth = { accepted: null, answered: false };

/** Go's own choice since 1.24; its client says so as well. */
const HYBRID = "X25519MLKEM768";

/** The program in `go/`, built once. */
async function goProgram(stage: Stage): Promise<string> {
  const program = stage.file("go-tls");
  const source = path.join(import.meta.dirname, "go");
  const options = { limitMs: 35_000, env: { ...process.env, GOTOOLCHAIN: "local" } };
  if (!existsSync(program))
    await mustRun(["go", "build", "-C", source, "-o", program, "."], options);
  return program;
}

type GoSides = {
  server?: readonly string[];
  client?: readonly string[];
  /** Shown by the client: a holder's certificate, or a file of several. */
  shown?: Holder;
  chain?: string;
  says?: string;
};

/** Go on both sides; what the client prints must hold each of the words. */
async function go(stage: Stage, sides: GoSides, ...words: readonly string[]): Promise<void> {
  const program = await goProgram(stage);
  const { server = [], client = [], shown, says = "hello\n" } = sides;
  const at = ["-at", `127.0.0.1:${stage.port}`, "-ca", stage.file("golden-ca.pem")];
  const own = ["-cert", stage.certificate("ecdsa"), "-key", stage.key("ecdsa")];
  await stage.serve([program, "-serve", ...at, ...own, ...server]);
  const cert = sides.chain ?? (shown ? stage.certificate(shown) : "");
  const pair = shown ? ["-cert", cert, "-key", stage.key(shown)] : [];
  const said = await stage.talk([program, ...at, ...pair, "-say", says, ...client]);
  const missing = words.filter((word) => !said.includes(word));
  if (missing.length > 0) throw new Error(`the client does not say ${missing.join(", ")}: ${said}`);
}

const GO_CASES: readonly Case[] = [
  {
    name: "go-mutual",
    made: "Go on both sides, client certificate demanded and presented, answered.",
    perform: (s) =>
      go(s, { server: ["-demand"], shown: "ecdsa" }, `TLS 1.3 ${HYBRID} resumed: false`, "olleh"),
    flows: [named("inferred-yes", { group: HYBRID })],
  },
  {
    name: "go-one-way",
    made: "Go on both sides, no client certificate: a ticket stands behind the server's flight.",
    perform: (s) => go(s, { client: ["-sessions"] }, `TLS 1.3 ${HYBRID} resumed: false`, "olleh"),
    flows: [named("inferred-no", { group: HYBRID })],
  },
  {
    name: "go-resumed",
    made: "Go on both sides, client certificate, then a connection with the session of the first.",
    perform: (s) =>
      go(
        s,
        { server: ["-demand"], shown: "ecdsa", client: ["-sessions", "-times", "2"] },
        ...["resumed: false", "resumed: true", "olleh"],
      ),
    flows: [named("inferred-yes"), named("resumed", { handshake: "resumed" })],
  },
  {
    name: "go-read-closes",
    made: "Go on both sides, client certificate presented; the application reads and closes.",
    perform: (s) =>
      go(
        s,
        { server: ["-demand", "-act", "read-close"], shown: "ecdsa", client: ["-sessions"] },
        ...["resumed: false", "answer:  error: EOF"],
      ),
    flows: [named("inferred-yes", NO_ANSWER)],
  },
  {
    name: "go-closes",
    made: "Go on both sides, client certificate presented; the application closes at once.",
    perform: (s) =>
      go(
        s,
        {
          ...{ server: ["-demand", "-act", "close"], shown: "ecdsa" },
          ...{ client: ["-sessions"], says: "" },
        },
        "resumed: false",
      ),
    flows: [named("inferred-yes", NO_ANSWER)],
  },
  {
    name: "go-large-ticket",
    made: "Go on both sides, a chain of the client's makes its ticket large; it says nothing.",
    perform: (s) => {
      const files = [s.certificate("client"), s.file("golden-ca.pem"), s.file("unknown-ca.pem")];
      const chain = s.write("chain.pem", files.map((file) => readFileSync(file, "utf8")).join(""));
      return go(
        s,
        { server: ["-demand"], shown: "client", chain, client: ["-sessions"], says: "" },
        "resumed: false",
      );
    },
    flows: [named("inferred-yes", NO_ANSWER)],
  },
  {
    name: "go-missing",
    made: "Go on both sides, client certificate demanded and not given.",
    perform: (s) => go(s, { server: ["-demand"] }, "certificate required"),
    flows: [refused("client-cert-missing", { mutual: "inferred-declined", group: HYBRID })],
  },
  {
    name: "go-stranger",
    made: "Go on both sides, client certificate of an authority that the server does not know.",
    perform: (s) => go(s, { server: ["-demand"], shown: "stranger" }, "unknown certificate auth"),
    flows: [refused("client-cert-refused", { mutual: "inferred-yes" })],
  },
  {
    name: "go-stranger-18-bytes",
    made: "Go on both sides, client certificate refused; the client's only message has 18 bytes.",
    perform: (s) =>
      go(
        s,
        {
          ...{ server: ["-demand"], shown: "stranger" },
          ...{ says: "eighteen bytes say", client: ["-joined"] },
        },
        "unknown certificate auth",
      ),
    flows: [refused("client-cert-refused", { mutual: "inferred-yes" })],
  },
  {
    name: "go-distrusts",
    made: "Go on both sides, the client does not know the server's authority.",
    perform: (s) =>
      go(s, { client: ["-ca", s.file("unknown-ca.pem")] }, "signed by unknown authority"),
    flows: [refused("server-cert-refused", { mutual: null })],
  },
];

export const STACK_CASES: readonly Case[] = [...GO_CASES.map((one) => ({ needs: ["go"], ...one }))];
