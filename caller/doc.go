// Package caller says who asks: once for each request, before anything needs it.
// Where it came from (trust.go), by which fields and which certificate its sender is
// known (caller.go), and by what its keys are kept apart (scope.go).
package caller
