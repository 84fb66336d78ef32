// Package rules holds tests that ask a served disk everything that a small model can answer: who may do
// what to files of every mode, and what any short sequence of requests leads to.
//
// The model is written from section 5 of the Plan 9 manual and from docs/differences.md, not from the code.
// It does not know in which order a server looks at things: for a request that must be refused it has the
// set of all reasons, and the server may give any of them; if there is no reason, the server has to do it.
//
// FuzzRequests has no model: of any requests, in all dialects beside each other, it asks only for answers that make
// sense and a sound disk.
//
// There is nothing here but tests. The flag -rules.time makes the one of sequences longer.
package rules
