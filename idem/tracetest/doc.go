// Package tracetest says whether what a store was asked and what it answered is a
// path of two automata: of the transition table, which is package idem's, and of the
// Promela model, which test/model reads out of the model into automaton.txt.
//
// A [Recorder] wraps the stores of a run and keeps a trace for each key. Calls overlap,
// so [Check] looks for an order of them, and for moments at which a lease lapsed or a
// record ended, that make the trace a path. [CheckCallers] says the same of each
// attempt: whether what it asks for is what a proxy of the model asks for next.
//
// Nothing but tests imports it.
package tracetest
