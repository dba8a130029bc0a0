/** Makes the certificates with OpenSSL: SPIFFE leaves of a mesh, and what others issue. */
import { writeFileSync, readFileSync, mkdirSync } from "node:fs";
import path from "node:path";
import { mustRun } from "./processes.ts";

/** Who signs; `own` is an application's, the rogue authority is trusted by nobody. */
const AUTHORITIES = ["mesh", "own", "rogue"] as const;
export type Authority = (typeof AUTHORITIES)[number];

type Leaf = {
  /** `namespace/name` of the workload that holds it; names its files. */
  holder: string;
  authority: Authority;
  /** Service account whose name it claims, by SPIFFE where the mesh does: `namespace/name`. */
  claims: string;
  expired: boolean;
};

const leaf = (holder: string, more: Partial<Leaf> = {}): Leaf => ({
  holder,
  authority: "mesh",
  claims: holder,
  expired: false,
  ...more,
});

const LEAVES: readonly Leaf[] = [
  leaf("shop/web"),
  leaf("shop/cart"),
  leaf("shop/orders"),
  leaf("shop/intruder", { authority: "rogue", claims: "shop/web" }),
  leaf("pay/ledger"),
  leaf("pay/settlement"),
  leaf("pay/billing", { expired: true }),
  leaf("pay/invoices"),
  leaf("pay/vault"),
  leaf("pay/exchange", { authority: "own" }),
  leaf("own/web", { authority: "own", claims: "shop/web" }),
  leaf("fleet/dispatch"),
  leaf("fleet/tracker"),
  leaf("data/postgres"),
  leaf("data/cache"),
];

export class Certificates {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  authority(name: Authority): string {
    return path.join(this.#folder, `${name}-ca.pem`);
  }

  certificate(holder: string): string {
    return path.join(this.#folder, `${holder.replace("/", "-")}.pem`);
  }

  key(holder: string): string {
    return path.join(this.#folder, `${holder.replace("/", "-")}.key`);
  }

  /** Certificate and key in one file, as haproxy wants them. */
  both(holder: string): string {
    return path.join(this.#folder, `${holder.replace("/", "-")}.both.pem`);
  }
}

const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"];

async function makeAuthority(made: Certificates, name: Authority): Promise<void> {
  await mustRun([
    ...["openssl", "req", "-x509", ...NEW_KEY, "-days", "30", "-subj", `/O=${name}.example`],
    ...["-keyout", `${made.authority(name)}.key`, "-out", made.authority(name)],
  ]);
}

/** As Istio's: no subject to speak of, the identity as a URI; a DNS name for ordinary clients. */
function extensionsOf(one: Leaf): string[] {
  const [namespace, account] = one.claims.split("/");
  const spiffe = `URI:spiffe://cluster.local/ns/${namespace}/sa/${account}`;
  const names = [
    ...(one.authority === "own" ? [] : [spiffe]),
    `DNS:${account}.${namespace}.svc.cluster.local`,
  ];
  return [
    "basicConstraints=critical,CA:FALSE",
    "keyUsage=critical,digitalSignature",
    "extendedKeyUsage=serverAuth,clientAuth",
    `subjectAltName=${names.join(",")}`,
  ];
}

async function makeLeaf(made: Certificates, one: Leaf): Promise<void> {
  const authority = made.authority(one.authority);
  const [certificate, key] = [made.certificate(one.holder), made.key(one.holder)];
  const added = extensionsOf(one).flatMap((extension) => ["-addext", extension]);
  const subject = ["-subj", "/O=cluster.local"];
  if (!one.expired) {
    await mustRun([
      ...["openssl", "req", "-x509", "-CA", authority, "-CAkey", `${authority}.key`, ...NEW_KEY],
      ...["-days", "1", ...subject, ...added, "-keyout", key, "-out", certificate],
    ]);
  } else await makeExpired(one, { authority, certificate, key, subject });
  writeFileSync(made.both(one.holder), readFileSync(certificate) + "" + readFileSync(key), {
    mode: 0o600,
  });
}

/** `openssl req` cannot date back; `openssl ca` can, and wants a small database for it. */
async function makeExpired(
  one: Leaf,
  files: { authority: string; certificate: string; key: string; subject: string[] },
): Promise<void> {
  const folder = `${files.certificate}.ca`;
  mkdirSync(folder);
  writeFileSync(path.join(folder, "index"), "");
  const settings = [
    ...["[ca]", "default_ca=one", "[one]", `database=${folder}/index`, `new_certs_dir=${folder}`],
    ...["rand_serial=yes", "default_md=sha256", "policy=any", "x509_extensions=leaf"],
    ...["[any]", "organizationName=optional", "[leaf]", ...extensionsOf(one)],
  ];
  writeFileSync(path.join(folder, "ca.conf"), `${settings.join("\n")}\n`);
  const request = path.join(folder, "request.pem");
  await mustRun([
    ...["openssl", "req", "-new", ...NEW_KEY, ...files.subject],
    ...["-keyout", files.key, "-out", request],
  ]);
  await mustRun([
    ...["openssl", "ca", "-batch", "-notext", "-config", path.join(folder, "ca.conf")],
    ...["-cert", files.authority, "-keyfile", `${files.authority}.key`, "-in", request],
    ...["-startdate", "20250101000000Z", "-enddate", "20250102000000Z"],
    ...["-out", files.certificate],
  ]);
}

/** Makes them all in the folder, private keys beside them; the folder goes with the scene. */
export async function makeCertificates(folder: string): Promise<Certificates> {
  mkdirSync(folder, { recursive: true });
  const made = new Certificates(folder);
  await Promise.all(AUTHORITIES.map((name) => makeAuthority(made, name)));
  for (const one of LEAVES) await makeLeaf(made, one);
  return made;
}
