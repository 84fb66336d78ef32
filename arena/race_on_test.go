//go:build race

package arena

// raceOn says that the race detector slows everything down tenfold.
const raceOn = true
