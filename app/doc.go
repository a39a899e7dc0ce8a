// Package app wires the rooms together: New builds a proxy from a configuration,
// Run serves until it is told to stop. Tests start an App on port 0 and ask it for
// its URL.
package app
