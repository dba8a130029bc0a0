/** Checks conversations that turn into TLS, or do not: each protocol's own words. */
import t from "tap";
import { hex, join, latin1, u16 } from "../frames.ts";
import { meaning, read } from "./captures.ts";
import { CLIENT_HELLO, SERVER_HELLO, check, record, talk, text } from "./talk.ts";
import type { Turn } from "./talk.ts";

const LDAP_START = hex("301d 020101 77 18 8016 312e332e362e312e342e312e313436362e3230303337");
const ldapAnswer = (code: number) => join(hex("300c 020101 78 07 0a01"), [code], hex("0400 0400"));
const rdpRequest = (protocols: number) =>
  join(hex("0300 0013 0e e0 0000 0000 00 01 00 0800"), [protocols, 0, 0, 0]);
const rdpConfirm = (type: number, word: number) =>
  join(hex("0300 0013 0e d0 0000 1234 00"), [type, 0, 8, 0], [word, 0, 0, 0]);
const XMPP_OPEN = text(
  "<?xml version='1.0'?><stream:stream to='golden' xmlns='jabber:client' version='1.0' " +
    "xmlns:stream='http://etherx.jabber.org/streams'>",
);
const FEATURES = text(
  "<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:client' id='1'>" +
    "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>",
);

type Conversation = {
  protocol: string;
  /** Up to and with the client's asking. */
  asks: Turn[];
  agrees: Turn;
  refuses: Turn | null;
};

/** Constructed, by the grammar that each protocol publishes. */
const CONVERSATIONS: readonly Conversation[] = [
  {
    protocol: "smtp", // RFC 3207 §5
    asks: [
      ["<", text("220 mail.golden ESMTP\r\n")],
      [">", text("EHLO a.golden\r\n")],
      ["<", text("250-mail.golden\r\n250 STARTTLS\r\n")],
      [">", text("STARTTLS\r\n")],
    ],
    agrees: ["<", text("220 go ahead\r\n")],
    refuses: ["<", text("454 TLS not available\r\n")],
  },
  {
    protocol: "imap", // RFC 3501 §6.2.1
    asks: [
      ["<", text("* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n")],
      [">", text("a1 STARTTLS\r\n")],
    ],
    agrees: ["<", text("a1 OK begin\r\n")],
    refuses: ["<", text("a1 NO not now\r\n")],
  },
  {
    protocol: "pop3", // RFC 2595 §4
    asks: [
      ["<", text("+OK ready\r\n")],
      [">", text("STLS\r\n")],
    ],
    agrees: ["<", text("+OK begin\r\n")],
    refuses: ["<", text("-ERR not permitted\r\n")],
  },
  {
    protocol: "ftp", // RFC 4217 §4
    asks: [
      ["<", text("220 golden\r\n")],
      [">", text("AUTH TLS\r\n")],
    ],
    agrees: ["<", text("234 proceed\r\n")],
    refuses: ["<", text("502 not implemented\r\n")],
  },
  {
    protocol: "ldap", // RFC 4511 §4.14
    asks: [[">", LDAP_START]],
    agrees: ["<", ldapAnswer(0)],
    refuses: ["<", ldapAnswer(52)],
  },
  {
    protocol: "amqp", // AMQP 1.0 §5.2.1
    asks: [[">", hex("414d5150 02 010000")]],
    agrees: ["<", hex("414d5150 02 010000")],
    refuses: ["<", hex("414d5150 03 010000")],
  },
  {
    protocol: "rdp", // [MS-RDPBCGR] §2.2.1.1, §2.2.1.2
    asks: [[">", rdpRequest(3)]],
    agrees: ["<", rdpConfirm(2, 1)],
    refuses: ["<", rdpConfirm(3, 2)],
  },
  {
    protocol: "xmpp", // RFC 6120 §5.4
    asks: [
      [">", XMPP_OPEN],
      ["<", FEATURES],
      [">", text("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")],
    ],
    agrees: ["<", text("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")],
    refuses: ["<", text("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>")],
  },
  {
    protocol: "nats", // NATS client protocol: INFO tells, the client begins
    asks: [["<", text('INFO {"server_id":"A","version":"2.9.0","max_payload":1048576')]],
    agrees: ["<", text(',"tls_required":true}\r\n')],
    refuses: null,
  },
  {
    protocol: "socks", // RFC 1928 §3, §4, §6
    asks: [
      [">", hex("05 02 00 02")],
      ["<", hex("05 02")],
      [">", hex("01 01 61 01 62")],
      ["<", hex("01 00")],
      [">", join(hex("05 01 00 03 06"), latin1("golden"), u16(443))],
    ],
    agrees: ["<", hex("05 00 00 01 7f000001 01bb")],
    refuses: null,
  },
];

for (const { protocol, asks, agrees, refuses } of CONVERSATIONS) {
  t.test(`${protocol}: TLS where it was agreed on`, async (t) => {
    const turns: Turn[] = [...asks, agrees, [">", CLIENT_HELLO], ["<", SERVER_HELLO]];
    const inTls = { protocol, upgraded_from: protocol, encryption: "tls" } as const;
    check(t, turns, { ...inTls, handshake: "incomplete", findings: [] } as never);
    const alone = turns.slice(0, -1);
    check(t, alone, { ...inTls, handshake: "incomplete", failed: null } as never);
    const alert: Turn = ["<", record(21, Uint8Array.of(2, 70))]; // protocol_version
    const refused = { ...inTls, handshake: "failed", failed: "no-common-version" };
    check(t, [...alone, alert], refused as never);
    const whole = meaning(read(talk(turns)));
    // In any pieces, also with the answer in one segment with the TLS behind it.
    for (const size of [1, 2, 3, 7]) {
      const pieces = turns.flatMap(([way, what]): Turn[] => {
        if (what === "close") return [[way, what]];
        const starts = Array.from({ length: Math.ceil(what.length / size) }, (_, i) => i * size);
        return starts.map((from) => [way, what.subarray(from, from + size)]);
      });
      t.equal(meaning(read(talk(pieces))), whole, `in pieces of ${size}`);
    }
  });

  if (!refuses) continue;
  t.test(`${protocol}: a refusal is a finding, and no TLS`, async (t) => {
    const turns: Turn[] = [...asks, refuses];
    const refused = { protocol, encryption: "plaintext", findings: ["upgrade-refused"] } as const;
    check(t, turns, { ...refused, tls: null, failed: null, accepted: null } as never);
    const failed = { failed: "upgrade-refused", accepted: false };
    check(t, [...turns, [">", "close"]], { ...refused, ...failed } as never);
    const on: Turn[] = [...turns, [">", text("x y\r\n")], ["<", text("250 z\r\n")]];
    check(t, [...on, [">", "close"]], { ...refused, failed: null, accepted: true } as never);
  });
}

t.test("SMTP: an offer that was written over, an agreement that was not taken up", async (t) => {
  const stripped = { protocol: "smtp", encryption: "plaintext", findings: ["upgrade-stripped"] };
  const begin: Turn[] = [
    ["<", text("220 mail.golden ESMTP\r\n")],
    [">", text("EHLO a.golden\r\n")],
  ];
  check(
    t,
    [...begin, ["<", text("250-mail.golden\r\n250-XXXXXXXA\r\n250 SIZE\r\n")]],
    stripped as never,
  );
  const agreed: Turn[] = [
    [">", text("STARTTLS\r\n")],
    ["<", text("220 go ahead\r\n")],
    [">", text("MAIL FROM:<a@golden>\r\n")],
  ];
  check(t, [...begin, ["<", text("250 STARTTLS\r\n")], ...agreed], stripped as never);
});

t.test("PROXY protocol: what stands behind it is read, in both versions", async (t) => {
  const headers = [
    text("PROXY TCP4 10.1.1.1 10.1.1.2 40000 443\r\n"),
    text("PROXY UNKNOWN\r\n"),
    join(latin1("\r\n\r\n\0\r\nQUIT\n"), hex("21 11 000c 0a010101 0a010102 9c40 01bb")),
    join(latin1("\r\n\r\n\0\r\nQUIT\n"), hex("20 00 0000")),
  ];
  for (const header of headers) {
    const from = { upgraded_from: "proxy-protocol" } as const;
    const tls = { ...from, protocol: "tls", encryption: "tls" } as const;
    check(
      t,
      [
        [">", join(header, CLIENT_HELLO)],
        ["<", SERVER_HELLO],
      ],
      tls as never,
    );
    check(
      t,
      [
        [">", header],
        [">", CLIENT_HELLO],
        ["<", SERVER_HELLO],
      ],
      tls as never,
    );
    const get = text("GET / HTTP/1.1\r\n\r\n");
    const http = { ...from, protocol: "http", encryption: "plaintext", tls: null } as const;
    check(t, [[">", join(header, get)]], http as never);
    check(t, [[">", join(header, hex("00 ff 00 ff"))]], {
      ...{ ...from, protocol: "proxy-protocol", encryption: "unknown" },
    } as never);
  }
});

t.test("a tunnel is what is inside of it, and says so only when that is known", async (t) => {
  const connect: Turn[] = [
    [">", text("CONNECT golden:22 HTTP/1.1\r\nHost: golden:22\r\n\r\n")],
    ["<", text("HTTP/1.1 200 Connection established\r\n\r\n")],
  ];
  const socks: Turn[] = [
    [">", hex("05 01 00")],
    ["<", hex("05 00")],
    [">", hex("05 01 00 01 0a000001 0016")],
    ["<", hex("05 00 00 01 7f000001 0016")],
  ];
  const socks4: Turn[] = [
    [">", hex("04 01 0016 0a000001 61 00")],
    ["<", hex("00 5a 0000 00000000")],
  ];
  const ssh: Turn[] = [
    ["<", text("SSH-2.0-golden\r\n")],
    [">", text("SSH-2.0-golden\r\n")],
  ];
  const get: Turn[] = [
    [">", text("GET / HTTP/1.1\r\n\r\n")],
    ["<", text("HTTP/1.1 200 OK\r\n\r\n")],
  ];
  const noise: Turn[] = [[">", hex("f3 00 9a 77 01")]];
  for (const [protocol, turns] of [
    ["http", connect],
    ["socks", socks],
    ["socks", socks4],
  ] as const) {
    const outer = { protocol, upgraded_from: null, tls: null } as const;
    check(t, turns, { ...outer, encryption: "plaintext" } as never);
    check(t, [...turns, ...ssh], { ...outer, encryption: "encrypted-other" } as never);
    check(t, [...turns, ...get], { ...outer, encryption: "plaintext", accepted: true } as never);
    check(t, [...turns, ...noise], { ...outer, encryption: "unknown" } as never);
    const inTls = { protocol, upgraded_from: protocol, encryption: "tls" } as const;
    check(t, [...turns, [">", CLIENT_HELLO], ["<", SERVER_HELLO]], inTls as never);
    // One byte of it is not enough to tell, and the tunnel is not called plaintext for it.
    check(t, [...turns, [">", CLIENT_HELLO.subarray(0, 1)]], {
      ...{ ...outer, encryption: "unknown" },
    } as never);
  }
});
