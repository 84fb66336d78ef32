//go:build !race

package check

// effort scales the random tests.
const (
	raceEnabled = false
	effort      = 8
)
