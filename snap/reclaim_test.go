package snap

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// lazyWorld is testWorld in which what deletions leave to do waits, and is done in small pieces.
func lazyWorld(t *testing.T, script string) *world {
	t.Helper()
	w := testWorld(t, script)
	w.lazy = true
	w.bite = pieceSize{1, 1, 1}
	w.f.piece = w.bite
	return w
}

// grow gives main so many files of long names that its tree has several levels.
func (w *world) grow(label string, n int) error {
	m := make(map[string]bool)
	for i := range n {
		m[fmt.Sprintf("%0200d", i)] = false
	}
	return w.write(label, m)
}

// pieces does what deletions have left to do, and calls after for each piece. It returns their number.
func (w *world) pieces(t *testing.T, after func()) (n int) {
	t.Helper()
	for {
		did, err := w.piece(nil)
		must(t, err)
		if !did {
			return n
		}
		n++
		after()
	}
}

// A deletion goes on after a crash, wherever it was; the others keep what they have all the time, and every
// state on the way is whole.
func TestDeletionGoesOnAfterCrashes(t *testing.T) {
	for _, tt := range []struct{ name, build, del string }{
		{"fork", "main+ab main>A A>>F F+abcd F-c commit", "-F"},
		{"line", "main+ab main>A main+ab main>B main+b commit", "-A"},
		{"line of doubtful lists", "main+ab main>A main+ab main>B main+b reopen", "-A -B"},
		{"fork and its origin", "main+ab main>A A>>F F+abcd F>G F+ac commit", "-F -G -A"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := testWorld(t, "")
			must(t, w.grow(Main, 300))
			must(t, w.do(strings.Split(tt.build, "commit")[0]))
			if w.now["F"].files != nil {
				must(t, w.grow("F", 100))
			}
			must(t, w.commit(nil))
			w.lazy, w.bite = true, pieceSize{20, 1, 1}
			w.f.piece = w.bite
			must(t, w.do(tt.del))
			n := w.pieces(t, func() {
				must(t, w.commit(nil))
				must(t, w.crash())
			})
			if n < 2 {
				t.Errorf("it took %d pieces only", n)
			}
			must(t, w.commit(nil))
			must(t, w.verifyAll())
			for _, s := range w.f.snaps {
				if s.rec.Gen != 0 && s.rec.Nlbl == 0 && s.rec.Nref < 2 {
					t.Errorf("snapshot %d is still there", s.rec.Gen)
				}
			}
			if d := w.report.Counts.Deadlist; len(w.f.first.lists) > 0 {
				t.Errorf("garbage is still there; %d blocks of deadlists", d)
			}
			// What was overwritten goes when the message reaches its leaf.
			if c := w.report.Counts; len(w.now) == 3 && (c.Data > int64(len(w.now[Main].files))+1+8 || c.Dead > 0) {
				t.Errorf("main has %d files, and adm one: %+v", len(w.now[Main].files), c)
			}
		})
	}
}

// Deleting takes the same time for a large snapshot: nothing of it is read.
func TestDeletingReadsNothing(t *testing.T) {
	w := testWorld(t, "main+ab main>>F F+ab")
	must(t, w.grow("F", 300))
	must(t, w.do("reopen"))
	before := w.st.Stats()
	w.lazy = true
	must(t, w.do("-F"))
	if after := w.st.Stats(); after.Misses != before.Misses || after.Hits != before.Hits {
		t.Errorf("it has looked at blocks: %+v, before it %+v", after, before)
	}
	if !w.f.Reclaiming() {
		t.Error("and nothing is left to do")
	}
}

// A snapshot of whose deadlists a part is gone must not inherit: what it says it has dropped is no longer
// all.
func TestHalfRemovedSnapshotInheritsNothing(t *testing.T) {
	w := lazyWorld(t, "main+abc main>A A>>F F+ab F>G F+ac commit")
	must(t, w.do("-F"))
	must(t, w.do("piece piece commit -G piece commit"))
	must(t, w.reclaim())
	must(t, w.do("commit"))
	must(t, w.verifyAll())
	if n := len(w.f.condemned); n > 0 {
		t.Errorf("%d snapshots are still to go", n)
	}
}

// While the tree of a snapshot is compared with that of the mutable label derived from it, writers of the
// label move on to a new one.
func TestWritersMoveOnWhileTreesAreCompared(t *testing.T) {
	w := testWorld(t, "main+abcd main>A main+ab main>B main+ac reopen")
	w.lazy = true
	must(t, w.do("-B"))
	old := w.f.labels[Main].val.Gen
	_, err := w.piece(&interruption{0, func() error { return w.do("main+abcd main-b commit") }})
	must(t, err)
	if w.f.labels[Main].val.Gen == old {
		t.Error("the writers have changed the tree that was looked at")
	}
	must(t, w.commit(nil))
	must(t, w.reclaim())
	must(t, w.do("commit main+ab commit"))
	must(t, w.verifyAll())
}

// Neither deletions nor writers take away what a survey counts, whatever becomes of the space.
func TestSurveyCountsWhatItWasAskedFor(t *testing.T) {
	w := testWorld(t, "main+ab main>>F F+ab")
	must(t, w.grow("F", 300))
	must(t, w.do("F>G F+a reopen"))
	w.lazy = true
	var at []int64
	for n := range 12 {
		run := func() error {
			if n == 0 {
				must(t, w.do("-F -G"))
			}
			must(t, w.reclaim())
			must(t, w.grow(Main, 40))
			return w.do("commit main+b commit")
		}
		var names []string
		if n == 0 {
			names = []string{"F", "G"}
		} else {
			names = []string{Main}
		}
		found, err := w.space(&interruption{n % 6, run}, names...)
		must(t, err)
		at = append(at, found)
	}
	if at[0] < 300 {
		t.Errorf("a fork with 300 files of its own holds %d blocks", at[0])
	}
	must(t, w.reclaim())
	must(t, w.commit(nil))
	must(t, w.verifyAll())
}

// A survey that begins while a merge reads finds what was there then.
func TestSurveyHoldsBackAMergeUnderWay(t *testing.T) {
	w := testWorld(t, "main+ab main>>F F+ab F>G")
	must(t, w.grow("F", 300))
	must(t, w.do("F>H F+a H>I reopen"))
	w.lazy = true
	must(t, w.do("-G"))
	g := w.st.Guard()
	g.Enter()
	r := w.f.Reclaim(g)
	must(t, r.Read(t.Context(), g))
	g.Leave()
	w.st.FreeGuard(g)
	n, err := w.space(&interruption{1, func() error {
		w.g.Enter()
		err := r.Apply(w.g)
		w.g.Leave()
		must(t, err)
		if len(w.f.condemned) == 0 {
			t.Error("the merge was made")
		}
		must(t, w.reclaim())
		must(t, w.grow(Main, 300))
		return w.do("commit main+b commit")
	}}, "H", "I", "F")
	must(t, err)
	if n < 300 {
		t.Errorf("they hold %d blocks", n)
	}
	must(t, w.reclaim())
	must(t, w.do("commit"))
	must(t, w.verifyAll())
}

// Nothing guards the pointers that chain a deadlist. Where they lead into another list nothing is freed.
func TestGarbageLedAstray(t *testing.T) {
	w := lazyWorld(t, "main+abcd commit")
	at := w.free(8)
	w.chainBlock(t, at[0], at[1], at[4])
	w.chainBlock(t, at[1], blkfmt.NoAddr, at[5]) // another's
	w.chainBlock(t, at[2], blkfmt.NoAddr, at[6])
	w.f.addGarbage(&deadlist{disk: kvfmt.Dlist{Hd: blkfmt.Bptr{Addr: at[0]}, Tl: blkfmt.Bptr{Addr: at[2]}}})
	_, err := w.piece(nil)
	if err == nil || !strings.Contains(err.Error(), "not at its tail") {
		t.Errorf("a list that ends elsewhere: %v", err)
	}
	did, err := w.piece(nil)
	if did || err != nil {
		t.Errorf("it is tried again: %v", err)
	}
	if !w.f.Reclaiming() {
		t.Error("it is forgotten")
	}
}

// What many deletions leave to do is done in pieces whose size does not depend on it.
func TestPiecesAreSmall(t *testing.T) {
	w, err := newWorld(blkdev.NewMem(diskSize))
	must(t, err)
	t.Cleanup(w.stop)
	must(t, w.do("main+a main>A"))
	must(t, w.label(Main, "F", true))
	must(t, w.grow("F", 1500))
	must(t, w.commit(nil))
	w.lazy = true
	w.f.piece = pieceSize{blocks: 100, nodes: 8, lists: 4}
	must(t, w.do("-F"))
	before := w.st.Arenas().Stat()
	for {
		did, err := w.piece(nil)
		must(t, err)
		if !did {
			break
		}
		after := w.st.Arenas().Stat()
		freed := int64(0)
		for i := range after {
			freed += (after[i].Waiting - before[i].Waiting) / blkfmt.BlkSize
		}
		// A leaf more than the limit and the way down to it, with all that they point at.
		if freed > 100+300 {
			t.Errorf("a piece has freed %d blocks", freed)
		}
		before = after
	}
	must(t, w.commit(nil))
	w.safe = maps.Clone(w.now)
	must(t, w.verifyAll())
}
