package scale

import (
	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// A Stream is one kind of entry that each operation of a load inserts, in key order of its own.
type Stream struct {
	Name string `json:"name"`
	Key  int    `json:"key"` // bytes
	Val  int    `json:"val"` // bytes
}

// entry returns the bytes that an entry takes in a leaf, child what a pointer to a node takes in a pivot, and
// message what the change takes in a buffer.
func (s Stream) entry() int { return kvfmt.EntrySize(make([]byte, s.Key), make([]byte, s.Val)) }
func (s Stream) child() int {
	return kvfmt.EntrySize(make([]byte, s.Key), make([]byte, kvfmt.ChildSize))
}
func (s Stream) message() int {
	return kvfmt.Msg{Key: make([]byte, s.Key), Val: make([]byte, s.Val)}.Size()
}

// Ents returns the stream of directory entries with names of n bytes.
func Ents(n int) Stream {
	return Stream{"entries", len(kvfmt.AppendEntKey(nil, 0, string(make([]byte, n)))), kvfmt.DirSize}
}

// Data returns the stream of pointers to blocks of files.
func Data() Stream {
	return Stream{"data", len(kvfmt.AppendDatKey(nil, 0, 0)), blkfmt.PtrSize}
}

// A Load is what one operation, repeated, does to a tree.
//
//   - Random says in which order keys come: in any, or ascending. If it is any there is one stream.
//   - Replace says that the entries are there already and get other values. Otherwise they are new.
//   - Hot is the entry that each operation changes, of the directory in which files are made or of the file
//     that is written; without a name there is none. Its message is replaced in the root's buffer, but not by the
//     operation that makes the buffer overflow: that one adds another.
//   - Blocks are data blocks that an operation writes besides.
type Load struct {
	Name    string   `json:"name"`
	Streams []Stream `json:"streams"`
	Random  bool     `json:"random"`
	Replace bool     `json:"replace"`
	Hot     Stream   `json:"hot"`
	Blocks  int      `json:"blocks"`
}

// CreatesInOrder is the load of creating empty files, whose names have n bytes, in the order of their names.
func CreatesInOrder(n int) Load {
	return Load{Name: "create files in order", Streams: []Stream{Ents(n)}, Hot: Ents(n)}
}

// CreatesAtRandom is the same with names in any order.
func CreatesAtRandom(n int) Load {
	return Load{Name: "create files at random", Streams: []Stream{Ents(n)}, Random: true, Hot: Ents(n)}
}

// Copies is the load of copying a tree of files of one block each: an entry, a pointer and a block for each.
func Copies(n int) Load {
	return Load{Name: "copy files of one block in order", Streams: []Stream{Ents(n), Data()}, Hot: Ents(n), Blocks: 1}
}

// Overwrites is the load of writing blocks here and there in one file, which has been written from its
// beginning to its end before.
func Overwrites(n int) Load {
	return Load{Name: "overwrite blocks at random", Streams: []Stream{Data()}, Random: true, Replace: true, Hot: Ents(n), Blocks: 1}
}

// size returns the mean over the streams of what f says of each.
func (l Load) size(f func(Stream) int) float64 {
	sum := 0
	for _, s := range l.Streams {
		sum += f(s)
	}
	return float64(sum) / float64(len(l.Streams))
}
