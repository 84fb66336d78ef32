//go:build !race

package blkstore

const raceEnabled = false
