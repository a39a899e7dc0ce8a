// Package cli is the command line, one file a subcommand. serve, check, config and
// routes read the settings and have app do the work; the others ask the admin
// listener of a proxy that runs.
package cli
