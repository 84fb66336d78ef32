package gefs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"gefs9p/arena"
	"gefs9p/betree"
	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
	"gefs9p/snap"
	"gefs9p/stream"
)

// receivingTag is behind the name of a snapshot as long as it is being received.
const receivingTag = "@receiving"

// Receiving returns the label under which the snapshot stands as long as it is being received.
func Receiving(name string) string { return name + receivingTag }

// isReceiving reports whether the label is one that Receiving returns. Nobody can mount it, and no snapshots are
// made of it.
func isReceiving(label string) bool { return strings.HasSuffix(label, receivingTag) }

// Errors of Receive.
var (
	ErrNoBase    = errors.New("the stream is the difference to a snapshot that this disk does not have")
	ErrFull      = errors.New("the disk is full")
	ErrElsewhere = errors.New("the stream does not go on where this disk has come to")
	ErrHalf      = errors.New("a part of another stream was received under this name")
)

// qidMax bounds what a stream may say of qids, so that there are always new ones.
const qidMax = 1 << 62

// ReceiveOptions says what becomes of a stream.
type ReceiveOptions struct {
	Name     string      // of the new label; empty: as on the disk that it was sent from
	Progress func(Moved) // called now and then, by the goroutine that receives

	// under is the label of which the snapshot must be one that SendLatest sends; parts of others are given up.
	under string
}

// Receive reads a stream and makes the snapshot of it that was sent. The snapshot gets its name in the
// moment in which it is whole and verified, in one commit with the last change; until then it stands under
// the label Receiving(name).
//
// If it ends before, what was received stays, and Receive goes on with the same stream from where that
// ends (Where), or with all of it. Nothing stays if the disk is full (ErrFull), or if nothing was received.
// A snapshot that is there already, of the same stream, is left alone (Moved.Already).
//
// The caller has no lock and is outside any epoch, and nobody waits for r. Errors: ErrNoBase, ErrFull,
// ErrElsewhere, ErrHalf; those of package stream; snap.ErrExists, snap.ErrName, snap.ErrReserved; ctx's;
// errReadOnly.
func (fs *FS) Receive(ctx context.Context, r io.Reader, opt ReceiveOptions) (Moved, error) {
	in, err := stream.NewReader(r)
	if err != nil {
		return Moved{}, err
	}
	c, end := fs.Background()
	defer end()
	rc := &receiver{fs: fs, ctx: ctx, c: c, in: in, name: opt.Name, progress: opt.Progress}
	if rc.name == "" {
		rc.name = in.Header.Label
	}
	if opt.under != "" {
		if err := fs.onlyPart(c, opt.under, &in.Header); err != nil {
			return Moved{Label: rc.name}, err
		}
	}
	err = rc.receive()
	rc.sum.Label, rc.sum.Base, rc.sum.Bytes = rc.name, rc.base, in.Off()
	if errors.Is(err, errFull) || errors.Is(err, arena.ErrFull) {
		err = fmt.Errorf("receive %s: %w", rc.name, ErrFull)
	}
	return rc.sum, err
}

// Where returns how far the snapshot has come that is being received under the name. ok is false if none
// is. The caller has no lock and is outside any epoch.
func (fs *FS) Where(name string) (m stream.Mark, ok bool, err error) {
	c, end := fs.Background()
	defer end()
	fs.lockMut(c)
	defer fs.mutMu.Unlock()
	t, err := fs.forest.Open(Receiving(name))
	if errors.Is(err, snap.ErrNoLabel) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	defer t.Close()
	m, err = mark(c, t)
	return m, err == nil, err
}

// mark returns how far the tree has come. The mutation lock is held.
func mark(c *ninep.Ctx, t *snap.Tree) (stream.Mark, error) {
	v, err := t.Lookup(guard(c), kvfmt.AppendRecvKey(nil), nil)
	if errors.Is(err, betree.ErrNotFound) {
		return stream.Mark{}, fmt.Errorf("'%s' is not being received: it was made by somebody else", t.Name())
	}
	if err != nil {
		return stream.Mark{}, err
	}
	return stream.GetMark(v)
}

// GiveUp deletes what was received of the snapshot that is being received under the name. Errors:
// snap.ErrNoLabel, errReadOnly. The caller has no lock and is outside any epoch.
func (fs *FS) GiveUp(ctx context.Context, name string) error {
	if _, ok, err := fs.Where(name); err != nil {
		return err
	} else if !ok {
		return fmt.Errorf("'%s' is not being received: %w", name, snap.ErrNoLabel)
	}
	c, end := fs.Background()
	err := fs.DeleteLabel(c, Receiving(name))
	end()
	if err != nil {
		return err
	}
	return fs.Sync(ctx)
}

// onlyPart refuses a stream that is not of the label that is followed, and gives up parts of streams that are not
// this one.
func (fs *FS) onlyPart(c *ninep.Ctx, label string, h *stream.Header) error {
	if !strings.HasPrefix(h.Label, label+followTag) {
		return fmt.Errorf("the stream is of %s, and %s is followed", h.Label, label)
	}
	if err := fs.onlyOne(c, h); err != nil {
		return err
	}
	for _, l := range fs.forest.Labels() {
		name, ok := strings.CutSuffix(l.Name, receivingTag)
		if !ok || !strings.HasPrefix(name, label+followTag) {
			continue
		}
		var m stream.Mark
		err := fs.begin(c, 0)
		if err == nil {
			var t *snap.Tree
			if t, err = fs.forest.Open(l.Name); err == nil {
				m, err = mark(c, t)
				t.Close()
			}
			fs.end(c)
		}
		if err != nil {
			return err
		}
		if m.ID == h.ID() && name == h.Label {
			continue
		}
		if err := fs.DeleteLabel(c, l.Name); err != nil {
			return err
		}
	}
	return nil
}

// onlyOne deletes a snapshot that has the name of the one in the stream, and is another: one that was there until
// somebody deleted it on the disk that is followed.
func (fs *FS) onlyOne(c *ninep.Ctx, h *stream.Header) error {
	other := false
	err := fs.begin(c, 0)
	if err == nil {
		if rec, rerr := fs.record(h.Label); rerr == nil {
			var o origin
			o, err = fs.origin(guard(c), rec)
			other = err == nil && !o.same(h.Snap, h.SnapFrom)
		}
		fs.end(c)
	}
	if err == nil && other {
		err = fs.DeleteLabel(c, h.Label)
	}
	return err
}

// A receiver makes a snapshot of a stream. It has the tree open between start and the end.
type receiver struct {
	fs       *FS
	ctx      context.Context
	c        *ninep.Ctx // inside an epoch
	in       *stream.Reader
	name     string
	base     string
	progress func(Moved)
	m        *Mount      // of the tree, and in no table
	at       stream.Mark // how far the tree has come
	begun    bool        // the tree was made by this call
	sum      Moved
}

func (rc *receiver) receive() error {
	fs, in := rc.fs, rc.in
	for _, n := range []string{rc.name, Receiving(rc.name)} {
		if err := snap.CheckName(n); err != nil {
			return err
		}
	}
	if in.Header.NextQid > qidMax {
		return &stream.DamagedError{What: fmt.Sprintf("next qid %d", in.Header.NextQid)}
	}
	if err := rc.start(); err != nil || rc.sum.Already {
		return err
	}
	err := rc.changes()
	if err == nil {
		err = rc.finish()
	}
	if err == nil {
		rc.c.Sleep(func() { err = fs.Sync(rc.ctx) })
		return err
	}
	fs.lockMut(rc.c)
	if rc.m != nil {
		rc.m.tree.Close()
	}
	fs.mutMu.Unlock()
	if errors.Is(err, errFull) || errors.Is(err, arena.ErrFull) || rc.at.Place.N == 0 && rc.begun {
		if derr := fs.DeleteLabel(rc.c, Receiving(rc.name)); derr != nil {
			return errors.Join(err, derr)
		}
	}
	// What was received is to be there when it goes on.
	rc.c.Sleep(func() {
		if serr := fs.Sync(context.WithoutCancel(rc.ctx)); serr != nil {
			err = errors.Join(err, serr)
		}
	})
	return err
}

// start opens the tree, or makes it.
func (rc *receiver) start() error {
	fs, h := rc.fs, &rc.in.Header
	if err := fs.begin(rc.c, 1); err != nil {
		return err
	}
	defer fs.end(rc.c)
	g := guard(rc.c)
	rec, err := fs.record(rc.name)
	if err == nil {
		o, err := fs.origin(g, rec)
		if err != nil {
			return err
		}
		if o.same(h.Snap, h.SnapFrom) {
			rc.sum.Already = true
			return nil
		}
		return fmt.Errorf("snap: %w '%s'", snap.ErrExists, rc.name)
	}
	if !errors.Is(err, snap.ErrNoLabel) {
		return err
	}
	temp := Receiving(rc.name)
	t, err := fs.forest.Open(temp)
	if err == nil {
		if err = rc.goOn(t); err != nil {
			t.Close()
		}
		return err
	}
	if !errors.Is(err, snap.ErrNoLabel) {
		return err
	}
	if h.From.N > 0 {
		return fmt.Errorf("%w: it begins behind change %d, and nothing was received under the name %s", ErrElsewhere, h.From.N, rc.name)
	}
	label, err := fs.baseOf(g, h)
	if err != nil {
		return err
	}
	if label == "" {
		return fmt.Errorf("%w: %s there, snapshot %v; receive that first", ErrNoBase, h.BaseLabel, h.Base)
	}
	if err := fs.forest.Label(label, temp, true); err != nil {
		return err
	}
	undo := func(err error) error { return errors.Join(err, fs.forest.Delete(temp)) }
	if t, err = fs.forest.Open(temp); err != nil {
		return undo(err)
	}
	if err := rc.mount(t, stream.Mark{ID: h.ID()}); err != nil {
		t.Close()
		return undo(err)
	}
	rc.begun = true
	if !h.Whole() {
		rc.base = label
	}
	return nil
}

// goOn goes on with a tree of which a part was received. The mutation lock is held.
func (rc *receiver) goOn(t *snap.Tree) error {
	at, err := mark(rc.c, t)
	if err != nil {
		return err
	}
	h := &rc.in.Header
	switch {
	case at.ID != h.ID():
		return fmt.Errorf("%w: %s; give that part up first, or choose another name", ErrHalf, t.Name())
	case h.From.N > at.Place.N:
		return fmt.Errorf("%w: it begins behind change %d, and %d were received", ErrElsewhere, h.From.N, at.Place.N)
	case h.From.N == at.Place.N && h.From.Chain != at.Place.Chain:
		return fmt.Errorf("%w: there was something else before change %d", ErrElsewhere, h.From.N+1)
	}
	rc.m, rc.at = &Mount{fs: rc.fs, name: t.Name(), tree: t}, at
	return nil
}

// mount takes a new tree, whose first change says that it is being received. Of a whole snapshot nothing
// is there at first. The mutation lock is held.
func (rc *receiver) mount(t *snap.Tree, at stream.Mark) error {
	m := &Mount{fs: rc.fs, name: t.Name(), tree: t}
	ch := rc.fs.newChange(guard(rc.c), m)
	if rc.in.Header.Whole() {
		err := t.Scan(guard(rc.c), nil, nil, func(k, _ []byte) bool {
			ch.add(kvfmt.Delete, append([]byte(nil), k...), nil)
			return len(ch.msgs) < 16 // the snapshot empty has two keys
		})
		if err != nil {
			return err
		}
	}
	ch.add(kvfmt.Insert, kvfmt.AppendRecvKey(nil), at.Append(nil))
	if err := ch.apply(); err != nil {
		return err
	}
	rc.m, rc.at = m, at
	return nil
}

// changes applies all changes of the stream.
func (rc *receiver) changes() error {
	at := rc.in.Place().N
	for {
		var list []stream.Change
		var err error
		rc.c.Sleep(func() {
			if err = rc.ctx.Err(); err == nil {
				list, err = rc.in.Next()
			}
		})
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		// Those that were received before.
		if have := rc.at.Place.N; at < have {
			n := min(have-at, uint64(len(list)))
			at += n
			if at == have && list[n-1].Chain != rc.at.Place.Chain {
				return fmt.Errorf("%w: there was something else before change %d", ErrElsewhere, have+1)
			}
			list = list[n:]
		}
		at += uint64(len(list))
		for len(list) > 0 {
			n := batch(list)
			if err := rc.apply(list[:n]); err != nil {
				return err
			}
			list = list[n:]
		}
		rc.sum.Changes, rc.sum.Digest, rc.sum.Bytes = rc.at.Place.N, rc.at.Place.Chain, rc.in.Off()
		if rc.progress != nil {
			rc.progress(rc.sum)
		}
	}
}

// batchBlocks is how many blocks of data are written with the mutation lock held.
const batchBlocks = 64

// batch returns how many of the changes go together.
func batch(list []stream.Change) (n int) {
	size := (kvfmt.Msg{Key: make([]byte, kvfmt.KeyMax), Val: make([]byte, stream.MarkMax)}).Size()
	for n < len(list) && n < batchBlocks {
		m := kvfmt.Msg{Key: list[n].Key, Val: list[n].Val}
		if list[n].Key[0] == kvfmt.Kdat {
			m.Val = make([]byte, blkfmt.PtrSize)
		}
		if size += m.Size(); size > betree.BatchMax {
			break
		}
		n++
	}
	return n
}

// apply makes changes in the tree, and with them that they were made.
func (rc *receiver) apply(list []stream.Change) error {
	fs := rc.fs
	if err := fs.begin(rc.c, len(list)); err != nil {
		return err
	}
	defer fs.end(rc.c)
	g := guard(rc.c)
	ch := fs.newChange(g, rc.m)
	next := rc.in.Header.NextQid
	for i := range list {
		c := &list[i]
		switch kind := c.Key[0]; {
		case c.Op == stream.Set && kind == kvfmt.Kdat:
			qid, off, err := kvfmt.GetDat(c.Key)
			if err == nil {
				err = ch.data(qid, off, true, func(p []byte) { clear(p[copy(p, c.Val):]) })
			}
			if err != nil {
				return ch.done(err)
			}
		case c.Op == stream.Set:
			if d, err := kvfmt.GetDir(c.Val); kind == kvfmt.Kent && err == nil {
				if d.Qid.Path >= qidMax {
					return ch.done(&stream.DamagedError{Off: rc.in.Off(), What: fmt.Sprintf("a file with qid %d", d.Qid.Path)})
				}
				next = max(next, d.Qid.Path+1)
			}
			ch.add(kvfmt.Insert, c.Key, c.Val)
		case kind == kvfmt.Kdat:
			ch.add(kvfmt.Clearb, c.Key, nil)
		case kind == kvfmt.Kent || kind == kvfmt.Kup:
			ch.add(kvfmt.Clobber, c.Key, nil)
		default:
			if _, err := rc.m.tree.Lookup(g, c.Key, nil); err == nil {
				ch.add(kvfmt.Delete, c.Key, nil)
			} else if !errors.Is(err, betree.ErrNotFound) {
				return ch.done(err)
			}
		}
	}
	last := list[len(list)-1]
	at := stream.Mark{ID: rc.at.ID, Place: stream.Place{N: rc.at.Place.N + uint64(len(list)), Chain: last.Chain, Key: append([]byte(nil), last.Key...)}}
	ch.add(kvfmt.Insert, kvfmt.AppendRecvKey(nil), at.Append(nil))
	if err := ch.apply(); err != nil {
		return err
	}
	fs.forest.RaiseQid(next)
	rc.at = at
	return nil
}

// finish gives the snapshot, which is whole, its name. All of it is in one commit.
func (rc *receiver) finish() error {
	fs := rc.fs
	if err := fs.begin(rc.c, 1); err != nil {
		return err
	}
	defer fs.end(rc.c)
	if _, err := fs.record(rc.name); err == nil {
		return fmt.Errorf("snap: %w '%s': it was made meanwhile", snap.ErrExists, rc.name)
	}
	ch := fs.newChange(guard(rc.c), rc.m)
	ch.add(kvfmt.Delete, kvfmt.AppendRecvKey(nil), nil)
	if err := ch.apply(); err != nil {
		return err
	}
	temp := rc.m.tree.Name()
	rc.m.tree.Close()
	rc.m = nil
	err := fs.forest.Label(temp, rc.name, false)
	if err == nil {
		err = fs.forest.Delete(temp)
	}
	var rec kvfmt.Tree
	if err == nil {
		rec, err = fs.record(rc.name)
	}
	if err == nil {
		err = fs.setOrigin(guard(rc.c), rec, rc.in.Header.Snap)
	}
	rc.sum.Changes, rc.sum.Digest = rc.at.Place.N, rc.at.Place.Chain
	return err
}
