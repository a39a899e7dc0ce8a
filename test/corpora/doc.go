// Command corpora keeps, of what fuzzing has found, the few inputs that reach code which
// nothing else reaches. They are files of testdata/fuzz, so that each go test runs them.
//
//	go run ./test/corpora -for 90s
//	go run ./test/corpora -only 'FuzzKey|FuzzChunks' -for 0
//
// It fuzzes each target for a time, as scripts/fuzz.sh does, and then looks at the fuzz
// cache, which also has what earlier runs found. The smallest inputs come first. One is
// kept if it covers statements of this module that the target's seeds, the files that
// there are, and the inputs kept before do not cover. A target gets at most 64 files, each
// of at most 4 KiB.
//
// Files that are there stay, whether they cover anything or not: some are regressions. To
// make the corpora anew after a parser was rewritten, delete the files that have names of
// 16 hexadecimal digits, and run it.
//
// An input with which a target fails is a fault. The command names it, and ends.
package main
