package gefs_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// TestPowerCutFindsWhatIsMovedInOnePlace moves a file and a directory to and fro between two directories, over another
// file now and then, while somebody else has commits made without a pause. Wherever the power is cut then, each of
// them is found in exactly one of the two places, and whole.
func TestPowerCutFindsWhatIsMovedInOnePlace(t *testing.T) {
	crash := blkdev.NewCrash(gefstest.Ream(t))
	w := newWorldOn(t, crash, gefs.Options{CommitEvery: time.Hour})
	l := w.linux("glenda", "")
	for _, d := range []string{"a", "b"} {
		l.must("mkdir", l.mkdir("", d))
	}
	l.must("mkdir", l.mkdir("a", "dir"))
	l.put("a/dir", "file", "in the directory")
	l.put("a", "moved", "what is moved")
	w.sync()
	from := crash.Trace().Len()

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	syncs := 0
	wg.Go(func() {
		for ; ctx.Err() == nil; syncs++ {
			if err := w.fs.Sync(context.WithoutCancel(ctx)); err != nil {
				t.Errorf("sync: %v", err)
				return
			}
		}
	})
	moves := 0
	for began := time.Now(); moves < 200 || time.Since(began) < time.Second/2 && moves < 2000; moves++ {
		src, dst := "a", "b"
		if moves%2 == 1 {
			src, dst = dst, src
		}
		if moves%3 == 0 {
			l.put(dst, "moved", "what is replaced")
		}
		for _, name := range []string{"moved", "dir"} {
			before := w.fs.TreeVersion("main")
			l.must("rename", l.rename(src, name, dst, name))
			// Nobody else writes. In two batches, there might be a commit between them.
			if n := w.fs.TreeVersion("main") - before; n != 1 {
				t.Fatalf("move %d of %s is made in %d batches", moves, name, n)
			}
		}
	}
	stop()
	wg.Wait()
	l.Close()
	w.end()

	// The moments that matter are those in which another superblock is on the disk: what is between two of them
	// finds the same state.
	trace := crash.Trace()
	var commits []int
	for at := from; at < trace.Len(); at++ {
		if e := trace.Event(at); e.Kind == blkdev.EventWrite && e.Off == 0 {
			commits = append(commits, at+1)
		}
	}
	t.Logf("%d moves, %d syncs, %d commits", 2*moves, syncs, len(commits))
	if len(commits) < 5 {
		t.Fatal("hardly anything was committed between the moves")
	}
	most := 250
	if testing.Short() {
		most = 40
	}
	r := rand.New(rand.NewPCG(uint64(trace.Len()), 1))
	places := make(map[string]int)
	for i := range min(most, len(commits)) {
		at := commits[i*len(commits)/min(most, len(commits))]
		for _, cut := range []blkdev.Cut{trace.All(at), trace.RandomAt(r, at)} {
			disk, err := trace.State(cut)
			if err != nil {
				t.Fatal(err)
			}
			gefstest.CheckStrict(t, disk)
			where := placesOf(t, disk)
			places[where]++
			if !slices.Contains([]string{"moved in a, dir in a", "moved in b, dir in a", "moved in b, dir in b", "moved in a, dir in b"}, where) {
				t.Fatalf("cut %v: %s", cut, where)
			}
		}
	}
	t.Log(places)
	if len(places) < 2 {
		t.Error("all cuts found the same")
	}
}

// placesOf says where on the disk the file and the directory of TestPowerCutFindsWhatIsMovedInOnePlace are.
func placesOf(t *testing.T, disk *blkdev.Mem) string {
	t.Helper()
	w := &world{t: t, dev: disk}
	w.start()
	defer w.end()
	s := w.as("glenda", "")
	moved, dir := "", ""
	for _, d := range []string{"a", "b"} {
		if f, err := s.openErr(d+"/moved", ninep.OREAD); err == nil {
			text, err := f.readErr()
			switch {
			case err != nil:
				t.Fatal(err)
			case text == "what is moved":
				moved += d
			case text != "" && text != "what is replaced":
				t.Fatalf("%s/moved holds %q", d, text)
			}
			f.clunk()
		}
		if f, err := s.openErr(d+"/dir/file", ninep.OREAD); err == nil {
			if text, err := f.readErr(); err != nil || text != "in the directory" {
				t.Fatalf("%s/dir/file holds %q, %v", d, text, err)
			}
			f.clunk()
			dir += d
		}
	}
	s.hangUp()
	return "moved in " + moved + ", dir in " + dir
}
