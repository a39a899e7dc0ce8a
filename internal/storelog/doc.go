// Package storelog records what a store is asked and what it answers: an [Event] for each
// call and key. Package idem/tracetest says whether such events are a path of the transition
// table and of the model.
//
// Within one process a test takes the events from a [Sink]. A proxy that is a process of its
// own writes them to a file, with [Log], if it was built with the tag storelog and the
// environment names the file ([Variable]). No release is built with the tag. Without it, no
// program contains this package: see TestTheProxyHasNoStoreLog.
//
// A file has two lines of JSON for a call: one before the store is asked, and one with the
// answer. So of a call whose process was killed it is known that it was made. Of keys, owners
// and responses the lines have digests only. Times are those of CLOCK_MONOTONIC, which all
// processes of a machine share and nobody sets.
package storelog
