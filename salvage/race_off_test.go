//go:build !race

package salvage_test

const (
	raceEnabled = false
)
