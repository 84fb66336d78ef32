// Package golibs has no code but tests: 9P client libraries of others, each against a real gefs9p.
//
// It is a module of its own, so that what it needs is no dependency of the server. Run it here:
//
//	go test [-seed N]
//
// Every library implements tree, as far as it can, and then does what TestLibraries has for it, over TCP and
// over a Unix socket. What a library cannot do is errSkip, and is counted. TestCodecs compares the bytes
// of random messages with two codecs of others, in both directions, TestUnixCodecs with a third one in 9P2000.u.
package golibs
