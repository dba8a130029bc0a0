/** Teaches `wireproof inspect`: what stands behind its flags in `--help`. */
import { CRYPTO_PROFILES } from "../protocol/crypto-profile.ts";

const profiles = Object.entries(CRYPTO_PROFILES)
  .map(([name, title]) => `  ${name.padEnd(22)} ${title}`)
  .join("\n");

export const INSPECT_MANUAL = `
What it says
  One line a flow: its number, when it began, client → server, what it spoke, how it ended, packets
  of client/server. Then how much of all was proven mutual TLS, one-way TLS, plaintext, unknown, and
  what failed and why. On a terminal lines are coloured, unless NO_COLOR is set.
  "(inferred)": TLS 1.3 encrypts certificates, so the sizes of the client's records told. What was
  not seen is not guessed: no verdict stands on a port number, on randomness, or on silence.

  wireproof inspect a.pcap                      every flow, and the summary
  wireproof inspect *.pcapng.gz --format jsonl  records for machines, one JSON object a line
  tcpdump -w - | wireproof inspect -            flows as they end; Ctrl-C ends it and tells the rest

What it reads
  pcap (IXIA's too), pcapng and snoop, as they are or packed by gzip, zstd or lz4, in any number of
  members or frames. - is the standard input; named pipes are read as well. A damaged capture is
  read as far as it goes, and the damage told on stderr.

--where EXPRESSION: which flows are printed and summed up (flow numbers stay)
  Fields are those of the record, inner ones by dots: tls.sni, failure.code, packets.0 (client's).
  ==  !=  <  <=  >  >=     compare; text by its characters, so tls.version < TLSv1.2 works
  ~  !~                    holds a text, in any case, or matches /a regular expression/
  in VALUE, in (A, B)      one of them; an address also in a network
  and  or  not  ( )        join
  FIELD alone              the fact was seen and is not false; a list is not empty
  Values are bare words, numbers, true, false, null (not seen), or quoted. A list satisfies a
  comparison when one entry does. != and !~ are the opposite of == and ~: they hold for what was not
  seen, too.

  --where 'tls.mutual == "no" and dst_port == 443'
  --where 'encryption == plaintext and not protocol in (dns, mdns)'
  --where failure
  --where 'failure.code ~ client-cert and src_ip in 10.0.0.0/8'
  --where 'tls.sni ~ /\\.internal$/ or tls.server_cert.san ~ spiffe://'
  --where 'tls.version < TLSv1.2 or findings == certificate-expired-on-wire'

--explain N: how flow N was read, step by step
  Each step with its frame (as Wireshark counts), the bytes of that side's stream, what was read
  (fields by their place in the message), and the section of the RFC behind it; the sums by which
  a TLS 1.3 client's flight was judged; then every conclusion with its reason, and every profile's
  verdict. Reads the files a second time; what comes by a pipe is kept in a file meanwhile.

  wireproof inspect a.pcap --explain 12
  wireproof inspect a.pcap --explain 12 --format jsonl

--crypto: judges what each TLS connection negotiated, as tls.crypto of its record
${profiles}
  meets, misses (with each reason), or undecidable: nothing that was seen misses it, and a part of
  what the profile asks for is not on the wire, such as a certificate in TLS 1.3.

  wireproof inspect a.pcap --crypto
  wireproof inspect a.pcap --where 'tls.crypto.sp800-52r2.verdict == misses' --format jsonl

--policy DIR: judges the flows against manifests as the collector would; 1 on a violation

Exit codes: 0 read (a damaged capture is told on stderr), 1 a violation with --policy, 2 wrong use,
or a capture that cannot be read: each is told, and the others are read and printed.
`;
