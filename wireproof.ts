/** Runs one command from the command line; each command imports its room when asked. */
import { Command, CommanderError, Option } from "commander";
import { AGENT_SETTINGS, agentSettings } from "./agent/config.ts";
import { COLLECTOR_SETTINGS, collectorSettings } from "./collector/config.ts";
import type { Observation } from "./protocol/observation.ts";
import { INSPECT_MANUAL } from "./agent/inspect-manual.ts";
import { HISTORY_MANUAL } from "./collector/history-manual.ts";
import { ConfigError } from "./protocol/config-error.ts";
import manifest from "./package.json" with { type: "json" };

const program = new Command("wireproof")
  .version(manifest.version)
  .description(
    "Proof from the wire: reads from packets whether connections were plaintext, TLS or mutual\n" +
      "TLS, holds that against the declared policy, and keeps evidence that verifies offline.",
  )
  .showHelpAfterError("(run with --help to see what is expected)")
  .exitOverride();

program
  .command("inspect")
  .description("read captures (pcap, pcapng, snoop, packed or not) and tell each flow")
  .argument("<file...>", "captures, read in this order; - is the standard input")
  .addOption(
    new Option("--format <format>", "text for people, jsonl for machines")
      .choices(["text", "jsonl"])
      .default("text"),
  )
  .option("--where <expression>", "only flows for which it holds, such as 'failure' (see below)")
  .option("--explain <n>", "how flow N was read, step by step, and why it says what it says")
  .option(
    "--crypto",
    "judge each connection's cryptography: NIST, FIPS, Mozilla, CNSA, post-quantum",
  )
  .option("--vxlan-port <ports>", "more ports of VXLAN, by commas; by content it is read on any")
  .option("--policy <dir>", "manifests: judge the flows, exit 1 on a violation")
  .addHelpText("after", INSPECT_MANUAL)
  .action(async (files: string[], flags: InspectFlags) => {
    const colour = process.stdout.isTTY && !process.env["NO_COLOR"];
    const options = { ...flags, colour };
    const { refuseRepeatedInput } = await import("./agent/capture-run.ts");
    refuseRepeatedInput(flags.policy === "-" ? [...files, "-"] : files);
    if (flags.explain !== undefined) return void (await explain(files, flags.explain, options));
    const { inspect } = await import("./agent/inspect.ts");
    if (flags.policy === undefined) {
      const { unread } = await inspect(files, options);
      process.exitCode = unread > 0 ? 2 : 0;
      return;
    }
    const { formatVerdictTable, judgeOffline } = await import("./collector/offline.ts");
    const observations: Observation[] = [];
    const onObservation = (observation: Observation) => void observations.push(observation);
    const { unread } = await inspect(files, { ...options, onObservation });
    const { verdicts, warnings } = judgeOffline(flags.policy, observations);
    const isText = flags.format === "text";
    const jsonl = () => verdicts.map((v) => `${JSON.stringify(v)}\n`).join("");
    print({ out: isText ? `\n${formatVerdictTable(verdicts)}` : jsonl(), warnings });
    const isViolated = verdicts.some((v) => v.verdict === "violated");
    process.exitCode = unread > 0 ? 2 : isViolated ? 1 : 0;
  });

type InspectFlags = {
  format: "text" | "jsonl";
  where?: string;
  explain?: string;
  crypto?: boolean;
  vxlanPort?: string;
  policy?: string;
};

/** Prints how one flow was read. */
async function explain(
  files: string[],
  which: string,
  { format, colour, vxlanPort }: InspectFlags & { colour: boolean },
): Promise<void> {
  if (!/^[1-9]\d{0,9}$/.test(which)) {
    throw new ConfigError(
      "CONFIG_NO_FLOW",
      `--explain: ${which} is no flow's number; they begin at 1`,
    );
  }
  const told = await import("./agent/explain-flow.ts");
  const { painter } = await import("./agent/assess/sentence.ts");
  const { parseVxlanPorts } = await import("./agent/vxlan-ports.ts");
  const vxlanPorts = parseVxlanPorts(vxlanPort ?? null, "inspect");
  const explained = await told.explainFlow(files, Number(which), format, vxlanPorts);
  const isText = format === "text";
  const text = () => told.formatExplained(explained, Number(which), painter(colour));
  process.stdout.write(isText ? text() : told.formatExplainedJsonl(explained));
  process.exitCode = explained.unread > 0 ? 2 : 0;
}

const agent = program
  .command("agent")
  .description("watch this node's pods and bring what is seen to the collector (needs NET_RAW)");
for (const [flag, what, fallback] of AGENT_SETTINGS) {
  agent.option(`--${flag}`, fallback === null ? what : `${what} (default: ${fallback})`);
}
agent.option("--config <file>", "YAML file with an `agent:` part, settings by name");
agent.action(async (flags: Record<string, string>) => {
  const { runAgent } = await import("./agent/main.ts");
  await runAgent(flags);
  process.exit(); // libpcap would hold a quiet interface's session until its next packet
});

const collector = program
  .command("collector")
  .description("take what agents send, judge it against the declared policy, keep the evidence");
for (const [flag, what, fallback] of COLLECTOR_SETTINGS) {
  collector.option(`--${flag}`, fallback === null ? what : `${what} (default: ${fallback})`);
}
collector.option("--config <file>", "YAML file with a `collector:` part, settings by name");
collector.action(async (flags: Record<string, string>) => {
  const { runCollector } = await import("./collector/main.ts");
  await runCollector(flags);
});

program
  .command("demo")
  .description("run agents, collector and a small cluster of real servers on this machine (root)")
  .option("--once", "judge one window, print it with the evidence's check, and exit")
  .option("--port <port>", "of the page; 0 takes a free one", "0")
  .option("--replay", "replay the recorded scene, as is done without root")
  .action(async (flags: { once?: true; port: string; replay?: true }) => {
    const { runDemo } = await import("./scripts/scene/demo.ts");
    process.exitCode = await runDemo({
      once: flags.once === true,
      port: Number(flags.port),
      replay: flags.replay === true,
    });
  });

program
  .command("config")
  .description("tell the settings of agent and collector, and where each comes from")
  .command("show")
  .option("--config <file>", "YAML file with `agent:` and `collector:` parts")
  .action((flags: Record<string, string>) => {
    for (const [room, settings] of [
      ["agent", agentSettings(flags)],
      ["collector", collectorSettings(flags)],
    ] as const) {
      for (const { name, value, source } of settings.all()) {
        process.stdout.write(`${`${room}.${name}`.padEnd(30)} ${value ?? "-"}  (${source})\n`);
      }
    }
  });

const policy = program.command("policy").description("tell what the declared policy says");

policy
  .command("allowed")
  .description("list what the declared policies let pass, workload by workload")
  .requiredOption("--manifests <dir>", "folder or file of manifests, or - for standard input")
  .option("--layer <layer>", "networkpolicy or all", "networkpolicy")
  .option("--format <format>", "text, json or dot", "text")
  .action(async (options) => {
    const { runAllowed } = await import("./collector/policy/answer/policy-command.ts");
    print(runAllowed(options, Date.now()));
  });

policy
  .command("explain")
  .description("tell what the declared policies require of one connection, and why")
  .requiredOption("--manifests <dir>", "folder or file of manifests, or - for standard input")
  .requiredOption("--from <end>", "client: NS/NAME, NS/NAME[Kind] or external:IP")
  .requiredOption("--to <end>", "server, spelled alike")
  .requiredOption("--port <port>", "container port: N, N/udp or N/sctp")
  .option("--wire <posture>", "plaintext, tls or mtls: would the server accept it?")
  .option("--mesh <mesh>", "istio, ambient, linkerd, consul or none: overrides the manifests")
  .option("--format <format>", "text or json", "text")
  .action(async (options) => {
    const { runExplain } = await import("./collector/policy/answer/policy-command.ts");
    print(runExplain(options, Date.now()));
  });

policy
  .command("history")
  .description("list every change of the declared policy: when, what, by whom")
  .argument("[name]", "only objects with this in KIND/NAMESPACE/NAME")
  .option("--evidence <dir>", "the collector's evidence log")
  .option("--manifests <dir>", "folder in a git repository: its commits are the history")
  .option("--at <time>", "what was in force then: a time, 2h, now; with --manifests a revision")
  .addOption(new Option("--format <format>").choices(["text", "json"]).default("text"))
  .addHelpText("after", HISTORY_MANUAL)
  .action(async (name: string | undefined, options) => {
    const { runHistory } = await import("./collector/history-command.ts");
    print(runHistory(name, options, Date.now()));
  });

policy
  .command("diff")
  .description("tell which edges are judged otherwise, not which lines of YAML differ")
  .requiredOption("--from <time>", "a time, 2h (ago), now; with --manifests a revision (HEAD~1)")
  .option("--to <time>", "spelled alike", "now")
  .option("--evidence <dir>", "the collector's evidence log")
  .option("--manifests <dir>", "folder in a git repository; now: the files as they stand")
  .addOption(new Option("--format <format>").choices(["text", "json"]).default("text"))
  .addHelpText("after", HISTORY_MANUAL)
  .action(async (options) => {
    const { runDiff } = await import("./collector/history-command.ts");
    print(runDiff(options, Date.now()));
  });

/** The manual lists the rules, which are read only by those who ask for them. */
const isLint = process.argv[2] === "policy" && process.argv[3] === "lint";
let lintManual = "";

policy
  .command("lint")
  .description("tell what is wrong or weak in the declared policy, before any packet")
  .requiredOption("--manifests <dir>", "folder or file of manifests, or - for standard input")
  .option("--profile <profile>", "pci, hipaa or strict: how grave each finding is (see below)")
  .option("--format <format>", "text, json or sarif", "text")
  .option("--fail-on <level>", "error, warning or note: exit 1 from this level on", "error")
  .option("--at <time>", "when waivers are held against their end (default: now)")
  .addHelpText("after", () => lintManual)
  .action(async (options) => {
    const { runLint } = await import("./collector/policy/lint/lint-command.ts");
    const { out, exitCode } = runLint(options, Date.now());
    print({ out, warnings: [] });
    process.exitCode = exitCode;
  });

function print({ out, warnings }: { out: string; warnings: readonly string[] }): void {
  for (const warning of warnings) process.stderr.write(`wireproof: ${warning}\n`);
  process.stdout.write(out);
}

const pki = program.command("pki").description("make the certificates of a small set-up");
pki
  .command("init")
  .description("make a CA: ca.pem, ca-key.pem")
  .requiredOption("--dir <dir>", "where its files go")
  .option("--trust-domain <domain>", "SPIFFE trust domain of all certificates", "wireproof")
  .action(async (options: { dir: string; trustDomain: string }) => {
    const { initCa } = await import("./collector/pki.ts");
    tellFiles(await initCa(options.dir, options.trustDomain));
  });
pki
  .command("issue")
  .description("sign a certificate for one node's agent, or for the collector")
  .requiredOption("--dir <dir>", "where the CA is, and the files go")
  .option("--agent <node>", "name of the node")
  .option("--collector", "for the collector instead")
  .option("--dns <name...>", "DNS names of the collector")
  .option("--ip <address...>", "IP addresses of the collector")
  .option("--days <n>", "validity", "365")
  .action(async (options: IssueFlags) => {
    if ((options.agent === undefined) === (options.collector === undefined)) {
      throw new ConfigError("CONFIG_PKI_WHO", "pki issue: say either --agent NODE or --collector");
    }
    const { issue } = await import("./collector/pki.ts");
    tellFiles(await issue(options.dir, { ...options, days: Number(options.days) }));
  });
type IssueFlags = {
  dir: string;
  agent?: string;
  collector?: true;
  dns?: string[];
  ip?: string[];
  days: string;
};

function tellFiles(files: readonly string[]): void {
  for (const file of files) process.stdout.write(`wrote ${file}\n`);
}

const evidence = program.command("evidence").description("verify the evidence log");
evidence
  .command("verify")
  .description("verify a log from its files and the public key alone")
  .argument("<dir>", "the log")
  .requiredOption("--key <file>", "public key (evidence.pub)")
  .option("--since <file>", "an earlier checkpoint, kept elsewhere")
  .addOption(new Option("--format <format>").choices(["text", "json"]).default("text"))
  .action(async (dir: string, options: { key: string; since?: string; format: string }) => {
    const { formatReport, verifyLog } = await import("./collector/evidence/verify.ts");
    const report = verifyLog(dir, options.key, options.since);
    const json = options.format === "json";
    process.stdout.write(json ? `${JSON.stringify(report)}\n` : formatReport(report));
    process.exitCode = report.ok ? 0 : 1;
  });
evidence
  .command("prove")
  .description("print an entry, and the proof (C2SP tlog-proof) that it is in the log")
  .argument("<dir>", "the log")
  .requiredOption("--index <n>", "the entry, counted from 0")
  .option("--key <file>", "public key; without it the checkpoint's signature is not checked")
  .addOption(new Option("--format <format>").choices(["text", "json"]).default("text"))
  .action(async (dir: string, options: { index: string; key?: string; format: string }) => {
    const { proveEntry, VerificationError } = await import("./collector/evidence/verify.ts");
    try {
      const proven = proveEntry(dir, Number(options.index), options.key);
      const json = options.format === "json";
      const text = json ? `${JSON.stringify(proven)}\n` : `${proven.entry}\n\n${proven.proof}`;
      process.stdout.write(text);
    } catch (error) {
      if (!(error instanceof VerificationError)) throw error;
      process.stderr.write(`wireproof: ${error.message}\n`);
      process.exitCode = 1;
    }
  });
evidence
  .command("keygen")
  .description("make the log's key pair: evidence.key (signs), evidence.pub (for auditors)")
  .requiredOption("--dir <dir>", "where its files go")
  .option("--name <name>", "name of the log, in every checkpoint", "wireproof")
  .action(async (options: { dir: string; name: string }) => {
    const { createKeys } = await import("./collector/evidence/log.ts");
    tellFiles(createKeys(options.dir, options.name));
  });

/** Runs the command line; the operator's mistakes become one sentence and exit code 2. */
async function main(): Promise<number> {
  try {
    if (isLint) lintManual = (await import("./collector/policy/lint/manual.ts")).LINT_MANUAL;
    await program.parseAsync(process.argv);
    return typeof process.exitCode === "number" ? process.exitCode : 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    const told = error as Error & { code?: string };
    if (typeof told.code === "string" && told.code.startsWith("CONFIG_")) {
      process.stderr.write(`wireproof: ${told.message}\n`);
      return 2;
    }
    throw error;
  }
}

// Whoever reads has seen enough (`| head`): that is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(0);
});
// A command that waits for what cannot come any more has failed.
const onForgotten = () => void (process.exitCode = 13);
process.once("beforeExit", onForgotten);
void main().then((code) => {
  process.off("beforeExit", onForgotten);
  // What a failed start left open (sockets, timers) must not keep the process alive.
  if (code === 2) process.exit(code);
  process.exitCode = code;
});
