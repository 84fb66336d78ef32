package gefs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
	"gefs9p/snap"
)

// TestDumpTree shows every entry of a tree with pivots and buffered messages, and no more than it may.
func TestDumpTree(t *testing.T) {
	fs := gefstest.Open(t, gefstest.Ream(t), gefs.Options{})
	c, end := fs.Background()
	defer end()
	root, err := gefstest.Attach(fs, c, "glenda", "")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Clunk(c)
	const files = 1000
	for i := range files {
		f, _, err := root.Walk(c, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.Create(c, fmt.Sprintf("file%04d", i), 0o600, ninep.OWRITE); err != nil {
			t.Fatal(err)
		}
		f.Clunk(c)
	}
	dump := func(name string, max int) string {
		t.Helper()
		text, err := fs.DumpTree(t.Context(), c, name, max)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	whole := dump("main", 8<<20)
	for i := range files {
		if want := fmt.Sprintf("ent dir=0 \"file%04d\" = qid=(%d,0,0) mode=600", i, i+3); !strings.Contains(whole, want) {
			t.Fatalf("no %q in %d bytes", want, len(whole))
		}
	}
	if n := strings.Count(whole, "\nleaf ("); n < 5 || strings.Count(whole, "\npivot (") < 1 || strings.Count(whole, " -> (") < n || !strings.Contains(whole, "\t<0> ") {
		t.Errorf("the dump of a tree with pivots begins\n%.2000s", whole)
	}
	const max = 20 << 10
	part := dump("main", max)
	if len(part) < max || len(part) > max+64<<10 || !strings.HasSuffix(part, "\n... cut off behind 20480 bytes\n") || !strings.HasPrefix(whole, part[:max]) {
		t.Errorf("a dump of %d bytes ends with %q", len(part), part[len(part)-100:])
	}
	if got := dump(gefs.SnapTree, max); !strings.Contains(got, `label "adm" = gen=1`) {
		t.Errorf("the tree of snapshots is\n%s", got)
	}
	if _, err := fs.DumpTree(t.Context(), c, "nosuch", max); !errors.Is(err, snap.ErrNoLabel) {
		t.Errorf("a label that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := fs.DumpTree(ctx, c, "main", max); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// Nothing is left open.
	if err := fs.Label(c, "main", "x", false); err != nil {
		t.Fatal(err)
	}
	dump("x", max)
	if err := fs.DeleteLabel(c, "x"); err != nil {
		t.Error(err)
	}
}
