/** Lists the golden captures of directories and file shares: slapd, the MIT KDC, Samba. */
import { chmodSync, mkdirSync } from "node:fs";
import { mustRun } from "../scene/processes.ts";
import { ask, gaveUp, hex, plain, upgraded, wentOn } from "./acts.ts";
import type { Case, Stage, Truth } from "./stage.ts";

async function serveLdap(stage: Stage, tls: boolean): Promise<void> {
  const data = stage.file(`slapd-${stage.port}`);
  mkdirSync(data);
  const files = `TLSCertificateFile ${stage.certificate("server")}
TLSCertificateKeyFile ${stage.key("server")}\n`;
  const config = stage.write(
    `slapd-${stage.port}.conf`,
    `include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb
pidfile ${data}/pid\n${tls ? files : ""}database mdb\nsuffix "o=golden"\ndirectory ${data}
rootdn "cn=admin,o=golden"\nrootpw golden\n`,
  );
  const place = `ldap://127.0.0.1:${stage.port}`;
  await stage.serve(["slapd", "-d", "0", "-h", place, "-f", config]);
}

/** A simple bind, and a search of the root. `-ZZ` insists on StartTLS, `-Z` goes on without. */
const searchLdap = (stage: Stage, ...how: string[]) =>
  mustRun(
    [
      ...["ldapsearch", "-x", "-H", `ldap://127.0.0.1:${stage.port}`, "-s", "base", "-b", ""],
      ...["-D", "cn=admin,o=golden", "-w", "golden", ...how],
    ],
    { env: { ...process.env, LDAPTLS_REQCERT: "never" } },
  );

/** A realm with one principal. */
async function serveKerberos(stage: Stage): Promise<NodeJS.ProcessEnv> {
  const home = stage.file(`kdc-${stage.port}`);
  mkdirSync(home);
  const profile = stage.write(
    `kdc-${stage.port}/kdc.conf`,
    `[kdcdefaults]\nkdc_listen = 127.0.0.1:${stage.port}\nkdc_tcp_listen = 127.0.0.1:${stage.port}
[realms]\nGOLDEN = {\ndatabase_name = ${home}/principal\nkey_stash_file = ${home}/stash
acl_file = ${home}/acl\n}\n`,
  );
  const config = stage.write(
    `kdc-${stage.port}/krb5.conf`,
    `[libdefaults]\ndefault_realm = GOLDEN\ndns_lookup_kdc = false\nudp_preference_limit = 1400
[realms]\nGOLDEN = {\nkdc = 127.0.0.1:${stage.port}\n}\n`,
  );
  const env = {
    ...process.env,
    ...{ KRB5_CONFIG: config, KRB5_KDC_PROFILE: profile, KRB5CCNAME: `${home}/tickets` },
  };
  await mustRun(["kdb5_util", "-r", "GOLDEN", "create", "-s", "-P", "golden"], { env });
  await mustRun(["kadmin.local", "-q", "addprinc -pw golden user"], { env });
  const settings = ["KRB5_CONFIG", "KRB5_KDC_PROFILE"] as const;
  const pairs = settings.map((name) => `${name}=${env[name]}`);
  await stage.serve(["env", ...pairs, "krb5kdc", "-n"]);
  return env;
}

/** `kinit` over TCP when a preference says that hardly anything is small enough for UDP. */
async function kinit(stage: Stage, overTcp: boolean): Promise<void> {
  const env = await serveKerberos(stage);
  if (overTcp) await mustRun(["sed", "-i", "s/1400/1/", env["KRB5_CONFIG"]!]);
  await mustRun(["kinit", "user"], { env, input: "golden\n" });
}

/** A share that guests may read, of the versions from `least` to `most`. */
async function serveSmb(stage: Stage, least: string, most: string, more = ""): Promise<void> {
  const home = stage.file(`smb-${stage.port}`);
  for (const folder of [home, `${home}/share`]) mkdirSync(folder);
  chmodSync(stage.folder, 0o755);
  const folders = ["private dir", "lock directory", "state directory", "cache directory"];
  const places = [...folders, "pid directory"].map((name) => `${name} = ${home}`).join("\n");
  const config = stage.write(
    `smb-${stage.port}/smb.conf`,
    `[global]\ninterfaces = 127.0.0.1\nbind interfaces only = yes\nmap to guest = Bad User
server min protocol = ${least}\nserver max protocol = ${most}\nncalrpc dir = ${home}/ncalrpc
${places}
log file = ${home}/log\nlog level = 0\nsmb ports = ${stage.port}\n${more}
[golden]\npath = ${home}/share\nguest ok = yes\nread only = yes\n`,
  );
  await stage.serve(["smbd", "-F", "--no-process-group", "-s", config]);
}

const listShare = (stage: Stage, version: string) =>
  mustRun([
    ...["smbclient", "//127.0.0.1/golden", "-p", String(stage.port), "-N", "-c", "ls"],
    ...[`--option=client min protocol=${version}`, `--option=client max protocol=${version}`],
  ]);

const SMB: Truth = plain("smb");

/** StartTLS, the ExtendedRequest by its name (RFC 4511 §4.14.1). */
const START_TLS = Buffer.concat([
  hex("301d 020101 7718 8016"),
  Buffer.from("1.3.6.1.4.1.1466.20037"),
]);

export const DIRECTORY_CASES: readonly Case[] = [
  {
    name: "ldap",
    made: "slapd in plaintext: a bind and a search.",
    needs: ["slapd", "ldapsearch"],
    perform: async (s) => {
      await serveLdap(s, false);
      await searchLdap(s);
    },
    flows: [plain("ldap")],
  },
  {
    name: "ldap-starttls",
    made: "slapd, StartTLS agreed to; the bind is inside.",
    needs: ["slapd", "ldapsearch"],
    perform: async (s) => {
      await serveLdap(s, true);
      await searchLdap(s, "-ZZ");
    },
    flows: [upgraded("ldap")],
  },
  {
    name: "ldap-went-on",
    made: "slapd without TLS: StartTLS is refused, and the client binds in plaintext.",
    needs: ["slapd", "ldapsearch"],
    perform: async (s) => {
      await serveLdap(s, false);
      await searchLdap(s, "-Z");
    },
    flows: [wentOn("ldap")],
  },
  {
    name: "ldap-refused",
    made: "slapd without TLS: StartTLS is refused, and the client leaves.",
    needs: ["slapd"],
    perform: async (s) => {
      await serveLdap(s, false);
      await ask(s.port, [[START_TLS, hex("020101 78")]]);
    },
    flows: [gaveUp("ldap")],
  },
  {
    name: "kerberos",
    made: "A ticket of the MIT KDC over UDP: AS-REQ, AS-REP.",
    needs: ["krb5kdc", "kinit"],
    perform: (s) => kinit(s, false),
    flows: [{ ...plain("kerberos"), proto: "udp" }],
  },
  {
    name: "kerberos-tcp",
    made: "The same over TCP.",
    needs: ["krb5kdc", "kinit"],
    perform: (s) => kinit(s, true),
    flows: [plain("kerberos")],
  },
  {
    name: "smb2",
    made: "Samba, SMB 2.10: a guest lists a share.",
    needs: ["smbd", "smbclient"],
    perform: async (s) => {
      await serveSmb(s, "SMB2_10", "SMB2_10");
      await listShare(s, "SMB2_10");
    },
    flows: [SMB],
  },
  {
    name: "smb3",
    made: "Samba, SMB 3.1.1: a guest lists a share.",
    needs: ["smbd", "smbclient"],
    perform: async (s) => {
      await serveSmb(s, "SMB3_11", "SMB3_11");
      await listShare(s, "SMB3_11");
    },
    flows: [SMB],
  },
];
