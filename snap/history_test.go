package snap_test

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gefs9p/betree"
	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/check"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/snap"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "seed of the random histories; 0 takes one from the clock")
	stepsFlag = flag.Int("steps", 10000, "steps of the random history")
)

const (
	historyFiles  = 8  // files, each of
	historyBlocks = 40 // blocks
	historyLabels = 40 // at most
)

// contents is what a snapshot holds: the stamp of each data block, by file and block.
type contents map[[2]int]uint64

// A world is a disk, and what it must hold.
type world struct {
	t      *testing.T
	r      *rand.Rand
	dev    *blkdev.Mem
	st     *blkstore.Store
	forest *snap.Forest
	g      *epoch.Guard
	chk    check.Checker

	now, committed state
	stamp          uint64
	names          int
	script         []string // since the last commit that was fine
	qids           []uint64
}

type state struct {
	labels  map[string]contents
	mutable map[string]bool
}

func (s state) clone() state {
	c := state{make(map[string]contents), maps.Clone(s.mutable)}
	for name, k := range s.labels {
		c.labels[name] = maps.Clone(k)
	}
	return c
}

func (w *world) fail(format string, arg ...any) {
	w.t.Helper()
	for _, line := range w.script {
		w.t.Log(line)
	}
	w.t.Fatalf(format, arg...)
}

func (w *world) must(err error) {
	if err != nil {
		w.t.Helper()
		w.fail("%s: %v", w.script[len(w.script)-1], err)
	}
}

func (w *world) say(format string, arg ...any) {
	w.script = append(w.script, fmt.Sprintf(format, arg...))
}

func (w *world) open() {
	st, err := blkstore.Open(w.dev, blkstore.Options{Cache: blkstore.MinCache})
	w.must(err)
	w.st, w.g = st, st.Guard()
	w.g.Enter()
	w.forest, err = snap.Load(w.g, st)
	w.must(err)
}

func (w *world) close() {
	w.g.Leave()
	w.st.FreeGuard(w.g)
	w.st.Close()
}

// commit brings the state to the disk, and looks at the disk.
func (w *world) commit() {
	w.say("commit")
	root, err := w.forest.Seal(w.g)
	w.must(err)
	com, err := w.st.Seal(root)
	w.must(err)
	w.g.Leave()
	w.must(com.Run(nil))
	com.Done()
	w.g.Enter()
	w.committed = w.now.clone()
	size, _ := w.dev.Size()
	rep, err := w.chk.Run(context.Background(), w.dev, size, check.Options{})
	w.must(err)
	if !rep.Clean(true) {
		w.fail("the disk is not clean: %v", rep.Problems)
	}
	w.script = w.script[:0]
}

// verify compares every snapshot with the model.
func (w *world) verify() {
	w.say("verify")
	var names []string
	for _, l := range w.forest.Labels() {
		if l.Name != snap.Empty && l.Name != snap.Adm {
			names = append(names, l.Name)
		}
	}
	if want := slices.Sorted(maps.Keys(w.now.labels)); !slices.Equal(names, want) {
		w.fail("labels are %q, want %q", names, want)
	}
	for _, name := range names {
		t, err := w.forest.Open(name)
		w.must(err)
		got := contents{}
		err = t.Scan(w.g, []byte{kvfmt.Kdat}, nil, func(k, v []byte) bool {
			qid, off, err := kvfmt.GetDat(k)
			w.must(err)
			bp, err := kvfmt.GetDatVal(v)
			w.must(err)
			b, err := w.st.Get(w.g, bp, blkfmt.Data)
			w.must(err)
			got[[2]int{slices.Index(w.qids, qid), int(off / blkfmt.BlkSize)}] = binary.BigEndian.Uint64(b.Bytes())
			w.st.Drop(b)
			return true
		})
		w.must(err)
		t.Close()
		if !maps.Equal(got, w.now.labels[name]) {
			w.fail("%s has %v, want %v", name, got, w.now.labels[name])
		}
	}
}

func (w *world) pick(ok func(name string) bool) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(w.now.labels)) {
		if ok(name) {
			list = append(list, name)
		}
	}
	if len(list) == 0 {
		return ""
	}
	return list[w.r.IntN(len(list))]
}

func (w *world) newName() string {
	w.names++
	return fmt.Sprintf("s%d", w.names)
}

// write changes some blocks of a mutable snapshot in one batch.
func (w *world) write() {
	name := w.pick(func(n string) bool { return w.now.mutable[n] })
	t, err := w.forest.Open(name)
	w.must(err)
	defer t.Close()
	gen := t.Prepare()
	var msgs []kvfmt.Msg
	file := w.r.IntN(historyFiles)
	ekey := kvfmt.AppendEntKey(nil, 0, fmt.Sprintf("file%d", file))
	if _, err := t.Lookup(w.g, ekey, nil); err == betree.ErrNotFound {
		d := kvfmt.Dir{Qid: kvfmt.Qid{Path: w.qids[file]}, Mode: 0644, Length: historyBlocks * blkfmt.BlkSize}
		msgs = append(msgs, kvfmt.Msg{Op: kvfmt.Insert, Key: ekey, Val: d.Append(nil)})
	} else {
		w.must(err)
	}
	at, n := w.r.IntN(historyBlocks), 1+w.r.IntN(6)
	clearing := w.r.IntN(4) == 0
	w.say("write %s file%d %d+%d clear=%v", name, file, at, n, clearing)
	for i := at; i < min(at+n, historyBlocks); i++ {
		key := kvfmt.AppendDatKey(nil, w.qids[file], uint64(i)*blkfmt.BlkSize)
		k := [2]int{file, i}
		if clearing {
			msgs = append(msgs, kvfmt.Msg{Op: kvfmt.Clearb, Key: key})
			delete(w.now.labels[name], k)
			continue
		}
		w.stamp++
		b, err := w.st.NewData(w.g, gen, w.qids[file], w.r.IntN(2) == 0)
		w.must(err)
		clear(b.Bytes())
		binary.BigEndian.PutUint64(b.Bytes(), w.stamp)
		w.st.Enqueue(b)
		msgs = append(msgs, kvfmt.Msg{Op: kvfmt.Insert, Key: key, Val: b.Ptr().Append(nil)})
		w.st.Drop(b)
		w.now.labels[name][k] = w.stamp
	}
	w.must(t.Upsert(w.g, msgs))
}

func (w *world) step() {
	switch op := w.r.IntN(100); {
	case op < 50:
		w.write()
	case op < 60 && len(w.now.labels) < historyLabels:
		old, name := w.pick(func(string) bool { return true }), w.newName()
		w.say("label %s %s", old, name)
		w.must(w.forest.Label(old, name, false))
		w.now.labels[name] = maps.Clone(w.now.labels[old])
	case op < 66 && len(w.now.labels) < historyLabels:
		old, name := w.pick(func(string) bool { return true }), w.newName()
		w.say("fork %s %s", old, name)
		w.must(w.forest.Label(old, name, true))
		w.now.labels[name] = maps.Clone(w.now.labels[old])
		w.now.mutable[name] = true
	case op < 80 && len(w.now.labels) > 1:
		name := w.pick(func(n string) bool { return n != snap.Main })
		w.say("delete %s", name)
		w.must(w.forest.Delete(w.g, name))
		delete(w.now.labels, name)
		delete(w.now.mutable, name)
	case op < 83 && len(w.now.labels) > 1 && len(w.now.labels) < historyLabels:
		name := w.pick(func(n string) bool { return w.now.mutable[n] })
		old, keep := w.pick(func(n string) bool { return n != name }), w.newName()
		w.say("rollback %s %s %s", name, old, keep)
		if err := w.forest.Rollback(name, old, keep); err == nil {
			w.now.labels[keep] = w.now.labels[name]
			w.now.labels[name] = maps.Clone(w.now.labels[old])
		} else if !maps.Equal(w.now.labels[name], w.now.labels[old]) {
			w.must(err) // it may refuse only what would change nothing
		}
	case op < 94:
		w.commit()
	case op < 96:
		w.say("crash")
		w.close()
		w.now = w.committed.clone()
		w.open()
		w.verify()
	case op < 98:
		w.commit()
		w.say("reopen")
		w.close()
		w.open()
		w.verify()
	default:
		w.verify()
	}
	w.g.Leave()
	w.st.Tick()
	w.g.Enter()
}

// TestHistories makes random histories: write, label, fork, delete, roll back, commit, crash, reopen.
// After every commit each block of the disk must be owned exactly once, and every snapshot must hold
// what a model says. At the end all but main is deleted, and the space must be as if nothing else had
// ever been.
func TestHistories(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d (replay with -seed)", seed)
	steps := *stepsFlag
	if raceEnabled || testing.Short() {
		steps /= 10
	}
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 0)), dev: blkdev.NewMem(160 << 20),
		now: state{map[string]contents{snap.Main: {}}, map[string]bool{snap.Main: true}}}
	w.say("format")
	st, err := blkstore.Format(w.dev, blkstore.Options{Cache: blkstore.MinCache}, false, false)
	w.must(err)
	w.st, w.g = st, st.Guard()
	w.g.Enter()
	w.forest, err = snap.Format(w.g, st, []byte("-1:adm::\n0:none::\n"))
	w.must(err)
	for range historyFiles {
		w.qids = append(w.qids, w.forest.NextQid())
	}
	w.commit()
	for range steps {
		w.step()
	}
	for len(w.now.labels) > 1 {
		name := w.pick(func(n string) bool { return n != snap.Main })
		w.say("delete %s", name)
		w.must(w.forest.Delete(w.g, name))
		delete(w.now.labels, name)
	}
	w.commit()
	w.verify()
	size, _ := w.dev.Size()
	rep, err := w.chk.Run(context.Background(), w.dev, size, check.Options{})
	w.must(err)
	c := rep.Counts
	t.Logf("at the end: %+v", c)
	if live := int64(len(w.now.labels[snap.Main])); c.Data > live+1+historyBlocks*historyFiles/4 || c.Dead != 0 {
		t.Errorf("main has %d data blocks, the disk %d, and %d on deadlists", live, c.Data, c.Dead)
	}
	w.close()
}
