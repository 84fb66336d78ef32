package snap

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/kvfmt"
)

// A script is a few operations in words, for tests that say what they do:
//
//	main+ab      write the files a and b of main
//	main-a       remove a from main
//	main>A       label A of main
//	main>>F      fork F of main
//	main<A:K     roll main back to A, keeping its state as K
//	-A           delete the label A
//	piece        do a piece of what deletions left to do, if they leave it to that
//	commit, crash, reopen
func (w *world) do(script string) error {
	for _, s := range strings.Fields(script) {
		if err := w.doOne(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

func (w *world) doOne(s string) error {
	files := func(names string, remove bool) map[string]bool {
		m := make(map[string]bool)
		for _, n := range names {
			m[string(n)] = remove
		}
		return m
	}
	switch {
	case s == "commit":
		return w.commit(nil)
	case s == "crash":
		return w.crash()
	case s == "reopen":
		if err := w.commit(nil); err != nil {
			return err
		}
		return w.crash()
	case s == "piece":
		_, err := w.piece(nil)
		return err
	case s[0] == '-':
		return w.unlabel(s[1:])
	}
	if label, names, ok := strings.Cut(s, "+"); ok {
		return w.write(label, files(names, false))
	}
	if label, names, ok := strings.Cut(s, "-"); ok {
		return w.write(label, files(names, true))
	}
	if label, rest, ok := strings.Cut(s, "<"); ok {
		old, keep, _ := strings.Cut(rest, ":")
		return w.rollback(label, old, keep)
	}
	old, name, _ := strings.Cut(s, ">")
	if name[0] == '>' {
		return w.label(old, name[1:], true)
	}
	return w.label(old, name, false)
}

// plainUsed returns how many blocks are in use on a disk with the contents of adm and main that the
// model has and nothing else.
func plainUsed(now model) (int64, error) {
	w, err := newWorld(blkdev.NewMem(diskSize))
	if err != nil {
		return 0, err
	}
	defer w.stop()
	// Main has been written to, and no longer shares empty's root.
	if err := w.do("main+z main-z"); err != nil {
		return 0, err
	}
	for _, name := range []string{Adm, Main} {
		m := make(map[string]bool)
		for f := range now[name].files {
			m[f] = false
		}
		if err := w.write(name, m); err != nil {
			return 0, err
		}
	}
	if err := w.commit(nil); err != nil {
		return 0, err
	}
	return w.used(), nil
}

// permutations calls fn with every order of list.
func permutations(list []string, fn func([]string)) {
	var rec func(n int)
	rec = func(n int) {
		if n == len(list) {
			fn(slices.Clone(list))
			return
		}
		for i := n; i < len(list); i++ {
			list[n], list[i] = list[i], list[n]
			rec(n + 1)
			list[n], list[i] = list[i], list[n]
		}
	}
	rec(0)
}

// Pitfalls 57, 61, 63: whatever was labelled and forked, in whatever order it is deleted, and whether
// commits and restarts come in between: the others keep what they have, and in the end the disk is as
// full as one that never had any of it.
func TestSpaceComesBackInEveryOrderOfDeletion(t *testing.T) {
	for _, tt := range []struct {
		name, build string
		labels      []string
	}{
		{"line",
			"main+abcd main>A main+bce main>B main+cdf main-a main>C main+ag",
			[]string{"A", "B", "C"}},
		{"line with commits",
			"main+abcd commit main>A commit main+bce commit main>B main+cdf main-a commit main>C main+ag commit",
			[]string{"A", "B", "C"}},
		{"forks of forks",
			"main+abcdef main>>F F+bg main+c F>>G G+dh F+b F-a G>>H H+ei G-g main+a",
			[]string{"F", "G", "H"}},
		{"forks of forks with restarts",
			"main+abcdef reopen main>>F F+bg reopen main+c F>>G reopen G+dh F+b F-a G>>H reopen H+ei G-g main+a reopen",
			[]string{"F", "G", "H"}},
		{"two labels on one snapshot",
			"main+abc main>A main>A2 main+bd main>B main>B2 main+a commit",
			[]string{"A", "A2", "B", "B2"}},
		{"fork and its origin",
			"main+abc main>A A>>F F+bd F>G F+ae main+cf commit",
			[]string{"A", "F", "G"}},
		{"tip and its predecessors",
			"main+abcd main>>F F+ab commit F>P F+bc commit F>Q F+cde commit",
			[]string{"F", "P", "Q"}},
		{"two forks that drop the same",
			"main+abcd main>A A>>F A>>G F+ab G+ac main+ad commit F>FF G+b F+c",
			[]string{"A", "F", "G", "FF"}},
		{"label of a label",
			"main+ab main>A A>B main+b B>C B>>F F+a",
			[]string{"A", "B", "C", "F"}},
		{"rolled back and forth",
			"main+abcd main>A main+be main<A:K main+cf commit main<K:L main+dg main>M",
			[]string{"A", "K", "L", "M"}},
		{"everything rewritten again and again",
			"main+abcdef main>A main+abcdef main>B main+abcdef main>C main+abcdef main>>F F+abcdef main+abcdef",
			[]string{"A", "B", "C", "F"}},
		{"adm",
			"main+a adm+ab adm>A adm+bc adm>>F F+a adm>B adm+d commit",
			[]string{"A", "B", "F"}},
		{"adm before its first write",
			"main+a adm>A adm+a adm>B adm>>F commit F+b adm-a",
			[]string{"A", "B", "F"}},
		{"empty",
			"empty>A empty>>F F+ab F>G F+bc main+a A>>H H+a",
			[]string{"A", "F", "G", "H"}},
		{"main before its first write",
			"main>A main>>F main+a F+b main>B commit main-a",
			[]string{"A", "F", "B"}},
	} {
		modes := []string{"", "commit", "reopen", "crash"}
		if testing.Short() || raceEnabled {
			modes = []string{"crash"}
		}
		for _, mode := range modes {
			t.Run(tt.name+" "+mode, func(t *testing.T) {
				permutations(tt.labels, func(order []string) {
					if err := deleteIn(tt.build, order, mode); err != nil {
						t.Errorf("%s, deleting %v: %v", tt.build, order, err)
					}
				})
			})
		}
	}
}

// deleteIn builds a forest, deletes labels in that order, with mode after each, and compares.
func deleteIn(build string, order []string, mode string) error {
	w, err := newWorld(blkdev.NewMem(diskSize))
	if err != nil {
		return err
	}
	defer func() { w.stop() }()
	if err := w.do(build); err != nil {
		return err
	}
	for _, label := range order {
		if mode == "crash" { // before it is committed, and then again
			if err := w.do("commit"); err != nil {
				return err
			}
			if err := w.do("-" + label + " crash"); err != nil {
				return err
			}
		}
		if err := w.do("-" + label); err != nil {
			return err
		}
		if err := w.do(strings.TrimPrefix(mode, "crash")); err != nil {
			return err
		}
		if err := w.verifyAll(); err != nil {
			return fmt.Errorf("after deleting %s: %w", label, err)
		}
	}
	if err := w.do("reopen"); err != nil {
		return err
	}
	if err := w.census(); err != nil {
		return err
	}
	if n := len(w.f.snaps); n != 3 {
		return fmt.Errorf("%d snapshots are left", n)
	}
	want, err := plainUsed(w.now)
	if err != nil {
		return err
	}
	if w.used() != want {
		return fmt.Errorf("%d blocks are in use, %d on a disk that never had snapshots: %+v", w.used(), want, w.report.Counts)
	}
	return nil
}

func testWorld(t *testing.T, script string) *world {
	t.Helper()
	w, err := newWorld(blkdev.NewMem(diskSize))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.stop() })
	if err := w.do(script); err != nil {
		t.Fatal(err)
	}
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Pitfall 66: what is labelled does not change when its label's other name is written to.
func TestFirstWriteAfterOpeningMovesOn(t *testing.T) {
	w := testWorld(t, "main+ab main>A reopen")
	before := w.now["A"]
	must(t, w.do("main+a main-b"))
	if !maps.Equal(w.now["A"].files, before.files) {
		t.Fatal("the model is wrong")
	}
	must(t, w.verifyAll())
	must(t, w.do("reopen"))
	must(t, w.verifyAll())
}

// Pitfall 67.
func TestGenerationsAreNeverUsedAgain(t *testing.T) {
	w := testWorld(t, "main+a")
	seen := w.f.NextGen()
	for i := range 5 {
		must(t, w.do(fmt.Sprintf("main>A%d main+a commit", i)))
		if n := w.f.NextGen(); n <= seen {
			t.Errorf("next generation is %d after %d", n, seen)
		}
		seen = w.f.NextGen()
		must(t, w.do(fmt.Sprintf("-A%d reopen", i)))
		if n := w.f.NextGen(); n < seen {
			t.Errorf("next generation is %d after a restart, was %d", n, seen)
		}
	}
	// A committed state's generation numbers stay taken even if the snapshots themselves are gone.
	must(t, w.do("main>>F commit -F reopen"))
	if n := w.f.NextGen(); n <= seen {
		t.Errorf("next generation is %d, was %d before a fork that is gone", n, seen)
	}
}

// A label that is deleted and made again before a commit must be the new one.
func TestLabelDeletedAndMadeAgain(t *testing.T) {
	w := testWorld(t, "main+ab main>A commit main+a")
	must(t, w.do("-A main>A main+b commit"))
	must(t, w.do("reopen"))
	must(t, w.do("-A main>>A A+c -A main>A -A commit reopen"))
	if _, err := w.f.Open("A"); !errors.Is(err, ErrNoLabel) {
		t.Errorf("the label that was deleted last: %v", err)
	}
	must(t, w.verifyAll())
}

func TestTreeOfAnImmutableLabelIsNotWritten(t *testing.T) {
	w := testWorld(t, "main+a main>A")
	tree, err := w.f.Open("A")
	must(t, err)
	w.g.Enter()
	err = tree.Upsert(w.g, []kvfmt.Msg{{Op: kvfmt.Insert, Key: kvfmt.AppendUpKey(nil, 1), Val: kvfmt.AppendEntKey(nil, 0, "x")}})
	w.g.Leave()
	tree.Close()
	if err == nil {
		t.Error("a snapshot was written")
	}
	must(t, w.do("reopen"))
	must(t, w.verifyAll())
}

func TestOpenTreesShareWhatTheyWrite(t *testing.T) {
	w := testWorld(t, "main+a")
	a, err := w.f.Open(Main)
	must(t, err)
	b, err := w.f.Open(Main)
	must(t, err)
	if a != b {
		t.Error("two trees of one label")
	}
	v := a.Version()
	must(t, w.do("main+b"))
	if a.Version() == v {
		t.Error("the version stays the same over a change")
	}
	a.Close()
	must(t, w.do("main+c"))
	b.Close()
	must(t, w.do("reopen"))
	must(t, w.verifyAll())
}

func TestLabelsAreListedInOrder(t *testing.T) {
	w := testWorld(t, "main>c main>>b main>a")
	must(t, w.hold("b"))
	var got []string
	for _, l := range w.f.Labels() {
		got = append(got, fmt.Sprint(l.Name, " ", l.Mutable, " ", l.Open))
	}
	want := []string{"a false false", "adm true false", "b true true", "c false false", "empty false false", "main true false"}
	if !slices.Equal(got, want) {
		t.Errorf("labels %q, want %q", got, want)
	}
}

func TestNamesOfSnapshots(t *testing.T) {
	for name, want := range map[string]error{
		"a": nil, "main@minute.2026.01.02_03:04:05": nil, "größe": nil, strings.Repeat("x", NameMax): nil,
		"": ErrName, ".": ErrName, "..": ErrName, "a/b": ErrName, "%a": ErrName, "a\n": ErrName, "a\x7f": ErrName,
		"\xff": ErrName, strings.Repeat("x", NameMax+1): ErrName,
		Empty: ErrReserved, Adm: ErrReserved, Dump: ErrReserved,
	} {
		if err := CheckName(name); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", name, err, want)
		}
	}
}
