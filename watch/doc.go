// Package watch shows how a disk that is being served is doing: to monitoring programs as metrics, to
// whoever restarts servers as two yes-or-no questions, to people as a status page.
//
//	watch.go    Watcher: samples, kept for ten minutes
//	http.go     the HTTP server: who may ask, for what, for how long
//	metrics.go  /metrics, in the text form of OpenMetrics 1.0
//	page.go     the status page, of page.html
//	chart.go    its curves
//	blocks.go   its map of blocks
//	spaces.go   what is counted in the background while somebody looks: what snapshots hold
//	events.go   a log handler that remembers what was logged last
//
// Units: sizes are bytes, times are seconds where a number goes to a program.
//
// The hard rule: to watch holds nobody up. What is asked for once a second is read from counters that are
// kept anyway; what has to be read from the disk is read in the background, only while somebody looks,
// and within bounds of time. The one lock of those who change files that is taken, for a moment, is taken
// by the goroutine that samples: if it cannot be had, everything else still answers, and says so.
//
// Whatever clients have a say in (user names, labels, texts of errors) is text to this package: html/template
// escapes it, and runes that do not show, such as those that turn the direction of writing, are spelled out.
// The page has no script, and a policy that forbids any.
package watch
