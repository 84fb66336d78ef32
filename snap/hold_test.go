package snap

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// pin holds a label until the test ends, or release is called.
func (w *world) pin(t *testing.T, label string) (h *Held, release func()) {
	t.Helper()
	h, err := w.f.Hold(label)
	must(t, err)
	done := false
	release = func() {
		if !done {
			h.Release()
		}
		done = true
	}
	t.Cleanup(release)
	return h, release
}

// differ compares two labels by Differ. It returns the spans, and how many nodes were read for them.
func (w *world) differ(t *testing.T, a, b *Held) (l Spans, nodes int) {
	t.Helper()
	must(t, w.during(nil, func(g *epoch.Guard, _ func() error) (err error) {
		l, err = w.f.Differ(g, a, b, func() error { nodes++; return nil })
		return err
	}))
	return l, nodes
}

// pairs returns all that a tree holds.
func (w *world) pairs(t *testing.T, h *Held) map[string]string {
	t.Helper()
	w.g.Enter()
	defer w.g.Leave()
	all := make(map[string]string)
	must(t, h.Scan(w.g, nil, nil, func(k, v []byte) bool {
		all[string(k)] = string(v)
		return true
	}))
	return all
}

// outside returns a key with different values in a and b that no span has; ok is false if there is none. n is how
// many differ.
func outside(a, b map[string]string, l Spans) (key string, ok bool, n int) {
	look := func(k string) {
		n++
		for _, s := range l {
			if kvfmt.Compare([]byte(k), s.From) >= 0 && (s.To == nil || kvfmt.Compare([]byte(k), s.To) < 0) {
				return
			}
		}
		key, ok = k, true
	}
	for k, v := range a {
		if other, there := b[k]; !there || other != v {
			look(k)
		}
	}
	for k := range b {
		if _, there := a[k]; !there {
			look(k)
		}
	}
	return key, ok, n
}

// TestDifferFindsAChangeThatIsOnlyAMessage compares trees of several levels that differ in what waits in the
// buffer of the root: all the nodes below are shared, and none of them is read.
func TestDifferFindsAChangeThatIsOnlyAMessage(t *testing.T) {
	w := testWorld(t, "")
	must(t, w.grow(Main, 3000))
	must(t, w.settle(Main))
	must(t, w.do("main>A commit"))
	for _, change := range []string{"main+a", "main+b", "main-a"} {
		must(t, w.do(change))
		a, release := w.pin(t, "A")
		b, releaseB := w.pin(t, Main)
		if a.Rec.Ht < 3 || b.Rec.Ht != a.Rec.Ht {
			t.Fatalf("trees of heights %d and %d", a.Rec.Ht, b.Rec.Ht)
		}
		l, nodes := w.differ(t, a, b)
		key, missed, n := outside(w.pairs(t, a), w.pairs(t, b), l)
		if missed || n == 0 {
			t.Errorf("%s: of %d keys that differ %q is in no span", change, n, key)
		}
		if nodes != 2 {
			t.Errorf("%s: %d nodes were read, want the two roots", change, nodes)
		}
		same, _ := w.differ(t, b, b)
		if len(same) > 0 {
			t.Errorf("a tree differs from itself in %d spans", len(same))
		}
		release()
		releaseB()
	}
	must(t, w.commit(nil))
}

// TestDifferFindsEveryKeyThatDiffers compares trees of random histories with forks, of several levels, each with
// each: whatever key has another value in one than in the other is in a span, and a small difference is found
// without reading much.
func TestDifferFindsEveryKeyThatDiffers(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	w := testWorld(t, "")
	const files = 500
	must(t, w.grow(Main, files))
	labels := []string{"s0"}
	must(t, w.label(Main, "s0", false))
	on := []string{Main}
	rounds := 12
	if testing.Short() {
		rounds = 6
	}
	for i := 1; i <= rounds; i++ {
		if i%4 == 0 {
			fork := fmt.Sprintf("fork%d", i)
			must(t, w.label(labels[rng.IntN(len(labels))], fork, true))
			on = append(on, fork)
		}
		label := on[rng.IntN(len(on))]
		changes := make(map[string]bool)
		for range []int{1, 3, 30, 300}[rng.IntN(4)] {
			name := fmt.Sprintf("%0200d", rng.IntN(files+50))
			changes[name] = rng.IntN(3) == 0
		}
		must(t, w.write(label, changes))
		name := fmt.Sprintf("s%d", i)
		must(t, w.label(label, name, false))
		labels = append(labels, name)
		if i%3 == 0 {
			must(t, w.commit(nil))
		}
	}
	hold, all := make([]*Held, len(labels)), make([]map[string]string, len(labels))
	for i, label := range labels {
		hold[i], _ = w.pin(t, label)
		all[i] = w.pairs(t, hold[i])
	}
	some := 0
	for i := range labels {
		for j := range labels {
			l, nodes := w.differ(t, hold[i], hold[j])
			key, missed, n := outside(all[i], all[j], l)
			if missed {
				t.Errorf("%s and %s differ in %d keys; %q is in none of %d spans", labels[i], labels[j], n, key, len(l))
			}
			for k := range l {
				if s := l[k]; s.To != nil && kvfmt.Compare(s.From, s.To) >= 0 || k > 0 && kvfmt.Compare(l[k-1].To, s.From) >= 0 {
					t.Errorf("%s and %s: span %d of %d, %x to %x, is out of order", labels[i], labels[j], k, len(l), s.From, s.To)
				}
			}
			if n > 0 {
				some++
			}
			if i == j && nodes > 0 {
				t.Errorf("%d nodes are read to compare a tree with itself", nodes)
			}
		}
	}
	if some < len(labels) {
		t.Errorf("only %d of %d comparisons have found something", some, len(labels)*len(labels))
	}
}

// TestHeldTreesStayWhole deletes snapshots that are held, wherever they stand between others, does all that deletions
// leave to do, and has others write much more than was free: what is held can be read to the last byte.
// Afterwards the space comes back.
func TestHeldTreesStayWhole(t *testing.T) {
	for _, tt := range []struct{ name, build, held, then string }{
		{"a fork", "main+ab main>A A>>F F+abcd F-c", "F", "-F -A"},
		{"between two", "main+ab main>A main+ab main>B main+b", "A", "-A"},
		{"behind one that goes", "main+ab main>A main+abc main>B main+b", "B", "-A -B"},
		{"between two, with what was found on the disk", "main+ab main>A main+ab main>B main+b reopen", "A", "-A -B"},
		{"one that is written to", "main+ab", Main, "main-a main+bc"},
		{"a fork that is written to", "main+ab main>>F F+cd", "F", "F-a F+c -F"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := testWorld(t, "")
			must(t, w.grow(Main, 200))
			must(t, w.do(tt.build))
			if w.now["F"].files != nil { // something that only the fork has
				must(t, w.grow("F", 150))
			}
			must(t, w.commit(nil))
			want := w.now[tt.held].content
			h, release := w.pin(t, tt.held)
			must(t, w.do(tt.then))
			turns := 30
			if testing.Short() {
				turns = 8
			}
			for range turns {
				must(t, w.grow(Main, 200)) // the disk has 8,000 blocks
				must(t, w.commitUnchecked())
				must(t, w.reclaim())
			}
			must(t, w.commit(nil))
			if err := w.verifyTree(tt.held, h.Tree, want); err != nil {
				t.Fatalf("the tree that is held: %v", err)
			}
			release()
			must(t, w.reclaim())
			must(t, w.settle(Main))
			must(t, w.commit(nil))
			must(t, w.verifyAll())
			if f := w.f; f.Reclaiming() {
				t.Error("something is left to do")
			}
			plain, err := plainUsed(w.now)
			must(t, err)
			if used := w.used(); len(w.now) == 3 && used > plain+plain/4+20 {
				t.Errorf("%d blocks are in use, and %d on a disk that never had snapshots", used, plain)
			}
		})
	}
}
