package gefs_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"gefs9p/blkfmt"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// held collects what is kept for snapshots only.
func (r *bare) held() map[blkfmt.Addr]bool {
	r.must("sync", r.sync())
	r.c.Worker.Leave()
	defer r.c.Worker.Enter()
	set := map[blkfmt.Addr]bool{}
	r.must("held", r.fs.Held(context.Background(), func(a blkfmt.Addr) bool { set[a] = true; return true }))
	return set
}

// TestHeldIsWhatOnlySnapshotsHave overwrites files between snapshots and forks: what is held is in no tree that can
// be written, and is what snapshots have beyond these if there is no fork.
func TestHeldIsWhatOnlySnapshotsHave(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	r := newSmall(t)
	for i := range 6 {
		f := r.walk()
		_, _, err := f.Create(r.c, fmt.Sprintf("f%d", i), 0o644, ninep.ORDWR)
		r.must("create", err)
		f.Clunk(r.c)
	}
	overwrite := func(label string) {
		root, _, err := r.fs.Attach(r.c, ninep.AttachArgs{Uname: gefstest.User, Aname: label})
		r.must("attach", err)
		defer root.Clunk(r.c)
		for range 4 {
			f, _, err := root.Walk(r.c, []string{fmt.Sprintf("f%d", rng.IntN(6))}, make([]ninep.Qid, 1))
			r.must("walk", err)
			_, _, err = f.Open(r.c, ninep.OWRITE)
			r.must("open", err)
			_, err = f.Write(r.c, make([]byte, 200_000), uint64(rng.IntN(1<<20)))
			r.must("write", err)
			f.Clunk(r.c)
			r.step()
		}
	}
	live := func(labels ...string) map[blkfmt.Addr]bool {
		all := map[blkfmt.Addr]bool{}
		for _, l := range labels {
			set, err := r.fs.LiveBlocks(r.c, l)
			r.must("walk the tree of "+l, err)
			for a := range set {
				all[a] = true
			}
		}
		return all
	}
	if n := len(r.held()); n != 0 {
		t.Errorf("without snapshots %d blocks are held", n)
	}
	var fixed []string
	for i := range 5 {
		overwrite("main")
		name := fmt.Sprintf("s%d", i)
		r.must("label", r.fs.Label(r.c, "main", name, false))
		fixed = append(fixed, name)
	}
	overwrite("main")
	held := r.held()
	now := live("main", "adm")
	want := live(fixed...)
	for a := range now {
		delete(want, a)
	}
	for a := range held {
		if now[a] {
			t.Fatalf("block %v is held, and main has it", a)
		}
		if !want[a] {
			t.Fatalf("block %v is held, and no snapshot has it", a)
		}
	}
	// The trees here are read with what is on its way in them, which deadlists have not heard of yet.
	if len(held) < len(want)*9/10 || len(held) < 40 {
		t.Errorf("%d blocks are held, of %d that only snapshots have", len(held), len(want))
	}
	// A fork drops what main still has.
	r.must("fork", r.fs.Label(r.c, "main", "fork", true))
	for range 3 {
		overwrite("fork")
		for a := range r.held() {
			if live("main", "fork", "adm")[a] {
				t.Fatalf("block %v is held, and a tree that can be written has it", a)
			}
		}
		overwrite("main")
	}
	for a := range r.held() {
		if live("main", "fork", "adm")[a] {
			t.Fatalf("block %v is held, and a tree that can be written has it", a)
		}
	}
}

func TestHeldEndsWithItsContextAndWhenTold(t *testing.T) {
	r := newSmall(t)
	for i := range 3 {
		f := r.walk()
		_, _, err := f.Create(r.c, fmt.Sprint(i), 0o644, ninep.OWRITE)
		r.must("create", err)
		_, err = f.Write(r.c, make([]byte, 100_000), 0)
		r.must("write", err)
		r.must("label", r.fs.Label(r.c, "main", fmt.Sprint("s", i), false))
		r.must("remove", f.Remove(r.c))
		r.step()
	}
	if n := len(r.held()); n < 2 {
		t.Fatalf("%d blocks are held", n)
	}
	r.c.Worker.Leave()
	defer r.c.Worker.Enter()
	n := 0
	r.must("held", r.fs.Held(context.Background(), func(blkfmt.Addr) bool { n++; return false }))
	if n != 1 {
		t.Errorf("told to stop at the first, it goes on to %d", n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.fs.Held(ctx, func(blkfmt.Addr) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func TestBacklogEndsWhenDeletionsAreDone(t *testing.T) {
	r := newSmall(t)
	for i := range 4 {
		f := r.walk()
		_, _, err := f.Create(r.c, fmt.Sprint(i), 0o644, ninep.OWRITE)
		r.must("create", err)
		_, err = f.Write(r.c, make([]byte, 400_000), 0)
		r.must("write", err)
		f.Clunk(r.c)
		r.must("label", r.fs.Label(r.c, "main", fmt.Sprint("s", i), i%2 == 0))
		r.step()
	}
	for i := range 4 {
		r.must("delete", r.fs.DeleteLabel(r.c, fmt.Sprint("s", i)))
	}
	r.c.Worker.Leave()
	defer r.c.Worker.Enter()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		snapshots, lists := r.fs.Backlog()
		if snapshots == 0 && lists == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d snapshots and %d lists are left", snapshots, lists)
		}
	}
}

// TestUnsyncedStaysWhenACommitFails: what could not be committed stays unsynced.
func TestUnsyncedStaysWhenACommitFails(t *testing.T) {
	r := newSmall(t)
	if d := r.fs.Unsynced(); d != 0 {
		t.Fatalf("on a new disk %v", d)
	}
	f := r.walk()
	_, _, err := f.Create(r.c, "file", 0o644, ninep.OWRITE)
	r.must("create", err)
	f.Clunk(r.c)
	time.Sleep(2 * time.Millisecond)
	if d := r.fs.Unsynced(); d < 2*time.Millisecond {
		t.Errorf("2 ms after a change: %v", d)
	}
	r.must("sync", r.sync())
	if d := r.fs.Unsynced(); d != 0 {
		t.Errorf("after a commit: %v", d)
	}
	f = r.walk()
	_, _, err = f.Create(r.c, "other", 0o644, ninep.OWRITE)
	r.must("create", err)
	f.Clunk(r.c)
	r.fs.Store().Latch(errors.New("a failure"))
	if err := r.sync(); err == nil {
		t.Fatal("a commit after a failure")
	}
	time.Sleep(2 * time.Millisecond)
	if d := r.fs.Unsynced(); d < 2*time.Millisecond {
		t.Errorf("after a failure: %v", d)
	}
}

// newSmall is newBare with a small disk, and no commits but those asked for.
func newSmall(t testing.TB) *bare {
	fs := gefstest.Open(t, gefstest.Ream(t), gefs.Options{CommitEvery: time.Hour})
	c, end := fs.Background()
	t.Cleanup(end)
	return &bare{t, fs, c}
}
