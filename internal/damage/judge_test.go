package damage_test

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/check"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// A verdict is what a damaged disk was seen to do.
type verdict struct {
	noticed bool // check says something, if only a note
	refused bool // the server does not start, and says why
	errors  int  // things that could not be read
}

// spare says of each block whether something else can take its place, so that a server must start
// without it and miss nothing: a superblock and a header have a copy, and what a log says is known
// from the trees. Two copies of one thing are not spare.
func (r *rig) spare(hurt blockSet) bool {
	for _, b := range r.blocks {
		if !hurt[b.Addr] {
			continue
		}
		switch b.Type {
		case blkfmt.SuperBlk:
			for _, o := range r.byType[blkfmt.SuperBlk] {
				if o != b && hurt[o.Addr] {
					return false
				}
			}
		case blkfmt.Arena:
			if !b.Copy && hurt[b.Addr+blkfmt.BlkSize] {
				return false
			}
		case blkfmt.Log:
		default:
			return false
		}
	}
	return true
}

// judge looks at a disk on which the blocks in hurt are not what they were. With writes it also
// changes the disk, and looks again.
func (r *rig) judge(img *blkdev.Mem, hurt blockSet, writes bool) (verdict, error) {
	var v verdict
	for a := range hurt {
		if same(img, r.img, a) {
			delete(hurt, a)
		}
	}
	rep, err := checkDisk(img)
	switch {
	case err != nil:
		v.noticed = true
		if r.spare(hurt) {
			return v, fmt.Errorf("check gives up: %w", err)
		}
	default:
		v.noticed = len(rep.Problems) > 0
		if rep.Clean(false) && !rep.Complete {
			return v, fmt.Errorf("check: clean, but not complete:\n%s", gefstest.Text(rep))
		}
	}
	// Nobody opens a disk for less than its superblocks; what else starting needs must verify.
	fs, err := gefs.Open(img, gefs.Options{Cache: blkstore.MinCache, CommitEvery: time.Hour})
	if err != nil {
		v.refused = true
		if !corrupt(err) {
			return v, fmt.Errorf("open: not clear what is damaged: %w", err)
		}
		if r.spare(hurt) || !hurt.meets(r.start) {
			return v, fmt.Errorf("open, though all that is needed can be read: %w", err)
		}
		if !v.noticed {
			return v, fmt.Errorf("open refuses what check does not mind: %w", err)
		}
		return v, nil
	}
	defer fs.Close()
	if v.errors, err = r.readAll(fs, hurt, r.want); err != nil {
		return v, err
	}
	if v.errors > 0 && !v.noticed {
		return v, fmt.Errorf("%d files cannot be read, and check does not mind", v.errors)
	}
	if writes {
		return v, r.change(fs, img, hurt)
	}
	return v, fs.Close()
}

// readAll reads everything. What does not depend on a damaged block must be there; the rest is right
// or an error that says what is wrong. It returns how many could not be read.
func (r *rig) readAll(fs *gefs.FS, hurt blockSet, want map[thing]answer) (int, error) {
	failed := 0
	spare := r.spare(hurt)
	byLabel := make(map[string][]thing)
	for th := range want {
		byLabel[th.label] = append(byLabel[th.label], th)
	}
	c, end := fs.Background()
	defer end()
	for _, label := range slices.Sorted(maps.Keys(byLabel)) {
		root, rootErr := gefstest.Attach(fs, c, gefstest.User, label)
		for _, th := range byLabel[label] {
			var got answer
			err := rootErr
			if err == nil {
				var f ninep.File
				if f, err = gefstest.Walk(c, root, th.path); err == nil {
					got, err = r.answerOf(c, f)
					f.Clunk(c)
				}
			}
			switch {
			case err == nil && got != want[th]:
				return failed, fmt.Errorf("SILENT: %v: %+v, want %+v", th, got, want[th])
			case err == nil:
			case !corrupt(err) || !strings.HasPrefix(err.Error(), "block contents corrupted"):
				return failed, fmt.Errorf("%v: not clear what is damaged: %w", th, err)
			case spare || !hurt.meets(r.needs[th]):
				return failed, fmt.Errorf("%v needs nothing that is damaged: %w", th, err)
			default:
				failed++
			}
		}
		if rootErr == nil {
			root.Clunk(c)
		}
	}
	return failed, nil
}

// change changes the damaged disk: it makes, writes, extends and removes files, and deletes a
// snapshot. What is acknowledged must be there afterwards, also for the next server, and all else as
// it was. If the damage was to what has a second copy the disk must be sound again in the end.
func (r *rig) change(fs *gefs.FS, img *blkdev.Mem, hurt blockSet) error {
	want := maps.Clone(r.want)
	spare := r.spare(hurt)
	step := func(what string, must bool, fn func(h *hand)) (bool, error) {
		h := &hand{fs: fs}
		fn(h)
		switch {
		case h.err == nil:
			return true, nil
		case must:
			return false, fmt.Errorf("%s, on which nothing damaged lies: %w", what, h.err)
		case corrupt(h.err) || fs.Store().Err() != nil && corrupt(fs.Store().Err()):
			return false, nil
		}
		return false, fmt.Errorf("%s: not clear what is damaged: %w", what, h.err)
	}
	learn := func(th thing) error {
		a, err := r.ask(fs, th)
		if err == nil {
			want[th] = a
		}
		return err
	}
	forget := func(label, p string) { // and the listing that it stands in
		delete(want, thing{label, p})
		delete(want, thing{label, path.Dir(p)})
	}

	var victims []string
	for th := range want {
		if th.label == "main" && strings.Contains(th.path, "file") {
			victims = append(victims, th.path)
		}
	}
	slices.Sort(victims)
	for i, th := range []thing{{"main", "new"}, {"main", victims[1]}, {"main", victims[len(victims)/2]}, {"fork", "only here"}} {
		forget(th.label, th.path)
		made, err := step("write", spare, func(h *hand) {
			if i == 0 {
				h.create(th.label, th.path)
			}
			h.write(th.label, th.path, 0, make([]byte, 30000+i))
		})
		if err != nil {
			return err
		}
		if made {
			if err := learn(th); err != nil {
				return fmt.Errorf("what has just been written: %v: %w", th, err)
			}
		}
	}
	for _, p := range []string{victims[2], victims[len(victims)-3]} {
		forget("main", p)
		if _, err := step("remove", spare, func(h *hand) { h.remove("main", p) }); err != nil {
			return err
		}
	}
	deleted, err := step("delete a snapshot", spare, func(h *hand) {
		h.do("delete snap1", func() error {
			return h.with(func(c *ninep.Ctx) error { return fs.DeleteLabel(c, "snap1") })
		})
	})
	if err != nil {
		return err
	}
	if deleted {
		for th := range want {
			if th.label == "snap1" {
				delete(want, th)
			}
		}
	}
	committed, err := step("fsync", spare, func(h *hand) {
		h.do("fsync", func() error { return fs.Sync(context.Background()) })
	})
	if err != nil {
		return err
	}
	// Blocks that were freed are used again here, if they were free or not.
	for i := range 6 {
		th := thing{"main", fmt.Sprintf("more%d", i)}
		made, err := step("write", spare, func(h *hand) {
			h.create(th.label, th.path)
			h.write(th.label, th.path, 0, make([]byte, 200000))
			h.do("fsync", func() error { return fs.Sync(context.Background()) })
		})
		if err != nil {
			return err
		}
		if made && committed {
			if err := learn(th); err != nil {
				return fmt.Errorf("what has just been written: %v: %w", th, err)
			}
		}
	}
	if !committed { // the next server finds what was committed before: the disk as it was
		want = make(map[thing]answer)
	}
	if _, err := r.readAll(fs, hurt, want); err != nil {
		return fmt.Errorf("after writing: %w", err)
	}
	if err := fs.Close(); err != nil && !corrupt(err) {
		return fmt.Errorf("close: %w", err)
	}
	rep, err := checkDisk(img)
	if err != nil && spare {
		return fmt.Errorf("check after writing: %w", err)
	}
	if spare && !rep.Clean(true) {
		return fmt.Errorf("what can be mended is not mended:\n%s", gefstest.Text(rep))
	}
	if err == nil && rep.ByKind[check.TwoOwners] > 0 {
		return fmt.Errorf("SILENT: a block is used twice after writing:\n%s", gefstest.Text(rep))
	}
	again, err := gefs.Open(img, gefs.Options{Cache: blkstore.MinCache, ReadOnly: true})
	if err != nil {
		if corrupt(err) && !spare {
			return nil
		}
		return fmt.Errorf("open again: %w", err)
	}
	defer again.Close()
	if _, err := r.readAll(again, hurt, want); err != nil {
		return fmt.Errorf("the next server: %w", err)
	}
	return again.Close()
}
