package rules_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/gefs"
	"gefs9p/ninep"
)

// requests are what the sequences are made of: two users who share a group, two files in one
// directory, two fids.
func requests() []proto.FCall {
	var list []proto.FCall
	for _, f := range []uint32{3, 4} {
		for user := range uint32(2) {
			list = append(list, walk(20+user, f), walk(20+user, f, "a"), walk(20+user, f, "b"))
		}
		list = append(list,
			open(f, ninep.OREAD), open(f, ninep.OWRITE|ninep.OTRUNC), open(f, ninep.ORDWR), open(f, ninep.ORDWR|ninep.ORCLOSE),
			create(f, "a", 0660, ninep.ORDWR), create(f, "b", ninep.DMEXCL|0600, ninep.ORDWR|ninep.ORCLOSE),
			read(f), write(f, 2, "xy"), clunk(f), remove(f), stat(f),
			chmod(f, 0600), chmod(f, 0666), chmod(f, ninep.DMAPPEND|0666), chmod(f, ninep.DMEXCL|0666),
			wstat(f, func(d *ninep.Dir) { d.Length = 1 }),
			wstat(f, func(d *ninep.Dir) { d.Name = "a" }),
			wstat(f, func(d *ninep.Dir) { d.Name = "b" }),
		)
	}
	return append(list, walk(3, 4), walk(3, 3, "..", "b"), walk(4, 4, "..", "a"))
}

// state says all of the model that can make a difference later, but not which node is which.
func (m *model) state() string {
	var b strings.Builder
	ids := map[*node]int{}
	node := func(n *node) int {
		id, ok := ids[n]
		if !ok {
			id = len(ids)
			ids[n] = id
			fmt.Fprintf(&b, "%d:%s %q %t %d %t;", id, n.text(), n.data, n.gone, n.opens, n.sole)
		}
		return id
	}
	d := m.root.kids["d"]
	for _, name := range slices.Sorted(maps.Keys(d.kids)) {
		node(d.kids[name])
	}
	for _, f := range []uint32{3, 4} {
		if f := m.fids[f]; f != nil {
			fmt.Fprintf(&b, "fid %s %d %d %d %t;", f.who.name, node(f.at), node(f.in), f.open, f.rclose)
		}
		b.WriteByte('.')
	}
	return b.String()
}

// begin makes the state that all sequences begin with: d with owner's a, nobody's fids.
func (r *rig) begin() {
	r.t.Helper()
	for _, f := range []uint32{3, 4} {
		if r.m.fids[f] != nil {
			r.must(clunk(f))
		}
	}
	d := r.m.root.kids["d"]
	for _, name := range slices.Sorted(maps.Keys(d.kids)) {
		r.must(walk(fD, fTmp, name))
		r.must(remove(fTmp))
	}
	r.must(walk(fD, fTmp))
	r.must(create(fTmp, "a", 0660, ninep.OWRITE))
	r.must(write(fTmp, 0, "123"))
	r.must(clunk(fTmp))
	r.must(walk(fD, fTmp, "a"))
	r.must(wstat(fTmp, func(d *ninep.Dir) { d.Uid = "owner" }))
	r.must(clunk(fTmp))
}

// look compares all that is in d.
func (r *rig) look() {
	r.t.Helper()
	d := r.m.root.kids["d"]
	for _, name := range slices.Sorted(maps.Keys(d.kids)) {
		r.must(walk(fD, 5, name))
		r.must(stat(5))
		if d.kids[name].opens == 0 || d.kids[name].mode&ninep.DMEXCL == 0 {
			r.do(open(5, ninep.OREAD))
			r.do(read(5))
		}
		r.must(clunk(5))
	}
	r.must(walk(fD, 5))
	r.must(open(5, ninep.OREAD))
	r.must(read(5))
	r.must(clunk(5))
}

// TestShortSequencesOfRequests makes every request there is in every state that the model can come to, the
// states that are reached first first, until the time is over; all sequences of two requests in any case.
// What leads to a state that was seen before, as a refused request does, goes no further. After each sequence the directory is compared.
func TestShortSequencesOfRequests(t *testing.T) {
	r := newRig(t, gefs.Options{})
	r.must(walk(topRoot, fD))
	r.must(create(fD, "d", ninep.DMDIR|0777, ninep.OREAD))
	r.must(clunk(fD))
	r.must(walk(topRoot, fD, "d"))
	r.must(wstat(fD, func(d *ninep.Dir) { d.Gid, d.Mode = "crew", ninep.DMDIR|0770 }))
	r.must(walk(rootOf(0), 20, "d")) // owner
	r.must(walk(rootOf(1), 21, "d")) // member
	reqs := requests()
	r.begin()
	initial := r.m.state()
	type state struct{ path []int }
	queue := []state{{}}
	seen := map[string]bool{initial: true}
	began := time.Now()
	sequences, depth, states := 0, 0, 0
	least := 1 // how long the sequences are, at least, before which every request is made
	if testing.Short() {
		least = 0
	}
	for len(queue) > 0 {
		s := queue[0]
		if len(s.path) > least && time.Since(began) > *budget {
			break
		}
		if len(s.path) > depth {
			t.Logf("after %d requests: %d states; %d sequences so far", len(s.path), len(queue), sequences)
			depth = len(s.path)
		}
		queue = queue[1:]
		states++
		for i, q := range reqs {
			if r.m.state() != initial {
				r.begin()
			}
			r.mark()
			for _, j := range s.path {
				r.do(reqs[j])
			}
			r.do(q)
			sequences++
			now := r.m.state()
			r.look()
			if !seen[now] {
				seen[now] = true
				queue = append(queue, state{append(slices.Clone(s.path), i)})
			}
		}
	}
	t.Logf("%d requests compared in %d sequences of up to %d requests, from %d states; %d states wait",
		r.n, sequences, depth+1, states, len(queue))
}
