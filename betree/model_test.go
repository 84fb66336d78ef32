package betree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// A model is what a tree should hold, and makes batches that a tree must take. It knows what the
// ops mean without the help of kvfmt.
type model struct {
	rng  *rand.Rand
	data func(blkfmt.Gen) blkfmt.Bptr // makes a data block
	gen  blkfmt.Gen
	vals map[string][]byte
	keys []string // the keys that may be used

	bulky bool // make long values

	there []string       // the keys of vals, in no order
	pos   map[string]int // where in there
	dirs  map[string]kvfmt.Dir
	snaps map[string]kvfmt.Tree
}

func newModel(rng *rand.Rand, s *memStore, keys []string) *model {
	return &model{rng: rng, data: s.data, gen: 1, keys: keys,
		vals: make(map[string][]byte), pos: make(map[string]int), dirs: make(map[string]kvfmt.Dir), snaps: make(map[string]kvfmt.Tree)}
}

// allKinds are the kinds of keys, as often as mixedKeys should make them.
var allKinds = []byte{kvfmt.Kdat, kvfmt.Kdat, kvfmt.Kdat, kvfmt.Kent, kvfmt.Kent, kvfmt.Kent,
	kvfmt.Kup, kvfmt.Ksnap, kvfmt.Klabel, kvfmt.Kconf}

// mixedKeys returns n different keys of the kinds, with names of short to long bytes.
func mixedKeys(rng *rand.Rand, kinds []byte, n, short, long int) []string {
	set := make(map[string]bool)
	name := func() string {
		p := make([]byte, short+rng.IntN(long-short+1))
		for i := range p {
			p[i] = "abcdefgh"[rng.IntN(8)]
		}
		return string(p)
	}
	for len(set) < n {
		var k []byte
		switch kind := kinds[rng.IntN(len(kinds))]; kind {
		case kvfmt.Kdat:
			k = kvfmt.AppendDatKey(nil, uint64(rng.IntN(4)), uint64(rng.IntN(4*n))*blkfmt.BlkSize)
		case kvfmt.Kent:
			k = kvfmt.AppendEntKey(nil, uint64(rng.IntN(5)), name())
		case kvfmt.Kup:
			k = kvfmt.AppendUpKey(nil, rng.Uint64N(uint64(4*n)))
		case kvfmt.Ksnap:
			k = kvfmt.AppendSnapKey(nil, blkfmt.Gen(rng.IntN(4*n)))
		default:
			k = append([]byte{kind}, name()...)
		}
		set[string(k)] = true
	}
	return slices.Sorted(maps.Keys(set))
}

func (m *model) set(key string, val []byte) {
	if _, ok := m.vals[key]; !ok {
		m.pos[key] = len(m.there)
		m.there = append(m.there, key)
	}
	m.vals[key] = val
}

func (m *model) remove(key string) {
	i, ok := m.pos[key]
	if !ok {
		return
	}
	last := m.there[len(m.there)-1]
	m.there[i], m.pos[last] = last, i
	m.there = m.there[:len(m.there)-1]
	delete(m.pos, key)
	delete(m.vals, key)
}

// insert returns a message that gives key a new value.
func (m *model) insert(key string) kvfmt.Msg {
	var v []byte
	switch key[0] {
	case kvfmt.Kdat:
		v = m.data(m.gen).Append(nil)
	case kvfmt.Kent:
		d := kvfmt.Dir{Qid: kvfmt.Qid{Path: m.rng.Uint64(), Vers: 7}, Mode: 0644, Mtime: m.rng.Int64(), Length: m.rng.Uint64()}
		m.dirs[key] = d
		v = d.Append(nil)
	case kvfmt.Ksnap:
		t := kvfmt.Tree{Nref: 100, Nlbl: 100, Ht: 1, Gen: blkfmt.Gen(m.rng.IntN(100))}
		m.snaps[key] = t
		v = t.Append(nil)
	case kvfmt.Klabel:
		v = kvfmt.Label{Gen: blkfmt.Gen(m.rng.IntN(100))}.Append(nil)
	case kvfmt.Kup:
		v = kvfmt.AppendEntKey(nil, m.rng.Uint64(), "some name")
	default:
		n := m.rng.IntN(40)
		if m.bulky || m.rng.IntN(4) == 0 {
			n = kvfmt.ValMax - m.rng.IntN(kvfmt.ValMax+1)*m.rng.IntN(2)
		}
		v = make([]byte, n)
		for i := range v {
			v[i] = byte(m.rng.Uint32())
		}
	}
	m.set(key, v)
	return kvfmt.Msg{Op: kvfmt.Insert, Key: []byte(key), Val: v}
}

// clear returns a message that removes key whether it has a value or not, ok false if its kind has
// no such op.
func (m *model) clear(key string) (_ kvfmt.Msg, ok bool) {
	op := kvfmt.Clobber
	switch key[0] {
	case kvfmt.Kdat:
		op = kvfmt.Clearb
	case kvfmt.Kent, kvfmt.Kup:
	default:
		return kvfmt.Msg{}, false
	}
	m.remove(key)
	return kvfmt.Msg{Op: op, Key: []byte(key)}, true
}

// change returns a message that edits the value of key in place, or replaces it.
func (m *model) change(key string) kvfmt.Msg {
	switch key[0] {
	case kvfmt.Kent:
		d := m.dirs[key]
		mask := uint8(m.rng.IntN(128))
		n := kvfmt.Dir{Length: m.rng.Uint64(), Mode: m.rng.Uint32(), Mtime: m.rng.Int64(), Atime: m.rng.Int64(),
			Uid: int32(m.rng.Uint32()), Gid: int32(m.rng.Uint32()), Muid: int32(m.rng.Uint32())}
		d.Qid.Vers++
		if mask&kvfmt.WLength != 0 {
			d.Length = n.Length
		}
		if mask&kvfmt.WMode != 0 {
			d.Mode, d.Qid.Type = n.Mode, uint8(n.Mode>>24)
		}
		if mask&kvfmt.WMtime != 0 {
			d.Mtime = n.Mtime
		}
		if mask&kvfmt.WAtime != 0 {
			d.Atime = n.Atime
		}
		if mask&kvfmt.WUid != 0 {
			d.Uid = n.Uid
		}
		if mask&kvfmt.WGid != 0 {
			d.Gid = n.Gid
		}
		if mask&kvfmt.WMuid != 0 {
			d.Muid = n.Muid
		}
		m.dirs[key] = d
		m.set(key, d.Append(nil))
		return kvfmt.Msg{Op: kvfmt.Wstat, Key: []byte(key), Val: kvfmt.AppendWstat(nil, mask, &n)}
	case kvfmt.Ksnap:
		t := m.snaps[key]
		op, link := kvfmt.Relink, blkfmt.Gen(m.rng.IntN(1000))
		if m.rng.IntN(2) == 0 {
			op = kvfmt.Reprev
			t.Pred = link
		} else {
			t.Succ = link
		}
		dl, dr := int8(m.rng.IntN(3)-1), int8(m.rng.IntN(3)-1)
		if t.Nlbl+int32(dl) < 0 || t.Nref+int32(dr) < 0 {
			dl, dr = 1, 1
		}
		t.Nlbl += int32(dl)
		t.Nref += int32(dr)
		m.snaps[key] = t
		m.set(key, t.Append(nil))
		p := binary.BigEndian.AppendUint64(nil, uint64(link))
		return kvfmt.Msg{Op: op, Key: []byte(key), Val: append(p, byte(dl), byte(dr))}
	}
	return m.insert(key)
}

// batch returns n messages, fewer if they would be too large. Of those that add or remove a key,
// grow in 100 add one.
func (m *model) batch(n, grow int) []kvfmt.Msg {
	var msgs []kvfmt.Msg
	size := 0
	for range n {
		if size > BatchMax-kvfmt.MsgMax {
			break
		}
		key := m.keys[m.rng.IntN(len(m.keys))]
		if len(msgs) > 0 && m.rng.IntN(4) == 0 {
			key = string(msgs[m.rng.IntN(len(msgs))].Key)
		}
		add := m.rng.IntN(100) < grow
		if !add && m.rng.IntN(10) < 8 && len(m.vals) > 0 {
			key = m.there[m.rng.IntN(len(m.there))] // any other would seldom have a value when few have
		}
		_, there := m.vals[key]
		var msg kvfmt.Msg
		ok := true
		switch {
		case there && m.rng.IntN(3) == 0:
			msg = m.change(key)
		case add:
			msg = m.insert(key)
		case there && m.rng.IntN(3) > 0:
			m.remove(key)
			msg = kvfmt.Msg{Op: kvfmt.Delete, Key: []byte(key)}
		default:
			if msg, ok = m.clear(key); !ok {
				continue
			}
		}
		msgs = append(msgs, msg)
		size += msg.Size()
	}
	return msgs
}

// clears returns n clears of neighbouring data keys, as a truncation makes them.
func (m *model) clears(n int) []kvfmt.Msg {
	var msgs []kvfmt.Msg
	i := m.rng.IntN(len(m.keys))
	for ; i < len(m.keys) && len(msgs) < n; i++ {
		if m.keys[i][0] == kvfmt.Kdat {
			msg, _ := m.clear(m.keys[i])
			msgs = append(msgs, msg)
		}
	}
	return msgs
}

// sorted returns the keys that have a value.
func (m *model) sorted() []string { return slices.Sorted(slices.Values(m.there)) }

// compare reports the first difference between the tree and the model, found by one scan of
// everything and a few lookups and scans of a part.
func (m *model) compare(t *Tree) error {
	list, i := m.sorted(), 0
	var diff error
	err := t.Scan(nil, nil, nil, func(key, val []byte) bool {
		if i == len(list) || list[i] != string(key) || !bytes.Equal(m.vals[list[i]], val) {
			diff = fmt.Errorf("pair %d of %d: key %x value %x", i, len(list), key, val)
			return false
		}
		i++
		return true
	})
	if err != nil || diff != nil {
		return errors.Join(err, diff)
	}
	if i != len(list) {
		return fmt.Errorf("scan ends after %d of %d pairs, before %x", i, len(list), list[i])
	}
	for range 20 {
		if err := m.lookup(t, m.keys[m.rng.IntN(len(m.keys))]); err != nil {
			return err
		}
	}
	return m.part(t)
}

func (m *model) lookup(t *Tree, key string) error {
	got, err := t.Lookup(nil, []byte(key), nil)
	want, ok := m.vals[key]
	switch {
	case !ok && !errors.Is(err, ErrNotFound):
		return fmt.Errorf("lookup of absent key %x: %x, %v", key, got, err)
	case ok && (err != nil || !bytes.Equal(got, want)):
		return fmt.Errorf("lookup of %x: %x, %v, want %x", key, got, err, want)
	}
	return nil
}

// part compares one scan of a prefix and one of a range.
func (m *model) part(t *Tree) error {
	a, b := m.keys[m.rng.IntN(len(m.keys))], m.keys[m.rng.IntN(len(m.keys))]
	prefix := a[:m.rng.IntN(min(len(a), 13)+1)]
	var after []byte
	if m.rng.IntN(2) == 0 {
		after = []byte(b)
	}
	var want, got []string
	for _, k := range m.sorted() {
		if strings.HasPrefix(k, prefix) && (after == nil || k > string(after)) {
			want = append(want, k)
		}
	}
	most := m.rng.IntN(30) + 1
	want = want[:min(most, len(want))]
	err := t.Scan(nil, []byte(prefix), after, func(key, val []byte) bool {
		got = append(got, string(key))
		return len(got) < most
	})
	if err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("scan of prefix %x after %x: %x, %v, want %x", prefix, after, got, err, want)
	}
	l := m.sorted()
	i, j := sort.SearchStrings(l, a), sort.SearchStrings(l, b)
	want, got = nil, nil
	if i < j {
		want = l[i:j]
	}
	err = t.ScanRange(nil, []byte(a), []byte(b), func(key, val []byte) bool {
		got = append(got, string(key))
		return true
	})
	if err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("scan from %x to %x: %d keys, %v, want %d", a, b, len(got), err, len(want))
	}
	return nil
}

// A phase is a part of a random run.
type phase struct {
	batches, most int // how many, of how many messages at most
	grow          int // see batch
}

// run upserts random batches and verifies the tree after each, if it has changed by enough.
func run(t *testing.T, s *memStore, m *model, tree *Tree, every int, phases ...phase) {
	t.Helper()
	n, gen := 0, m.gen
	for pi, p := range phases {
		for i := range p.batches {
			m.gen = gen + blkfmt.Gen(n/100)
			var msgs []kvfmt.Msg
			if m.rng.IntN(50) == 0 {
				msgs = m.clears(45)
			} else {
				msgs = m.batch(1+m.rng.IntN(p.most), p.grow)
			}
			if err := tree.Upsert(nil, m.gen, msgs); err != nil {
				t.Fatalf("phase %d, batch %d: %v", pi, i, err)
			}
			if n++; n%(every*slow) == 0 {
				s.check(tree)
				if err := m.compare(tree); err != nil {
					t.Fatalf("phase %d, batch %d: %v", pi, i, err)
				}
			}
		}
		t.Logf("phase %d: %d keys, %d levels, %d nodes, at most %d blocks held", pi, len(m.vals), tree.Height(), len(s.nodes), s.held)
	}
	s.check(tree)
	if err := m.compare(tree); err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, s *memStore) *Tree {
	t.Helper()
	tree, err := Create(nil, s, s, 1)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestModelOfAnySize(t *testing.T) {
	for _, c := range []struct {
		name              string
		keys, short, long int
		kinds             []byte
		bulky             bool
		every             int
		phases            []phase
	}{
		{"small keys", 3000, 1, 12, allKinds, false, 40, []phase{{1200, 8, 90}, {1500, 8, 10}, {500, 8, 50}}},
		{"keys of any length", 900, 1, 244, allKinds, false, 25, []phase{{500, 8, 90}, {600, 8, 10}, {500, 8, 60}}},
		{"maximal keys", 4000, 243, 244, allKinds, false, 100, []phase{{1800, 8, 95}, {1500, 8, 20}, {1000, 8, 60}, {2500, 8, 3}}},
		{"churn of few keys", 60, 1, 244, allKinds, false, 1, []phase{{700, 4, 45}}},
		{"churn under a root of two leaves", 70, 230, 244, []byte{kvfmt.Kconf}, true, 1, []phase{{900, 4, 50}}},
		{"churn of few small keys", 200, 1, 20, allKinds, false, 2, []phase{{1000, 8, 45}}},
		{"large batches", 2000, 1, 60, allKinds, false, 15, []phase{{150, 45, 80}, {150, 45, 20}, {100, 45, 60}, {200, 45, 5}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := newRand(t)
			s := newStore(t)
			m := newModel(rng, s, mixedKeys(rng, c.kinds, c.keys, c.short, c.long))
			tree := create(t, s)
			m.bulky = c.bulky
			run(t, s, m, tree, c.every, c.phases...)
			tree.Close()
			if s.out != 0 {
				t.Errorf("%d references held after Close", s.out)
			}
		})
	}
}
