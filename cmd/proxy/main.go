// Command proxy is IdemProxy.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/idemproxy/idemproxy/app"
)

func main() {
	// The first SIGTERM or SIGINT drains; a second one ends the process.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(app.Main(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
