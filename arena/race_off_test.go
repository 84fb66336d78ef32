//go:build !race

package arena

const raceOn = false
