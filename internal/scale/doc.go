// Package scale says on paper what a disk costs that is larger than any we can measure: how high its tree
// is, how many blocks are written for one change, and what a commit writes.
//
// # What is simulated
//
// Not trees, but one node of each level. Where keys come in random order all pivots of a level are
// alike, as each has a random piece of the keys: so one pivot stands for them, with the buffer, the number of
// children and the rule of package betree (of the messages that do not fit, those for the child that has
// most go down). What comes out of it is what goes into the one that stands for the level below. Where keys
// come in ascending order there is only the right edge of the tree, and that is followed exactly.
//
// A node that is replaced before the next commit is not written. So what is written is not how often nodes
// are replaced but how many different ones are, between one commit and the next; that is counted in the
// simulation, with the commits at their places in the stream of messages.
//
// Levels are counted from the leaves, as in betree. Counts are float64: 10^12 of something is common here, and
// a node that is written in every second commit is half a block.
//
// # What is not
//
// Deletions, and the merging of nodes after them; the snapshot tree beyond its root, which is one block
// as long as there are less than some hundred snapshots; writes that are made before the commit because the
// cache is full of what is to be written; time. How long things take is measured (docs/growth.json) and only
// multiplied here (Estimate).
//
// TestThePredictionsHold runs the real file system at sizes that a test can afford, counts what reaches the
// device, and compares.
package scale
