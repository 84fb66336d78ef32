package snap

import (
	"context"
	"errors"
	"fmt"

	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

// A pieceSize bounds a piece of Reclaim: what it frees under the mutation lock, and what it reads
// before that within one epoch, about.
type pieceSize struct{ blocks, nodes, lists int }

var usualPiece = pieceSize{blocks: 512, nodes: 32, lists: 32}

// A Reclaim is a piece of the work that deletions have left to do. What is to be done stands on the
// disk, so that it goes on after a crash:
//
//   - A snapshot without a label from which no other was derived is taken apart. First its deadlists
//     go. Then each piece cuts the lowest keys off its tree, and frees what only they reached; the
//     record then has the rest.
//   - One from which one other was derived is merged with that at once. The blocks that only it had are
//     garbage then. The deadlists on which they stand become lists of the snapshot empty, which can have
//     none of its own as it has no predecessor.
//   - Each piece frees the garbage in a few blocks of such a list.
//
// A piece is chosen under the mutation lock, reads without it, and is applied under it.
type Reclaim struct {
	f *Forest

	lists []*deadlist // to take from; those of empty if s is nil, else those of s
	s     *snapshot   // to be merged with heir, or, if that is nil, to be taken apart
	heir  *snapshot

	// As they were under the lock.
	srec, hrec kvfmt.Tree
	chains     []kvfmt.Dlist // of lists, NoPtr where the next commit may change it
	warm       []blkfmt.Bptr // pairs of chains that are to be merged
	doubtful   bool          // heir is

	// Found by Read.
	orders  map[*deadlist][]blkfmt.Addr
	cuts    []cut
	rest    *stump
	dead    []blkfmt.Bptr
	dropped []blkfmt.Addr
}

// A cut is a block of a deadlist that was read.
type cut struct {
	d      *deadlist
	at     blkfmt.Addr
	next   blkfmt.Bptr
	blocks []blkfmt.Addr
}

// Reclaiming reports whether deletions have left something to do. The caller has the mutation lock.
func (f *Forest) Reclaiming() bool {
	snapshots, lists := f.Backlog()
	return snapshots > 0 || lists > 0
}

// Backlog says how much deletions have left to do: the number of snapshots that nobody needs any more, and
// of lists of blocks that only they had. The caller has the mutation lock.
func (f *Forest) Backlog() (snapshots, lists int) {
	if e := f.first; e != nil {
		for _, d := range e.lists {
			if !d.empty() {
				lists++
			}
		}
	}
	return len(f.condemned), lists
}

// Reclaim returns the next piece of what deletions have left to do, nil if there is nothing that can be
// done. The caller has the mutation lock and is inside an epoch. It calls Read in the same epoch, but
// without the lock, and then, whatever came of it, Apply or GiveUp, with the lock again. Only one piece
// may be under way at a time.
func (f *Forest) Reclaim(g *epoch.Guard) *Reclaim {
	if e := f.first; e != nil {
		if lists := f.waiting(e.lists); len(lists) > 0 {
			return f.reclaimLists(nil, lists)
		}
	}
	for _, gen := range sortedGens(f.condemned) {
		s := f.condemned[gen]
		if s.stuck || s.pins > 0 {
			continue
		}
		mine, err := f.listsOf(g, s)
		if err != nil {
			s.stuck = true
			continue
		}
		if s.rec.Nref == 0 {
			if lists := f.waiting(mine); len(lists) > 0 {
				return f.reclaimLists(s, lists)
			}
			return &Reclaim{f: f, s: s, srec: s.rec}
		}
		if r := f.reclaimBoth(g, s); r != nil {
			return r
		}
	}
	return nil
}

func (f *Forest) reclaimLists(s *snapshot, lists []*deadlist) *Reclaim {
	r := &Reclaim{f: f, s: s, lists: lists}
	for _, d := range lists {
		if len(d.fresh) > 0 {
			r.chains = append(r.chains, newDeadlist(0, 0).disk)
		} else {
			r.chains = append(r.chains, d.disk)
		}
	}
	return r
}

// reclaimBoth returns the piece that merges s with its only child, nil if that has to wait.
func (f *Forest) reclaimBoth(g *epoch.Guard, s *snapshot) *Reclaim {
	r := &Reclaim{f: f, s: s}
	for _, r.heir = range s.children {
	}
	if c := r.heir; c.pins > 0 || f.condemned[c.rec.Gen] != nil && c.rec.Nref == 0 {
		return nil // half of it may be gone; when the rest is too, s has no child
	}
	theirs, err := f.listsOf(g, r.heir)
	if err != nil {
		s.stuck = true
		return nil
	}
	for _, bgen := range sortedGens(s.lists) {
		if o := theirs[bgen]; o != nil && o.disk.Hd.Addr != blkfmt.NoAddr && s.lists[bgen].disk.Hd.Addr != blkfmt.NoAddr {
			r.warm = append(r.warm, s.lists[bgen].disk.Hd, o.disk.Hd)
		}
	}
	// They are looked at as they are now; whoever wants to write to the heir moves on.
	f.settle(r.heir)
	r.srec, r.hrec, r.doubtful = s.rec, r.heir.rec, r.heir.doubtful
	s.pins++
	r.heir.pins++
	return r
}

// waiting returns some of the lists that are not empty.
func (f *Forest) waiting(lists map[blkfmt.Gen]*deadlist) (out []*deadlist) {
	for _, bgen := range sortedGens(lists) {
		if d := lists[bgen]; !d.empty() && !d.stuck && len(out) < f.piece.lists {
			out = append(out, d)
		}
	}
	return out
}

// settle brings the record of s up to date if a tree that writes to it is open.
func (f *Forest) settle(s *snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.open {
		if t.snap == s {
			t.settle()
		}
	}
}

// Read reads what the piece is about. The caller is inside the epoch in which Reclaim was called, without
// the mutation lock; Read may leave the epoch and enter another. It ends with ctx. After an error GiveUp
// must follow, not Apply.
func (r *Reclaim) Read(ctx context.Context, g *epoch.Guard) error {
	return r.read(g, breather(ctx, g))
}

func (r *Reclaim) read(g *epoch.Guard, pause func() error) error {
	switch {
	case len(r.lists) > 0:
		return r.readLists(g, pause)
	case r.heir == nil:
		return r.readTree(g)
	}
	return r.readBoth(g, pause)
}

// readLists reads a few blocks of the lists. Before the first of a list all of them are read: nothing
// guards the pointers between them, so what stands in them is believed only if they lead to the tail.
func (r *Reclaim) readLists(g *epoch.Guard, pause func() error) error {
	found := 0
	r.orders = make(map[*deadlist][]blkfmt.Addr)
	for i, d := range r.lists {
		c := r.chains[i]
		order := d.order
		if len(order) == 0 && c.Hd.Addr != blkfmt.NoAddr {
			err := (&deadlist{disk: c}).each(g, r.f.st, func(bp blkfmt.Bptr) error {
				order = append(order, bp.Addr)
				return pause()
			}, nil)
			if err != nil {
				return r.unread(i, err)
			}
			r.orders[d] = order
		}
		for k, at := range order {
			if found >= r.f.piece.blocks {
				return nil
			}
			list, next, err := readDead(g, r.f.st, blkfmt.Bptr{Addr: at})
			follower := blkfmt.NoAddr
			if k+1 < len(order) {
				follower = order[k+1]
			}
			if err == nil && next.Addr != follower {
				err = &blkfmt.CorruptError{Addr: at, Type: blkfmt.Deadlist, What: fmt.Sprintf("it leads to %v now, and did not before", next.Addr)}
			}
			if err != nil {
				return r.unread(i, err)
			}
			r.cuts = append(r.cuts, cut{d, at, next, list})
			found += len(list) + 1
		}
	}
	return nil
}

// unread says that the list i cannot be read; it is the one that GiveUp gives up.
func (r *Reclaim) unread(i int, err error) error {
	d := r.lists[i]
	r.lists[0] = d
	return fmt.Errorf("deadlist %d of snapshot %d: %w", d.bgen, d.gen, err)
}

func (r *Reclaim) readTree(g *epoch.Guard) error {
	// Nobody else frees what s alone has.
	t := trimmer{f: r.f, g: g, pred: r.srec.Pred, nodes: r.f.piece.nodes}
	if !r.f.younger(r.srec.Root, t.pred) {
		return nil // all of it is pred's
	}
	var err error
	if r.rest, err = t.cut(r.srec.Root, int(r.srec.Ht)); err != nil {
		return fmt.Errorf("free snapshot %d: %w", r.srec.Gen, err)
	}
	r.dead = t.dead
	return nil
}

func (r *Reclaim) readBoth(g *epoch.Guard, pause func() error) error {
	// First the pairs of chains, each as far as the shorter goes, so that merging them finds them in
	// memory. What is corrupt is met again by inherit.
	ended := make([]bool, len(r.warm)/2)
	err := r.f.follow(g, r.warm, pause, func(i int, _ []blkfmt.Addr, last bool) bool {
		ended[i/2] = ended[i/2] || last
		return !ended[i/2]
	})
	var corrupt *blkfmt.CorruptError
	if err != nil && !errors.As(err, &corrupt) {
		return err
	}
	if !r.doubtful {
		return nil
	}
	if r.dropped, err = r.f.only(g, r.srec, r.hrec, r.srec.Pred, pause); err != nil {
		return fmt.Errorf("compare snapshots %d and %d: %w", r.srec.Gen, r.hrec.Gen, err)
	}
	return nil
}

// breather returns a function to be called for each block that is read. It leaves the epoch now and then,
// so that commits need not wait, and enters another; what is read must not be freed meanwhile. It returns
// ctx's error.
func breather(ctx context.Context, g *epoch.Guard) func() error {
	n := 0
	return func() error {
		if n++; n%32 == 0 {
			g.Leave()
			g.Enter()
		}
		return ctx.Err()
	}
}

// GiveUp ends a piece that is not applied. If because is not nil what it was about cannot be read, and is
// left alone until the forest is loaded again. The caller has the mutation lock.
func (r *Reclaim) GiveUp(because error) {
	r.unpin()
	switch {
	case because == nil:
	case r.s != nil:
		r.s.stuck = true
	default:
		r.lists[0].stuck = true
	}
}

func (r *Reclaim) unpin() {
	if r.heir != nil {
		r.s.pins--
		r.heir.pins--
	}
}

// Apply does what Read has found out. If things have changed in between, it does nothing: the next piece
// is about the same again. Errors: arena.ErrFull, with which nothing has changed; *HalfError; another
// says that something cannot be read, and has done no more than GiveUp. The caller has the mutation lock
// and is inside an epoch.
func (r *Reclaim) Apply(g *epoch.Guard) error {
	switch {
	case len(r.lists) > 0:
		return r.applyLists()
	case r.heir == nil:
		return r.applyTree(g)
	}
	return r.applyBoth(g)
}

func (r *Reclaim) applyLists() error {
	f := r.f
	free := func(list []blkfmt.Addr) error {
		if r.s != nil {
			return nil // they are the predecessor's
		}
		for _, a := range list {
			if err := f.st.Free(blkfmt.Bptr{Addr: a, Hash: blkfmt.NoHash, Gen: blkfmt.NoGen}); err != nil {
				return &HalfError{err}
			}
		}
		return nil
	}
	left := f.piece.blocks
	for _, d := range r.lists {
		n := min(left, len(d.fresh))
		if n == 0 {
			continue
		}
		f.markList(d)
		if err := free(d.fresh[:n]); err != nil {
			return err
		}
		d.fresh = d.fresh[n:]
		left -= n
	}
	for d, order := range r.orders {
		d.order = order
	}
	for _, c := range r.cuts {
		d := c.d
		f.markList(d)
		if err := free(c.blocks); err != nil {
			return err
		}
		if err := f.st.FreeOwn(blkfmt.Bptr{Addr: c.at, Hash: blkfmt.NoHash}); err != nil {
			return &HalfError{err}
		}
		d.order = d.order[1:]
		if d.disk.Hd = c.next; c.next.Addr == blkfmt.NoAddr {
			d.disk.Hd, d.disk.Tl = blkfmt.NoPtr, blkfmt.NoPtr
		}
	}
	f.touch()
	return nil
}

func (r *Reclaim) applyTree(g *epoch.Guard) error {
	f, s := r.f, r.s
	if f.condemned[s.rec.Gen] != s || s.rec.Root != r.srec.Root || s.pins > 0 {
		return nil
	}
	if r.rest != nil {
		top, err := r.rest.plant(g, f.st, s.rec.Gen)
		if err != nil {
			return err
		}
		s.rec.Root, s.rec.Ht = top, int32(r.rest.level)
		f.mark(s)
	}
	for _, bp := range r.dead {
		if err := f.st.Free(bp); err != nil {
			return &HalfError{fmt.Errorf("free snapshot %d: %w", s.rec.Gen, err)}
		}
	}
	if r.rest == nil {
		f.remove(s, nil)
	}
	f.touch()
	return nil
}

func (r *Reclaim) applyBoth(g *epoch.Guard) error {
	f, s, c := r.f, r.s, r.heir
	r.unpin()
	if f.condemned[s.rec.Gen] != s || s.rec.Nref != 1 || s.children[c.rec.Gen] != c || s.pins > 0 || c.pins > 0 {
		return nil
	}
	m := merge{f: f, g: g}
	if err := m.inherit(c, s, r.dropped); err != nil {
		s.stuck = true
		return fmt.Errorf("merge snapshot %d into %d: %w", s.rec.Gen, c.rec.Gen, err)
	}
	return m.apply()
}

// discard makes a list garbage: one of the snapshot empty, whose blocks Reclaim frees.
func (f *Forest) discard(d *deadlist) {
	if d.empty() {
		return
	}
	f.markList(d)
	delete(f.snaps[d.gen].lists, d.bgen)
	f.addGarbage(&deadlist{fresh: d.fresh, disk: d.disk})
}

// discardAll makes the blocks garbage.
func (f *Forest) discardAll(list []blkfmt.Addr) {
	if len(list) > 0 {
		d := newDeadlist(0, 0)
		d.fresh = list
		f.addGarbage(d)
	}
}

func (f *Forest) addGarbage(d *deadlist) {
	lists := f.first.lists
	d.gen, d.bgen = 0, 1
	for b := range lists {
		d.bgen = max(d.bgen, b+1)
	}
	lists[d.bgen] = d
	f.markList(d)
}
