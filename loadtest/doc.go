// Command loadtest attacks an IdemProxy with vegeta and checks the promise while
// it does: executions are counted at the backend, per key, and a key that
// executed twice fails the run, whatever the latencies.
//
//	go run ./loadtest -scenario contention -rate 2000 -duration 30s
//
// Without -target it starts a proxy, with the demo backend, in its own process,
// on loopback. One file holds one thing: scenario.go which requests are sent,
// stage.go what they are sent to, check.go the invariant, report.go the figures.
package main
