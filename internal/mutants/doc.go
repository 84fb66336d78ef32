// Package mutants plants the defects that docs/pitfalls.md lists back into the code, one at a time, and
// sees that the test named for it fails.
//
// A mutant is a replacement of some lines of one file. It is built with Go's -overlay, so the tree is never
// touched. A mutant whose lines are no longer there, once and no more than once, fails the ordinary tests: the
// code has moved on, and the mutant must follow it. So does one that does not build when it is run.
//
//	go test ./internal/mutants                        they still apply
//	go test ./internal/mutants -mutants 5             and five of them are run
//	go test ./internal/mutants -mutants all           or all
//	go test ./internal/mutants -mutants all -run 'TestMutantsAreCaught/barrier'
package mutants
