package gefs_test

import (
	"fmt"
	"strings"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkstore"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
)

// TestDeletionThatCannotReadChangesNothing fails each of the reads that the deletion of a label needs.
// The label stays, and the file system goes on.
func TestDeletionThatCannotReadChangesNothing(t *testing.T) {
	mem := gefstest.Ream(t)
	w := newWorldOn(t, mem, gefs.Options{})
	s := w.as("glenda", "")
	for round := range 4 { // deadlists of several births
		for i := range 40 {
			name := fmt.Sprint("f", i)
			if round > 0 {
				s.remove(name)
			}
			s.put(name, 0644, strings.Repeat(fmt.Sprint(round), 20000))
		}
		w.snapshot("main", fmt.Sprint("label", round), false)
		w.sync()
	}
	w.snapshot("main", "fork", true)
	fork := w.as("glenda", "fork")
	for i := range 40 {
		fork.remove(fmt.Sprint("f", i))
		fork.put(fmt.Sprint("g", i), 0644, strings.Repeat("fork", 20000))
	}
	w.stop()
	for _, label := range []string{"label1", "fork"} {
		reads := 0
		for deletionFails(t, mem.Clone(), label, reads+1) {
			reads++
		}
		t.Logf("the deletion of %s reads %d blocks", label, reads)
		if reads == 0 {
			t.Errorf("the deletion of %s reads nothing", label)
		}
	}
}

// deletionFails deletes the label, but for one read that fails, and reports whether that was so.
func deletionFails(t *testing.T, img *blkdev.Mem, label string, nth int) bool {
	dev := blkdev.NewFault(img)
	w := &world{t: t, dev: dev, opt: gefs.Options{Cache: blkstore.MinCache}}
	w.start()
	s := w.as("glenda", "")
	labels := len(w.fs.Forest().Labels())
	c, end := w.fs.Background()
	dev.Fail(blkdev.Rule{Op: blkdev.OpRead, Nth: nth})
	err := w.fs.DeleteLabel(c, label)
	dev.Heal()
	if err != nil {
		if got := len(w.fs.Forest().Labels()); got != labels {
			t.Fatalf("%s, read %d: after %v there are %d labels, there were %d", label, nth, err, got, labels)
		}
		if err := w.fs.DeleteLabel(c, label); err != nil {
			t.Fatalf("%s, read %d: once more: %v", label, nth, err)
		}
	}
	end()
	s.put("new", 0644, "new")
	w.stop()
	gefstest.CheckStrict(t, img)
	return err != nil
}
