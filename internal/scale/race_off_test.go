//go:build !race

package scale_test

const raceOn = false
