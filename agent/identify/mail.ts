/** Recognises SMTP, IMAP, POP3 and FTP by their first lines, greetings and commands alike. */
import { Match, anyOf, firstLine, line } from "./match.ts";

/** `220 mail.example ESMTP`: a greeting that names its protocol; others share the code with FTP. */
export const isSmtpGreeting = line(
  ["220 ", "220-", "421 ", "554 ", "521 "],
  /^\d{3}[ -].*\b(E?SMTP|LMTP)\b/i,
  /^\d{3}[ -][^\0]*$/,
);

/** Commands of RFC 5321 §4.1, LHLO (RFC 2033), AUTH (RFC 4954), STARTTLS (RFC 3207). */
export const isSmtpCommand = line(
  ["EHLO", "HELO", "LHLO", "MAIL FROM:", "RCPT TO:", "STARTTLS", "AUTH ", "QUIT", "DATA", "RSET"],
  /^((EHLO|HELO|LHLO) \S|MAIL FROM: ?<|RCPT TO: ?<)/i,
  /^(EHLO|HELO|STARTTLS|AUTH (PLAIN|LOGIN|CRAM-MD5|XOAUTH2|NTLM|GSSAPI)\b.*|QUIT|DATA|RSET)\s*$/i,
);

/** Replies that only SMTP gives: 250 to EHLO with extensions, 354 to DATA. */
export const isSmtpReply = line(
  ["250", "354 ", "334 ", "235 "],
  /^(250-.*\b(SIZE|PIPELINING|8BITMIME|ENHANCEDSTATUSCODES)\b|250[ -]\d\.\d\.\d |354 .*<CRLF>)/i,
  /^(250[ -]|354 |334 |235 )/,
);

/** `220 (vsFTPd 3.0.3)`: the word FTP, or only the code, which SMTP has too. */
export const isFtpGreeting = line(
  ["220 ", "220-", "120 ", "421 ", "530 "],
  /^(220|120|421|530)[ -].*\bFTP|^220[ -].*FTPd?\b|^220[ -].*FileZilla/i,
  /^(220|120|421|530)[ -]/,
);

/** Commands of RFC 959 §4.1, RFC 2228 (AUTH), RFC 2389 (FEAT, OPTS), RFC 2428 (EPRT, EPSV). */
export const isFtpCommand = line(
  [
    ...[
      "USER ",
      "PASS",
      "AUTH ",
      "FEAT",
      "SYST",
      "PASV",
      "EPSV",
      "EPRT ",
      "PORT ",
      "TYPE ",
      "OPTS ",
    ],
    ...[
      "CWD ",
      "RETR ",
      "STOR ",
      "LIST",
      "PBSZ ",
      "PROT ",
      "MDTM ",
      "SIZE ",
      "PWD",
      "NLST",
      "QUIT",
    ],
  ],
  anyOf(
    "i",
    /^AUTH (TLS|SSL|TLS-C|TLS-P)\s*$/,
    /^(SYST|PASV|EPSV( ALL)?|TYPE [AIE]( N)?|PBSZ \d+|PROT [CP])\s*$/,
    /^(EPRT \|[12]\|.*|PORT \d+(,\d+){5})\s*$/,
  ),
  anyOf(
    "i",
    /^(USER \S+|FEAT|PWD|QUIT|LIST.*|NLST.*)\s*$/,
    /^(PASS|OPTS|CWD|RETR|STOR|MDTM|SIZE) .*$/,
  ),
);

/** Replies that FTP alone gives (RFC 959 §4.2). */
export const isFtpReply = line(
  ["331 ", "230", "227 ", "229 ", "215 ", "257 ", "150 ", "226 ", "211", "234 "],
  anyOf(
    "i",
    /^(227 .*\(?\d+(,\d+){5}|229 .*\(\|\|\|\d+\||257 ")/,
    /^(215 (UNIX|Windows|MACOS|OS)|211-(Features|Extensions)|331 .*(password|anonymous))/,
  ),
  /^(331|230|150|226|211|234)[ -]/,
);

/** `* OK`, `* PREAUTH`, `* BYE` (RFC 3501 §7.1). */
export const isImapGreeting = line(
  ["* OK", "* PREAUTH", "* BYE"],
  anyOf(
    "i",
    /^\* (OK|PREAUTH|BYE)( .*\bIMAP|.*\[[A-Z])/,
    /^\* (OK|PREAUTH|BYE) .*\b(ready|server|logging|mail|dovecot|courier|cyrus)\b/,
  ),
  /^\* (OK|PREAUTH|BYE)\b/i,
);

/** A tag, then a command (RFC 3501 §6). */
const IMAP_COMMAND = anyOf(
  "i",
  /^\S+ (CAPABILITY|NOOP|LOGOUT|STARTTLS|NAMESPACE|IDLE)\s*$/,
  /^\S+ (AUTHENTICATE|ID|ENABLE|SELECT|EXAMINE|CREATE) .+$/,
  // A user and a password (§6.2.3), or the first of them as a literal: FTP's 230 has other words.
  /^\S+ LOGIN (("[^"]*"|\S+) ("[^"]*"|\S+)|\{\d+\+?\})\s*$/,
  /^\S+ (LIST|LSUB|STATUS|FETCH|APPEND) .+$/,
  /^\S+ UID (FETCH|SEARCH|STORE|COPY) .+$/,
);
const TAG_LIMIT = 24;

export function isImapCommand(view: DataView, at: number, end: number): Match {
  for (let i = at; i <= at + TAG_LIMIT; i++) {
    if (i === end) return Match.more;
    const byte = view.getUint8(i);
    if (byte === 0x20) {
      if (i === at) return Match.no;
      const text = firstLine(view, at, end);
      if (text === null) return Match.more;
      return IMAP_COMMAND.test(text) ? Match.yes : Match.no;
    }
    if (!/[\w.$#-]/.test(String.fromCharCode(byte))) return Match.no;
  }
  return Match.no;
}

/** `+OK` (RFC 1939 §3); Redis answers so too. */
export const isPop3Greeting = line(
  ["+OK", "-ERR"],
  /^(\+OK|-ERR).*(\bPOP3?\b|<[^<>@\s]+@[^<>@\s]+>\s*$|\bdovecot\b|maildrop)/i,
  /^(\+OK|-ERR)( |$)/i,
);

/** Commands of RFC 1939 §5 to §7, CAPA (RFC 2449), STLS (RFC 2595). */
export const isPop3Command = line(
  ["USER ", "CAPA", "STLS", "APOP ", "AUTH", "STAT", "QUIT", "UIDL", "LIST", "RETR ", "TOP "],
  /^(CAPA|STLS|APOP \S+ [0-9a-f]{32})\s*$/i,
  anyOf(
    "i",
    /^(USER \S+|STAT|QUIT|UIDL|LIST|RETR \d+|TOP \d+ \d+)\s*$/,
    /^AUTH( (PLAIN|LOGIN|CRAM-MD5|XOAUTH2|NTLM|GSSAPI)\b.*)?\s*$/,
  ),
);
