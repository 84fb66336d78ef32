package salvage

import (
	"fmt"
	"slices"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// lost copies what has no place in the tree as its directory or its entry is lost. It is only called for
// trees with holes: in others such things are leaks.
func (c *copier) lost() error {
	if err := c.lostDirs(); err != nil {
		return err
	}
	return c.lostData()
}

// lostDirs copies the directories that have entries and no entry. They go where they say they belong
// if that can be told, else to LostFound.
func (c *copier) lostDirs() error {
	for from := uint64(0); from < kvfmt.RootPqid; from++ {
		found := false
		err := c.x.scan(c.t, kvfmt.AppendEntPrefix(nil, from), []byte{kvfmt.Kup}, func(key, _ []byte, _ bool) error {
			e, err := kvfmt.GetEnt(key)
			if err != nil {
				return nil
			}
			from, found = e.Pqid, true
			return errEnough
		}, nil)
		if err != nil || !found || from == kvfmt.RootPqid {
			return err
		}
		for !c.dirs[from] { // each turn copies it, or a directory further up that is lost too
			if err := c.lostDir(from); err != nil {
				return err
			}
		}
	}
	return nil
}

// lostDir copies the directory qid, or the topmost of those above it that are lost as well.
func (c *copier) lostDir(qid uint64) error {
	seen := map[uint64]bool{}
	for range MaxDepth {
		e, ok := c.up(qid)
		if !ok || e.Pqid == kvfmt.RootPqid || seen[e.Pqid] {
			break
		}
		seen[qid] = true
		if path, ok := c.pathOf(e.Pqid); ok && c.dirs[e.Pqid] {
			return c.adopt(qid, append(path, e.Name), "its entry is lost, it is where its own record says")
		}
		if c.dirs[e.Pqid] {
			break // below something that is in LostFound itself
		}
		qid = e.Pqid
	}
	if err := c.lostAndFound(); err != nil {
		return err
	}
	return c.adopt(qid, []string{LostFound, fmt.Sprint(qid)}, "its name is lost")
}

// adopt copies the directory qid, whose entry is lost, to path.
func (c *copier) adopt(qid uint64, path []string, why string) error {
	d := kvfmt.Dir{Qid: kvfmt.Qid{Path: qid, Type: dmDir >> 24}, Mode: dmDir | 0775, Uid: -1, Gid: -1}
	f := c.newFile(path, d, true)
	f.worse(Damaged, why)
	return c.dir(f)
}

// lostAndFound makes the directory LostFound.
func (c *copier) lostAndFound() error {
	if c.x.opt.Sink == nil {
		return nil
	}
	d := kvfmt.Dir{Qid: kvfmt.Qid{Path: kvfmt.RootPqid, Type: dmDir >> 24}, Mode: dmDir | 0700, Uid: -1, Gid: -1}
	f := c.newFile([]string{LostFound}, d, true)
	return c.refused(f, c.x.opt.Sink.Mkdir(f))
}

// lostData copies the data of files that have no entry to LostFound. How long they were nobody knows:
// the last block is copied whole.
func (c *copier) lostData() error {
	cleared := c.clears()
	for qid := uint64(0); ; qid++ {
		found := false
		var length uint64
		err := c.x.scan(c.t, kvfmt.AppendDatKey(nil, qid, 0), []byte{kvfmt.Kent}, func(key, val []byte, _ bool) error {
			q, off, err := kvfmt.GetDat(key)
			if err != nil || found && q != qid {
				if err != nil {
					return nil
				}
				return errEnough
			}
			if !found {
				qid, found = q, true
			}
			if c.files[q] || c.dirs[q] {
				return errEnough
			}
			if p, err := kvfmt.GetDatVal(val); err == nil && off < 1<<62 && !covered(cleared[q], off, p.Gen) {
				length = max(length, off+blkfmt.BlkSize)
			}
			return nil
		}, nil)
		if err != nil || !found {
			return err
		}
		if length > 0 {
			if err := c.lostAndFound(); err != nil {
				return err
			}
			f := c.newFile([]string{LostFound, fmt.Sprint(qid)}, kvfmt.Dir{Qid: kvfmt.Qid{Path: qid}, Mode: 0600, Length: length, Uid: -1, Gid: -1}, true)
			f.worse(Damaged, "its entry is lost: name, length and owner are not known")
			if err := c.file(f); err != nil {
				return err
			}
		}
		if qid == 1<<64-1 {
			return nil
		}
	}
}

// clears returns the records of what has still to be cleared.
func (c *copier) clears() map[uint64][]kvfmt.Clear {
	m := map[uint64][]kvfmt.Clear{}
	prefix := kvfmt.AppendClearPrefix(nil)
	c.x.scan(c.t, prefix, next(prefix), func(key, val []byte, _ bool) error {
		if r, err := kvfmt.GetClear(key, val); err == nil {
			m[r.Qid] = append(m[r.Qid], r)
		}
		return nil
	}, nil)
	return m
}

func covered(rs []kvfmt.Clear, off uint64, gen blkfmt.Gen) bool {
	return slices.ContainsFunc(rs, func(r kvfmt.Clear) bool { return r.From <= off && off < r.To && gen <= r.Gen })
}
