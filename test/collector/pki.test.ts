/** Tests the certificates of a small set-up as Node and OpenSSL read them. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import t from "tap";
import { initCa, issue } from "../../collector/pki.ts";

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "wireproof-pki-"));
t.teardown(() => fs.rmSync(directory, { recursive: true, force: true }));
const read = (file: string) => fs.readFileSync(file, "utf8");

t.test("a CA, and leaves that it signed", async (t) => {
  const [caFile, caKeyFile] = await initCa(directory, "example.org");
  const ca = new X509Certificate(read(caFile!));
  t.ok(ca.ca && ca.verify(ca.publicKey));
  t.equal(ca.subjectAltName, "URI:spiffe://example.org");
  t.equal(fs.statSync(caKeyFile!).mode & 0o777, 0o600);

  const [file, keyFile] = await issue(directory, { agent: "node-1.example", days: 2 });
  const agent = new X509Certificate(read(file!));
  t.equal(path.basename(file!), "node-1.example.pem");
  t.equal(agent.subjectAltName, "URI:spiffe://example.org/agent/node-1.example");
  t.ok(agent.verify(ca.publicKey) && agent.checkIssued(ca) && !agent.ca);
  t.ok(agent.checkPrivateKey(createPrivateKey(read(keyFile!))));
  t.strictSame(agent.keyUsage, ["1.3.6.1.5.5.7.3.2"], "client authentication only");
  t.equal(fs.statSync(keyFile!).mode & 0o777, 0o600);
  const days = (Date.parse(agent.validTo) - Date.now()) / 86_400_000;
  t.ok(days > 1.99 && days <= 2);

  const names = { dns: ["collector.wireproof.svc"], ip: ["10.0.0.1", "fd00::1"], days: 99_999 };
  const collector = new X509Certificate(read((await issue(directory, names))[0]!));
  t.match(collector.subjectAltName, /^URI:spiffe:\/\/example.org\/collector, DNS:collector\./);
  t.equal(collector.checkIP("fd00::1"), "fd00::1");
  t.strictSame(collector.keyUsage, ["1.3.6.1.5.5.7.3.1"], "server authentication only");
  t.equal(collector.validTo, ca.validTo, "no leaf outlives its CA");
  const before = agent.serialNumber;
  await issue(directory, { agent: "node-1.example" });
  t.not(new X509Certificate(read(file!)).serialNumber, before);
});

t.test("mistakes are told", async (t) => {
  await t.rejects(initCa(directory), { code: "CONFIG_PKI_WRITE", message: /not replaced/ });
  await t.rejects(initCa(directory, "Ex/ample"), { code: "CONFIG_PKI_TRUST_DOMAIN" });
  for (const agent of ["", "../x", "a/b", "ca", "collector"]) {
    await t.rejects(issue(directory, { agent }), { code: "CONFIG_PKI_NODE" }, agent);
  }
  await t.rejects(issue(directory, { ip: ["10.0.0"] }), { code: "CONFIG_PKI_IP" });
  await t.rejects(issue(directory, { days: NaN }), { code: "CONFIG_PKI_DAYS" });
  await t.rejects(issue(path.join(directory, "none"), {}), { code: "CONFIG_PKI_CA" });
});
