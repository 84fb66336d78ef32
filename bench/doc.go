// Package bench loads a 9P2000 server, any one, and says how fast it answers.
//
// A workload is a number of equal operations, each of one or more requests one after the other: "walk to
// the directory, create a file in it, clunk" is one. Every connection belongs to one goroutine, which
// keeps a fixed number of operations under way and starts the next when one is done. The latency of an
// operation is the time from handing its first request to the connection to having its last reply.
//
// Two ceilings are measured in the same run, with the same bytes. The wire is a Null server, which
// answers at once and does nothing: what it does not reach is the cost of the sockets, the codec and
// the benchmark itself on this machine. The device is a plain file written without 9P.
//
// A benchmark is also a check: files are filled with a pattern that follows from the place of each byte, and
// whatever comes back is compared with it, in directories and stat records too. What differs counts as
// an error of its operation.
//
// MB are 10⁶ bytes, KiB and GiB powers of 1024. Latencies are right to 1.6 percent.
//
// The hard rule: the loop that sends and receives allocates nothing, locks nothing and shares nothing but
// one counter; whatever an operation needs is made before the clock starts.
package bench
