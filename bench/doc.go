// Command bench measures IdemProxy side by side with what it could be replaced
// by, on loopback: `make bench`. Every contender of a workload runs in every
// round, one after the other (A B C, A B C, A B C), so that a machine that
// slows down slows all of them; the table is of ratios of medians. Executions
// are counted at the backend: a key that executed twice fails the run.
//
// The closed-loop generator is wrk; latencies come from an open loop at a fixed
// rate (vegeta's library), which does not wait for a slow answer before it sends
// the next request.
package main
