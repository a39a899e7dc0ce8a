// Command mutants breaks the product one place at a time and counts which of the
// breaks the tests find. What survives is a line that no test holds.
//
//	go run ./test/mutants -n 300 -seed 1
//
// A mutant is one small change of one expression or statement of a package that
// decides what is executed: a condition negated, a comparison shifted, a call left
// out, an error forgotten. The sources stay as they are: the go command compiles
// changed files in place of the real ones (its flag -overlay). One build holds all
// mutants of a package, and a variable of the environment switches one on. A mutant
// that does not compile beside the original is not counted. What a release is not built of
// is not broken: the points of internal/failpoint, and files with another build tag.
//
// The tests of the package itself are asked, without those of other packages that use
// it: a line is held where it stands. Each test is run alone once, to note the places
// by which it comes. A mutant is shown to the tests that come by its place, the
// quickest first, with -short, and counts as found if the same test fails twice, or twice
// does not end. A mutant by whose place no test comes survives without a run. The places
// are looked for anew when the package has changed, a test, or what only tests import
// (idem/storetest).
//
// What became of each mutant is kept in a directory (-state), so that a campaign can
// run in slices (-for 6m) and go on where it stopped. -again tries the survivors once
// more, after a test has been added. The table is printed after each slice. Survivors
// are printed with their place and change; equivalent.txt names those that change
// nothing a user could see, each with the reason.
//
// A seed draws other mutants from other sources. So -record writes the list of a campaign
// (campaign.txt), in which each mutant is named by its texts, and -same tries those again
// that are still there, whatever has moved.
//
//	go run ./test/mutants -same test/mutants/campaign.txt -only seal
//
// Why no ready-made tool: those that are kept up take no sample, run the tests of the
// mutant's own package alone or all of them for each, and copy the tree for each
// worker. They build once for each mutant, which takes longer than to test it.
package main
