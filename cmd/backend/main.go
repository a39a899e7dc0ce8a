// Command backend is the demo backend by itself.
package main

import (
	"database/sql"
	"flag"
	"fmt"
	"net"
	"os"

	_ "modernc.org/sqlite" // the driver, in this program only

	"github.com/idemproxy/idemproxy/internal/backend"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9000", "address to listen on, host:port")
	file := flag.String("receipts", "", "SQLite file for its charges and their receipts (docs/receipts.md); empty for none")
	flag.Usage = func() {
		fmt.Fprint(os.Stderr, `The demo backend of IdemProxy. It answers
  /              at once, with JSON
  /slow          after 45 s;  /slow?d=2s  after 2 s
  /status/N      with status N (200 to 599)
  /size/N        with N bytes
  /executions?key=K   with how often it executed key K
  /cut           not at all, the first time with a key: it breaks off the
                 connection; with ?executed=1 after it has charged
  /receipts      the proxy's questions (-receipts)
  /total         with how many keys it executed, and the most for one key;
                 /total?reset=1 then forgets them

`)
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := serve(*listen, *file); err != nil {
		fmt.Fprintln(os.Stderr, "backend:", err)
		os.Exit(1)
	}
}

func serve(listen, file string) error {
	b := backend.New()
	if file != "" {
		db, err := sql.Open("sqlite", "file:"+file+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)")
		if err != nil {
			return fmt.Errorf("opening %s: %w", file, err)
		}
		defer func() { _ = db.Close() }()
		db.SetMaxOpenConns(1) // SQLite has one writer; the others wait here
		if b, err = backend.WithReceipts(db); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err //nolint:wrapcheck // it says enough
	}
	fmt.Fprintln(os.Stderr, "demo backend on", ln.Addr())
	return b.Serve(ln)
}
