/** Lists the golden captures of mail and file transfer: Dovecot, aiosmtpd, Postfix, vsftpd. */
import { chmodSync, mkdirSync } from "node:fs";
import { mustRun } from "../scene/processes.ts";
import { ask, curl, exchange, gaveUp, plain, upgraded, wentOn } from "./acts.ts";
import type { Case, Stage } from "./stage.ts";

type Protocol = "imap" | "pop3";

/** A Dovecot that takes every name with one password. */
async function serveDovecot(stage: Stage, protocol: Protocol, ssl: boolean): Promise<void> {
  chmodSync(stage.folder, 0o755);
  const home = stage.file(`dovecot-${stage.port}`);
  for (const folder of [home, `${home}/mail`]) mkdirSync(folder);
  await mustRun(["chown", "nobody:nogroup", `${home}/mail`]);
  const tls = `ssl = yes\nssl_cert = <${stage.certificate("server")}
ssl_key = <${stage.key("server")}`;
  const listener = (name: string, port: number) =>
    `inet_listener ${name} {\n address = 127.0.0.1\n port = ${port}\n }`;
  const config = stage.write(
    `dovecot-${stage.port}.conf`,
    `protocols = ${protocol}
base_dir = ${home}/run\nstate_dir = ${home}/state\nlog_path = ${home}/log
listen = 127.0.0.1\n${ssl ? tls : "ssl = no"}\ndisable_plaintext_auth = no
mail_location = maildir:${home}/mail
service ${protocol}-login {
 ${listener(protocol, stage.port)}
 ${listener(`${protocol}s`, 0)}
}
service stats {\n unix_listener stats-writer {\n mode = 0666\n }\n}
passdb {\n driver = static\n args = password=golden\n}
userdb {\n driver = static\n args = uid=nobody gid=nogroup home=${home}/mail\n}\n`,
  );
  await stage.serve(["dovecot", "-F", "-c", config]);
}

const asUser = ["-k", "-u", "golden:golden"];

/** curl asks for TLS when `how` says so; `--ssl` goes on without it. */
async function fetchMail(stage: Stage, protocol: Protocol, ...how: string[]): Promise<void> {
  await mustRun(curl(...asUser, ...how, `${protocol}://127.0.0.1:${stage.port}/`));
}

/** `requires`: mail is taken behind STARTTLS only. */
async function serveSmtp(stage: Stage, tls: "none" | "offered" | "required"): Promise<void> {
  const files = ["--tlscert", stage.certificate("server"), "--tlskey", stage.key("server")];
  const more = { none: [], offered: [...files, "--no-requiretls"], required: files }[tls];
  await stage.serve([
    ...["/usr/bin/python3", "-m", "aiosmtpd", "-n", "-c", "aiosmtpd.handlers.Sink"],
    ...["-l", `127.0.0.1:${stage.port}`, ...more],
  ]);
}

async function sendMail(stage: Stage, ...how: string[]): Promise<void> {
  const mail = stage.write("mail.txt", "Subject: golden\r\n\r\nhello\r\n");
  const ends = ["--mail-from", "a@golden.example", "--mail-rcpt", "b@golden.example"];
  await mustRun(curl("-k", ...how, ...ends, "-T", mail, `smtp://127.0.0.1:${stage.port}/golden`));
}

async function serveFtp(stage: Stage, ssl: boolean): Promise<void> {
  const root = stage.file(`ftp-${stage.port}`);
  mkdirSync(root);
  chmodSync(stage.folder, 0o755);
  const tls = `ssl_enable=YES\nallow_anon_ssl=YES\nforce_local_data_ssl=NO
force_local_logins_ssl=NO\nrsa_cert_file=${stage.certificate("server")}
rsa_private_key_file=${stage.key("server")}`;
  const config = stage.write(
    `vsftpd-${stage.port}.conf`,
    `listen=YES\nlisten_address=127.0.0.1\nlisten_port=${stage.port}\nbackground=NO
anonymous_enable=YES\nanon_root=${root}\nsecure_chroot_dir=${root}\nseccomp_sandbox=NO
pasv_min_port=${stage.port + 2}\npasv_max_port=${stage.port + 9}\n${ssl ? tls : ""}\n`,
  );
  await stage.serve(["vsftpd", config]);
}

const ftp = async (stage: Stage, ...how: string[]) =>
  void (await mustRun(curl("-k", ...how, `ftp://127.0.0.1:${stage.port}/`, "-Q", "PWD", "-I")));

const AIOSMTPD = ["curl", "python3-aiosmtpd"];

export const MAIL_CASES: readonly Case[] = [
  {
    name: "imap",
    made: "Dovecot's IMAP in plaintext, TLS not asked for.",
    needs: ["dovecot", "curl"],
    perform: async (s) => {
      await serveDovecot(s, "imap", true);
      await fetchMail(s, "imap");
    },
    flows: [plain("imap")],
  },
  {
    name: "imap-starttls",
    made: "Dovecot's IMAP, STARTTLS agreed to.",
    needs: ["dovecot", "curl"],
    perform: async (s) => {
      await serveDovecot(s, "imap", true);
      await fetchMail(s, "imap", "--ssl-reqd");
    },
    flows: [upgraded("imap")],
  },
  {
    name: "imap-refused",
    made: "Dovecot without TLS: STARTTLS is answered BAD, and the client leaves.",
    needs: ["dovecot"],
    perform: async (s) => {
      await serveDovecot(s, "imap", false);
      await ask(s.port, [
        ["", "OK"],
        ["a1 STARTTLS\r\n", "a1 BAD"],
      ]);
    },
    flows: [gaveUp("imap")],
  },
  {
    name: "imap-went-on",
    made: "Dovecot without TLS: STARTTLS is answered BAD, and the client logs in all the same.",
    needs: ["dovecot"],
    perform: async (s) => {
      await serveDovecot(s, "imap", false);
      await ask(s.port, [
        ["", "OK"],
        ["a1 STARTTLS\r\n", "a1 BAD"],
        ["a2 LOGIN golden golden\r\n", "a2 OK"],
        ["a3 LOGOUT\r\n", "a3 OK"],
      ]);
    },
    flows: [wentOn("imap")],
  },
  {
    name: "pop3",
    made: "Dovecot's POP3 in plaintext.",
    needs: ["dovecot", "curl"],
    perform: async (s) => {
      await serveDovecot(s, "pop3", false);
      await fetchMail(s, "pop3");
    },
    flows: [plain("pop3")],
  },
  {
    name: "pop3-stls",
    made: "Dovecot's POP3, STLS agreed to.",
    needs: ["dovecot", "curl"],
    perform: async (s) => {
      await serveDovecot(s, "pop3", true);
      await fetchMail(s, "pop3", "--ssl-reqd");
    },
    flows: [upgraded("pop3")],
  },
  {
    name: "pop3-refused",
    made: "Dovecot without TLS: STLS is answered -ERR, and the client leaves.",
    needs: ["dovecot"],
    perform: async (s) => {
      await serveDovecot(s, "pop3", false);
      await ask(s.port, [
        ["", "+OK"],
        ["STLS\r\n", "-ERR"],
      ]);
    },
    flows: [gaveUp("pop3")],
  },
  {
    name: "smtp",
    made: "A mail to aiosmtpd, which knows no TLS.",
    needs: AIOSMTPD,
    perform: async (s) => {
      await serveSmtp(s, "none");
      await sendMail(s);
    },
    flows: [plain("smtp")],
  },
  {
    name: "smtp-starttls",
    made: "A mail to aiosmtpd behind STARTTLS.",
    needs: AIOSMTPD,
    perform: async (s) => {
      await serveSmtp(s, "offered");
      await sendMail(s, "--ssl-reqd");
    },
    flows: [upgraded("smtp")],
  },
  {
    name: "smtp-refused",
    made: "aiosmtpd without TLS: STARTTLS is answered 454, and the client leaves.",
    needs: AIOSMTPD,
    perform: async (s) => {
      await serveSmtp(s, "none");
      await ask(s.port, [
        ["", "220"],
        ["EHLO client.golden\r\n", "250 HELP"],
        ["STARTTLS\r\n", "454"],
      ]);
    },
    flows: [gaveUp("smtp")],
  },
  {
    name: "smtp-went-on",
    made: "aiosmtpd without TLS: STARTTLS is answered 454, and the mail is sent all the same.",
    needs: AIOSMTPD,
    perform: async (s) => {
      await serveSmtp(s, "none");
      await ask(s.port, [
        ["", "220"],
        ["EHLO client.golden\r\n", "250 HELP"],
        ["STARTTLS\r\n", "454"],
        ["MAIL FROM:<a@golden.example>\r\n", "250"],
        ["RCPT TO:<b@golden.example>\r\n", "250"],
        ["DATA\r\n", "354"],
        ["Subject: golden\r\n\r\nhello\r\n.\r\n", "250"],
        ["QUIT\r\n", "221"],
      ]);
    },
    flows: [wentOn("smtp")],
  },
  {
    name: "smtp-requires-tls",
    made: "aiosmtpd takes mail behind STARTTLS only: MAIL in plaintext is answered 530.",
    needs: AIOSMTPD,
    perform: async (s) => {
      await serveSmtp(s, "required");
      await ask(s.port, [
        ["", "220"],
        ["EHLO client.golden\r\n", "250 HELP"],
        ["MAIL FROM:<a@golden.example>\r\n", "530"],
      ]);
    },
    flows: [{ protocol: "smtp", encryption: "plaintext", handshake: null }],
  },
  {
    name: "smtp-stripped",
    made: "A mail server's offer of STARTTLS, overwritten by a middlebox; the mail goes on.",
    constructed: "RFC 3207 §6",
    perform: (s) =>
      exchange(s.port, [
        ["server", "220 mail.golden.example ESMTP\r\n"],
        ["client", "EHLO client.golden\r\n"],
        ["server", "250-mail.golden.example\r\n250-PIPELINING\r\n250-XXXXXXXA\r\n250 8BITMIME\r\n"],
        ["client", "MAIL FROM:<a@golden.example>\r\n"],
        ["server", "250 2.1.0 Ok\r\n"],
        ["client", "QUIT\r\n"],
        ["server", "221 2.0.0 Bye\r\n"],
      ]),
    flows: [{ ...plain("smtp"), findings: ["upgrade-stripped"] }],
  },
  {
    name: "ftp",
    made: "vsftpd in plaintext: the control connection.",
    needs: ["vsftpd", "curl"],
    perform: async (s) => {
      await serveFtp(s, false);
      await ftp(s);
    },
    flows: [plain("ftp")],
  },
  {
    name: "ftp-tls",
    made: "vsftpd, AUTH TLS agreed to; it asks for a certificate, and curl has none.",
    needs: ["vsftpd", "curl"],
    perform: async (s) => {
      await serveFtp(s, true);
      await ftp(s, "--ssl-reqd");
    },
    flows: [upgraded("ftp", { mutual: "inferred-declined" })],
  },
  {
    name: "ftp-went-on",
    made: "vsftpd without TLS: AUTH is refused, and curl goes on in plaintext.",
    needs: ["vsftpd", "curl"],
    perform: async (s) => {
      await serveFtp(s, false);
      await ftp(s, "--ssl");
    },
    flows: [wentOn("ftp")],
  },
  {
    name: "ftp-refused",
    made: "vsftpd without TLS: AUTH is refused, and curl, told to insist, leaves.",
    needs: ["vsftpd", "curl"],
    perform: async (s) => {
      await serveFtp(s, false);
      await ftp(s, "--ssl-reqd").catch(() => "refused, as it must be");
    },
    flows: [gaveUp("ftp")],
  },
];
