//go:build race

package gefs_test

const raceEnabled = true
