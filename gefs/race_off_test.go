//go:build !race

package gefs_test

const raceEnabled = false
