//go:build !race

package main

// raceFlags build the program under test like the tests themselves.
var raceFlags []string
