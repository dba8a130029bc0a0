/** Sets the stage of the golden captures: certificates, servers, clients, one port at a time. */
import { spawn } from "node:child_process";
import { mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { FarHost } from "./far-host.ts";
import { killGroup, mustRun, startProcess, startTimeOf, until } from "../scene/processes.ts";

/** What was made: fields of a flow record, those of `tls` by their own names. Absent: no claim. */
export type Truth = {
  protocol?: string | null;
  encryption?: string;
  state?: string;
  upgraded_from?: string;
  handshake?: string | null;
  accepted?: boolean | null;
  failure?: string | null;
  alert?: number | null;
  version?: string;
  cipher_suite?: string;
  group?: string | null;
  sni?: string | null;
  alpn?: string | null;
  mutual?: string | null;
  mesh?: string;
  server_cert_subject?: string | null;
  client_cert_subject?: string | null;
  proto?: string;
  findings?: readonly string[];
  /**
   * Whether the application answered, where `accepted` cannot be told: no field of a record. Who
   * was denied must not be read as accepted, who was answered not as refused.
   */
  answered?: boolean;
};

export type Case = {
  name: string;
  /** What was done, in one sentence. */
  made: string;
  /** Programs that it needs beside OpenSSL. */
  needs?: readonly string[];
  /** The registered port, where the protocol is known by it; else one that says nothing. */
  port?: number;
  /** Between two hosts, `Stage.far` being the other; captured is what tcpdump's filter takes. */
  wire?: string;
  /** No server was at hand: the bytes were written after this specification. */
  constructed?: string;
  perform: (stage: Stage) => Promise<void>;
  /** Of each flow, in the order in which they began. */
  flows: readonly Truth[];
};

/** By the name of their files: the rival bears the name of `golden`, and has another key. */
const AUTHORITIES = {
  golden: "/O=golden authority",
  unknown: "/O=unknown authority",
  rival: "/O=golden authority",
} as const;

type Leaf = {
  subject: string;
  authority?: keyof typeof AUTHORITIES;
  key?: "rsa" | "ec";
  /** Of a SPIFFE id; absent: `/ns/test/sa/HOLDER` of `golden.example`. */
  spiffe?: string;
  end?: string;
};

/** Consul's trust domain: the id of a cluster. */
export const CONSUL = "5b0d6f3e-7c1a-4a55-9d0e-2f6c8a1b4e70.consul";

const LEAVES = {
  server: { subject: "/O=golden/CN=server.golden" },
  ecdsa: { subject: "/O=golden/CN=ecdsa.golden", key: "ec" },
  expired: { subject: "/O=golden/CN=expired.golden", end: "20250102000000Z" },
  client: { subject: "/O=golden/OU=payments, north/CN=client" },
  stranger: { subject: "/O=nobody/CN=stranger", authority: "unknown" },
  impostor: { subject: "/O=golden/OU=payments, north/CN=client", authority: "rival" },
  web: {
    ...{ subject: "/CN=web.svc.default.5b0d6f3e.consul", key: "ec" },
    spiffe: `${CONSUL}/ns/default/dc/dc1/svc/web`,
  },
  api: {
    ...{ subject: "/CN=api.svc.default.5b0d6f3e.consul", key: "ec" },
    spiffe: `${CONSUL}/ns/default/dc/dc1/svc/api`,
  },
} as const satisfies Record<string, Leaf>;
export type Holder = keyof typeof LEAVES;

export class Stage {
  readonly folder: string;
  port = 0;
  /** The other host, of cases between two. */
  readonly far: FarHost;
  readonly #processes: number[] = [];

  constructor(folder: string, far: FarHost) {
    this.folder = folder;
    this.far = far;
  }

  file(name: string): string {
    return path.join(this.folder, name);
  }

  certificate(holder: Holder): string {
    return this.file(`${holder}.pem`);
  }

  key(holder: Holder): string {
    return this.file(`${holder}.key`);
  }

  write(name: string, text: string): string {
    writeFileSync(this.file(name), text);
    return this.file(name);
  }

  /** The authorities, and what they sign. */
  async makeCertificates(): Promise<void> {
    for (const [name, subject] of Object.entries(AUTHORITIES)) {
      await mustRun([
        ...["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "30"],
        ...["-subj", subject, "-keyout", this.file(`${name}-ca.key`)],
        ...["-out", this.file(`${name}-ca.pem`)],
      ]);
    }
    for (const holder of Object.keys(LEAVES) as Holder[]) await this.#makeLeaf(holder);
  }

  async #makeLeaf(holder: Holder): Promise<void> {
    const leaf: Leaf = LEAVES[holder];
    const authority = this.file(`${leaf.authority ?? "golden"}-ca`);
    const key = leaf.key === "ec" ? ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] : ["rsa:2048"];
    const request = this.file(`${holder}.csr`);
    await mustRun([
      ...["openssl", "req", "-new", "-newkey", ...key, "-noenc", "-subj", leaf.subject],
      ...["-keyout", this.key(holder), "-out", request],
    ]);
    const database = this.file(`${holder}.ca`);
    mkdirSync(database);
    writeFileSync(path.join(database, "index"), "");
    const id = leaf.spiffe ?? `golden.example/ns/test/sa/${holder}`;
    const names = `DNS:${holder}.golden,URI:spiffe://${id}`;
    const settings = [
      ...["[ca]", "default_ca=one", "[one]", `database=${database}/index`, "rand_serial=yes"],
      ...[`new_certs_dir=${database}`, "default_md=sha256", "policy=any", "x509_extensions=leaf"],
      ...["[any]", "organizationName=optional", "organizationalUnitName=optional"],
      ...["commonName=optional", "[leaf]", "basicConstraints=critical,CA:FALSE"],
      `subjectAltName=${names}`,
      // By key identifiers a verifier would see at once that the rival's key is another one.
      ...(leaf.authority === "rival" ? ["authorityKeyIdentifier=none"] : []),
    ];
    const config = this.write(`${holder}.cnf`, `${settings.join("\n")}\n`);
    const end = leaf.end ?? "20360101000000Z";
    await mustRun([
      ...["openssl", "ca", "-batch", "-notext", "-config", config, "-in", request],
      ...["-cert", `${authority}.pem`, "-keyfile", `${authority}.key`],
      ...["-startdate", "20250101000000Z", "-enddate", end, "-out", this.certificate(holder)],
    ]);
  }

  /** Starts a server and waits until it listens. */
  async serve(argv: readonly string[], port = this.port): Promise<void> {
    const log = openSync(this.file("server.log"), "a");
    const child = startProcess(argv, log);
    this.#processes.push(child.pid!);
    await until(`${argv[0]} listens on ${port}`, 20_000, () => isListening(port));
  }

  /** The same of a server over UDP. */
  async serveDatagrams(argv: readonly string[]): Promise<void> {
    const log = openSync(this.file("server.log"), "a");
    const child = startProcess(argv, log);
    this.#processes.push(child.pid!);
    const { port } = this;
    await until(`${argv[0]} is bound to ${port}`, 20_000, () => isBound(port));
  }

  /** Starts a program that is ready once `ready` says so. */
  async start(argv: readonly string[], ready: () => boolean | Promise<boolean>): Promise<void> {
    const log = openSync(this.file("server.log"), "a");
    const child = startProcess(argv, log);
    this.#processes.push(child.pid!);
    await until(`${argv.slice(0, 8).join(" ")} is ready`, 20_000, ready);
  }

  /** Signals the server that was started last. */
  signal(name: NodeJS.Signals): void {
    killGroup(this.#processes.at(-1), name);
  }

  /**
   * Runs a client: each line of `say` once its answer to the one before has come, then the end.
   * Resolves to what it printed; fails when an answer does not come.
   */
  async talk(
    argv: readonly string[],
    turns: readonly (readonly [string, string])[] = [],
    last = "",
  ): Promise<string> {
    const env = { ...process.env, OPENSSL_CONF: "/dev/null" };
    const child = spawn(argv[0]!, argv.slice(1), { stdio: ["pipe", "pipe", "pipe"], env });
    let said = "";
    const take = (text: Buffer) => (said += text.toString("latin1"));
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    child.stdin.on("error", () => {});
    let ended = false;
    const close = new Promise<void>((resolve) =>
      child.on("close", () => resolve(void (ended = true))),
    );
    for (const [line, answer] of turns) {
      const before = said.length;
      child.stdin.write(line);
      const came = () => said.slice(before).includes(answer) || ended;
      await until(`${argv.join(" ")} hears ${answer}: ${said.slice(-300)}`, 8000, came);
      if (ended && !said.includes(answer)) throw new Error(`${argv.join(" ")}: ${said}`);
    }
    if (last !== "") child.stdin.write(last);
    else child.stdin.end();
    const tooLong = setTimeout(() => child.kill("SIGKILL"), 8000);
    await close;
    clearTimeout(tooLong);
    return said;
  }

  /** Ends the servers; their connections are over by then. */
  async strike(): Promise<void> {
    for (const pid of this.#processes) killGroup(pid, "SIGTERM");
    const gone = () => this.#processes.every((pid) => startTimeOf(pid) === null);
    try {
      await until("servers end", 3000, gone);
    } catch {
      for (const pid of this.#processes) killGroup(pid, "SIGKILL");
    }
    this.#processes.length = 0;
  }

  // OpenSSL's own server and client, which most cases are played by.

  /** `-rev` answers each line with its reverse. */
  opensslServer(...more: string[]): Promise<void> {
    const own = ["-cert", this.certificate("server"), "-key", this.key("server")];
    const given = more.includes("-cert") ? [] : own;
    const trust = ["-CAfile", this.file("golden-ca.pem")];
    const cheap = ["-naccept", "20", "-rev", "-quiet"];
    return this.serve([
      ...["openssl", "s_server", "-accept", `127.0.0.1:${this.port}`],
      ...[...given, ...trust, ...cheap, ...more],
    ]);
  }

  opensslClient(...more: readonly string[]): string[] {
    const trust = more.includes("-CAfile") ? [] : ["-CAfile", this.file("golden-ca.pem")];
    const name = more.some((m) => m.includes("servername")) ? [] : ["-servername", "server.golden"];
    const target = ["-connect", `127.0.0.1:${this.port}`];
    return ["openssl", "s_client", ...target, "-verify_return_error", ...trust, ...name, ...more];
  }

  /** A client that is answered, and takes its leave. */
  async opensslAnswered(...more: string[]): Promise<string> {
    const said = await this.talk(this.opensslClient(...more), [["hello\n", "olleh"]], "Q\n");
    await sleep(100);
    return said;
  }

  /** A client that is refused, or refuses; whether it speaks depends on what it believes. */
  async opensslRefused(...more: string[]): Promise<string> {
    const child = this.talk(this.opensslClient(...more, "-ign_eof"), [["hello\n", ""]]);
    const said = await child;
    if (said.includes("olleh")) throw new Error(`answered all the same: ${more.join(" ")}`);
    return said;
  }

  async openssl(server: readonly string[], ...client: string[]): Promise<void> {
    await this.opensslServer(...server);
    await this.opensslAnswered(...client);
  }

  async opensslFails(server: readonly string[], ...client: string[]): Promise<void> {
    await this.opensslServer(...server);
    await this.opensslRefused(...client);
  }

  presenting(holder: Holder): string[] {
    return ["-cert", this.certificate(holder), "-key", this.key(holder)];
  }
}

/** Reports whether a TCP port is listened on, without a packet to it. */
function isListening(port: number): boolean {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  const listens = new RegExp(`:${hex} [0-9A-F]+:0000 0A `);
  return ["/proc/net/tcp", "/proc/net/tcp6"].some((f) => listens.test(readFileSync(f, "latin1")));
}

/** Reports whether a UDP port is bound. */
function isBound(port: number): boolean {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  const bound = new RegExp(`:${hex} [0-9A-F]+:0000 07 `);
  return ["/proc/net/udp", "/proc/net/udp6"].some((f) => bound.test(readFileSync(f, "latin1")));
}
