package gefs

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"gefs9p/blkfmt"
	"gefs9p/ninep"
	"gefs9p/snap"
	"gefs9p/stream"
)

// followTag is in the name of a snapshot that was made to be sent to a disk that follows this one: between
// the label's name and its generation.
const followTag = "@follow."

// followName returns a name for a snapshot of the label that is made to be sent, behind those of names. They end in
// numbers in the order in which they are made, also when another disk goes on.
func followName(label string, gen blkfmt.Gen, names []string) string {
	n := uint64(gen)
	for _, name := range names {
		var m uint64
		if _, err := fmt.Sscanf(name[len(label)+len(followTag):], "%x", &m); err == nil && m < 1<<62 {
			n = max(n, m+1)
		}
	}
	return fmt.Sprintf("%s%s%012x", label, followTag, n)
}

// followKeep is how many snapshots a disk keeps that were received from the one that it follows.
const followKeep = 2

// A Having is what a disk that follows another has of a label: which snapshots, and a part of one.
type Having struct {
	Snaps []stream.Ident
	Part  *stream.Mark
}

// Token returns it as one word.
func (h Having) Token() string {
	b := []byte{byte(len(h.Snaps))}
	for _, i := range h.Snaps {
		b = i.Append(b)
	}
	if h.Part != nil {
		b = h.Part.Append(b)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// ParseHaving is the reverse of Token. The empty word says that there is nothing.
func ParseHaving(s string) (h Having, err error) {
	if s == "" {
		return h, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err == nil && (len(b) == 0 || len(b) < 1+int(b[0])*stream.IdentSize) {
		err = errors.New("it is too short")
	}
	if err != nil {
		return h, fmt.Errorf("%q does not say what a disk has: %w", s, err)
	}
	n := int(b[0])
	for b = b[1:]; n > 0; n-- {
		h.Snaps = append(h.Snaps, stream.GetIdent(b))
		b = b[stream.IdentSize:]
	}
	if len(b) > 0 {
		m, err := stream.GetMark(b)
		if err != nil {
			return h, fmt.Errorf("%q does not say what a disk has: %w", s, err)
		}
		h.Part = &m
	}
	return h, nil
}

// havingMost bounds a Having.
const havingMost = 16

// Have returns what this disk has of the label of another one, as a disk that follows it: what was received,
// and its own snapshots that were made to be sent, if it was the other's before. The caller has no lock and is outside
// any epoch.
func (fs *FS) Have(label string) (h Having, err error) {
	c, end := fs.Background()
	defer end()
	fs.lockMut(c)
	defer fs.mutMu.Unlock()
	names := fs.follows(label)
	for i := len(names) - 1; i >= 0 && len(h.Snaps)+2 <= havingMost; i-- {
		rec, err := fs.record(names[i])
		if err != nil {
			return h, err
		}
		o, err := fs.origin(guard(c), rec)
		if err != nil {
			return h, err
		}
		h.Snaps = append(h.Snaps, o.here)
		if !o.there.IsZero() {
			h.Snaps = append(h.Snaps, o.there)
		}
	}
	for _, l := range fs.forest.Labels() {
		name, ok := strings.CutSuffix(l.Name, receivingTag)
		if !ok || !strings.HasPrefix(name, label+followTag) {
			continue
		}
		t, err := fs.forest.Open(l.Name)
		if err != nil {
			return h, err
		}
		m, err := mark(c, t)
		t.Close()
		if err != nil {
			return h, err
		}
		h.Part = &m
	}
	return h, nil
}

// byAge returns the labels, those of older snapshots first.
func (fs *FS) byAge() []snap.LabelInfo {
	list := fs.forest.Labels()
	slices.SortStableFunc(list, func(a, b snap.LabelInfo) int { return cmp.Compare(a.Gen, b.Gen) })
	return list
}

// follows returns the snapshots of the label that are made to be followed, the oldest first.
func (fs *FS) follows(label string) (names []string) {
	for _, l := range fs.byAge() {
		if strings.HasPrefix(l.Name, label+followTag) && !isReceiving(l.Name) && !l.Mutable {
			names = append(names, l.Name)
		}
	}
	return names
}

// SendLatest sends what the label is now to a disk that has h of it: as the difference to the newest snapshot
// that both have, or whole. It makes a snapshot for that, which stays until the other disk has a newer one.
// If the other has all of it already nothing is written, and Moved.Already is set.
//
// Callers and errors are as for Send.
func (fs *FS) SendLatest(ctx context.Context, w io.Writer, label string, h Having, progress func(Moved)) (Moved, error) {
	opt, done, err := fs.latest(label, h)
	sum := Moved{Label: opt.Snap, Base: opt.Base}
	if err != nil {
		return sum, fmt.Errorf("send %s: %w", label, err)
	}
	if done {
		sum.Already = true
		return sum, nil
	}
	// What the other disk has must not be newer than what this one has after a crash.
	if err := fs.Sync(ctx); err != nil {
		return sum, err
	}
	opt.Progress = progress
	if opt.From != nil {
		sum, err := fs.Send(ctx, w, opt)
		if !errors.Is(err, ErrOtherPart) {
			return sum, err
		}
		opt.From = nil // the part is of another one; its owner will give it up
	}
	return fs.Send(ctx, w, opt)
}

// latest chooses what to send.
func (fs *FS) latest(label string, h Having) (opt SendOptions, done bool, err error) {
	c, end := fs.Background()
	defer end()
	if err := fs.begin(c, 1); err != nil {
		return opt, false, err
	}
	defer fs.end(c)
	now, err := fs.record(label)
	if err != nil {
		return opt, false, err
	}
	has := func(o origin) bool {
		for _, i := range h.Snaps {
			if o.same(i, stream.Ident{}) {
				return true
			}
		}
		return false
	}
	names := fs.follows(label)
	newest := ""
	for _, name := range names {
		rec, err := fs.record(name)
		if err != nil {
			return opt, false, err
		}
		o, err := fs.origin(guard(c), rec)
		if err != nil {
			return opt, false, err
		}
		if rec.Gen == now.Gen && identOf(rec) == identOf(now) {
			newest = name
		}
		if has(o) {
			opt.Base = name
		}
	}
	switch {
	case newest != "" && newest == opt.Base:
		return SendOptions{Snap: newest}, true, nil
	case h.Part != nil && len(names) > 0 && names[len(names)-1] != opt.Base:
		// The part may be one of the snapshot that was made last.
		opt.Snap, opt.From = names[len(names)-1], h.Part
	case newest != "":
		opt.Snap = newest
	default:
		opt.Snap = followName(label, now.Gen, names)
		if err := fs.forest.Label(label, opt.Snap, false); err != nil {
			return opt, false, err
		}
	}
	for _, name := range names {
		if name != opt.Snap && name != opt.Base {
			if err := fs.forest.Delete(name); err != nil && !errors.Is(err, snap.ErrMounted) {
				return opt, false, err
			}
		}
	}
	fs.reclaimer.wake()
	return opt, false, nil
}

// Follow receives what SendLatest sent, and deletes older snapshots of the same label but one. A part of
// something else, received before, is given up. Callers and errors are as for Receive.
func (fs *FS) Follow(ctx context.Context, r io.Reader, label string, progress func(Moved)) (Moved, error) {
	sum, err := fs.Receive(ctx, r, ReceiveOptions{Progress: progress, under: label})
	if err != nil {
		return sum, err
	}
	return sum, fs.prune(ctx, label)
}

// prune deletes the older snapshots of the label that were received.
func (fs *FS) prune(ctx context.Context, label string) error {
	names := fs.follows(label)
	if len(names) <= followKeep {
		return nil
	}
	for _, name := range names[:len(names)-followKeep] {
		c, end := fs.Background()
		err := fs.DeleteLabel(c, name)
		end()
		if err != nil && !errors.Is(err, snap.ErrMounted) {
			return err
		}
	}
	return fs.Sync(ctx)
}

// A Promoted is a label that has become what was received of it.
type Promoted struct {
	Label string `json:"label"`
	From  string `json:"from"` // the snapshot that was received
	Keep  string `json:"keep"` // what the label was before
}

// ErrNothingFollowed says that a disk has not followed another.
var ErrNothingFollowed = errors.New("no snapshot was received from a disk that this one follows")

// Promote makes of a disk that followed another one that can be used in its place: every label of which
// something was received becomes what was received last. What it was before gets the name label@before.stamp.
// A part that was received is given up. It is durable when Promote returns. The caller has no lock and is
// outside any epoch; nobody has the labels mounted.
func (fs *FS) Promote(ctx context.Context, stamp string) ([]Promoted, error) {
	var list []Promoted
	var parts []string
	for _, l := range fs.byAge() {
		label, _, ok := strings.Cut(l.Name, followTag)
		i := slices.IndexFunc(list, func(p Promoted) bool { return p.Label == label })
		switch {
		case !ok:
		case isReceiving(l.Name):
			parts = append(parts, l.Name)
		case !l.Mutable && i >= 0:
			list[i].From = l.Name // a newer one
		case !l.Mutable:
			list = append(list, Promoted{label, l.Name, label + "@before." + stamp})
		}
	}
	if len(list) == 0 {
		return nil, ErrNothingFollowed
	}
	for _, p := range list {
		if err := fs.promote(p); err != nil {
			return nil, fmt.Errorf("promote %s: %w", p.Label, err)
		}
	}
	for _, name := range parts {
		if err := fs.inside(func(c *ninep.Ctx) error { return fs.DeleteLabel(c, name) }); err != nil {
			return list, err
		}
	}
	return list, fs.Sync(ctx)
}

// promote makes a label what was received of it; one that is not there yet is made.
func (fs *FS) promote(p Promoted) error {
	return fs.inside(func(c *ninep.Ctx) error {
		err := fs.Rollback(c, p.Label, p.From, p.Keep, false)
		switch {
		case errors.Is(err, snap.ErrNoLabel):
			return fs.Label(c, p.From, p.Label, true)
		case errors.Is(err, snap.ErrSame): // it was this disk's, and has not changed
			return nil
		}
		return err
	})
}

// inside runs f inside an epoch.
func (fs *FS) inside(f func(c *ninep.Ctx) error) error {
	c, end := fs.Background()
	defer end()
	return f(c)
}
