/** Lists the golden captures of calls and services: gRPC, WebSocket, SIP, proxies in front. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { WebSocket, WebSocketServer } from "ws";
import { mustRun } from "../scene/processes.ts";
import { beside, counted, curl, exchange, hex, plain, tls13 } from "./acts.ts";
import type { Turn } from "./acts.ts";
import type { Case, Stage, Truth } from "./stage.ts";

/** Without its gateway, which is a client of its own, etcd hears etcdctl alone. */
async function askEtcd(stage: Stage): Promise<void> {
  const place = `http://127.0.0.1:${stage.port}`;
  const peers = `http://127.0.0.1:${stage.port + 20}`;
  await stage.serve([
    ...["etcd", "--data-dir", stage.file(`etcd-${stage.port}`), "--listen-client-urls", place],
    ...["--advertise-client-urls", place, "--listen-peer-urls", peers],
    ...["--initial-advertise-peer-urls", peers, "--initial-cluster", `default=${peers}`],
    "--enable-grpc-gateway=false",
  ]);
  await mustRun(["env", "ETCDCTL_API=3", "etcdctl", "--endpoints", place, "put", "a", "1"]);
}

/** SIPp's server and client: a call is set up and ended. */
async function call(stage: Stage, transport: "u1" | "t1"): Promise<void> {
  const server = ["sipp", "-sn", "uas", "-i", "127.0.0.1", "-p", String(stage.port), "-nostdin"];
  const one = ["-t", transport, "-m", "1"];
  const argv = ["env", "TERM=dumb", ...server, ...one];
  await (transport === "u1" ? stage.serveDatagrams(argv) : stage.serve(argv));
  await mustRun([
    ...["env", "TERM=dumb", "sipp", "-sn", "uac", `127.0.0.1:${stage.port}`, "-i", "127.0.0.1"],
    ...["-p", String(stage.port + 1), "-d", "100", "-nostdin", ...one],
  ]);
}

/** haproxy says in front of each connection from whom it is. */
async function behindHaproxy(stage: Stage, how: "send-proxy" | "send-proxy-v2"): Promise<void> {
  const config = stage.write(
    `haproxy-${stage.port}.cfg`,
    `defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s
frontend golden\n  bind 127.0.0.1:${stage.port}\n  default_backend behind
backend behind\n  server one 127.0.0.1:${stage.port + 1} ${how}\n`,
  );
  await stage.serve(["haproxy", "-db", "-f", config]);
}

/** An nginx that takes the header of the PROXY protocol. */
async function serveNginx(stage: Stage, port: number, tls: boolean): Promise<void> {
  const kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  const files = `ssl_certificate ${stage.certificate("server")};
ssl_certificate_key ${stage.key("server")}; ssl_protocols TLSv1.2 TLSv1.3;`;
  const config = stage.write(
    `nginx-${port}.conf`,
    `daemon off; master_process off; user root; pid ${stage.file("nginx.pid")};
error_log stderr; events { worker_connections 64; }
http { access_log off; ${kinds.map((k) => `${k}_temp_path ${stage.folder};`).join(" ")}
server { listen 127.0.0.1:${port} ${tls ? "ssl" : ""} proxy_protocol;
${tls ? files : ""} return 200 "done\\n"; } }\n`,
  );
  await stage.serve(["nginx", "-p", stage.folder, "-e", "stderr", "-c", config], port);
}

/** What stands behind a PROXY header is told by its own name. */
const proxied = (truth: Truth): Truth => ({ ...truth, upgraded_from: "proxy-protocol" });

async function throughHaproxy(
  stage: Stage,
  how: "send-proxy" | "send-proxy-v2",
  tls: boolean,
): Promise<void> {
  await serveNginx(stage, stage.port + 1, tls);
  await behindHaproxy(stage, how);
  const url = `${tls ? "https" : "http"}://127.0.0.1:${stage.port}/`;
  await mustRun(curl("-k", "--http1.1", url));
}

/** Thrift's strict binary message, of a struct with nothing in it but its end. */
const binaryMessage = (type: number, name: string) =>
  Buffer.concat([hex("800100", `0${type}`), counted(4, name), hex("00000001 00")]);
/** The compact one: 0x82, type and version 1, sequence number 1. */
const compactMessage = (type: number, name: string) =>
  Buffer.concat([Buffer.of(0x82, (type << 5) | 1, 1), counted(1, name), hex("00")]);

/** A Dubbo message: magic, flags, status, identifier 1, body behind its length. */
const dubbo = (flags: string, status: string, body: string) =>
  Buffer.concat([hex("dabb", flags, status, "0000000000000001"), counted(4, body)]);

const RTSP: readonly Turn[] = [
  ["client", "OPTIONS rtsp://media.golden/film RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: golden\r\n\r\n"],
  ["server", "RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: DESCRIBE, SETUP, TEARDOWN, PLAY\r\n\r\n"],
  ["client", "DESCRIBE rtsp://media.golden/film RTSP/1.0\r\nCSeq: 2\r\n\r\n"],
  ["server", "RTSP/1.0 404 Not Found\r\nCSeq: 2\r\n\r\n"],
];

export const SERVICE_CASES: readonly Case[] = [
  {
    name: "grpc",
    made: "etcdctl at etcd: gRPC in plaintext, a value written.",
    needs: ["etcd", "etcdctl"],
    perform: askEtcd,
    flows: [plain("grpc")],
  },
  {
    name: "websocket",
    made: "A WebSocket in plaintext: one message and its echo.",
    perform: async (s) => {
      const http = createServer();
      const server = new WebSocketServer({ server: http });
      server.on("connection", (socket) => socket.on("message", (text) => socket.send(text)));
      await beside(http, s.port, async () => {
        const { port } = http.address() as AddressInfo;
        const socket = new WebSocket(`ws://127.0.0.1:${port}/golden`);
        await once(socket, "open");
        socket.send("hello");
        await once(socket, "message");
        socket.close();
        await once(socket, "close");
      });
      server.close();
    },
    flows: [plain("websocket")],
  },
  {
    name: "sip",
    made: "SIPp at SIPp over UDP: INVITE to BYE.",
    needs: ["sipp"],
    perform: (s) => call(s, "u1"),
    flows: [{ ...plain("sip"), proto: "udp" }],
  },
  {
    name: "sip-tcp",
    made: "SIPp at SIPp over TCP: INVITE to BYE.",
    needs: ["sipp"],
    perform: (s) => call(s, "t1"),
    flows: [plain("sip")],
  },
  {
    name: "rtsp",
    made: "RTSP: OPTIONS and DESCRIBE, answered.",
    constructed: "RFC 2326 §10.1, §10.2",
    perform: (s) => exchange(s.port, RTSP),
    flows: [plain("rtsp")],
  },
  {
    name: "proxy1",
    made: "haproxy in front of nginx, PROXY protocol version 1, HTTP; seen on both legs.",
    needs: ["haproxy", "nginx", "curl"],
    perform: (s) => throughHaproxy(s, "send-proxy", false),
    flows: [plain("http"), proxied(plain("http"))],
  },
  {
    name: "proxy2",
    made: "haproxy in front of nginx, PROXY protocol version 2, HTTP; seen on both legs.",
    needs: ["haproxy", "nginx", "curl"],
    perform: (s) => throughHaproxy(s, "send-proxy-v2", false),
    flows: [plain("http"), proxied(plain("http"))],
  },
  {
    name: "proxy1-tls",
    made: "haproxy in front of nginx, PROXY protocol version 1, TLS behind it; on both legs.",
    needs: ["haproxy", "nginx", "curl"],
    perform: (s) => throughHaproxy(s, "send-proxy", true),
    flows: [tls13({ mutual: "inferred-no" }), proxied(tls13({ mutual: "inferred-no" }))],
  },
  {
    name: "proxy2-tls",
    made: "haproxy in front of nginx, PROXY protocol version 2, TLS behind it; on both legs.",
    needs: ["haproxy", "nginx", "curl"],
    perform: (s) => throughHaproxy(s, "send-proxy-v2", true),
    flows: [tls13({ mutual: "inferred-no" }), proxied(tls13({ mutual: "inferred-no" }))],
  },
  {
    name: "thrift",
    made: "Thrift's binary protocol, unframed: a call and its reply.",
    constructed: "Apache Thrift, doc/specs/thrift-binary-protocol.md, Message",
    perform: (s) =>
      exchange(s.port, [
        ["client", binaryMessage(1, "getStatus")],
        ["server", binaryMessage(2, "getStatus")],
      ]),
    flows: [plain("thrift")],
  },
  {
    name: "thrift-framed",
    made: "Thrift's binary protocol in frames: a call and an exception.",
    constructed: "Apache Thrift, doc/specs/thrift-rpc.md, Framed vs. unframed transport",
    perform: (s) =>
      exchange(s.port, [
        ["client", counted(4, binaryMessage(1, "getStatus"))],
        ["server", counted(4, binaryMessage(3, "getStatus"))],
      ]),
    flows: [plain("thrift")],
  },
  {
    name: "thrift-compact",
    made: "Thrift's compact protocol in frames: a call and its reply.",
    constructed: "Apache Thrift, doc/specs/thrift-compact-protocol.md, Message",
    perform: (s) =>
      exchange(s.port, [
        ["client", counted(4, compactMessage(1, "getStatus"))],
        ["server", counted(4, compactMessage(2, "getStatus"))],
      ]),
    flows: [plain("thrift")],
  },
  {
    name: "dubbo",
    made: "Dubbo: a request and its response, and a heartbeat.",
    constructed: "Apache Dubbo, Dubbo2 protocol specification, Dubbo protocol details",
    perform: (s) =>
      exchange(s.port, [
        ["client", dubbo("c2", "00", "\u00052.0.2\u0016org.golden.GreetService\u00051.0.0")],
        ["server", dubbo("02", "14", "\u0091\u0005hello")],
        ["client", dubbo("e2", "00", "N")],
        ["server", dubbo("22", "14", "N")],
      ]),
    flows: [plain("dubbo")],
  },
];
