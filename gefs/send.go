package gefs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"gefs9p/betree"
	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/snap"
	"gefs9p/stream"
)

// SendOptions says what to send.
type SendOptions struct {
	Snap string // the label of the snapshot
	Base string // the label of another; only what differs from it is sent. Empty: everything is
	// From is where a stream that was cut goes on, as its receiver says; nil: at its beginning.
	From *stream.Mark
	// Append says that what is written is put behind the part that ends at From: it has no header.
	Append bool
	// Progress is called now and then, by the goroutine that sends.
	Progress func(Moved)
}

// Moved is how much of a snapshot was sent or received, and in the end what that was.
type Moved struct {
	Label   string        `json:"label"`
	Base    string        `json:"base,omitempty"` // empty if all of the snapshot was moved
	Changes uint64        `json:"changes"`        // keys set and removed, those of an earlier part included
	Bytes   int64         `json:"bytes"`          // of the stream, of this part
	Digest  stream.Digest `json:"digest"`         // the chain so far
	Already bool          `json:"already,omitempty"`
}

// Errors of Send.
var (
	ErrReceiving = errors.New("is still being received")
	ErrOtherPart = errors.New("what was received is a part of another stream")
)

// sendKeys is how many keys of a tree are looked at within one epoch, sendBlocks how many blocks of data
// are read.
const (
	sendKeys   = 512
	sendBlocks = 16
)

// Send writes what the snapshot holds, or what differs from another, to w as a stream. Others go on
// working meanwhile; the snapshots stay as they are, and are not given back if they are deleted. It reads
// only what is sent, and the nodes that only one of the two has.
//
// The caller has no lock and is outside any epoch; nobody waits for w. Errors: snap.ErrNoLabel,
// ErrReceiving, ErrOtherPart, ctx's, those of w, what cannot be read.
func (fs *FS) Send(ctx context.Context, w io.Writer, opt SendOptions) (Moved, error) {
	s := &sender{fs: fs, ctx: ctx, opt: opt, g: fs.st.Guard()}
	defer fs.st.FreeGuard(s.g)
	s.sum = Moved{Label: opt.Snap, Base: opt.Base}
	if err := s.begin(); err != nil {
		return s.sum, fmt.Errorf("send %s: %w", opt.Snap, err)
	}
	defer s.release()
	err := s.send(w)
	return s.sum, err
}

// Digest returns the digest of what the snapshot holds: that of package stream. It reads all of it.
// Callers and errors are as for Send.
func (fs *FS) Digest(ctx context.Context, label string, progress func(Moved)) (Moved, error) {
	return fs.Send(ctx, io.Discard, SendOptions{Snap: label, Progress: progress})
}

// A sender goes through two trees, or one, and writes down what differs.
type sender struct {
	fs       *FS
	ctx      context.Context
	opt      SendOptions
	g        *epoch.Guard
	new, old *side // old is nil if everything is sent
	hdr      stream.Header
	w        *stream.Writer
	sum      Moved
}

// A side is one of the trees, and the data in it that is still to be cleared.
type side struct {
	*snap.Held
	clears map[uint64]kvfmt.Clear
}

// begin pins the snapshots and makes the header.
func (s *sender) begin() error {
	fs := s.fs
	fs.mutMu.Lock()
	defer fs.mutMu.Unlock()
	s.g.Enter()
	defer s.g.Leave()
	s.hdr.NextQid = fs.forest.PeekQid()
	for _, x := range []struct {
		label    string
		to       **side
		id, from *stream.Ident
		name     *string
	}{
		{s.opt.Snap, &s.new, &s.hdr.Snap, &s.hdr.SnapFrom, &s.hdr.Label},
		{s.opt.Base, &s.old, &s.hdr.Base, &s.hdr.BaseFrom, &s.hdr.BaseLabel},
	} {
		if x.label == "" && x.to == &s.old {
			continue
		}
		h, err := fs.forest.Hold(x.label)
		if err != nil {
			s.releaseLocked()
			return err
		}
		*x.to = &side{Held: h, clears: make(map[uint64]kvfmt.Clear)}
		o, err := fs.origin(s.g, h.Rec)
		if err == nil {
			err = (*x.to).prepare(s.g)
		}
		if err != nil {
			s.releaseLocked()
			return err
		}
		*x.id, *x.from, *x.name = o.here, o.there, x.label
	}
	if s.opt.From != nil {
		if s.opt.From.ID != s.hdr.ID() {
			s.releaseLocked()
			return ErrOtherPart
		}
		s.hdr.From = s.opt.From.Place
	}
	return nil
}

// prepare refuses a tree that is not whole, and reads what is to be cleared of it.
func (t *side) prepare(g *epoch.Guard) error {
	_, err := t.Lookup(g, kvfmt.AppendRecvKey(nil), nil)
	switch {
	case err == nil:
		return fmt.Errorf("%s %w", t.Name, ErrReceiving)
	case !errors.Is(err, betree.ErrNotFound):
		return err
	}
	var bad error
	err = t.Scan(g, kvfmt.AppendClearPrefix(nil), nil, func(k, v []byte) bool {
		var c kvfmt.Clear
		if c, bad = kvfmt.GetClear(k, v); bad == nil {
			t.clears[c.Qid] = c
		}
		return bad == nil
	})
	return errors.Join(err, bad)
}

func (s *sender) release() {
	s.fs.mutMu.Lock()
	defer s.fs.mutMu.Unlock()
	s.releaseLocked()
}

func (s *sender) releaseLocked() {
	for _, t := range []*side{s.new, s.old} {
		if t != nil {
			t.Release()
		}
	}
	s.new, s.old = nil, nil
	s.fs.reclaimer.wake() // it may have waited for them
}

// spans returns what has to be looked at.
func (s *sender) spans() (snap.Spans, error) {
	if s.old == nil {
		return snap.Spans{{}}, nil
	}
	s.g.Enter()
	defer s.g.Leave()
	n := 0
	l, err := s.fs.forest.Differ(s.g, s.old.Held, s.new.Held, func() error {
		if n++; n%32 == 0 {
			s.g.Leave()
			s.g.Enter()
		}
		return s.ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	// What is to be cleared is not there, although its keys are.
	var more []snap.Span
	for _, t := range []*side{s.old, s.new} {
		for _, c := range t.clears {
			more = append(more, snap.Span{From: kvfmt.AppendDatKey(nil, c.Qid, c.From), To: kvfmt.AppendDatKey(nil, c.Qid, c.To)})
		}
	}
	return l.With(more...), nil
}

func (s *sender) send(w io.Writer) error {
	spans, err := s.spans()
	if err != nil {
		return fmt.Errorf("send %s: compare it with %s: %w", s.opt.Snap, s.opt.Base, err)
	}
	if s.opt.Append {
		s.w = stream.Append(w, s.hdr.From)
	} else if s.w, err = stream.NewWriter(w, s.hdr); err != nil {
		return err
	}
	for _, span := range spans {
		if from := s.hdr.From.Key; from != nil {
			if span.To != nil && kvfmt.Compare(span.To, from) <= 0 {
				continue
			}
			if kvfmt.Compare(span.From, from) <= 0 {
				span.From = append(bytes.Clone(from), 0)
			}
		}
		for more := true; more; {
			var list []delta
			if list, more, err = s.differences(&span); err == nil {
				err = s.write(list)
			}
			if err != nil {
				return err
			}
		}
	}
	err = s.w.Close()
	s.count()
	return err
}

func (s *sender) count() {
	at := s.w.Place()
	s.sum.Changes, s.sum.Digest, s.sum.Bytes = at.N, at.Chain, s.w.Sent()
	if s.opt.Progress != nil {
		s.opt.Progress(s.sum)
	}
}

// A pair is a key and its value as they stand in a tree.
type pair struct{ key, val []byte }

// A delta is a change to be sent; the data of a block is not read yet.
type delta struct {
	stream.Change
	data blkfmt.Bptr
}

// differences returns what differs at the beginning of the span, which it shortens, and whether that was
// not all of it.
func (s *sender) differences(span *snap.Span) (list []delta, more bool, err error) {
	if err := s.ctx.Err(); err != nil {
		return nil, false, err
	}
	s.g.Enter()
	defer s.g.Leave()
	now, to, err := s.new.pairs(s.g, *span)
	var was []pair
	if err == nil && s.old != nil {
		// As far as both were read.
		var upto []byte
		was, upto, err = s.old.pairs(s.g, snap.Span{From: span.From, To: to})
		if to = upto; to != nil {
			n := len(now)
			for n > 0 && kvfmt.Compare(now[n-1].key, to) >= 0 {
				n--
			}
			now = now[:n]
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("send %s: %w", s.opt.Snap, err)
	}
	for len(now) > 0 || len(was) > 0 {
		c := -1
		switch {
		case len(now) == 0:
			c = 1
		case len(was) > 0:
			c = kvfmt.Compare(now[0].key, was[0].key)
		}
		switch {
		case c > 0:
			list = append(list, delta{Change: stream.Change{Op: stream.Remove, Key: was[0].key}})
			was = was[1:]
			continue
		case c == 0 && sameValue(now[0], was[0]):
		default:
			d := delta{Change: stream.Change{Op: stream.Set, Key: now[0].key, Val: now[0].val}}
			if d.Key[0] == kvfmt.Kdat {
				if d.data, err = kvfmt.GetDatVal(d.Val); err != nil {
					return nil, false, fmt.Errorf("send %s: key %x: %w", s.opt.Snap, d.Key, err)
				}
			}
			list = append(list, d)
		}
		now = now[1:]
		if c == 0 {
			was = was[1:]
		}
	}
	more = to != nil && (span.To == nil || kvfmt.Compare(to, span.To) < 0)
	span.From = to
	return list, more, nil
}

// sameValue reports whether the values of a key are the same: of data, whether it is the same block.
func sameValue(a, b pair) bool {
	if a.key[0] == kvfmt.Kdat && len(a.val) >= 8 && len(b.val) >= 8 {
		return binary.BigEndian.Uint64(a.val) == binary.BigEndian.Uint64(b.val) // the address
	}
	return bytes.Equal(a.val, b.val)
}

// pairs returns what the snapshot holds at the beginning of the span, and up to which key that is all.
func (t *side) pairs(g *epoch.Guard, span snap.Span) (list []pair, to []byte, err error) {
	n, to := 0, span.To
	err = t.ScanRange(g, span.From, span.To, func(k, v []byte) bool {
		if n == sendKeys {
			to = bytes.Clone(k)
			return false
		}
		n++
		if !t.hidden(k, v) {
			list = append(list, pair{bytes.Clone(k), bytes.Clone(v)})
		}
		return true
	})
	return list, to, err
}

// hidden reports whether a pair is not part of what the snapshot holds.
func (t *side) hidden(k, v []byte) bool {
	if len(t.clears) > 0 && k[0] == kvfmt.Kdat {
		qid, off, err := kvfmt.GetDat(k)
		bp, err2 := kvfmt.GetDatVal(v)
		c, ok := t.clears[qid]
		return err == nil && err2 == nil && ok && c.From <= off && off < c.To && bp.Gen <= c.Gen
	}
	return kvfmt.IsOwn(k)
}

// write writes the deltas. It is inside an epoch only to read.
func (s *sender) write(list []delta) error {
	for len(list) > 0 {
		n, due, err := s.fill(list)
		if err != nil {
			return err
		}
		list = list[n:]
		if due {
			if err := s.w.Flush(); err != nil {
				return err
			}
			s.count()
		}
	}
	return nil
}

// fill adds some of the deltas to what is to be written, and returns how many.
func (s *sender) fill(list []delta) (n int, due bool, err error) {
	s.g.Enter()
	defer s.g.Leave()
	blocks := 0
	for n < len(list) && !due && blocks < sendBlocks {
		d := list[n]
		if d.Op == stream.Set && d.Key[0] == kvfmt.Kdat {
			blocks++
			b, err := s.fs.st.Get(s.g, d.data, blkfmt.Data)
			if err != nil {
				qid, off, _ := kvfmt.GetDat(d.Key)
				return n, false, fmt.Errorf("send %s: data of the file with qid %d at %d: %w", s.opt.Snap, qid, off, err)
			}
			d.Val = stream.Trim(b.Bytes())
			due, err = s.w.Add(d.Change)
			s.fs.st.Drop(b)
			if err != nil {
				return n, false, err
			}
		} else if due, err = s.w.Add(d.Change); err != nil {
			return n, false, fmt.Errorf("send %s: %w", s.opt.Snap, err)
		}
		n++
	}
	return n, due, nil
}
