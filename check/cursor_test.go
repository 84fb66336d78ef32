package check

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// A grove makes random trees that share nodes, and knows what each node holds.
type grove struct {
	*maker
	rnd  *rand.Rand
	gen  blkfmt.Gen
	kids map[blkfmt.Addr][]blkfmt.Bptr
	lo   map[blkfmt.Addr]int // least key number of a subtree
	want map[blkfmt.Addr]map[string]string
}

// key returns key number i: an entry of directory 0.
func (g *grove) key(i int) []byte { return entKey(0, fmt.Sprintf("%06d", i)) }

func (g *grove) value() []byte {
	d := kvfmt.Dir{Qid: kvfmt.Qid{Path: g.rnd.Uint64()}, Length: g.rnd.Uint64N(100)}
	return d.Append(nil)
}

// tree makes a tree of the keys [lo, hi) at the given level, of which many are absent.
func (g *grove) tree(level, lo, hi int) blkfmt.Bptr {
	if level == 0 {
		var ps []pair
		want := map[string]string{}
		for i := lo; i < hi; i++ {
			if i == lo || g.rnd.IntN(3) > 0 {
				ps = append(ps, pair{g.key(i), g.value()})
				want[string(ps[len(ps)-1].key)] = string(ps[len(ps)-1].val)
			}
		}
		p := g.leaf(g.gen, ps...)
		g.want[p.Addr], g.lo[p.Addr] = want, lo
		return p
	}
	var kids []blkfmt.Bptr
	step := max((hi-lo)/4, 1)
	for i := lo; i < hi; i += step {
		kids = append(kids, g.tree(level-1, i, min(i+step, hi)))
	}
	return g.node(kids, lo, hi)
}

// node makes a pivot with random messages above kids.
func (g *grove) node(kids []blkfmt.Bptr, lo, hi int) blkfmt.Bptr {
	all := map[string]string{}
	for _, k := range kids {
		maps.Copy(all, g.want[k.Addr])
	}
	var msgs []kvfmt.Msg
	for range g.rnd.IntN(6) {
		k := g.key(lo + g.rnd.IntN(hi-lo))
		if g.rnd.IntN(4) == 0 {
			k = g.key(hi - 1) // often several for one key, and at the edge
		}
		old, ok := all[string(k)]
		m := kvfmt.Msg{Op: kvfmt.Insert, Key: k, Val: g.value()}
		switch n := g.rnd.IntN(4); {
		case n == 0:
			m = kvfmt.Msg{Op: kvfmt.Clobber, Key: k}
		case n == 1 && ok:
			m = kvfmt.Msg{Op: kvfmt.Delete, Key: k}
		case n == 2 && ok:
			m = kvfmt.Msg{Op: kvfmt.Wstat, Key: k, Val: kvfmt.AppendWstat(nil, kvfmt.WLength, &kvfmt.Dir{Length: g.rnd.Uint64()})}
		}
		v, ok, err := kvfmt.Apply(nil, m, []byte(old), ok)
		if err != nil {
			panic(err)
		}
		if delete(all, string(k)); ok {
			all[string(k)] = string(v)
		}
		msgs = append(msgs, m)
	}
	slices.SortStableFunc(msgs, func(a, b kvfmt.Msg) int { return bytes.Compare(a.Key, b.Key) })
	a := g.take(0)
	n := kvfmt.Node(g.block(a))
	n.InitPivot()
	for _, k := range kids {
		n.AddChild(g.key(g.lo[k.Addr]), k, kvfmt.Node(g.blocks[k.Addr]).Fill())
	}
	for _, m := range msgs {
		n.InsertMsg(m)
	}
	g.want[a], g.kids[a], g.lo[a] = all, kids, lo
	return g.ptr(a, g.gen)
}

// change makes a tree that shares much with the one at p.
func (g *grove) change(p blkfmt.Bptr, level, lo, hi int) blkfmt.Bptr {
	switch n := g.rnd.IntN(8); {
	case n < 3:
		return p
	case n == 3 || level == 0:
		return g.tree(level, lo, hi)
	}
	kids := slices.Clone(g.kids[p.Addr])
	for i, k := range kids {
		end := hi
		if i+1 < len(kids) {
			end = g.lo[kids[i+1].Addr]
		}
		kids[i] = g.change(k, level-1, g.lo[k.Addr], end)
	}
	return g.node(kids, lo, hi)
}

func newGrove(rnd *rand.Rand) *grove {
	return &grove{maker: newMaker(blkfmt.MinDevice), rnd: rnd, kids: map[blkfmt.Addr][]blkfmt.Bptr{}, lo: map[blkfmt.Addr]int{}, want: map[blkfmt.Addr]map[string]string{}}
}

// run returns a run that reads g's disk.
func (g *grove) run() *run {
	x := &run{c: &Checker{}, ctx: background, r: g.disk, size: g.size, rep: &Report{}, nodes: map[blkfmt.Addr]*nodeInfo{}, cache: map[blkfmt.Addr]cached{}, hash: g.hash}
	x.opt.CacheBlocks = 1 + g.rnd.IntN(20)
	for a := range g.want {
		x.nodes[a] = &nodeInfo{} // as if visited
	}
	return x
}

func TestCursorAppliesMessagesAndSeeks(t *testing.T) {
	rnd := random(t)
	for range 8 * effort {
		g := newGrove(rnd)
		ht, n := 1+rnd.IntN(4), 1+rnd.IntN(150)
		tr := &tree{root: g.tree(ht-1, 0, n), ht: ht}
		x := g.run()
		want := g.want[tr.root.Addr]
		keys := slices.Sorted(maps.Keys(want))
		from := g.key(rnd.IntN(n + 2))
		for i, c := range []*cursor{x.newCursor(tr), x.seekCursor(tr, from)} {
			if i == 1 {
				j, _ := slices.BinarySearch(keys, string(from))
				keys = keys[j:]
			}
			c.onErr = func(p blkfmt.Bptr, m kvfmt.Msg, err error) { t.Errorf("node %v: %v", p, err) }
			var got []string
			c.each(func(k, v []byte) bool {
				if got = append(got, string(k)); want[string(k)] != string(v) {
					t.Errorf("%s is %x, want %x", keyText(k), v, want[string(k)])
				}
				return true
			})
			if !slices.Equal(got, keys) {
				t.Fatalf("height %d, cursor %d: %d keys, want %d", ht, i, len(got), len(keys))
			}
		}
	}
}

func TestDiffFindsWhatDiffersAndReadsNoMore(t *testing.T) {
	rnd := random(t)
	for range 8 * effort {
		g := newGrove(rnd)
		level, n := rnd.IntN(4), 1+rnd.IntN(150)
		a := &tree{root: g.tree(level, 0, n), ht: level + 1}
		b := &tree{root: g.change(a.root, level, 0, n), ht: level + 1}
		if rnd.IntN(4) == 0 { // another height
			b = &tree{root: g.node([]blkfmt.Bptr{b.root}, 0, n), ht: b.ht + 1}
		}
		want := map[string]string{}
		va, vb := g.want[a.root.Addr], g.want[b.root.Addr]
		for k := range va {
			if v := vb[k]; v != va[k] {
				want[k] = va[k] + " > " + v
			}
		}
		for k, v := range vb {
			if _, ok := va[k]; !ok {
				want[k] = " > " + v
			}
		}
		got := map[string]string{}
		x := g.run()
		last := ""
		diff(x.newCursor(a), x.newCursor(b), func(k, old, new []byte) {
			got[string(k)] = string(old) + " > " + string(new)
			if string(k) <= last {
				t.Errorf("%s after %s", keyText(k), keyText([]byte(last)))
			}
			last = string(k)
		})
		if !maps.Equal(got, want) {
			t.Fatalf("%d keys differ, want %d", len(got), len(want))
		}
		got = map[string]string{}
		diff(nil, x.newCursor(b), func(k, old, new []byte) {
			if old != nil {
				t.Errorf("%s was %x in no tree", keyText(k), old)
			}
			got[string(k)] = string(new)
		})
		if !maps.Equal(got, vb) {
			t.Fatalf("%d keys are new, want %d", len(got), len(vb))
		}
		x = g.run()
		x.opt.CacheBlocks = 1
		diff(x.newCursor(b), x.newCursor(b), func(k, _, _ []byte) { t.Errorf("%s differs from itself", keyText(k)) })
		if x.nread != 0 {
			t.Errorf("%d blocks read to compare a tree with itself", x.nread)
		}
	}
}

// A line of snapshots, each with one leaf and one data block of its own, must cost what differs.
func TestManySnapshotsCostWhatTheyDiffer(t *testing.T) {
	const snaps, files = 125 * effort, 800
	m := newMaker(1 << 30)
	adm := m.leaf(0, rootPairs(qAdm)...)
	var leaves []blkfmt.Bptr
	for i := range files {
		if i%20 != 0 {
			continue
		}
		var ps []pair
		for j := i; j < i+20; j++ {
			ps = append(ps, pair{entKey(qRoot, fmt.Sprintf("%04d", j)), fileVal(uint64(10+j), 0)})
		}
		leaves = append(leaves, m.leaf(0, ps...))
	}
	end := m.leaf(0, rootPairs(qRoot)...)
	labels := []pair{{kvfmt.AppendLabelKey(nil, "adm"), kvfmt.Label{Gen: 1}.Append(nil)}}
	recs := []pair{{snapKey(1), (&kvfmt.Tree{Nlbl: 1, Ht: 1, Gen: 1, Succ: -1, Root: adm}).Append(nil)}}
	for i := range snaps {
		gen := blkfmt.Gen(2 + i)
		top := m.leaf(gen, pair{datKey(10, 0), m.data(byte(i), gen)})
		kids := append(append([]blkfmt.Bptr{top}, leaves...), end)
		msg := kvfmt.Msg{Op: kvfmt.Wstat, Key: entKey(qRoot, "0000"), Val: kvfmt.AppendWstat(nil, kvfmt.WLength, &kvfmt.Dir{Length: blk})}
		rec := kvfmt.Tree{Nlbl: 1, Nref: 1, Ht: 2, Gen: gen, Pred: gen - 1, Succ: gen + 1, Root: m.pivot(gen, []kvfmt.Msg{msg}, kids...)}
		if i == 0 {
			rec.Pred = 0
		}
		name := fmt.Sprintf("s%06d", i)
		if i == snaps-1 {
			rec.Nref, rec.Succ, name = 0, -1, "main"
		}
		labels = append(labels, pair{kvfmt.AppendLabelKey(nil, name), kvfmt.Label{Gen: gen}.Append(nil)})
		recs = append(recs, pair{snapKey(gen), rec.Append(nil)})
	}
	empty := kvfmt.Tree{Nlbl: 1, Nref: 2, Ht: 1, Gen: 0, Succ: 2, Root: m.leaf(0, rootPairs(qRoot)...)}
	all := append(labels, pair{snapKey(0), empty.Append(nil)}, pair{kvfmt.AppendLabelKey(nil, "empty"), kvfmt.Label{Gen: 0}.Append(nil)})
	all = append(all, recs...)
	slices.SortFunc(all, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	var kids []blkfmt.Bptr
	for len(all) > 0 {
		n := min(len(all), 100)
		kids = append(kids, m.leaf(0, all[:n]...))
		all = all[n:]
	}
	root := m.pivot(0, nil, kids...)
	root.Gen = blkfmt.NoGen
	d := m.finish(root, 2, 2+snaps)
	d.super(func(s *blkfmt.Super) { s.NextQid = 10 + files })

	r := d.check(t)
	c := r.Counts
	if c.Pivots != snaps || c.Data != snaps || len(r.Snaps) != snaps+2 || r.Found[Error]+r.Found[Fatal] != 0 {
		t.Errorf("%+v\n%.2000s", c, text(t, r))
	}
	if n := r.ByKind[DeadMissing]; n != snaps-1 {
		t.Errorf("%d snapshots whose dead blocks are in no list, want %d", n, snaps-1)
	}
	for _, s := range r.Snaps[2:] {
		if !s.Checked || s.Files != files || s.Data != 1 {
			t.Fatalf("%+v", s)
		}
	}
	// The cache holds it all here, so each block is read once.
	if limit := int(c.Used) + 100; d.reads > limit {
		t.Errorf("%d reads for %d blocks in use", d.reads, c.Used)
	}
	// With next to no cache a snapshot costs its own few nodes again in each pass, not the tree's.
	d.reads = 0
	if _, err := Run(background, d, d.size, Options{CacheBlocks: 4}); err != nil {
		t.Fatal(err)
	}
	if limit := int(c.Used) + 20*snaps; d.reads > limit {
		t.Errorf("%d reads with a small cache, want at most %d", d.reads, limit)
	}
}

func TestBitmapIsASet(t *testing.T) {
	rnd := random(t)
	for range 6 * effort {
		n := 1 + rnd.Int64N(3*pageBits)
		b, want := newBitmap(n), make([]bool, n)
		for range 200 {
			lo := rnd.Int64N(n)
			k := 1 + rnd.Int64N(n-lo)
			if rnd.IntN(3) > 0 {
				k = min(k, 1+rnd.Int64N(200))
			}
			v := rnd.IntN(2) == 0
			bad := int64(-1)
			for i := lo; i < lo+k && bad < 0; i++ {
				if want[i] == v {
					bad = i
				}
			}
			at, ok := b.set(lo, k, v)
			if ok != (bad < 0) || !ok && at != bad {
				t.Fatalf("set %d bits from %d to %v: stopped at %d, %v; want %d", k, lo, v, at, ok, bad)
			}
			if !ok { // the bits before are set now, in words at least: begin again
				b = newBitmap(n)
				for i, w := range want {
					if w {
						b.set(int64(i), 1, true)
					}
				}
				continue
			}
			for i := lo; i < lo+k; i++ {
				want[i] = v
			}
			count := int64(0)
			for i, w := range want {
				if b.has(int64(i)) != w {
					t.Fatalf("bit %d is %v", i, !w)
				}
				if w {
					count++
				}
			}
			if b.count != count {
				t.Fatalf("count is %d, want %d", b.count, count)
			}
		}
	}
}
