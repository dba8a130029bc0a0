// Plays the server or the client of golden captures with Go's own TLS.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"time"
)

var (
	address = flag.String("at", "", "host and port")
	cert    = flag.String("cert", "", "certificates to show")
	key     = flag.String("key", "", "their key")
	ca      = flag.String("ca", "", "authority to trust")

	// Of a server.
	serve   = flag.Bool("serve", false, "be the server")
	demands = flag.Bool("demand", false, "demand a certificate of the client")
	act     = flag.String("act", "answer", "answer; close at once; or read-close")

	// Of a client.
	say      = flag.String("say", "", "a line that waits for its answer; empty: 300 ms of silence")
	sessions = flag.Bool("sessions", false, "keep sessions")
	joined   = flag.Bool("joined", false, "what is said comes in the segment of the flight")
	times    = flag.Int("times", 1, "connections, one after the other")
)

func config() *tls.Config {
	pem, err := os.ReadFile(*ca)
	if err != nil {
		log.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(pem)
	made := &tls.Config{RootCAs: trusted, ClientCAs: trusted, ServerName: "ecdsa.golden"}
	if *demands {
		made.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if *sessions {
		made.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	}
	if *cert == "" {
		return made
	}
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		log.Fatal(err)
	}
	if *serve {
		made.Certificates = []tls.Certificate{pair}
		return made
	}
	// Shown whoever signed it: which authorities the server names does not count.
	made.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &pair, nil
	}
	return made
}

func take(conn *tls.Conn) {
	defer conn.Close()
	if err := conn.Handshake(); err != nil {
		log.Print(err)
		return
	}
	if *act == "close" {
		return
	}
	line := make([]byte, 1024)
	for {
		if _, err := conn.Read(line); err != nil || *act == "read-close" {
			return
		}
		fmt.Fprintln(conn, "olleh")
	}
}

// A connection that holds back what is written behind the first write, which is the hello.
type held struct {
	net.Conn
	hasBegun bool
	waiting  []byte
}

func (h *held) Write(bytes []byte) (int, error) {
	if !h.hasBegun {
		h.hasBegun = true
		return h.Conn.Write(bytes)
	}
	h.waiting = append(h.waiting, bytes...)
	return len(bytes), nil
}

// Prints what was negotiated, and what the server answered.
func speak(dialled *tls.Config) {
	wire, err := net.Dial("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	holds := &held{Conn: wire}
	conn := tls.Client(wire, dialled)
	if *joined {
		conn = tls.Client(holds, dialled)
	}
	defer conn.Close()
	if err := conn.Handshake(); err != nil {
		fmt.Println("failed:", err)
		return
	}
	state := conn.ConnectionState()
	fmt.Println(tls.VersionName(state.Version), state.CurveID, "resumed:", state.DidResume)
	if *say == "" {
		time.Sleep(300 * time.Millisecond)
		return
	}
	io.WriteString(conn, *say)
	wire.Write(holds.waiting)
	line := make([]byte, 1024)
	n, err := conn.Read(line)
	fmt.Println("answer:", string(line[:n]), "error:", err)
}

func main() {
	flag.Parse()
	made := config()
	if !*serve {
		for range *times {
			speak(made)
		}
		return
	}
	listener, err := tls.Listen("tcp", *address, made)
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go take(conn.(*tls.Conn))
	}
}
