package betree

import (
	"bytes"
	"errors"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// Pitfall 16: a scan that starts at any key, or just before or after one, finds the next.
func TestScanStartsAtEveryKeyAndBetween(t *testing.T) {
	rng := newRand(t)
	s := newStore(t)
	tree := create(t, s)
	m := newModel(rng, s, mixedKeys(rng, []byte{kvfmt.Kent, kvfmt.Kconf}, 2000, 200, 244))
	m.bulky = true
	for range 600 {
		upsert(t, tree, m.batch(8, 90)...)
	}
	list := m.sorted()
	first := func(prefix, after []byte) (key []byte) {
		t.Helper()
		if err := tree.Scan(nil, prefix, after, func(k, _ []byte) bool { key = bytes.Clone(k); return false }); err != nil {
			t.Fatal(err)
		}
		return key
	}
	for i, k := range list {
		key := []byte(k)
		var next []byte
		if i+1 < len(list) {
			next = []byte(list[i+1])
		}
		if got := first(key, nil); !bytes.Equal(got, key) {
			t.Errorf("first with prefix %x is %x", key, got)
		}
		if got := first(nil, key); !bytes.Equal(got, next) {
			t.Errorf("first after %x is %x, want %x", key, got, next)
		}
		if got := first(nil, key[:len(key)-1]); !bytes.Equal(got, key) && (i == 0 || string(got) != list[i-1]) && string(got) > k {
			t.Errorf("first after %x is %x", key[:len(key)-1], got)
		}
		n := 0
		if err := tree.ScanRange(nil, key, next, func(k, _ []byte) bool { n++; return true }); err != nil || n != 1 {
			t.Errorf("%d keys from %x up to the next, %v", n, key, err)
		}
	}
	if h := tree.Height(); h < 3 {
		t.Errorf("only %d levels", h)
	}
}

// A scan reads no leaf that can have nothing of what is wanted.
func TestScanReadsOnlyWhatMayBeWanted(t *testing.T) {
	s := newStore(t)
	var leaves []made
	for i := range 8 {
		leaves = append(leaves, s.leaf(pair{conf(10*i, 0), nil}, pair{conf(10*i+1, 0), nil}))
	}
	// Messages behind what is wanted, and deletes of all that is.
	msgs := []kvfmt.Msg{remove(conf(30, 0)), remove(conf(31, 0)), insert(conf(45, 0), nil)}
	tree := s.open(s.pivot(nil, s.pivot(msgs, leaves[:5]...), s.pivot(nil, leaves[5:]...)), 3)
	all := func(_, _ []byte) bool { return true }
	for _, c := range []struct {
		name  string
		reads int
		scan  func() error
	}{
		{"range of a leaf", 2, func() error { return tree.ScanRange(nil, conf(20, 0), conf(30, 0), all) }},
		{"range at the end of a pivot", 2, func() error { return tree.ScanRange(nil, conf(40, 0), conf(50, 0), all) }},
		{"range over the end of a pivot", 4, func() error { return tree.ScanRange(nil, conf(40, 0), conf(51, 0), all) }},
		{"prefix", 3, func() error { return tree.Scan(nil, conf(20, 0)[:6], nil, all) }},
		{"prefix where all was deleted", 3, func() error { return tree.Scan(nil, conf(30, 0)[:6], nil, all) }},
		{"prefix of nothing", 0, func() error { return tree.Scan(nil, []byte{kvfmt.Klabel}, nil, all) }},
		{"first", 2, func() error { return tree.Scan(nil, nil, nil, func(_, _ []byte) bool { return false }) }},
	} {
		if err := c.scan(); err != nil { // the root is read once
			t.Fatal(err)
		}
		before := s.gets
		if err := c.scan(); err != nil || s.gets-before != c.reads {
			t.Errorf("%s: %d reads, %v, want %d", c.name, s.gets-before, err, c.reads)
		}
	}
	s.check(tree)
}

// A directory is read in pieces, each with a new scan, while it changes: what was there all the
// time is seen once.
func TestScanInPiecesSeesEachKeyOnceWhileTheTreeChanges(t *testing.T) {
	rng := newRand(t)
	s := newStore(t)
	tree := create(t, s)
	stay := make(map[string]int)
	put := func(i int, op kvfmt.Op) {
		m := kvfmt.Msg{Op: op, Key: conf(i, 50)}
		if op == kvfmt.Insert {
			m.Val = value("v", rng.IntN(200))
		}
		upsert(t, tree, m)
	}
	for i := range 2000 {
		put(i, kvfmt.Insert)
		if i%2 == 0 {
			stay[string(conf(i, 50))] = 0
		}
	}
	there := func(i int) bool { _, err := tree.Lookup(nil, conf(i, 50), nil); return err == nil }
	var after []byte
	for done := false; !done; {
		n := 0
		done = true
		err := tree.Scan(nil, []byte{kvfmt.Kconf}, after, func(k, _ []byte) bool {
			if _, ok := stay[string(k)]; ok {
				stay[string(k)]++
			}
			after = append(after[:0], k...)
			n++
			done = n < 7
			return n < 7
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			i := rng.IntN(1000)*2 + 1
			if there(i) {
				put(i, kvfmt.Delete)
			} else {
				put(i, kvfmt.Insert)
			}
		}
	}
	for k, n := range stay {
		if n != 1 {
			t.Errorf("key %q was seen %d times", k, n)
		}
	}
}

// Pitfall 17: the value is made of the leaf's and of messages on all levels, the lowest first.
func TestLookupAppliesTheMessagesOfEveryLevel(t *testing.T) {
	s := newStore(t)
	key := kvfmt.AppendEntKey(nil, 1, "file")
	d := kvfmt.Dir{Mode: 0600, Length: 1}
	stat := func(mask uint8, d kvfmt.Dir) kvfmt.Msg {
		return kvfmt.Msg{Op: kvfmt.Wstat, Key: key, Val: kvfmt.AppendWstat(nil, mask, &d)}
	}
	root := s.leaf(pair{key, d.Append(nil)})
	for i := range 4 {
		root = s.pivot([]kvfmt.Msg{
			stat(kvfmt.WLength, kvfmt.Dir{Length: uint64(10 * (i + 1))}),
			stat(kvfmt.WMtime|kvfmt.WLength, kvfmt.Dir{Mtime: int64(i), Length: uint64(10*(i+1) + 1)}),
			stat(0, kvfmt.Dir{}),
		}, root)
	}
	tree := s.open(root, 5)
	w := kvfmt.Dir{Qid: kvfmt.Qid{Vers: 12}, Mode: 0600, Length: 41, Mtime: 3}
	want(t, tree, map[string]string{string(key): string(w.Append(nil))})
	// An insert or a clear hides all that is older, and what is newer counts.
	d = kvfmt.Dir{Mode: 0640, Qid: kvfmt.Qid{Vers: 5}}
	upsert(t, tree, insert(key, d.Append(nil)), stat(kvfmt.WMtime, kvfmt.Dir{Mtime: 9}))
	d.Mtime, d.Qid.Vers = 9, 6
	want(t, tree, map[string]string{string(key): string(d.Append(nil))})
	upsert(t, tree, kvfmt.Msg{Op: kvfmt.Clobber, Key: key})
	want(t, tree, nil)
	upsert(t, tree, insert(key, d.Append(nil)))
	want(t, tree, map[string]string{string(key): string(d.Append(nil))})
	upsert(t, tree, remove(key))
	want(t, tree, nil)
}

// Pitfall 21: key and result may share storage, and a result has any size.
func TestLookupMayReuseTheKeysStorage(t *testing.T) {
	s := newStore(t)
	tree := create(t, s)
	upsert(t, tree, insert(conf(1, 0), value("long", kvfmt.ValMax)), insert(conf(2, 0), value("short", 3)), insert(conf(3, 0), nil))
	buf := make([]byte, 0, 8)
	for i, size := range []int{kvfmt.ValMax, 3, 0} {
		key := append(buf[:0], conf(i+1, 0)...)
		got, err := tree.Lookup(nil, key, key)
		if err != nil || len(got) != size {
			t.Errorf("value of %d bytes, %v, want %d", len(got), err, size)
		}
		buf = got
	}
	if got, err := tree.Lookup(nil, conf(3, 0), nil); err != nil || len(got) != 0 {
		t.Errorf("empty value: %q, %v", got, err)
	}
	if _, err := tree.Lookup(nil, conf(4, 0), nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent key: %v", err)
	}
}

// Pitfall 22: each message replayed is held to the same rule, not only the first of a level.
func TestEveryMessageReplayedNeedsItsValue(t *testing.T) {
	key := kvfmt.AppendEntKey(nil, 1, "name")
	d := kvfmt.Dir{Mode: 0600}
	there := pair{key, d.Append(nil)}
	bump := kvfmt.Msg{Op: kvfmt.Wstat, Key: key, Val: []byte{0}}
	gone := kvfmt.Msg{Op: kvfmt.Clobber, Key: key}
	for _, c := range []struct {
		name string
		low  []kvfmt.Msg
		high []kvfmt.Msg
	}{
		{"first of the lower level", []kvfmt.Msg{gone, remove(key)}, nil},
		{"second of the lower level", []kvfmt.Msg{remove(key), bump}, nil},
		{"first of the upper level", []kvfmt.Msg{remove(key)}, []kvfmt.Msg{bump}},
		{"second of the upper level", []kvfmt.Msg{bump}, []kvfmt.Msg{remove(key), remove(key)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t)
			tree := s.open(s.pivot(c.high, s.pivot(c.low, s.leaf(there))), 3)
			var bad *blkfmt.CorruptError
			_, err := tree.Lookup(nil, key, nil)
			if !errors.As(err, &bad) || !errors.Is(err, kvfmt.ErrMissing) {
				t.Errorf("lookup: %v", err)
			}
			err = tree.Scan(nil, nil, nil, func(_, _ []byte) bool { return true })
			if !errors.As(err, &bad) || !errors.Is(err, kvfmt.ErrMissing) {
				t.Errorf("scan: %v", err)
			}
			if err := Check(nil, tree); !errors.As(err, &bad) {
				t.Errorf("check: %v", err)
			}
			for i := 0; ; i++ {
				err = tree.Upsert(nil, 2, []kvfmt.Msg{insert(conf(i, 0), value("x", 500))})
				if err != nil || i == 200 {
					break
				}
			}
			if !errors.As(err, &bad) || !errors.Is(err, kvfmt.ErrMissing) {
				t.Errorf("upsert: %v", err)
			}
			if s.out != 1 || s.raw != 0 {
				t.Errorf("%d references held, %d blocks never queued", s.out, s.raw)
			}
		})
	}
}
