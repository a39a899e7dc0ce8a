// Command backend is the demo backend by itself.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"

	"github.com/idemproxy/idemproxy/internal/backend"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9000", "address to listen on, host:port")
	flag.Usage = func() {
		fmt.Fprint(os.Stderr, `The demo backend of IdemProxy. It answers
  /              at once, with JSON
  /slow          after 45 s;  /slow?d=2s  after 2 s
  /status/N      with status N (200 to 599)
  /size/N        with N bytes
  /executions?key=K   with how often it executed key K
  /total         with how many keys it executed, and the most for one key;
                 /total?reset=1 then forgets them

`)
		flag.PrintDefaults()
	}
	flag.Parse()
	ln, err := net.Listen("tcp", *listen)
	if err == nil {
		fmt.Fprintln(os.Stderr, "demo backend on", ln.Addr())
		err = backend.New().Serve(ln)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "backend:", err)
		os.Exit(1)
	}
}
