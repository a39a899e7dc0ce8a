// Package failpoint names places in the code where a test can have a process pause, fail
// or die: between the disk and the answer, half way through a reload.
//
// Without the build tag failpoints, which no release is built with, both functions are
// empty, and the compiler leaves nothing of a call (see TestNothingIsLeft). With the tag,
// two variables of the environment say what happens:
//
//   - PROXY_FAILPOINTS, for example "complete-asked=end@3,record-durable=pause:50ms":
//     the third time that the process comes to complete-asked, it ends as by kill -9; the
//     first time that it comes to record-durable, whoever came there waits for 50 ms. The
//     third act is fail: the call at the point returns an error, with fail:6 six times.
//     Otherwise each acts once.
//   - PROXY_FAILPOINTS_LOG, a file to which a process adds a line when it comes to a
//     point for the first time, and one before it acts. So a test knows which points its
//     runs have reached, also if the process did not live on.
//
// The names are at the calls only, as literals, so that a test can collect them from the
// source: this package knows none.
//
// Rejected: go.etcd.io/gofail and github.com/pingcap/failpoint. Both rewrite the source
// before it is built, in place or in a copy: lines move, what is tested is not what was
// read, and a rewrite that was not undone gets into a commit. The second brings a module
// into the product besides. Two empty functions need neither, and a build tag cannot be
// forgotten half way. What the libraries can do more (values to return, shares of calls,
// an HTTP listener to change them at run time) the campaign has no use for: a point acts
// at a count that is drawn from the seed, and then no more.
package failpoint
