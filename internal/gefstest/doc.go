// Package gefstest is what tests of the file system share: small disks, a server of one with clients
// in the same process, what a tree looks like to a client, and conversations recorded with the
// reference.
//
// Every function takes the test and fails it; nothing here returns an error that a test would only
// pass on. Offsets and lengths are bytes.
package gefstest
