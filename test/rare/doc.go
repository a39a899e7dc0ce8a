// Command rare says whether a long run of tests has come by the states that matter and are
// seldom: a lease whose grant got lost, an answer that lost a race against a purge, a
// waiter who takes over. A run that never came by one says nothing about it.
//
//	go run ./test/rare PROFILE...
//
// A state is a line of states.txt: which statement is executed in it. A profile is what
// go test -coverprofile or go tool covdata textfmt writes. So the product counts nothing
// for this: the proxies of the long run are built with -cover (see
// scripts/torture.sh). Statements are counted, hence -covermode=count or atomic.
package main
