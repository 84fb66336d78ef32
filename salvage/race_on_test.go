//go:build race

package salvage_test

// Under the race detector unpacking a golden disk takes seconds, and so does everything else
const (
	raceEnabled = true
)
