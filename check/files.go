package check

import (
	"fmt"
	"hash/maphash"
	"math"
	"slices"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// A content is what one snapshot holds: enough to check its entries, parents and data against each
// other, and to go on to the next snapshot with what differs.
type content struct {
	x     *run
	t     *tree
	files map[uint64]*filePage   // of filesPerPage qids each
	dirs  map[uint64]*dirRec     // directories, and qids that are named as one
	clear map[uint64]kvfmt.Clear // files whose data is still to be cleared

	receiving bool // a stream from which the snapshot is made has not come to its end

	touched     []uint64 // qids whose fileRec changed
	touchedDirs []uint64 // qids whose dirRec changed

	nfiles, ndirs, ndata int64
	bytes                uint64

	use map[int32]kvfmt.Use // of each user; nil if nobody counts
}

// A fileRec is what is known of a qid as a file, directories included.
type fileRec struct {
	length  uint64
	dataEnd uint64 // end of the last data block that this snapshot has and the one before had not
	entries int32  // entries with this qid; should be one
	dir     bool
	touched bool
	lost    bool // length became less, or an entry went
}

// A dirRec is what is known of a qid as a directory. The sums are of hashes, so that they can be
// taken back in any order.
type dirRec struct {
	parent  uint64
	entry   uint64 // sum of the keys of its entries
	up      uint64 // sum of the values of its Kup records
	entries int32  // should be one
	ups     int32  // should be one
	kids    int32  // entries in it
	touched bool
}

const filesPerPage = 64

type filePage [filesPerPage]fileRec

func (c *content) file(qid uint64) *fileRec {
	p := c.files[qid/filesPerPage]
	if p == nil {
		p = new(filePage)
		c.files[qid/filesPerPage] = p
	}
	return &p[qid%filesPerPage]
}

// touch returns the record of a file that is to be looked at.
func (c *content) touch(qid uint64) *fileRec {
	r := c.file(qid)
	if !r.touched {
		r.touched = true
		c.touched = append(c.touched, qid)
	}
	return r
}

func (c *content) touchDir(qid uint64) *dirRec {
	r := c.dirs[qid]
	if r == nil {
		r = new(dirRec)
		c.dirs[qid] = r
	}
	if !r.touched {
		r.touched = true
		c.touchedDirs = append(c.touchedDirs, qid)
	}
	return r
}

// checkFiles checks the content of every snapshot that can be read, each by its difference from
// the one before.
func (x *run) checkFiles() {
	c := &content{x: x, files: map[uint64]*filePage{}, dirs: map[uint64]*dirRec{}, clear: map[uint64]kvfmt.Clear{}}
	if len(x.forest.used) > 0 {
		c.use = map[int32]kvfmt.Use{}
	}
	for _, s := range x.forest.order() {
		if s.ruin() {
			continue
		}
		if !s.readable {
			x.say(Unchecked, Note, "%s: not all of it can be read, so entries and data were not checked against each other", s.title())
			continue
		}
		var old *cursor
		if c.t != nil {
			old = x.newCursor(c.t)
		}
		c.t = &s.tree
		cur := x.newCursor(c.t)
		cur.onErr = x.badMessage(c.t)
		cur.onInsert = x.sameBlock(c.t)
		diff(old, cur, c.change)
		c.settle()
		c.checkUsed(s)
		if x.stop != nil {
			return
		}
		s.checked, s.files, s.dirs, s.ndata, s.bytes = true, c.nfiles, c.ndirs, c.ndata, c.bytes
	}
}

// sameBlock returns a cursor's onInsert that reports a data block put in the place of itself: when
// the message reaches its leaf the block would be freed, and stay in use.
func (x *run) sameBlock(t *tree) func(blkfmt.Bptr, kvfmt.Msg, []byte) {
	return func(p blkfmt.Bptr, m kvfmt.Msg, old []byte) {
		if m.Key[0] != kvfmt.Kdat {
			return
		}
		a, err := kvfmt.GetDatVal(old)
		b, err2 := kvfmt.GetDatVal(m.Val)
		if err == nil && err2 == nil && a.Addr == b.Addr && x.once(TwoOwners, a.Addr, string(m.Key)) {
			pr := Problem{Kind: TwoOwners, Severity: Fatal, Addr: a.Addr, Block: blkfmt.Data.String(),
				Text: t.name + ": " + keyText(m.Key) + ": a message replaces the block by itself"}
			x.problem(pr)
		}
	}
}

// change takes in that key has the value new and not old, as in the snapshot before. Values that
// cannot be decoded count as none: they were reported where they stand.
func (c *content) change(key, old, new []byte) {
	switch key[0] {
	case kvfmt.Kent:
		e, err := kvfmt.GetEnt(key)
		if err != nil {
			return
		}
		if d, err := kvfmt.GetDir(old); err == nil {
			c.entry(key, e, d, -1)
		}
		if d, err := kvfmt.GetDir(new); err == nil {
			c.entry(key, e, d, +1)
		}
	case kvfmt.Kup:
		qid, err := kvfmt.GetUp(key)
		if err != nil {
			return
		}
		d := c.touchDir(qid)
		if old != nil {
			d.ups--
			d.up -= maphash.Bytes(c.x.seed, old)
		}
		if new != nil {
			d.ups++
			d.up += maphash.Bytes(c.x.seed, new)
		}
	case kvfmt.Kdat:
		qid, off, err := kvfmt.GetDat(key)
		if err != nil {
			return
		}
		r := c.touch(qid)
		if old != nil {
			c.ndata--
		}
		if new != nil {
			c.ndata++
			r.dataEnd = max(r.dataEnd, off+1)
		}
	case kvfmt.Kconf:
		if kvfmt.IsRecv(key) {
			c.receiving = new != nil
		}
		// Without its record, what was still to be cleared has become too much.
		if rec, err := kvfmt.GetClear(key, old); err == nil {
			delete(c.clear, rec.Qid)
			c.touch(rec.Qid).lost = true
		}
		if rec, err := kvfmt.GetClear(key, new); err == nil {
			c.clear[rec.Qid] = rec
		}
	}
}

// entry adds (n = 1) or takes away (n = -1) a directory entry.
func (c *content) entry(key []byte, e kvfmt.Ent, d kvfmt.Dir, n int32) {
	c.count(key, &d, n)
	r := c.touch(d.Qid.Path)
	r.entries += n
	if n > 0 {
		r.lost = r.lost || d.Length < r.length
		r.length = d.Length
		r.dir = d.Mode&dmdir != 0
	} else {
		r.lost = true
	}
	if e.Pqid != kvfmt.RootPqid {
		c.touchDir(e.Pqid).kids += n
	}
	if d.Mode&dmdir == 0 {
		c.nfiles += int64(n)
		c.bytes += uint64(int64(n)) * d.Length
		return
	}
	c.ndirs += int64(n)
	up := c.touchDir(d.Qid.Path)
	up.entries += n
	if n > 0 {
		up.entry += maphash.Bytes(c.x.seed, key)
		up.parent = e.Pqid
	} else {
		up.entry -= maphash.Bytes(c.x.seed, key)
	}
}

// settle checks what changed since the last time, now that the snapshot is complete.
func (c *content) settle() {
	say := func(k Kind, sev Severity, qid uint64, format string, arg ...any) {
		c.x.problem(Problem{Kind: k, Severity: sev, Addr: blkfmt.NoAddr,
			Text: fmt.Sprintf("%s: qid %d: ", c.t.name, qid) + fmt.Sprintf(format, arg...),
			refs: []fileRef{{c.t.gen, qidRange{qid, qid, false}}}})
	}
	if c.receiving {
		c.postpone()
		return
	}
	slices.Sort(c.touched) // the tree's order
	for _, qid := range c.touched {
		r := c.file(qid)
		if r.entries > 1 {
			say(QidTwice, Error, qid, "%d entries have it", r.entries)
		}
		var limit uint64 // data from here on is too much
		if r.entries > 0 && !r.dir {
			limit = r.length
			if m := limit % blkfmt.BlkSize; m != 0 && limit <= ^uint64(0)-blkfmt.BlkSize {
				limit += blkfmt.BlkSize - m
			}
		}
		// Blocks that were inside before may be beyond now, and are no change by themselves.
		if r.dataEnd > limit || r.lost && c.has(qid, limit, math.MaxUint64) {
			rec, ok := c.clear[qid]
			switch {
			case ok && !c.has(qid, limit, rec.From) && !c.has(qid, max(limit, rec.To), math.MaxUint64):
				say(Clearing, Note, qid, "data of a removed or truncated file, still to be cleared")
			case r.entries <= 0:
				say(OrphanData, Leak, qid, "data of a file that has no entry")
			case r.dir:
				say(DirData, Note, qid, "a directory that has data")
			default:
				say(DataBeyond, Leak, qid, "data behind the end of the file, which is %d bytes long", r.length)
			}
		}
		r.touched, r.lost, r.dataEnd = false, false, 0
	}
	c.touched = c.touched[:0]

	slices.Sort(c.touchedDirs)
	fine := map[uint64]bool{} // directories from which the root is reached
	for _, qid := range c.touchedDirs {
		d := c.dirs[qid]
		d.touched = false
		switch {
		case d.entries > 0 && d.ups == 0:
			say(UpMismatch, Error, qid, "a directory that does not know its parent")
		case d.entries == 0 && d.ups > 0:
			say(UpMismatch, Error, qid, "it has a parent, and is not a directory there")
		case d.entries == 1 && d.ups == 1 && d.entry != d.up:
			say(UpMismatch, Error, qid, "the parent that the directory knows has another entry for it")
		}
		switch {
		case d.entries <= 0 && d.kids > 0 && c.file(qid).entries > 0:
			say(FileEntries, Note, qid, "a plain file that has %d directory entries", d.kids)
		case d.entries <= 0 && d.kids > 0:
			say(OrphanEntry, Leak, qid, "%d entries of a directory that is not there", d.kids)
		case d.entries > 0 && c.looped(qid, fine):
			say(DirLoop, Error, qid, "the way up from this directory does not end")
		}
		if d.entries == 0 && d.ups == 0 && d.kids == 0 {
			delete(c.dirs, qid)
		}
	}
	c.touchedDirs = c.touchedDirs[:0]
	c.root()
}

// postpone leaves what changed for the next snapshot: this one is not complete, and says so itself.
func (c *content) postpone() {
	c.x.say(Receiving, Note, "%s: it is being received, and not all of it is there", c.t.name)
	for _, qid := range c.touched {
		// What the last block was is for this snapshot alone to say.
		r := c.file(qid)
		r.lost = r.lost || r.dataEnd > 0
		r.dataEnd = 0
	}
}

// has reports whether the file has data at an offset from lo to before hi.
func (c *content) has(qid, lo, hi uint64) (found bool) {
	if lo >= hi {
		return false
	}
	c.x.seekCursor(c.t, kvfmt.AppendDatKey(nil, qid, lo)).each(func(k, _ []byte) bool {
		q, off, err := kvfmt.GetDat(k)
		found = err == nil && q == qid && off < hi
		return false
	})
	return found
}

// looped reports whether the way up from qid goes in a circle.
func (c *content) looped(qid uint64, fine map[uint64]bool) bool {
	way := map[uint64]bool{}
	for q := qid; q != kvfmt.RootPqid && !fine[q]; {
		if way[q] {
			return true
		}
		way[q] = true
		d := c.dirs[q]
		if d == nil || d.entries <= 0 {
			break // an orphan, said elsewhere
		}
		q = d.parent
	}
	for q := range way {
		fine[q] = true
	}
	return false
}

// root checks that the snapshot has a root directory.
func (c *content) root() {
	key := kvfmt.AppendEntKey(nil, kvfmt.RootPqid, "")
	found := false
	c.x.seekCursor(c.t, key).each(func(k, v []byte) bool {
		if kvfmt.Compare(k, key) != 0 {
			return false
		}
		d, err := kvfmt.GetDir(v)
		found = err == nil && d.Mode&dmdir != 0
		return false
	})
	if !found && c.x.once(NoRoot, c.t.root.Addr, "") {
		c.x.say(NoRoot, Error, "%s: no root directory", c.t.name)
	}
}
