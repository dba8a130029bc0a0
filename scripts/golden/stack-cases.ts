/** Lists the golden captures of TLS stacks: Go's, Java's, Node's and GnuTLS, on both sides. */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { createServer } from "node:tls";
import { mustRun } from "../scene/processes.ts";
import { beside, tls13 } from "./acts.ts";
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

/**
 * Refused without an alert, which looks like a server without tickets that reads and closes: how
 * much of it is told depends on who closed when.
 */
const endedBare = (mutual: string, more: Truth = {}): Truth => ({
  ...{ protocol: "tls", encryption: "tls", version: "TLSv1.3", sni: SNI, answered: false },
  ...{ mutual, ...more },
});

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

/** The classes of `Tls.java`, compiled once. */
async function javaClasses(stage: Stage): Promise<string> {
  const folder = stage.file("classes");
  const source = path.join(import.meta.dirname, "Tls.java");
  if (!existsSync(folder)) await mustRun(["javac", "-d", folder, source]);
  return folder;
}

const java = async (
  stage: Stage,
  act: "serve-sockets" | "serve-http" | "speak" | "ask",
  shown: Holder | null,
  ...more: readonly string[]
): Promise<string[]> => {
  const classes = await javaClasses(stage);
  const keys = stage.file(`${shown}.p12`);
  if (shown && !existsSync(keys)) {
    const pair = ["-in", stage.certificate(shown), "-inkey", stage.key(shown)];
    const password = ["-passout", "pass:golden"];
    await mustRun(["openssl", "pkcs12", "-export", ...pair, ...password, "-out", keys]);
  }
  // Certificates here name no addresses.
  const unnamed = "-Djdk.internal.httpclient.disableHostnameVerification";
  return [
    ...["java", "-Xmx64m", unnamed, "-cp", classes, "Tls", act, String(stage.port)],
    ...[shown ? keys : "-", stage.file("golden-ca.pem"), ...more],
  ];
};

/** Java on both sides: over its sockets, or over its engine, as its HTTP server and client are. */
async function javas(
  stage: Stage,
  over: "sockets" | "http",
  server: readonly string[],
  shown: Holder | null,
  answers: boolean,
): Promise<void> {
  await stage.serve(await java(stage, `serve-${over}`, "ecdsa", ...server));
  const said = await stage.talk(await java(stage, over === "http" ? "ask" : "speak", shown));
  if (said.includes("answer: olleh") !== answers) throw new Error(`the client says: ${said}`);
}

/** To an address: the client names nobody. */
const unnamed: Truth = { sni: null };

const JAVA_CASES: readonly Case[] = [
  {
    name: "java-mutual",
    made: "Java's sockets on both sides, client certificate demanded and presented.",
    perform: (s) => javas(s, "sockets", ["demand"], "ecdsa", true),
    flows: [named("inferred-yes", unnamed)],
  },
  {
    name: "java-declined",
    made: "Java's sockets on both sides, client certificate asked for and not given.",
    perform: (s) => javas(s, "sockets", ["ask"], null, true),
    flows: [named("inferred-declined", unnamed)],
  },
  {
    name: "java-missing",
    made: "Java's sockets on both sides, client certificate demanded and not given.",
    perform: (s) => javas(s, "sockets", ["demand"], null, false),
    flows: [refused("client-cert-missing", { ...unnamed, mutual: "inferred-declined" })],
  },
  {
    name: "java-read-closes",
    made: "Java's sockets on both sides, client certificate; the application reads and closes.",
    perform: (s) => javas(s, "sockets", ["demand", "close"], "ecdsa", false),
    flows: [named("inferred-yes", { ...unnamed, ...NO_ANSWER })],
  },
  {
    name: "java-stranger",
    made: "Java's sockets, client certificate of an authority that the server does not know.",
    perform: async (s) => {
      await s.serve(await java(s, "serve-sockets", "ecdsa", "demand"));
      await s.opensslRefused("-servername", SNI, ...s.presenting("stranger"));
    },
    flows: [refused("client-cert-refused", { mutual: "inferred-yes" })],
  },
  {
    name: "java-http-one-way",
    made: "Java's engine on both sides, no client certificate: flights in one record, padded.",
    perform: (s) => javas(s, "http", [], null, true),
    flows: [named("inferred-no", unnamed)],
  },
  {
    name: "java-http-mutual",
    made: "Java's engine on both sides, client certificate demanded and presented.",
    perform: (s) => javas(s, "http", ["demand"], "ecdsa", true),
    flows: [named("inferred-yes", unnamed)],
  },
  {
    name: "java-http-declined",
    made: "Java's engine on both sides, client certificate asked for and not given.",
    perform: (s) => javas(s, "http", ["ask"], null, true),
    flows: [named("inferred-declined", unnamed)],
  },
  {
    name: "java-http-missing",
    made: "Java's engine on both sides, client certificate demanded and not given, twice.",
    perform: (s) => javas(s, "http", ["demand"], null, false),
    // The client tries once more by itself.
    flows: [endedBare("inferred-declined", unnamed), endedBare("inferred-declined", unnamed)],
  },
];

/** Node's server ends without an alert those whom it does not know. */
const besideNode = (stage: Stage, act: () => Promise<unknown>): Promise<void> => {
  const server = createServer(
    {
      cert: readFileSync(stage.certificate("ecdsa")),
      key: readFileSync(stage.key("ecdsa")),
      ca: readFileSync(stage.file("golden-ca.pem")),
      ...{ requestCert: true, rejectUnauthorized: true },
    },
    (socket) => socket.on("data", () => socket.write("olleh\n")),
  );
  return beside(server, stage.port, async () => void (await act()));
};

const OTHER_STACKS: readonly Case[] = [
  {
    name: "node-stranger-spoke",
    made: "Node's server refuses a client certificate with a bare FIN; the client had spoken.",
    perform: (s) =>
      besideNode(s, () => s.opensslRefused("-servername", SNI, ...s.presenting("stranger"))),
    flows: [endedBare("inferred-yes", { accepted: null })],
  },
  {
    name: "node-stranger12",
    made: "Node's server refuses a client certificate in TLS 1.2 with a bare FIN.",
    perform: (s) =>
      besideNode(s, () =>
        s.opensslRefused("-tls1_2", "-servername", SNI, ...s.presenting("stranger")),
      ),
    flows: [
      refused("client-cert-refused", {
        ...{ version: "TLSv1.2", mutual: "yes", alert: null },
        client_cert_subject: "CN=stranger,O=nobody",
      }),
    ],
  },
  {
    name: "gnutls-one-way",
    made: "GnuTLS's server, no client certificate: two tickets stand behind its flight.",
    needs: ["gnutls-serv"],
    perform: async (s) => {
      const early = ["--earlydata", "--maxearlydata", "1024"];
      const pair = ["--x509certfile", s.certificate("ecdsa"), "--x509keyfile", s.key("ecdsa")];
      const port = String(s.port);
      await s.serve([
        "gnutls-serv",
        "--echo",
        "--disable-client-cert",
        ...early,
        ...pair,
        "-p",
        port,
      ]);
      const client = s.opensslClient("-servername", SNI, "-quiet");
      await s.talk([...client, "-no_ign_eof"], [["hello\n", "hello"]], "Q\n");
    },
    flows: [named("inferred-no")],
  },
];

export const STACK_CASES: readonly Case[] = [
  ...GO_CASES.map((one) => ({ needs: ["go"], ...one })),
  ...JAVA_CASES.map((one) => ({ needs: ["javac"], ...one })),
  ...OTHER_STACKS,
];
