/** Lists the golden captures of message brokers: RabbitMQ, Mosquitto, NATS; Kafka's bytes. */
import { chmodSync, mkdirSync, readFileSync } from "node:fs";
import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { mustRun, run } from "../scene/processes.ts";
import { ask, counted, exchange, hex, plain, thenTls, upgraded } from "./acts.ts";
import type { Asked } from "./acts.ts";
import type { Case, Stage, Truth } from "./stage.ts";

/** A broker with the plug-in that speaks the protocol; its port mapper ends with the case. */
async function besideRabbit(
  stage: Stage,
  plugin: string | null,
  act: () => Promise<unknown>,
): Promise<void> {
  const home = stage.file(`rabbit-${stage.port}`);
  mkdirSync(home);
  const main = plugin === null ? stage.port : stage.port + 5;
  const stomp =
    plugin === "rabbitmq_stomp" ? `stomp.listeners.tcp.1 = 127.0.0.1:${stage.port}` : "";
  const amqp1 = plugin === "rabbitmq_amqp1_0";
  stage.write(
    `rabbit-${stage.port}/golden.conf`,
    `listeners.tcp.1 = 127.0.0.1:${amqp1 ? stage.port : main}\n${stomp}\n`,
  );
  stage.write(`rabbit-${stage.port}/plugins`, `[${plugin ?? ""}].\n`);
  chmodSync(stage.folder, 0o755);
  const settings = {
    ...{
      HOME: home,
      RABBITMQ_NODENAME: "golden@localhost",
      RABBITMQ_MNESIA_BASE: `${home}/mnesia`,
    },
    ...{ RABBITMQ_LOG_BASE: `${home}/log`, RABBITMQ_CONFIG_FILE: `${home}/golden.conf` },
    ...{ RABBITMQ_ENABLED_PLUGINS_FILE: `${home}/plugins`, RABBITMQ_DIST_PORT: "25999" },
    ...{ ERL_EPMD_ADDRESS: "127.0.0.1", RABBITMQ_CONF_ENV_FILE: "/dev/null" },
  };
  const pairs = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
  try {
    await stage.serve(["env", ...pairs, "/usr/lib/rabbitmq/bin/rabbitmq-server"]);
    await sleep(1000);
    await act();
  } finally {
    await stage.strike();
    await run(["epmd", "-kill"]);
  }
}

const python = (...lines: string[]) => mustRun(["/usr/bin/python3", "-c", lines.join("\n")]);

async function serveMosquitto(stage: Stage, anonymous: boolean): Promise<void> {
  const config = stage.write(
    `mosquitto-${stage.port}.conf`,
    `listener ${stage.port} 127.0.0.1\nallow_anonymous ${anonymous}\nuser root\n`,
  );
  await stage.serve(["mosquitto", "-c", config]);
}

const publish = (stage: Stage, version: string) =>
  mustRun([
    ...["mosquitto_pub", "-h", "127.0.0.1", "-p", String(stage.port), "-V", version],
    ...["-t", "golden/topic", "-m", "hello", "-q", "1"],
  ]);

async function serveNats(stage: Stage, tls: boolean): Promise<void> {
  const files = ["--tlscert", stage.certificate("server"), "--tlskey", stage.key("server")];
  const more = tls ? ["--tls", ...files] : [];
  await stage.serve(["nats-server", "-a", "127.0.0.1", "-p", String(stage.port), ...more]);
}

const CONNECT = 'CONNECT {"verbose":false,"pedantic":false,"lang":"golden"}\r\nPING\r\n';
const NATS_TURNS: readonly Asked[] = [
  [CONNECT, "PONG"],
  ["SUB a.b 1\r\nPUB a.b 5\r\nhello\r\n", "MSG"],
];

/** What NATS's clients do: TLS begins behind the server's INFO, and CONNECT is inside. */
async function askNatsTls(stage: Stage): Promise<void> {
  const socket = connect(stage.port, "127.0.0.1");
  await once(socket, "data");
  const ca = readFileSync(stage.file("golden-ca.pem"));
  const secure = connectTls({ socket, servername: "server.golden", ca });
  await once(secure, "secureConnect");
  secure.write(CONNECT);
  await once(secure, "data");
  secure.end();
  await once(secure, "close");
}

/** A Kafka request or response behind its size (Kafka protocol, "Request Header"). */
const kafka = (...parts: (string | Buffer)[]) => counted(4, ...parts);

/** A broker's topics, as the first message of AMQP's TLS header exchange (AMQP 1.0 §5.2.1). */
const AMQP_TLS = hex("414d5150 02 010000");
const AMQP_SASL = hex("414d5150 03 010000");

/** The answer to a login says nothing of how it was carried: no claim about acceptance. */
const { accepted: _, ...unclaimed } = plain("mqtt");
const refusedLogin: Truth = { ...unclaimed };
delete refusedLogin.failure;

export const BROKER_CASES: readonly Case[] = [
  {
    name: "amqp",
    made: "RabbitMQ in plaintext, AMQP 0-9-1, one message.",
    needs: ["rabbitmq-server", "python3-amqp"],
    perform: (s) =>
      besideRabbit(s, null, () =>
        python(
          "import amqp",
          `c = amqp.Connection(host="127.0.0.1:${s.port}", userid="guest", password="guest")`,
          "c.connect()",
          "h = c.channel()",
          'h.basic_publish(amqp.Message("hello"), routing_key="golden")',
          "c.close()",
        ),
      ),
    flows: [plain("amqp")],
  },
  {
    name: "amqp1",
    made: "RabbitMQ in plaintext, AMQP 1.0 behind SASL, one message.",
    needs: ["rabbitmq-server", "python3-proton"],
    perform: (s) =>
      besideRabbit(s, "rabbitmq_amqp1_0", () =>
        python(
          "from proton import Message",
          "from proton.utils import BlockingConnection",
          `c = BlockingConnection("amqp://guest:guest@127.0.0.1:${s.port}", timeout=5)`,
          'c.create_sender("/queue/golden").send(Message(body="hello"))',
          "c.close()",
        ),
      ),
    flows: [plain("amqp")],
  },
  {
    name: "amqp1-tls",
    made: "AMQP 1.0's header with protocol identifier 2, answered alike; TLS behind it.",
    constructed: "OASIS AMQP 1.0, part 5, §5.2.1",
    perform: (s) =>
      exchange(
        s.port,
        [
          ["client", AMQP_TLS],
          ["server", AMQP_TLS],
        ],
        thenTls(s),
      ),
    flows: [upgraded("amqp", { sni: "server.golden" })],
  },
  {
    name: "amqp1-refused",
    made: "AMQP 1.0's header with protocol identifier 2, answered by the one of SASL, and closed.",
    constructed: "OASIS AMQP 1.0, part 2, §2.2",
    perform: (s) =>
      exchange(s.port, [
        ["client", AMQP_TLS],
        ["server", AMQP_SASL],
      ]),
    flows: [
      {
        ...{ protocol: "amqp", encryption: "plaintext", accepted: false },
        ...{ failure: "upgrade-refused", findings: ["upgrade-refused"] },
      },
    ],
  },
  {
    name: "stomp",
    made: "RabbitMQ's STOMP in plaintext, one message.",
    needs: ["rabbitmq-server", "python3-stomp"],
    perform: (s) =>
      besideRabbit(s, "rabbitmq_stomp", () =>
        python(
          "import stomp",
          `c = stomp.Connection12([("127.0.0.1", ${s.port})], vhost="/")`,
          'c.connect("guest", "guest", wait=True)',
          'c.send("/queue/golden", "hello", receipt="1")',
          "c.disconnect()",
        ),
      ),
    flows: [plain("stomp")],
  },
  {
    name: "mqtt",
    made: "Mosquitto in plaintext, MQTT 3.1.1, one message.",
    needs: ["mosquitto", "mosquitto_pub"],
    perform: async (s) => {
      await serveMosquitto(s, true);
      await publish(s, "mqttv311");
    },
    flows: [plain("mqtt")],
  },
  {
    name: "mqtt5",
    made: "Mosquitto in plaintext, MQTT 5.0, one message.",
    needs: ["mosquitto", "mosquitto_pub"],
    perform: async (s) => {
      await serveMosquitto(s, true);
      await publish(s, "mqttv5");
    },
    flows: [plain("mqtt")],
  },
  {
    name: "mqtt-refused",
    made: "Mosquitto refuses a client without a name and password by its CONNACK.",
    needs: ["mosquitto", "mosquitto_pub"],
    perform: async (s) => {
      await serveMosquitto(s, false);
      await publish(s, "mqttv311").catch(() => "refused, as it must be");
    },
    flows: [refusedLogin],
  },
  {
    name: "nats",
    made: "A NATS server in plaintext, one message.",
    needs: ["nats-server"],
    perform: async (s) => {
      await serveNats(s, false);
      await ask(s.port, [["", "INFO"], ...NATS_TURNS]);
    },
    flows: [plain("nats")],
  },
  {
    name: "nats-tls",
    made: "A NATS server that requires TLS, which begins behind its INFO.",
    needs: ["nats-server"],
    perform: async (s) => {
      await serveNats(s, true);
      await askNatsTls(s);
    },
    flows: [upgraded("nats", { sni: "server.golden" })],
  },
  {
    name: "nats-requires-tls",
    made: "A NATS server that requires TLS hears CONNECT in plaintext, and closes without a word.",
    needs: ["nats-server"],
    perform: async (s) => {
      await serveNats(s, true);
      await ask(s.port, [
        ["", "INFO"],
        [CONNECT, "\u0015"],
      ]).catch(() => "refused, as it must be");
    },
    flows: [{ ...plain("nats", false), failure: "plaintext-refused" }],
  },
  {
    name: "kafka",
    made: "Kafka's ApiVersions and Metadata, asked and answered.",
    constructed: "Apache Kafka protocol guide, Request Header v1, ApiVersions v0, Metadata v0",
    port: 9092,
    perform: (s) => {
      const client = counted(2, "golden-client");
      const topic = counted(2, "orders");
      const host = Buffer.concat([counted(2, "broker.golden"), hex("00002384")]);
      const partition = hex("0000 00000000 00000001 00000001 00000001 00000001 00000001");
      return exchange(s.port, [
        ["client", kafka(hex("0012 0000 00000001"), client)],
        ["server", kafka(hex("00000001 0000 00000002 0003 0000 000c 0012 0000 0003"))],
        ["client", kafka(hex("0003 0000 00000002"), client, hex("00000001"), topic)],
        [
          "server",
          kafka(
            ...[hex("00000002 00000001 00000001"), host, hex("00000001 0000"), topic],
            ...[hex("00000001"), partition],
          ),
        ],
      ]);
    },
    flows: [plain("kafka")],
  },
];
