// Command zoo brings back faults that this product has had, one at a time, and measures
// which of the tests find them, and how soon.
//
//	go run ./test/zoo -only purge-leaves-cache
//	go run ./test/zoo -for 10m
//
// A fault is a file in faults/. It says what users saw, which commit mended it, which
// tests may find it, and which exact text to replace by what. The sources stay as they
// are: the go command compiles changed files in place of the real ones (its flag
// -overlay). A test of this package fails when a text is not there any more, so that
// faults are kept up with the code.
//
// The generators are asked first: tests that make up operations, orders and faults, and
// know nothing of the fault that is looked for. Each runs again and again, with another
// seed each time, until it fails or its budget is over. Then the tests that were written
// for the fault are asked. A test counts as having found a fault if it fails with it and,
// right afterwards, passes without it.
//
// What was measured is a row of docs/zoo.md, which is written after each fault. So a
// long run can be made in slices (-for): each begins with what was measured longest ago.
package main
