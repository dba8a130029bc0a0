/** Lists the golden captures of stores: memcached, ZooKeeper; bytes of others' protocols. */
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { TLSSocket, connect as connectTls } from "node:tls";
import { ask, counted, exchange, exchangeDatagrams, gaveUp, hex, plain, upgraded } from "./acts.ts";
import type { Turn } from "./acts.ts";
import type { Case, Stage, Truth } from "./stage.ts";
import { TdsStream, tds } from "./tds-stream.ts";

const serveMemcached = (stage: Stage, ...more: string[]) =>
  stage.serve([
    ...["memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", String(stage.port), "-t", "1"],
    ...(more.length > 0 ? more : ["-U", "0"]),
  ]);

/** A request of memcached's binary protocol (protocol_binary.h). */
function binary(opcode: number, extras: Buffer, key: string, value: string): Buffer {
  const head = Buffer.alloc(24);
  head[0] = 0x80;
  head[1] = opcode;
  head.writeUInt16BE(key.length, 2);
  head[4] = extras.length;
  head.writeUInt32BE(extras.length + key.length + value.length, 8);
  return Buffer.concat([head, extras, Buffer.from(key + value)]);
}

async function serveZookeeper(stage: Stage): Promise<void> {
  const data = stage.file(`zookeeper-${stage.port}`);
  mkdirSync(data);
  const config = stage.write(
    "zoo.cfg",
    `dataDir=${data}\nclientPort=${stage.port}\nclientPortAddress=127.0.0.1
admin.enableServer=false\n4lw.commands.whitelist=ruok,srvr\ntickTime=2000\n`,
  );
  const main = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
  const names = ["zookeeper", "snappy-java", "metrics-core"];
  const jars = ["/etc/zookeeper/conf", ...names.map((n) => `/usr/share/java/${n}.jar`)].join(":");
  await stage.serve(["java", "-Xmx128m", "-cp", jars, main, config]);
  await sleep(6000); // it listens before it answers
}

/** ConnectRequest, GetDataRequest of `/zookeeper`, closeSession (zookeeper.jute). */
const ZK_CONNECT = counted(
  4,
  hex("00000000 0000000000000000 00002710 0000000000000000"),
  counted(4, Buffer.alloc(16)),
  hex("00"),
);
const ZK_GET = counted(4, hex("00000001 00000004"), counted(4, "/zookeeper"), hex("00"));
const ZK_CLOSE = counted(4, hex("00000002 fffffff5"));

/** A BSON document of int32s and strings (bsonspec.org). */
function bson(fields: Readonly<Record<string, number | string>>): Buffer {
  const parts = Object.entries(fields).map(([name, value]) => {
    const text = typeof value === "string";
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(text ? value.length + 1 : value);
    const rest = text ? Buffer.concat([bytes, Buffer.from(`${value}\0`)]) : bytes;
    return Buffer.concat([Buffer.from(`${text ? "\u0002" : "\u0010"}${name}\0`), rest]);
  });
  const length = Buffer.alloc(4);
  const body = Buffer.concat([...parts, Buffer.of(0)]);
  length.writeInt32LE(body.length + 4);
  return Buffer.concat([length, body]);
}

/** MongoDB's header: length, request, the one answered, opcode; all little-endian. */
function mongo(request: number, answered: number, opcode: number, ...rest: Buffer[]): Buffer {
  const body = Buffer.concat(rest);
  const head = Buffer.alloc(16);
  [16 + body.length, request, answered, opcode].forEach((n, i) => head.writeInt32LE(n, i * 4));
  return Buffer.concat([head, body]);
}

const OP_QUERY = 2004;
const OP_REPLY = 1;
const OP_MSG = 2013;
const message = (document: Buffer) => Buffer.concat([hex("00000000 00"), document]);

/** A CQL frame of version 4: version, flags 0, stream, opcode, body behind its length. */
const cql = (isResponse: boolean, stream: number, opcode: number, ...body: Buffer[]) =>
  Buffer.concat([Buffer.of(isResponse ? 0x84 : 4, 0, 0, stream, opcode), counted(4, ...body)]);
const cqlMap = (key: string, value: string) =>
  Buffer.concat([hex("0001"), counted(2, key), counted(2, value)]);

/** PRELOGIN of VERSION and ENCRYPTION, which is `encryption` (2: not supported). */
const prelogin = (version: string, encryption: string) =>
  hex("00 000b 0006 01 0011 0001 ff", version, encryption);

const wide = (text: string) => Buffer.from(text, "utf16le");

/** LOGIN7 for TDS 7.4: fixed part of 36 bytes, offsets and lengths, then the texts. */
function login7(): Buffer {
  const texts = ["client", "sa", "", "golden", "sql.golden", "", "golden", "", "master"];
  const head = Buffer.alloc(94);
  head.set(hex("04000074 00100000 00000007 64000000 00000000 e0 03 00 00 00000000 09040000"), 4);
  let at = 94;
  texts.forEach((text, i) => {
    head.writeUInt16LE(at, 36 + i * 4);
    head.writeUInt16LE(text.length, 38 + i * 4);
    at += text.length * 2;
  });
  head.set(hex("020000000001"), 72);
  for (const i of [78, 82, 86]) head.writeUInt16LE(at, i);
  head.writeUInt32LE(at, 0);
  return Buffer.concat([head, ...texts.map(wide)]);
}

/** LOGINACK of TDS 7.4 and DONE. */
const LOGINACK = (() => {
  const name = wide("Microsoft SQL Server");
  const body = Buffer.concat([
    hex("01 74000004"),
    Buffer.of(name.length / 2),
    name,
    hex("0f000000"),
  ]);
  const length = Buffer.alloc(2);
  length.writeUInt16LE(body.length);
  return Buffer.concat([hex("ad"), length, body, hex("fd 0000 0000 0000000000000000")]);
})();

/** ALL_HEADERS with a transaction descriptor, and a statement. */
const BATCH = Buffer.concat([
  hex("16000000 12000000 0200 0000000000000000 01000000"),
  wide("select 40+2"),
]);
/** COLMETADATA of one nameless int, a ROW of 42, DONE with the count. */
const RESULT = hex(
  "81 0100 00000000 0100 26 04 00",
  "d1 04 2a000000",
  "fd 1000 c100 0100000000000000",
);

/** TLS 1.2 in TDS packets, a login inside; then, for the login alone, a batch in plaintext. */
function loginInTls(stage: Stage, most: number, loginOnly: boolean) {
  return async (client: Socket, server: Socket): Promise<void> => {
    for (const socket of [client, server]) socket.removeAllListeners("data");
    const [cert, key] = [stage.certificate("server"), stage.key("server")].map((file) =>
      readFileSync(file),
    );
    const options = { isServer: true, cert: cert!, key: key!, maxVersion: "TLSv1.2" } as const;
    const far = new TLSSocket(new TdsStream(server, most), options);
    far.on("error", () => {});
    const ca = readFileSync(stage.file("golden-ca.pem"));
    const near = connectTls({
      ...{ socket: new TdsStream(client, most), ca, checkServerIdentity: () => undefined },
      maxVersion: "TLSv1.2",
    });
    await once(near, "secureConnect");
    const login = once(far, "data");
    near.write(tds(16, login7()));
    await login;
    // Behind a login alone the packets are plaintext, of which TLS hears no more.
    if (loginOnly) for (const socket of [client, server]) socket.removeAllListeners("data");
    const [one, other] = loginOnly ? [client, server] : [near, far];
    for (const [from, to, bytes] of [
      [other, one, tds(4, LOGINACK)],
      [one, other, tds(1, BATCH)],
      [other, one, tds(4, RESULT)],
    ] as const) {
      const came = once(to, "data");
      from.write(bytes);
      await came;
    }
  };
}

const preloginTurns = (client: string, server: string): readonly Turn[] => [
  ["client", tds(18, prelogin("0f000000 0000", client))],
  ["server", tds(4, prelogin("0f000fa0 0000", server))],
];

/** TLS 1.2 inside TDS, no client certificate. */
const TDS_TLS: Truth = {
  ...upgraded("tds", { version: "TLSv1.2", mutual: "no" }),
  server_cert_subject: "CN=server.golden,O=golden",
};

/** An Oracle Net packet: length, checksum 0, type, flags, header checksum 0. */
function tns(type: number, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(8);
  head.writeUInt16BE(8 + body.length);
  head[4] = type;
  return Buffer.concat([head, body]);
}

const DESCRIPTION =
  "(DESCRIPTION=(CONNECT_DATA=(SERVICE_NAME=golden)(CID=(PROGRAM=golden)(HOST=client)(USER=a)))" +
  "(ADDRESS=(PROTOCOL=TCP)(HOST=192.0.2.7)(PORT=1521)))";
/** CONNECT: version 3.14, compatible with 3.0; its data begin at 58. */
function tnsConnect(): Buffer {
  const fixed = hex(
    "013a 012c 0c41 2000 ffff 7f08 0000 0001",
    "0000 003a 00000800 4141 00000000 00000000 00000000 00000000 0000 0000 0000 0000",
  );
  fixed.writeUInt16BE(DESCRIPTION.length, 16);
  return tns(1, fixed, Buffer.from(DESCRIPTION));
}

export const STORE_CASES: readonly Case[] = [
  {
    name: "memcached",
    made: "memcached, text protocol: a value set and read.",
    needs: ["memcached"],
    perform: async (s) => {
      await serveMemcached(s);
      await ask(s.port, [
        ["set a 0 0 5\r\nhello\r\n", "STORED"],
        ["get a\r\n", "END"],
      ]);
    },
    flows: [plain("memcached")],
  },
  {
    name: "memcached-get",
    made: "memcached on its registered port: a key that it does not have.",
    needs: ["memcached"],
    port: 11211,
    perform: async (s) => {
      await serveMemcached(s);
      await ask(s.port, [["get a\r\n", "END"]]);
    },
    flows: [plain("memcached")],
  },
  {
    name: "memcached-binary",
    made: "memcached, binary protocol: a value set and read.",
    needs: ["memcached"],
    perform: async (s) => {
      await serveMemcached(s);
      await ask(s.port, [
        [binary(1, Buffer.alloc(8), "a", "hello"), hex("81 01")],
        [binary(0, Buffer.alloc(0), "a", ""), "hello"],
      ]);
    },
    flows: [plain("memcached")],
  },
  {
    name: "memcached-udp",
    made: "memcached over UDP, text behind the frame header.",
    constructed: "memcached protocol.txt, UDP protocol",
    perform: (s) =>
      exchangeDatagrams(s.port, [
        ["client", Buffer.concat([hex("0007 0000 0001 0000"), Buffer.from("get a\r\n")])],
        [
          "server",
          Buffer.concat([hex("0007 0000 0001 0000"), Buffer.from("VALUE a 0 1\r\n1\r\nEND\r\n")]),
        ],
      ]),
    flows: [{ ...plain("memcached"), proto: "udp" }],
  },
  {
    name: "zookeeper",
    made: "A ZooKeeper server: a session, a node read, the session closed.",
    needs: ["java", "/usr/share/java/zookeeper.jar"],
    perform: async (s) => {
      await serveZookeeper(s);
      await ask(s.port, [
        [ZK_CONNECT, hex("00000010")],
        [ZK_GET, hex("00000001")],
        [ZK_CLOSE, hex("00000002")],
      ]);
    },
    flows: [plain("zookeeper")],
  },
  {
    name: "zookeeper-srvr",
    made: "A ZooKeeper server on its registered port, asked by a four letter word.",
    needs: ["java", "/usr/share/java/zookeeper.jar"],
    port: 2181,
    perform: async (s) => {
      await serveZookeeper(s);
      await ask(s.port, [["srvr", "Zookeeper version"]]);
    },
    flows: [plain("zookeeper")],
  },
  {
    name: "mongodb",
    made: "MongoDB: hello by OP_QUERY, ping by OP_MSG, both answered.",
    constructed: "MongoDB wire protocol, OP_QUERY, OP_REPLY, OP_MSG",
    perform: (s) => {
      const query = Buffer.concat([
        ...[hex("00000000"), Buffer.from("admin.$cmd\0"), hex("00000000 ffffffff")],
        bson({ isMaster: 1, helloOk: 1 }),
      ]);
      const reply = Buffer.concat([
        hex("08000000 0000000000000000 00000000 01000000"),
        bson({ ismaster: 1, maxWireVersion: 17, ok: 1 }),
      ]);
      return exchange(s.port, [
        ["client", mongo(1, 0, OP_QUERY, query)],
        ["server", mongo(100, 1, OP_REPLY, reply)],
        ["client", mongo(2, 0, OP_MSG, message(bson({ ping: 1, $db: "admin" })))],
        ["server", mongo(101, 2, OP_MSG, message(bson({ ok: 1 })))],
      ]);
    },
    flows: [plain("mongodb")],
  },
  {
    name: "mongodb-msg",
    made: "MongoDB: a client that begins with OP_MSG.",
    constructed: "MongoDB wire protocol, OP_MSG",
    perform: (s) =>
      exchange(s.port, [
        ["client", mongo(1, 0, OP_MSG, message(bson({ hello: 1, $db: "admin" })))],
        ["server", mongo(100, 1, OP_MSG, message(bson({ isWritablePrimary: 1, ok: 1 })))],
      ]),
    flows: [plain("mongodb")],
  },
  {
    name: "cassandra",
    made: "CQL version 4: OPTIONS, STARTUP and a QUERY, answered by an ERROR.",
    constructed: "native_protocol_v4.spec §2, §4.1, §4.2",
    perform: (s) => {
      const text = Buffer.from("SELECT key FROM system.local");
      const told = Buffer.concat([hex("00002200"), counted(2, "unconfigured table local")]);
      const versions = Buffer.concat([
        ...[hex("0001"), counted(2, "CQL_VERSION"), hex("0001"), counted(2, "3.4.5")],
      ]);
      return exchange(s.port, [
        ["client", cql(false, 0, 5)],
        ["server", cql(true, 0, 6, versions)],
        ["client", cql(false, 1, 1, cqlMap("CQL_VERSION", "3.0.0"))],
        ["server", cql(true, 1, 2)],
        ["client", cql(false, 2, 7, counted(4, text), hex("0001 00"))],
        ["server", cql(true, 2, 0, told)],
      ]);
    },
    flows: [plain("cassandra")],
  },
  {
    name: "tds",
    made: "TDS 7.4 without encryption: PRELOGIN, LOGIN7 and a batch, each answered.",
    constructed: "MS-TDS §2.2.6.5, §2.2.6.4, §2.2.6.7, §2.2.7",
    perform: (s) =>
      exchange(s.port, [
        ...preloginTurns("02", "02"),
        ["client", tds(16, login7())],
        ["server", tds(4, LOGINACK)],
        ["client", tds(1, BATCH)],
        ["server", tds(4, RESULT)],
      ]),
    flows: [plain("tds")],
  },
  {
    name: "tds-tls",
    made: "TDS 7.4, encryption agreed upon: the handshake in TDS packets, all else in TLS.",
    constructed: "MS-TDS §2.2.6.5, §3.2.5.1; the TLS is OpenSSL's",
    perform: (s) => exchange(s.port, preloginTurns("01", "01"), loginInTls(s, 4096, false)),
    flows: [TDS_TLS],
  },
  {
    name: "tds-tls-cut",
    made: "The same in packets of 512 bytes, which cut the server's records.",
    constructed: "MS-TDS §2.2.6.5, §3.2.5.1; the TLS is OpenSSL's",
    perform: (s) => exchange(s.port, preloginTurns("01", "03"), loginInTls(s, 512, false)),
    flows: [TDS_TLS],
  },
  {
    name: "tds-login-only",
    made: "TDS 7.4, both sides with encryption off: TLS covers the login, the rest is plaintext.",
    constructed: "MS-TDS §2.2.6.5, §3.2.5.1; the TLS is OpenSSL's",
    perform: (s) => exchange(s.port, preloginTurns("00", "00"), loginInTls(s, 4096, true)),
    flows: [{ protocol: "tds", encryption: "plaintext", accepted: true, failure: null }],
  },
  {
    name: "tds-refused",
    made: "TDS 7.4: the client wants encryption, the server does not know it; the client leaves.",
    constructed: "MS-TDS §2.2.6.5",
    perform: (s) => exchange(s.port, preloginTurns("01", "02")),
    flows: [gaveUp("tds")],
  },
  {
    name: "tns",
    made: "Oracle Net: CONNECT, answered by ACCEPT, then data.",
    constructed: "Oracle Net's packets as the TNS dissectors of Wireshark and Suricata have them",
    perform: (s) =>
      exchange(s.port, [
        ["client", tnsConnect()],
        ["server", tns(2, hex("013a 0000 0800 7fff 0100 0000 0020 4141 0000000000000000"))],
        [
          "client",
          tns(6, hex("0000 deadbeef 0092 0a200100 0004 0000 0400 0300000000000400050a200100")),
        ],
        [
          "server",
          tns(6, hex("0000 deadbeef 0075 0a200100 0004 0000 0400 0300000000000400050a200100")),
        ],
      ]),
    flows: [plain("tns")],
  },
  {
    name: "tns-refused",
    made: "Oracle Net: CONNECT, answered by REFUSE: the listener does not know the service.",
    constructed: "Oracle Net's packets as the TNS dissectors of Wireshark and Suricata have them",
    perform: (s) => {
      const why =
        "(DESCRIPTION=(TMP=)(VSNNUM=318767104)(ERR=12514)(ERROR_STACK=(ERROR=(CODE=12514)))";
      return exchange(s.port, [
        ["client", tnsConnect()],
        ["server", tns(4, hex("2200"), counted(2, why))],
      ]);
    },
    flows: [{ protocol: "tns", encryption: "plaintext", handshake: null }],
  },
];
