package scale

import "gefs9p/blkfmt"

// A Commit is what one commit writes, in blocks.
type Commit struct {
	Data    float64 `json:"data"`
	Nodes   float64 `json:"nodes"`
	Snap    float64 `json:"snap"` // of the tree of snapshots
	Log     float64 `json:"log"`
	Headers float64 `json:"headers"`
	Supers  float64 `json:"supers"`
	Flushes int     `json:"flushes"`
}

// Blocks returns the sum.
func (c Commit) Blocks() float64 { return c.Data + c.Nodes + c.Snap + c.Log + c.Headers + c.Supers }

// Log blocks that a commit writes in each arena: the one with what has been taken and freed, and an empty one
// behind the barrier, in which the next commit goes on.
const logBlocks = 2

// Idle says what a commit writes on a disk of so many arenas if next to nothing has changed.
func Idle(arenas int) Commit {
	a := float64(arenas)
	return Commit{Snap: 1, Log: logBlocks * a, Headers: 2 * a, Supers: 2, Flushes: 4}
}

// PredictCommit says what each commit writes with a load after every perCommit operations on a tree as
// Predict has it, on a disk of so many arenas.
func PredictCommit(l Load, t Tree, perCommit float64, arenas int) Commit {
	c := Idle(arenas)
	c.Data, c.Nodes = perCommit*float64(l.Blocks), t.Written()
	died := c.Nodes + c.Snap
	if l.Replace {
		died += c.Data // the blocks of which these are the new version
	} else {
		died -= min(died, perCommit*(t.Leaves()+t.Pivots())*float64(len(l.Streams))/t.Entries) // what a split adds
	}
	words := c.Data + c.Nodes + c.Snap + died
	c.Log += words * 8 / blkfmt.LogFull
	return c
}
