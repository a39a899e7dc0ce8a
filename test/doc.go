// Package test runs whole processes: the proxy as built, over a real Redis and
// the embedded store, with Toxiproxy on the wires, and counts executions at the
// backend. With -short the 45 s jobs are left out; their scaled twins stay.
package test
