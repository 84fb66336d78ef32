package snap

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"gefs9p/betree"
	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/check"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
)

const diskSize = blkfmt.MinDevice

// A file in the model: its qid and what its only data block says.
type file struct {
	qid uint64
	ver uint32
}

// A content is what a snapshot holds. It is never changed, but replaced.
type content struct {
	root  uint64 // qid of its root directory
	files map[string]file
}

func (c content) clone() content { return content{c.root, maps.Clone(c.files)} }

// A model is what the labels name.
type model map[string]labelled

type labelled struct {
	content
	mutable bool
}

// A world is a forest on a device, and what should be in it.
type world struct {
	dev  blkdev.Device
	size int64
	st   *blkstore.Store
	g    *epoch.Guard
	f    *Forest
	open map[string]*Tree // held open, as by clients
	now  model
	safe model // as of the last commit
	ver  uint32
	chk  check.Checker

	bite pieceSize // of pieces of Reclaim, if not zero
	lazy bool      // what deletions leave to do waits for steps of its own
	part *Reclaim  // the piece that is under way
	busy bool      // a commit is

	commits int
	report  *check.Report // of the last commit
}

// newWorld formats a device and commits.
func newWorld(dev blkdev.Device) (*world, error) {
	w := &world{dev: dev, open: make(map[string]*Tree)}
	var err error
	if w.size, err = dev.Size(); err != nil {
		return nil, err
	}
	if w.st, err = blkstore.Format(dev, blkstore.Options{Cache: blkstore.MinCache}, false, false); err != nil {
		return nil, err
	}
	w.g = w.st.Guard()
	w.g.Enter()
	w.f, err = Format(w.g, w.st, []byte("-1:adm::\n"))
	w.g.Leave()
	if err != nil {
		return nil, err
	}
	w.now = model{
		Empty: {content{mainQid, map[string]file{}}, false},
		Adm:   {content{admQid, map[string]file{}}, true},
		Main:  {content{mainQid, map[string]file{}}, true},
	}
	return w, w.commit(nil)
}

// openWorld opens a disk; now says what should be on it.
func openWorld(dev blkdev.Device, now model) (*world, error) {
	w := &world{dev: dev, open: make(map[string]*Tree), now: now, safe: maps.Clone(now)}
	var err error
	if w.size, err = dev.Size(); err != nil {
		return nil, err
	}
	return w, w.start()
}

func (w *world) start() error {
	var err error
	if w.st, err = blkstore.Open(w.dev, blkstore.Options{Cache: blkstore.MinCache}); err != nil {
		return err
	}
	w.g = w.st.Guard()
	w.g.Enter()
	defer w.g.Leave()
	w.f, err = Load(w.g, w.st)
	if err == nil && w.bite != (pieceSize{}) {
		w.f.piece = w.bite
	}
	return err
}

// stop ends everything. What was not committed is lost.
func (w *world) stop() {
	w.part = nil
	w.open = make(map[string]*Tree)
	w.st.FreeGuard(w.g)
	w.st.Close()
}

// crash loses what was not committed, and starts again.
func (w *world) crash() error {
	w.stop()
	w.now = maps.Clone(w.safe)
	if err := w.start(); err != nil {
		return err
	}
	return w.verifyAll()
}

// tree returns the label's tree and what ends its use.
func (w *world) tree(label string) (*Tree, func(), error) {
	if t := w.open[label]; t != nil {
		return t, func() {}, nil
	}
	t, err := w.f.Open(label)
	if err != nil {
		return nil, nil, err
	}
	return t, t.Close, nil
}

// hold opens the label until drop.
func (w *world) hold(label string) error {
	t, err := w.f.Open(label)
	if err == nil {
		w.open[label] = t
	}
	return err
}

func (w *world) drop(label string) {
	w.open[label].Close()
	delete(w.open, label)
}

// write changes files of a label; true removes one, false gives it new data.
func (w *world) write(label string, changes map[string]bool) error {
	const batch = 14 // files of long names
	for list := slices.Sorted(maps.Keys(changes)); len(list) > 0; list = list[min(batch, len(list)):] {
		part := make(map[string]bool)
		for _, name := range list[:min(batch, len(list))] {
			part[name] = changes[name]
		}
		if err := w.writeBatch(label, part); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) writeBatch(label string, changes map[string]bool) error {
	t, done, err := w.tree(label)
	if err != nil {
		return err
	}
	defer done()
	w.g.Enter()
	defer w.g.Leave()
	gen := t.Prepare()
	l := w.now[label]
	c := l.content.clone()
	var msgs []kvfmt.Msg
	add := func(op kvfmt.Op, key, val []byte) { msgs = append(msgs, kvfmt.Msg{Op: op, Key: key, Val: val}) }
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		ent := kvfmt.AppendEntKey(nil, c.root, name)
		old, had := c.files[name]
		if changes[name] {
			if !had {
				continue
			}
			add(kvfmt.Delete, ent, nil)
			add(kvfmt.Clearb, kvfmt.AppendDatKey(nil, old.qid, 0), nil)
			delete(c.files, name)
			continue
		}
		w.ver++
		n := file{old.qid, w.ver}
		if !had {
			n.qid = w.f.NextQid()
			d := kvfmt.Dir{Qid: kvfmt.Qid{Path: n.qid}, Mode: 0644, Length: blkfmt.BlkSize}
			add(kvfmt.Insert, ent, d.Append(nil))
		}
		b, err := w.st.NewData(w.g, gen, n.qid, w.ver%2 == 0)
		if err != nil {
			return err
		}
		clear(b.Bytes())
		copy(b.Bytes(), n.bytes())
		w.st.Enqueue(b)
		add(kvfmt.Insert, kvfmt.AppendDatKey(nil, n.qid, 0), b.Ptr().Append(nil))
		w.st.Drop(b)
		c.files[name] = n
	}
	if err := t.Upsert(w.g, msgs); err != nil {
		return err
	}
	w.now[label] = labelled{c, l.mutable}
	return nil
}

// settle moves all messages of a tree to its leaves, so that what they free is free.
func (w *world) settle(label string) error {
	t, done, err := w.tree(label)
	if err != nil {
		return err
	}
	defer done()
	w.g.Enter()
	defer w.g.Leave()
	for more := true; more && err == nil; {
		more, err = t.Settle(w.g)
	}
	return err
}

func (f file) bytes() []byte {
	p := binary.BigEndian.AppendUint64(nil, f.qid)
	return binary.BigEndian.AppendUint32(p, f.ver)
}

// label, fork, rollback and unlabel do what the forest's functions do, to the model too.
func (w *world) label(old, name string, mutable bool) error {
	if err := w.f.Label(old, name, mutable); err != nil {
		return err
	}
	w.now[name] = labelled{w.now[old].content, mutable}
	return nil
}

func (w *world) rollback(name, old, keep string) error {
	if err := w.f.Rollback(name, old, keep); err != nil {
		return err
	}
	w.now[keep] = labelled{w.now[name].content, false}
	w.now[name] = labelled{w.now[old].content, true}
	return nil
}

func (w *world) unlabel(name string) error {
	if err := w.f.Delete(name); err != nil {
		return err
	}
	delete(w.now, name)
	if w.lazy {
		return nil
	}
	return w.reclaim()
}

// reclaim does all that deletions have left to do.
func (w *world) reclaim() error {
	for {
		if did, err := w.piece(nil); err != nil || !did {
			return err
		}
	}
}

// An interruption is what happens while something reads without the mutation lock: at its n-th pause run
// is called, outside the epoch, if it comes to that, and else at its end.
type interruption struct {
	n   int
	run func() error
}

// during calls read, interrupted.
func (w *world) during(x *interruption, read func(g *epoch.Guard, pause func() error) error) error {
	g := w.st.Guard()
	g.Enter()
	n := 0
	err := read(g, func() error {
		n++
		if x == nil || x.run == nil || n < x.n {
			return nil
		}
		g.Leave()
		err := x.run()
		x.run = nil
		g.Enter()
		return err
	})
	g.Leave()
	w.st.FreeGuard(g)
	if err == nil && x != nil && x.run != nil {
		err = x.run()
	}
	return err
}

// piece does a piece of that, if there is any.
func (w *world) piece(x *interruption) (bool, error) {
	if w.part != nil {
		return false, nil
	}
	err := w.during(x, func(g *epoch.Guard, pause func() error) error {
		if w.part = w.f.Reclaim(g); w.part == nil {
			return nil
		}
		return w.part.read(g, pause)
	})
	r := w.part
	w.part = nil
	if err != nil {
		if r != nil {
			r.GiveUp(err)
		}
		return r != nil, err
	}
	if r == nil {
		return false, nil
	}
	w.g.Enter()
	defer w.g.Leave()
	return true, r.Apply(w.g)
}

// space is what a survey of the labels finds.
func (w *world) space(x *interruption, names ...string) (n int64, err error) {
	var v *Survey
	err = w.during(x, func(g *epoch.Guard, pause func() error) error {
		if v, err = w.f.Survey(g, names); err != nil {
			return err
		}
		if x != nil { // what would be found if nothing came in between
			if n, err = v.count(g, func() error { return nil }); err != nil {
				return err
			}
		}
		m, err := v.count(g, pause)
		if err == nil && x != nil && n != m {
			err = fmt.Errorf("a survey of %q finds %d blocks, and %d while others work", names, n, m)
		}
		n = m
		return err
	})
	if v != nil {
		v.Done()
	}
	return n, err
}

// commit brings everything to the device and checks it there. meanwhile, if not nil, runs while the
// commit is under way.
func (w *world) commit(meanwhile func() error) error {
	w.g.Enter()
	root, err := w.f.Seal(w.g)
	if err != nil {
		w.g.Leave()
		return fmt.Errorf("seal: %w", err)
	}
	com, err := w.st.Seal(root)
	w.g.Leave()
	if err != nil {
		return err
	}
	w.safe = maps.Clone(w.now)
	if meanwhile != nil {
		w.busy = true
		err := meanwhile()
		w.busy = false
		if err != nil {
			return err
		}
	}
	if err := com.Run(nil); err != nil {
		return err
	}
	com.Done()
	w.st.Tick()
	w.commits++
	return w.check()
}

// check checks the device: every block owned once, nothing lost.
func (w *world) check() error {
	rep, err := w.chk.Run(context.Background(), w.dev, w.size, check.Options{})
	if err != nil {
		return err
	}
	w.report = rep
	if !rep.Clean(true) {
		var b bytes.Buffer
		rep.WriteText(&b)
		return fmt.Errorf("the disk is not clean after commit %d:\n%s", w.commits, &b)
	}
	return nil
}

// used returns the blocks that hold something but logs, as of the last commit.
func (w *world) used() int64 { return w.report.Counts.Used - w.report.Counts.Log }

// held returns how many blocks hold files of any snapshot, as of the last commit.
func (w *world) held() int64 {
	c := w.report.Counts
	return c.Pivots + c.Leaves + c.Data + c.Dead
}

// verify compares the content of the label with the model.
func (w *world) verify(label string) error {
	t, done, err := w.tree(label)
	if err != nil {
		return err
	}
	defer done()
	want := w.now[label]
	if t.Mutable() != want.mutable {
		return fmt.Errorf("label %s is mutable: %v", label, t.Mutable())
	}
	return w.verifyTree(label, t.Tree, want.content)
}

// verifyTree compares the content of a tree, which goes by that name, with the model.
func (w *world) verifyTree(label string, t *betree.Tree, want content) error {
	w.g.Enter()
	defer w.g.Leave()
	names := make(map[string]uint64)
	prefix := kvfmt.AppendEntPrefix(nil, want.root)
	err := t.Scan(w.g, prefix, nil, func(k, v []byte) bool {
		d, err := kvfmt.GetDir(v)
		if err == nil {
			names[string(k[len(prefix)+2:len(k)-1])] = d.Qid.Path
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("label %s: %w", label, err)
	}
	if want.root == admQid {
		delete(names, "users")
	}
	if len(names) != len(want.files) {
		return fmt.Errorf("label %s: %d files, want %d", label, len(names), len(want.files))
	}
	for name, n := range want.files {
		if qid, ok := names[name]; !ok || qid != n.qid {
			return fmt.Errorf("label %s: file %s has qid %d, want %d", label, name, qid, n.qid)
		}
		v, err := t.Lookup(w.g, kvfmt.AppendDatKey(nil, n.qid, 0), nil)
		if err != nil {
			return fmt.Errorf("label %s: data of %s: %w", label, name, err)
		}
		bp, err := kvfmt.GetDatVal(v)
		if err != nil {
			return fmt.Errorf("label %s: data of %s: %w", label, name, err)
		}
		b, err := w.st.Get(w.g, bp, blkfmt.Data)
		if err != nil {
			return fmt.Errorf("label %s: data of %s: %w", label, name, err)
		}
		got := bytes.Clone(b.Bytes()[:12])
		w.st.Drop(b)
		if !bytes.Equal(got, n.bytes()) {
			return fmt.Errorf("label %s: file %s holds %x, want %x", label, name, got, n.bytes())
		}
	}
	return nil
}

// verifyAll compares everything with the model: labels, contents, counts, census.
func (w *world) verifyAll() error {
	var names []string
	for _, l := range w.f.Labels() {
		names = append(names, l.Name)
	}
	if want := slices.Sorted(maps.Keys(w.now)); !slices.Equal(names, want) {
		return fmt.Errorf("labels %.1000q, want %.1000q", fmt.Sprint(names), fmt.Sprint(want))
	}
	for _, name := range names {
		if err := w.verify(name); err != nil {
			return err
		}
	}
	return w.verifyForest()
}

// verifyForest checks what the forest says of itself.
func (w *world) verifyForest() error {
	labels := make(map[blkfmt.Gen]int32)
	for _, l := range w.f.labels {
		labels[l.val.Gen]++
	}
	for gen, s := range w.f.snaps {
		if gen != s.rec.Gen || s.rec.Nlbl != labels[gen] || int(s.rec.Nref) != len(s.children) {
			return fmt.Errorf("snapshot %d: %+v, %d labels, %d children", gen, s.rec, labels[gen], len(s.children))
		}
		if needless := gen != 0 && s.rec.Nlbl == 0 && s.rec.Nref < 2; needless != (w.f.condemned[gen] == s) {
			return fmt.Errorf("snapshot %d is there without need: %v; to be reclaimed: %v", gen, needless, !needless)
		}
		if gen != 0 && (w.f.snaps[s.rec.Pred] == nil || w.f.snaps[s.rec.Pred].children[gen] != s) {
			return fmt.Errorf("snapshot %d is no child of its predecessor %d", gen, s.rec.Pred)
		}
		for b, d := range s.lists {
			if gen > 0 && b > s.rec.Pred && !d.empty() || d.gen != gen || d.bgen != b {
				return fmt.Errorf("deadlist (%d, %d) of snapshot %d with predecessor %d", d.gen, d.bgen, gen, s.rec.Pred)
			}
		}
	}
	return nil
}

// census compares what the forest reaches with what the arenas say is in use. Nothing may have been
// freed since the disk was opened.
func (w *world) census() error {
	w.g.Enter()
	live, err := w.f.Census(w.g)
	w.g.Leave()
	if err != nil {
		return err
	}
	reached := make(map[blkfmt.Addr]bool)
	for a, err := range live.All() {
		if err != nil {
			return err
		}
		reached[a] = true
	}
	if len(reached) != live.Len() {
		return fmt.Errorf("census yields %d blocks and says it has %d", len(reached), live.Len())
	}
	as := w.st.Arenas()
	for i, s := range as.Stat() {
		used := make(map[blkfmt.Addr]bool)
		for a := s.Addr + blkfmt.ArenaOverhead; a < s.Addr+blkfmt.ArenaOverhead+blkfmt.Addr(s.Size)-blkfmt.ArenaUnused; a += blkfmt.BlkSize {
			used[a] = true
		}
		for a, n := range as.Ranges(i) {
			for end := a + blkfmt.Addr(n); a < end; a += blkfmt.BlkSize {
				delete(used, a)
			}
		}
		for _, a := range as.Log(i) {
			delete(used, a)
		}
		for a := range used {
			if !reached[a] {
				return fmt.Errorf("census: block %v is in use and nobody reaches it", a)
			}
			delete(reached, a)
		}
	}
	for a := range reached {
		return fmt.Errorf("census: block %v is reached and not in use", a)
	}
	return nil
}

// refused reports whether err is one that a user may cause.
func refused(err error) bool {
	for _, e := range []error{ErrNoLabel, ErrExists, ErrMounted, ErrReserved, ErrName, ErrNotMutable, ErrSame} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

var _ betree.Freer = (*Tree)(nil)
