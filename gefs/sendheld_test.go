package gefs_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"gefs9p/gefs"
)

// A sending is a stream of which the first byte was read: the snapshot is held, and most of it not sent yet.
type sending struct {
	head []byte
	r    *io.PipeReader
	sent chan error
}

// beginSend begins to send what the label is.
func (w *world) beginSend(label string) *sending {
	w.t.Helper()
	r, pw := io.Pipe()
	s := &sending{head: make([]byte, 1), r: r, sent: make(chan error, 1)}
	go func() {
		_, err := w.fs.Send(context.Background(), pw, gefs.SendOptions{Snap: label})
		pw.CloseWithError(err)
		s.sent <- err
	}()
	if _, err := io.ReadFull(r, s.head); err != nil {
		w.t.Fatalf("send %s: %v", label, err)
	}
	return s
}

// finish has the rest received under the name, and waits until nothing is held any more.
func (s *sending) finish(w *world, name string) {
	w.t.Helper()
	_, err := w.fs.Receive(context.Background(), io.MultiReader(bytes.NewReader(s.head), s.r), gefs.ReceiveOptions{Name: name})
	s.r.CloseWithError(err)
	if serr := <-s.sent; serr != nil {
		w.t.Errorf("send: %v", serr)
	}
	if err != nil {
		w.t.Fatalf("receive: %v", err)
	}
}

// TestWhatIsSentStaysOnAFullDisk sends trees of many nodes slowly, while nobody else needs them any more – the
// snapshot is deleted, the label is changed in every file – and writers fill the disk to the last block, remove what
// they wrote and fill it again. What arrives is what was there at the beginning; then the space comes back.
func TestWhatIsSentStaysOnAFullDisk(t *testing.T) {
	quick(t)
	for _, tt := range []struct {
		name, label string
		leave       func(w *world) // nobody but who sends has the tree after that
	}{
		{"a snapshot that is deleted", "held", func(w *world) {
			c, end := w.fs.Background()
			defer end()
			if err := w.fs.DeleteLabel(c, "held"); err != nil {
				w.t.Fatal(err)
			}
		}},
		{"a label that is changed", "main", func(*world) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rng := sendRand(t)
			a, b := newWorld(t), newWorld(t)
			s := a.as("glenda", "%main")
			s.mkdir("first", 0755)
			s.mkdir("second", 0755)
			s.mkdir("keep", 0755)
			a.fs.StopSweeping()
			s.put("removed", 0644, strings.Repeat("removed", 200*blk/7))
			s.remove("removed") // what is to be cleared of it stays there
			a.toClear(1)
			const files, size = 800, 2*blk + 1000
			for i := range files {
				text := make([]byte, size)
				for k := 0; k < len(text); k += 1 + rng.IntN(50) {
					text[k] = byte(rng.Uint32())
				}
				s.put(fmt.Sprintf("keep/%0100d", i), 0644, string(text))
			}
			if tt.label != "main" {
				a.snapshot("main", tt.label, false)
			}
			want := a.digest(tt.label)

			x := a.beginSend(tt.label)
			for i := range files {
				if p := fmt.Sprintf("keep/%0100d", i); i%2 == 0 {
					s.remove(p)
				} else {
					s.truncate(p, 1)
				}
			}
			s.must("fsync", s.root.Fsync())
			tt.leave(a)
			a.fs.Reclaimed()
			first := fill(t, s, "first") // files of a megabyte beside what is held
			for i, p := range first {
				if i%2 == 0 {
					s.remove(p)
				}
			}
			s.must("fsync", s.root.Fsync())
			fill(t, s, "second")
			a.fs.Reclaimed()
			x.finish(b, "copy")
			if got := b.digest("copy"); got != want {
				t.Errorf("digest %v, want %v", got, want)
			}

			for _, dir := range []string{"first", "second"} {
				for _, p := range s.list(dir) {
					s.remove(dir + "/" + p)
				}
			}
			s.must("fsync", s.root.Fsync())
			a.fs.Reclaimed()
			s.must("fsync", s.root.Fsync())
			if names := fill(t, s, "first"); len(names) < len(first)+files*size>>20 {
				t.Errorf("%d files fit when nothing is held any more, %d did beside %d MiB", len(names), len(first), files*size>>20)
			}
			a.end()
			b.end()
		})
	}
}
