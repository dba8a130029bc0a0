#!/bin/sh
# TLS 1.3 session tickets for a client that offers no psk_key_exchange_modes.
#
# RFC 8446 §4.2.9: such a client can use no ticket, and servers "SHOULD NOT" send one. Seen with Go's
# crypto/tls as the client, which leaves the extension out where it has no session cache:
# - OpenSSL 3.5 (in the npm package node 24.21.0) sends its two tickets all the same;
# - Go itself sends none (and one where the client has a cache).
# By hand likewise: OpenSSL 3.0.19 and GnuTLS 3.7.9 two, wolfSSL 5.5.4 one, Java 17 none.
# So from the records behind a client's Finished nothing follows but by their sizes: who wants no
# tickets may get them, and they look as an answer would.
#
# Exits with 0 where this is still so, with 1 where it has changed, with 2 where it cannot be tried.
set -eu
command -v go >/dev/null || { echo "needs Go 1.24 or newer"; exit 2; }
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT INT TERM
cd "$folder"
npm install --no-audit --no-fund --silent --prefix . node@24.21.0 >install.log 2>&1 || {
  echo "cannot install node@24.21.0:"; tail -n 3 install.log; exit 2
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem \
  -out cert.pem -days 2 -subj /CN=server.test 2>/dev/null
cat >server.mjs <<'JS'
import { readFileSync } from "node:fs";
import { createServer } from "node:tls";
const files = { cert: readFileSync("cert.pem"), key: readFileSync("key.pem") };
const server = createServer({ ...files, minVersion: "TLSv1.3" }, (socket) => socket.resume());
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
JS
cat >main.go <<'GO'
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// tap keeps what came, as records on the wire.
type tap struct {
	net.Conn
	came []byte
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.came = append(t.came, p[:n]...)
	return n, err
}

// behind counts the records that come behind the handshake, within half a second.
func behind(address string, cache bool) int {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		panic(err)
	}
	wire := &tap{Conn: conn}
	config := &tls.Config{InsecureSkipVerify: true, ServerName: "server.test"}
	if cache {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	client := tls.Client(wire, config)
	if err := client.Handshake(); err != nil {
		panic(err)
	}
	// The server's flight: EncryptedExtensions, Certificate, CertificateVerify, Finished.
	records := -4
	conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	io.ReadAll(client)
	for at := 0; at+5 <= len(wire.came); {
		if wire.came[at] == 23 {
			records++
		}
		at += 5 + int(wire.came[at+3])<<8 + int(wire.came[at+4])
	}
	conn.Close()
	return records
}

func main() {
	pair, err := tls.LoadX509KeyPair("cert.pem", "key.pem")
	if err != nil {
		panic(err)
	}
	own, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			conn, err := own.Accept()
			if err != nil {
				return
			}
			go io.Copy(io.Discard, conn)
		}
	}()
	for _, server := range []struct{ name, address string }{
		{"OpenSSL", os.Args[1]}, {"Go", own.Addr().String()},
	} {
		fmt.Printf("%s: %d tickets for a client without a cache, %d with one\n",
			server.name, behind(server.address, false), behind(server.address, true))
	}
}
GO
cat >go.mod <<'MOD'
module finding

go 1.24
MOD
node_modules/.bin/node server.mjs >port 2>&1 &
server=$!
n=0
while [ ! -s port ] && [ "$n" -lt 50 ]; do n=$((n + 1)); sleep 0.1; done
go version
node_modules/.bin/node -p '`OpenSSL ${process.versions.openssl}`'
go run . "127.0.0.1:$(cat port)" | tee seen
cat >wanted <<'TXT'
OpenSSL: 2 tickets for a client without a cache, 2 with one
Go: 0 tickets for a client without a cache, 1 with one
TXT
cmp -s seen wanted || { echo "this has changed"; exit 1; }
