//go:build race

package check

// Under the race detector unpacking a golden disk takes seconds.
const (
	raceEnabled = true
	effort      = 1
)
