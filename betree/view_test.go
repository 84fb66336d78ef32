package betree

import (
	"errors"
	"testing"

	"gefs9p/kvfmt"
)

// A view stays what the tree was when it was taken, also when all of its blocks have been replaced.
func TestViewIsOfOneMoment(t *testing.T) {
	s := newStore(t)
	s.keep = true
	tree := create(t, s)
	put := func(round int) {
		for i := range 200 {
			upsert(t, tree, insert(conf(i, 0), value(string(rune('a'+round)), 200)))
		}
	}
	put(0)
	v, err := tree.View(nil)
	if err != nil {
		t.Fatal(err)
	}
	for round := 1; round < 10; round++ {
		put(round)
		upsert(t, tree, insert(conf(1000+round, 0), nil))
	}
	for i := range 200 {
		got, err := v.Lookup(nil, conf(i, 0), nil)
		if err != nil || string(got) != string(value("a", 200)) {
			t.Fatalf("key %d is %.20q, %v", i, got, err)
		}
	}
	if _, err := v.Lookup(nil, conf(1001, 0), nil); err != ErrNotFound {
		t.Errorf("lookup of a key that came later: %v", err)
	}
	n := 0
	err = v.ScanRange(nil, conf(0, 0), nil, func(_, val []byte) bool {
		n++
		return string(val) == string(value("a", 200))
	})
	if err != nil || n != 200 {
		t.Errorf("scan of %d pairs, %v", n, err)
	}
	v.Close()
	s.check(tree)
}

// What is kept in step with the tree changes exactly when the upsert becomes visible, and not when it
// fails.
func TestPublishIsCalledWhenNothingCanFail(t *testing.T) {
	s := newStore(t)
	tree := create(t, s)
	key := conf(1, 0)
	called := 0
	err := tree.UpsertPublish(nil, 1, []kvfmt.Msg{insert(key, []byte("x"))}, func(swap func()) {
		called++
		if _, err := tree.Lookup(nil, key, nil); err != ErrNotFound {
			t.Errorf("before the swap: %v", err)
		}
		swap()
		if v, err := tree.Lookup(nil, key, nil); err != nil || string(v) != "x" {
			t.Errorf("after the swap: %q, %v", v, err)
		}
	})
	if err != nil || called != 1 {
		t.Errorf("%v, called %d times", err, called)
	}
	s.failIn = 1
	err = tree.UpsertPublish(nil, 1, []kvfmt.Msg{insert(key, []byte("y"))}, func(func()) { called++ })
	s.failIn = 0
	if !errors.Is(err, errInjected) || called != 1 {
		t.Errorf("%v, called %d times", err, called)
	}
	s.check(tree)
}
