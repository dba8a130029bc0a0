/** Lists the golden captures of what OpenSSL does seldom: early data, padding, late handshakes. */
import { setTimeout as sleep } from "node:timers/promises";
import { tls13 } from "./acts.ts";
import type { Case, Stage, Truth } from "./stage.ts";

const SNI = "server.golden";
const ECDSA = "CN=ecdsa.golden,O=golden";

const named = (mutual: string | null, more: Truth = {}): Truth =>
  tls13({ sni: SNI, mutual, ...more });

type Turn = readonly [says: string, hears: string];

/**
 * A server whose operator types: lines, or `c` to ask for a certificate. What it waits for is what
 * the clients say.
 */
async function typed(
  stage: Stage,
  server: readonly string[],
  turns: readonly Turn[],
  act: () => Promise<unknown>,
): Promise<void> {
  const trust = ["-CAfile", stage.file("golden-ca.pem")];
  const operator = stage.talk(
    [
      ...["openssl", "s_server", "-accept", `127.0.0.1:${stage.port}`, ...trust],
      ...[...stage.presenting("ecdsa"), ...server],
    ],
    [["", "ACCEPT"], ...turns],
    "Q\n",
  );
  operator.catch(() => {});
  await sleep(500);
  await act();
  await operator;
}

/** A session is taken, used with early data, and used again, which no server may accept. */
async function earlyData(stage: Stage): Promise<void> {
  const session = stage.file("early-session");
  const words = stage.write("early-data", "early words, said before the server's hello\n");
  const server = ["-tls1_3", "-early_data", "-num_tickets", "1"];
  const turns: Turn[] = [["", "hello"]];
  for (const _ of [1, 2]) turns.push(["olleh\n", "hello"]);
  turns.push(["olleh\n", "DONE"]);
  await typed(stage, server, turns, async () => {
    const talk = (...more: string[]) =>
      stage.talk(stage.opensslClient(...more), [["hello\n", "olleh"]], "Q\n");
    await talk("-sess_out", session);
    const early = ["-sess_in", session, "-early_data", words];
    for (const outcome of ["accepted", "rejected"]) {
      const said = await talk(...early);
      if (!said.includes(`Early data was ${outcome}`)) throw new Error(`not ${outcome}: ${said}`);
    }
  });
}

/** The operator asks between two lines of the client's, by a command of one letter. */
const askedLate = (command: string): Turn[] => [
  ["", "hello"],
  ["olleh\n", "again"],
  [`${command}\n`, "more"],
  ["erom\n", "DONE"],
];
/** What the client says meanwhile; `-msg` has it tell of the handshake that comes late. */
const LATE: readonly Turn[] = [
  ["hello\n", "olleh"],
  ["again\n", "Finished"],
  ["more\n", "erom"],
];

export const OPENSSL_CASES: readonly Case[] = [
  {
    name: "openssl-early-data",
    made: "A session, its early data accepted, and the same again, rejected with the session.",
    perform: earlyData,
    flows: [named("inferred-no"), named("resumed", { handshake: "resumed" }), named("inferred-no")],
  },
  {
    name: "openssl-client-pads",
    made: "A client that pads its records to blocks of 512, no certificate asked for.",
    perform: (s) => s.openssl(["-tls1_3", ...s.presenting("ecdsa")], "-record_padding", "512"),
    // That it was answered is told where the client spoke behind the tickets.
    flows: [
      {
        ...{ protocol: "tls", encryption: "tls", handshake: "complete", failure: null },
        ...{ version: "TLSv1.3", sni: SNI, mutual: null, answered: true },
      },
    ],
  },
  {
    name: "openssl-server-pads-missing",
    made: "A server that pads its records to blocks of 64 refuses who shows no certificate.",
    perform: (s) =>
      s.opensslFails([
        ...["-tls1_3", "-Verify", "1", "-verify_return_error", "-record_padding", "64"],
        ...s.presenting("ecdsa"),
      ]),
    // Its alert has the size of any other record of the block.
    flows: [named("inferred-declined", { handshake: null, accepted: null, answered: false })],
  },
  {
    name: "openssl-later-certificate",
    made: "A certificate that the server asks for behind the handshake (RFC 8446 §4.6.2).",
    perform: (s) =>
      typed(s, ["-tls1_3", "-num_tickets", "1"], askedLate("c"), () =>
        s.talk(s.opensslClient("-msg", "-enable_pha", ...s.presenting("ecdsa")), LATE, "Q\n"),
      ),
    flows: [named(null)],
  },
  {
    name: "openssl-later-not-asked",
    made: "A client that lets itself be asked for a certificate later, and is not.",
    perform: (s) =>
      s.openssl(["-tls1_3", ...s.presenting("ecdsa")], "-enable_pha", ...s.presenting("client")),
    flows: [named("inferred-no")],
  },
  {
    name: "openssl-impostor12",
    made: "TLS 1.2, client certificate of an authority that only bears the right name.",
    perform: (s) =>
      s.opensslFails(
        ["-tls1_2", "-Verify", "1", "-verify_return_error", ...s.presenting("ecdsa")],
        ...["-tls1_2", ...s.presenting("impostor")],
      ),
    flows: [
      tls13({
        ...{ version: "TLSv1.2", sni: SNI, mutual: "yes", handshake: "failed", accepted: false },
        ...{ failure: "client-cert-bad", alert: 51, server_cert_subject: ECDSA },
        client_cert_subject: "CN=client,OU=payments\\, north,O=golden",
      }),
    ],
  },
];
