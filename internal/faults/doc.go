// Package faults is the harness that shows that nothing is lost: rows of a table, each a kind of fault,
// and for each of them a test that tries as many cases of it as there is time for. The table is in
// docs/crash.md, how to run it in docs/testing.md.
//
// # Rows
//
// A test makes a Row, which has the seed and says how many cases are wanted, and gives it cases: names
// such as "at=120 full=117 then=119", in any order and any number. The Row runs them on all processors, counts
// them, and writes at the end of the test one line that scripts/faults collects:
//
//	faults: row=1 states=5000 failures=0 seed=7 seconds=31.4 end=enough
//
// end is "all" if there were no more cases, "enough" if the number wanted was reached, "time", or
// "failed". For each failure there is a line that says how to run this case alone:
//
//	faults: again: go test ./internal/faults -run '^TestName$' -faults.seed=7 -faults.case='...'
//
// The flags are those of Flags. A row of another package is a test there that uses Flags and Row; a
// line in scripts/faults makes the script run it.
//
// # Scripts
//
// What is done to a disk is a list of Op, made up by a Source from the seed alone. A Runner does them on a
// file system and tells an oracle; Record does so on a disk that notes every write, and the History says of
// any cut of it whether what is found is a state that may be found. Operations that no longer fit, because
// one before them was refused, are left out; so any part of a script is a script.
//
// # One seed
//
// Everything random in a row comes from Row.Rand, so the seed and the name of a case are the whole of
// what is tried. Names therefore do not depend on how many cases there are or in which order they run.
//
// The server has goroutines of its own, and they have their turns when the machine gives them: two recordings of
// one script are alike, but need not write the same blocks at the same places. The name of a cut says of
// which recording it is, and in another one Try looks at hundreds of cuts around the same operation.
package faults
