//go:build !race

package snap

const raceEnabled = false
