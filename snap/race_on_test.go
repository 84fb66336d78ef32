//go:build race

package snap

const raceEnabled = true
