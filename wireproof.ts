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
