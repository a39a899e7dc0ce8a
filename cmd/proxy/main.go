// Command proxy is IdemProxy.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/idemproxy/idemproxy/cli"
)

func main() {
	// The first SIGTERM or SIGINT drains; at a second one, serve cuts what is under way,
	// and other commands end.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Main(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
