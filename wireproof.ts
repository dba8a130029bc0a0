/** Runs one command from the command line; each command imports its room when asked. */
import { Command, CommanderError, Option } from "commander";

const program = new Command("wireproof")
  .description(
    "Proof from the wire: reads from packets whether connections were plaintext, TLS or mutual\n" +
      "TLS, holds that against the declared policy, and keeps evidence that verifies offline.",
  )
  .showHelpAfterError("(run with --help to see what is expected)")
  .exitOverride();

program
  .command("inspect")
  .description("read captures (pcap, pcapng, gzip'd or zstd'd) and tell each flow")
  .argument("<file...>", "captures, read in this order")
  .addOption(
    new Option("--format <format>", "text for people, jsonl for machines")
      .choices(["text", "jsonl"])
      .default("text"),
  )
  .action(async (files: string[], options: { format: "text" | "jsonl" }) => {
    const { inspect } = await import("./agent/inspect.ts");
    await inspect(files, options);
  });

const policy = program.command("policy").description("tell what the declared policy says");

policy
  .command("allowed")
  .description("list what the declared policies let pass, workload by workload")
  .requiredOption("--manifests <dir>", "folder or file of manifests, or - for standard input")
  .option("--layer <layer>", "networkpolicy or all", "networkpolicy")
  .option("--format <format>", "text, json or dot", "text")
  .action(async (options) => {
    const { runAllowed } = await import("./collector/policy/policy-command.ts");
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
    const { runExplain } = await import("./collector/policy/policy-command.ts");
    print(runExplain(options, Date.now()));
  });

function print({ out, warnings }: { out: string; warnings: readonly string[] }): void {
  for (const warning of warnings) process.stderr.write(`wireproof: ${warning}\n`);
  process.stdout.write(out);
}

/** Runs the command line; the operator's mistakes become one sentence and exit code 2. */
async function main(): Promise<number> {
  try {
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

process.exitCode = await main();
