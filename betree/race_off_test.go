//go:build !race

package betree

// raced says that the race detector watches, under which everything takes ten times as long.
const raced = false

// slow is how many times fewer rounds the tests of one goroutine make.
const slow = 1
