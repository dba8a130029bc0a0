/** Recognises XMPP by its stream's first tag, and IRC by a side's first lines. */
import { Match, latin1, startsWith } from "./match.ts";

/** Characters in which a stream's first tag has its namespace. */
const TAG_LIMIT = 1024;
/** What may stand in front of the tag: white space, an XML declaration. */
const BEFORE_TAG = /^\s*(?:<\?xml[^>]*\?>\s*)?/;
/** `<stream:stream` of clients, servers and components, or a default namespace that says so. */
const STREAM = /^<(?:stream:stream|flash:stream)[\s>]/;
const STREAM_NAMESPACE = /^<[\w:]*stream[^>]*etherx\.jabber\.org\/streams/;
const STREAM_BEGIN = "<stream:stream ";
const DECLARATION = "<?xml";

/** The head of an XML stream (RFC 6120 §4.7, XEP-0114), of either side. */
export function isXmpp(view: DataView, at: number, end: number): Match {
  const first = view.getUint8(at);
  if (first !== 0x3c && first !== 0x20 && first !== 0x0a && first !== 0x0d) return Match.no;
  const text = latin1(view, at, end, TAG_LIMIT);
  const rest = text.slice(BEFORE_TAG.exec(text)![0].length);
  if (STREAM.test(rest) || STREAM_NAMESPACE.test(rest)) return Match.yes;
  if (text.length === TAG_LIMIT) return Match.no;
  const isCut = (begin: string) => begin.startsWith(rest);
  if (rest === "" || isCut(STREAM_BEGIN) || isCut(DECLARATION)) return Match.more;
  if (rest.startsWith(DECLARATION)) return rest.includes(">") ? Match.no : Match.more;
  return /^<[\w:]*$|^<[\w:]*stream\s[^>]*$/.test(rest) ? Match.more : Match.no;
}

/** Stanzas (RFC 6120 §8) and stream management, of a stream that was joined late. */
const STANZA =
  /^<(?:message|presence|iq)(?:\s+[\w:]+=(?:'[^']*'|"[^"]*"))*\s+(?:to|from|type|id|xmlns)=['"]/;
/** Presence without attributes, and the end of a stream. */
const BARE = /^(?:<presence\s*\/?>|<\/stream:stream>)/;
const STANZA_BEGINS = ["<message ", "<presence", "<iq ", "</stream:"];

export function isXmppStanza(view: DataView, at: number, end: number): Match {
  if (view.getUint8(at) !== 0x3c) return Match.no;
  let begins: Match = Match.no;
  for (const begin of STANZA_BEGINS) {
    const match = startsWith(view, at, end, begin);
    if (match === Match.yes || match === Match.more) begins = match;
    if (match === Match.yes) break;
  }
  if (begins !== Match.yes) return begins;
  const text = latin1(view, at, end, TAG_LIMIT);
  if (STANZA.test(text) || BARE.test(text)) return Match.yes;
  return text.includes(">") || text.length === TAG_LIMIT ? Match.no : Match.more;
}

/** Lines that only IRC's clients begin with (RFC 2812 §3, IRCv3 Capability Negotiation). */
const IRC_CLIENT = new RegExp(
  "^(?:" +
    [
      ...[String.raw`NICK :?[^\s:,]+(?: \d+)?`, String.raw`USER \S+ \S+ \S+ :?.+`],
      ...[String.raw`CAP (?:LS(?: 30\d)?|REQ :?.+|LIST|END)`, String.raw`WHOIS \S+`],
      ...[String.raw`JOIN [#&+!][^ ]*(?: \S+)?`, String.raw`MODE [#&]\S+.*`, "PROTOCTL .+"],
      ...[String.raw`(?:PRIVMSG|NOTICE) \S+ :.+`, String.raw`SERVICE \S+ \S+ \S+ .+`],
      String.raw`SERVER \S+ \d+ .+`,
    ].join("|") +
    ")$",
  "i",
);
const IRC_CLIENT_BEGIN =
  /^(?:NICK|USER|CAP|JOIN|PRIVMSG|NOTICE|SERVICE|SERVER|PROTOCTL|WHOIS|MODE|PASS|PING|PONG) /i;
/** Agree with IRC and with others; what stands on the next line decides. */
const IRC_BEFORE_NICK = /^(?:PASS|USER) :?\S+/i;
const IRC_PING = /^(?:PING|PONG) :?\S+/i;
const IRC_SERVER = new RegExp(
  String.raw`^(?:@\S+ )?:\S+ (?:\d{3} \S+|(?:NOTICE|PRIVMSG) \S+ :|MODE \S+ |JOIN :?[#&]|NICK |` +
    String.raw`QUIT|PONG \S+|CAP \S+ \S+)`,
  "i",
);
const IRC_SERVER_BEGIN = /^(?:NOTICE \S+ :.*|ERROR :Closing Link.*)$/i;

/** Longest command of a client that begins with a letter, with its space. */
const COMMAND_LIMIT = 9;

/** A line of a client (RFC 2812 §2.3.1); a password, or half a USER, may stand in front of it. */
export function isIrcClient(view: DataView, at: number, end: number): Match {
  const command = latin1(view, at, end, COMMAND_LIMIT);
  if (!command.includes(" ")) {
    const mayBe = command.length < COMMAND_LIMIT && IRC_COMMANDS.some((c) => isBegin(c, command));
    return mayBe ? Match.more : Match.no;
  }
  if (!IRC_CLIENT_BEGIN.test(command)) return Match.no;
  const first = ircLine(view, at, end);
  if (first === null) return Match.more;
  if (IRC_CLIENT.test(first)) return Match.yes;
  if (IRC_PING.test(first)) return Match.likely;
  if (!IRC_BEFORE_NICK.test(first)) return Match.no;
  const next = behindLine(view, at, end);
  const second = ircLine(view, next, end);
  if (second === null) return Match.more;
  return IRC_CLIENT.test(second) ? Match.yes : Match.no;
}

const IRC_COMMANDS = [
  ...["NICK", "USER", "CAP", "JOIN", "PRIVMSG", "NOTICE", "SERVICE", "SERVER", "PROTOCTL"],
  ...["WHOIS", "MODE", "PASS", "PING", "PONG"],
];

const isBegin = (word: string, text: string) => word.startsWith(text.toUpperCase());

/** A line of a server: a prefix and a command, or what it says before it knows a nickname. */
export function isIrcServer(view: DataView, at: number, end: number): Match {
  const first = view.getUint8(at);
  // `:`, `@`, or the N and E of NOTICE and ERROR.
  if (first !== 0x3a && first !== 0x40 && first !== 0x4e && first !== 0x45) return Match.no;
  if (first === 0x4e || first === 0x45) {
    const begins = startsWith(view, at, end, first === 0x4e ? "NOTICE " : "ERROR :");
    if (begins !== Match.yes) return begins;
  }
  const text = ircLine(view, at, end);
  if (text === null) return Match.more;
  return IRC_SERVER.test(text) || IRC_SERVER_BEGIN.test(text) ? Match.yes : Match.no;
}

/** Longest line, in front of which IRCv3's tags may stand (IRCv3 Message Tags, "Size limit"). */
const LINE_LIMIT = 512 + 4096;

/** The first line without its end, whatever controls are in it (CTCP); `null` until it has come. */
function ircLine(view: DataView, at: number, end: number): string | null {
  const behind = behindLine(view, at, Math.min(end, at + LINE_LIMIT));
  const isWhole = behind > at && view.getUint8(behind - 1) === 0x0a;
  if (!isWhole) return behind - at < LINE_LIMIT ? null : "";
  return latin1(view, at, behind, LINE_LIMIT).replace(/\r?\n$/, "");
}

/** Position behind the first line feed, or `end`. */
function behindLine(view: DataView, at: number, end: number): number {
  while (at < end && view.getUint8(at) !== 0x0a) at++;
  return Math.min(end, at + 1);
}
