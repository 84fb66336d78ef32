package gefs_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/check"
	"gefs9p/client"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
	"gefs9p/snap"
)

// A parLabel is a snapshot of which we know what the hands had in their directories.
type parLabel struct {
	name   string
	models []*gefstest.Model
}

// verify compares the directories of some hands with the snapshot. n is how many.
func (l *parLabel) verify(r *parRig, rng *rand.Rand, n int, when string) {
	c, root := r.attach(rng.IntN(2), gefstest.User, "%"+l.name)
	defer c.Close()
	defer root.Clunk()
	for _, i := range rng.Perm(len(r.hands))[:n] {
		r.steps.Add(1)
		f := r.walk(root, "alone", r.hands[i].name)
		if err := l.models[i].Compare(f); err != nil {
			r.t.Errorf("%s: label %s: /alone/%s: %v", when, l.name, r.hands[i].name, err)
			r.cancel()
		}
		f.Clunk()
	}
}

// labels takes labels and forks of the tree while everybody works, verifies and deletes them, and has
// clients connect anew.
func (r *parRig) labels() {
	rng := r.rand(1)
	var have []*parLabel
	for n := 0; r.step("label"); n++ {
		time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
		name := fmt.Sprintf("label%d", n)
		switch op := rng.IntN(10); {
		case op < 3 && len(have) < 5:
			have = append(have, r.quietLabel(name))
		case op < 5 && len(have) > 0:
			have[rng.IntN(len(have))].verify(r, rng, 3, "meanwhile")
		case op < 6 && len(have) > 3:
			i := rng.IntN(len(have))
			r.unlabel(have[i].name)
			have = append(have[:i:i], have[i+1:]...)
		case op < 8:
			r.busyLabel(name)
		case op < 9:
			r.fork(name, rng)
		default:
			r.reconnect(r.clients[rng.IntN(len(r.clients))])
		}
		if n%25 == 10 {
			r.examine()
		}
	}
	r.kept = have
}

// examine checks the disk while it is in use: what is committed is sound, and nothing is lost.
func (r *parRig) examine() {
	err := r.fs.Examine(r.ctx, func(ctx context.Context, dev io.ReaderAt, size int64) error {
		rep, err := check.Run(ctx, dev, size, check.Options{})
		if err == nil && !rep.Clean(true) {
			err = errors.New(gefstest.Text(rep))
		}
		return err
	})
	if r.ctx.Err() == nil {
		r.must(err, "check of the disk in use")
	}
}

// administer runs a command as the console does.
func (r *parRig) administer(run func(c *ninep.Ctx) error) error {
	c, end := r.fs.Background()
	defer end()
	return run(c)
}

// quietLabel takes a label when nobody is in the middle of anything.
func (r *parRig) quietLabel(name string) *parLabel {
	r.quiet.Lock()
	defer r.quiet.Unlock()
	l := &parLabel{name: name}
	for _, h := range r.hands {
		l.models = append(l.models, h.model.Clone())
	}
	r.must(r.administer(func(c *ninep.Ctx) error { return r.fs.Label(c, snap.Main, name, false) }), "label %s", name)
	return l
}

// unlabel deletes a label that was mounted a moment ago by a connection that is over.
func (r *parRig) unlabel(name string) {
	r.soon("delete label "+name, func() error {
		return r.administer(func(c *ninep.Ctx) error { return r.fs.DeleteLabel(c, name) })
	})
}

// soon wants f to succeed in the end.
func (r *parRig) soon(what string, f func() error) {
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Since(began) > parStall/2 {
			r.must(err, "%s, for %v", what, parStall/2)
		}
	}
}

// busyLabel takes a label while everybody works: it is one moment's, and does not change.
func (r *parRig) busyLabel(name string) {
	r.must(r.administer(func(c *ninep.Ctx) error { return r.fs.Label(c, snap.Main, name, false) }), "label %s", name)
	c, root := r.attach(0, gefstest.User, "%"+name)
	var first map[string]uint64
	for range 2 {
		r.steps.Add(1)
		vals := make(map[string]uint64)
		for i, size := range stampSizes {
			for _, kind := range []string{"reg", "cut"} {
				file := fmt.Sprintf("%s%d", kind, i)
				f := r.walk(root, "shared", file)
				r.must(f.Open(ninep.OREAD), "open %s", file)
				buf := make([]byte, size+1)
				n, _ := f.ReadFull(buf, 0)
				f.Clunk()
				if n == 0 && kind == "cut" {
					continue
				}
				v, err := unstamp(buf[:n], size)
				r.must(err, "label %s: %s", name, file)
				vals[file] = v
			}
		}
		if first == nil {
			first = vals
		} else if fmt.Sprint(first) != fmt.Sprint(vals) {
			r.fatalf("label %s has changed: %v, then %v", name, first, vals)
		}
	}
	err := r.administer(func(c *ninep.Ctx) error { return r.fs.DeleteLabel(c, name) })
	if !errors.Is(err, snap.ErrMounted) {
		r.fatalf("delete label %s, which is mounted: %v", name, err)
	}
	c.Close()
	r.unlabel(name)
}

// fork writes to a fork of the tree, which changes nothing in the tree itself.
func (r *parRig) fork(name string, rng *rand.Rand) {
	r.must(r.administer(func(c *ninep.Ctx) error { return r.fs.Label(c, snap.Main, name, true) }), "fork %s", name)
	c, root := r.attach(1, gefstest.User, "%"+name)
	for i := range 5 {
		r.steps.Add(1)
		dir := r.walk(root, "shared")
		file := fmt.Sprintf("forked%d", i)
		r.must(dir.Create(file, 0644, ninep.ORDWR), "create %s", file)
		p := stamp(uint64(i), 1+rng.IntN(300000))
		_, err := dir.WriteAt(p, 0)
		r.must(err, "write %s", file)
		got := make([]byte, len(p))
		_, err = dir.ReadFull(got, 0)
		r.must(err, "read %s", file)
		if !bytes.Equal(got, p) {
			r.fatalf("fork %s: %s reads otherwise than it was written", name, file)
		}
		if i < len(stampSizes) { // in the tree itself it stays
			r.must(r.walk(root, "shared", fmt.Sprintf("reg%d", i)).Remove(), "remove in the fork")
		}
		dir.Clunk()
	}
	c.Close()
	r.unlabel(name)
}

// reconnect cuts a client's connection while it waits for nothing.
func (r *parRig) reconnect(c *parClient) {
	r.quiet.Lock()
	defer r.quiet.Unlock()
	c.conn.Close()
	c.conn = r.connect(c.n)
	c.gen++
}

// reloadUsers rewrites the users file, at one stroke, and has it read again, also beside each other.
func (r *parRig) reloadUsers() {
	rng := r.rand(2)
	adm, root := r.attach(0, gefstest.User, "%adm")
	defer adm.Close()
	f := r.walk(root, "users")
	r.must(f.Open(ninep.OWRITE), "open users")
	for n := 1; r.step("users"); n++ {
		time.Sleep(time.Duration(rng.IntN(40)) * time.Millisecond)
		text := parUsers() + fmt.Sprintf("99:x%08d::\n# %s\n", n, strings.Repeat("x", 20000))
		var wg sync.WaitGroup
		wg.Go(func() { r.reload(n-1, n) })
		_, err := f.WriteAt([]byte(text), 0)
		wg.Wait()
		r.must(err, "write users")
		r.reload(n, n)
	}
}

// reload reads the users file, of which it must find a version from lo to hi.
func (r *parRig) reload(lo, hi int) {
	r.must(r.fs.ReloadUsers(), "reload users")
	name, _ := r.fs.Users().Name(99)
	for n := lo; n <= hi; n++ {
		if name == fmt.Sprintf("x%08d", n) || n == 0 && name == "" {
			return
		}
	}
	r.fatalf("the users file has user 99 as %q, want version %d or %d", name, lo, hi)
}

// A flight is one write that may be flushed.
type flight struct {
	call *client.Call
	at   int
	data []byte
	err  error
}

// flushes sends requests and asks to forget some of them. What was flushed without an answer has not
// been done; what was answered has.
func (r *parRig) flushes() {
	rng := r.rand(3)
	c, root := r.attach(0, "c0", "")
	defer c.Close()
	dir := r.walk(root, "alone", "flush")
	for n := 0; r.step("flush"); n++ {
		f := r.walk(dir)
		name := fmt.Sprintf("f%d", n)
		r.must(f.Create(name, 0644, ninep.ORDWR|ninep.ORCLOSE), "create %s", name)
		want := make([]byte, 200000)
		for i := range want {
			want[i] = byte(i >> 3)
		}
		_, err := f.WriteAt(want, 0)
		r.must(err, "write %s", name)
		var list []*flight
		var others []*client.Call
		for i := range 8 {
			w := &flight{at: i*25000 + rng.IntN(10000), data: bytes.Repeat([]byte{byte(rng.Uint32())}, 1+rng.IntN(15000))}
			var err error
			w.call, err = c.Start(&proto.TWrite{Fid: f.Num(), Offset: uint64(w.at), Data: w.data})
			r.must(err, "write %s", name)
			list = append(list, w)
			if rng.IntN(2) == 0 {
				k, err := c.Start(&proto.TWstat{Fid: f.Num(), Stat: proto.Stat(ninep.NullDir())})
				r.must(err, "fsync")
				others = append(others, k)
			}
			if rng.IntN(2) == 0 {
				k, err := c.Start(&proto.TRead{Fid: f.Num(), Count: 100000})
				r.must(err, "read")
				others = append(others, k)
			}
		}
		var wg sync.WaitGroup
		flush := func(k *client.Call) {
			if rng.IntN(2) == 0 {
				wait := time.Duration(rng.IntN(3000)) * time.Microsecond
				wg.Go(func() {
					time.Sleep(wait)
					if err := k.Flush(); err != nil {
						r.t.Errorf("flush: %v", err)
					}
				})
			}
		}
		for _, w := range list {
			flush(w.call)
		}
		for _, k := range others {
			flush(k)
		}
		var reply ninep.Fcall
		for _, w := range list {
			if w.err = w.call.Wait(&reply); w.err != nil && w.err != client.ErrFlushed {
				r.must(w.err, "write %s", name)
			}
			if w.err == nil {
				copy(want[w.at:], w.data)
			}
		}
		for _, k := range others {
			if err := k.Wait(&reply); err != nil && err != client.ErrFlushed {
				r.must(err, "read or sync %s", name)
			}
		}
		wg.Wait()
		got := make([]byte, len(want)+1)
		m, _ := f.ReadFull(got, 0)
		if !bytes.Equal(got[:m], want) {
			r.fatalf("%s: after some writes were flushed it has %d bytes that are not what was answered", name, m)
		}
		r.must(f.Clunk(), "clunk")
		if f, err := dir.Walk(name); err == nil {
			r.fatalf("%s: there after the clunk of %v", name, f.Qid())
		}
	}
}

// cuts loses connections in the middle of things. All fids are clunked then, and what was
// acknowledged is there.
func (r *parRig) cuts() {
	rng := r.rand(4)
	for n := 0; r.step("cut"); n++ {
		nc := r.dial(n)
		c, err := client.New(r.ctx, nc, 1<<20)
		r.must(err, "connect")
		root, err := c.Attach("c1", "")
		r.must(err, "attach")
		dir := r.walk(root, "alone", "cut")

		orclose := r.walk(dir)
		r.must(orclose.Create("orclose", 0600, ninep.ORDWR|ninep.ORCLOSE), "create orclose")
		_, err = orclose.WriteAt(stamp(1, 50000), 0)
		r.must(err, "write orclose")
		excl := r.walk(dir)
		r.must(excl.Create("excl", ninep.DMEXCL|0600, ninep.ORDWR), "create excl")
		label := fmt.Sprintf("cut%d", n)
		r.must(r.administer(func(c *ninep.Ctx) error { return r.fs.Label(c, snap.Main, label, rng.IntN(2) == 0) }), "label %s", label)
		_, err = c.Attach("c1", label)
		r.must(err, "attach to %s", label)

		// Each write is of one piece, whole or not there.
		var calls []*client.Call
		const piece = 20000
		for i := range 1 + rng.IntN(10) {
			k, err := c.Start(&proto.TWrite{Fid: excl.Num(), Offset: uint64(i * piece), Data: stamp(uint64(i+1), piece)})
			r.must(err, "write excl")
			calls = append(calls, k)
			if rng.IntN(3) == 0 {
				k, err := c.Start(&proto.TRead{Fid: orclose.Num(), Count: 50000})
				r.must(err, "read orclose")
				defer func() { <-k.Done() }()
			}
			if rng.IntN(3) == 0 {
				_, err := c.Start(&proto.TWstat{Fid: excl.Num(), Stat: proto.Stat(ninep.NullDir())})
				r.must(err, "fsync")
			}
		}
		time.Sleep(time.Duration(rng.IntN(3000)) * time.Microsecond)
		r.hangUp(nc, rng)
		c.Close()
		acked := make([]bool, len(calls))
		for i, k := range calls {
			var reply ninep.Fcall
			acked[i] = k.Wait(&reply) == nil
		}

		c, root = r.attach(n+1, "c1", "")
		dir = r.walk(root, "alone", "cut")
		r.soon("walk to orclose, which should be removed", func() error {
			f, err := dir.Walk("orclose")
			if err == nil {
				f.Clunk()
				return errors.New("it is there")
			}
			return nil
		})
		f := r.walk(dir, "excl")
		r.soon("open excl", func() error { return f.Open(ninep.ORDWR) })
		for i := range calls {
			buf := make([]byte, piece)
			m, _ := f.ReadFull(buf, int64(i*piece))
			v := uint64(0)
			if m >= 8 {
				v = binary.BigEndian.Uint64(buf)
			}
			switch {
			case acked[i] && v != uint64(i+1):
				r.fatalf("cut %d: piece %d was acknowledged and reads as %x", n, i, v)
			case m > 0 && (v != 0 && v != uint64(i+1) || m < piece):
				r.fatalf("cut %d: piece %d reads as %x, %d bytes", n, i, v, m)
			case m > 0 && !bytes.Equal(buf, stamp(v, piece)):
				r.fatalf("cut %d: piece %d is torn", n, i)
			}
		}
		r.must(f.Remove(), "remove excl")
		c.Close()
		r.unlabel(label)
	}
}

// hangUp closes a connection: in order, in the middle of a frame, or with a reset.
func (r *parRig) hangUp(nc net.Conn, rng *rand.Rand) {
	switch rng.IntN(3) {
	case 0:
		nc.Write([]byte{40, 0, 0, 0, ninep.Twalk, 9}) // an error is as good
	case 1:
		if tcp, ok := nc.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
	}
	nc.Close()
}

// rude sends what no client should: requests on a few fids, none of which waits for the one before, so
// that fids are opened while they are created, and clunked while they are read. Every request is
// answered, and nobody else notices.
func (r *parRig) rude() {
	rng := r.rand(5)
	var c *client.Conn
	done := 0
	const first, fids = 1 << 20, 5
	for n := 0; r.step("rude"); n++ {
		if c == nil {
			c = r.connect(n)
		}
		fid := func() uint32 { return first + uint32(rng.IntN(fids)) }
		name := func() string { return fmt.Sprintf("r%d", rng.IntN(4)) }
		var calls []*client.Call
		for range 60 {
			var m proto.FCall
			switch rng.IntN(14) {
			case 0:
				m = &proto.TAttach{Fid: fid(), Afid: ninep.NOFID, Uname: "c2"}
			case 1, 2:
				m = &proto.TWalk{Fid: fid(), Newfid: fid(), Wname: []string{"rude", "box"}}
			case 3:
				m = &proto.TWalk{Fid: fid(), Newfid: fid(), Wname: [][]string{nil, {name()}, {".."}, {name(), ".."}}[rng.IntN(4)]}
			case 4, 5:
				mode := []uint8{ninep.OREAD, ninep.OWRITE, ninep.ORDWR, ninep.ORDWR | ninep.OTRUNC, ninep.ORDWR | ninep.ORCLOSE}[rng.IntN(5)]
				m = &proto.TOpen{Fid: fid(), Mode: proto.Mode(mode)}
			case 6, 7:
				perm := []uint32{0644, ninep.DMEXCL | 0644, ninep.DMDIR | 0755, ninep.DMAPPEND | 0644}[rng.IntN(4)]
				mode := uint8(ninep.ORDWR)
				if perm&ninep.DMDIR != 0 {
					mode = ninep.OREAD
				}
				m = &proto.TCreate{Fid: fid(), Name: name(), Perm: perm, Mode: mode}
			case 8:
				m = &proto.TRead{Fid: fid(), Count: uint32(rng.IntN(100000))}
			case 9, 10:
				m = &proto.TWrite{Fid: fid(), Offset: uint64(rng.IntN(50000)), Data: stamp(7, rng.IntN(40000))}
			case 11:
				m = &proto.TStat{Fid: fid()}
			case 12:
				d := ninep.NullDir()
				switch rng.IntN(4) {
				case 0:
					d.Name = name()
				case 1:
					d.Length = uint64(rng.IntN(2000000))
				case 2:
					d.Mode = 0600
				}
				m = &proto.TWstat{Fid: fid(), Stat: proto.Stat(d)}
			default:
				if rng.IntN(2) == 0 {
					m = &proto.TRemove{Fid: fid()}
				} else {
					m = &proto.TClunk{Fid: fid()}
				}
			}
			k, err := c.Start(m)
			r.must(err, "rude request")
			calls = append(calls, k)
			if rng.IntN(20) == 0 {
				go k.Flush() // ends with the connection at the latest
			}
		}
		if rng.IntN(8) == 0 {
			c.Close()
			c = nil
			continue
		}
		var reply ninep.Fcall
		for _, k := range calls {
			err := k.Wait(&reply)
			if err != nil && err != client.ErrFlushed && !errors.As(err, new(client.Error)) {
				r.must(err, "answer to a rude request")
			}
			if err == nil {
				done++
			}
		}
	}
	if c != nil {
		c.Close()
	}
	r.t.Logf("%d rude requests were granted", done)
	// What it made is nobody's.
	admin, root := r.attach(0, gefstest.User, "%main")
	defer admin.Close()
	r.soon("empty rude", func() error { return empty(r.walk(root, "rude", "box")) })
}

// empty removes all that is in a directory.
func empty(dir *client.Fid) error {
	defer dir.Clunk()
	list, err := dir.Walk()
	if err != nil {
		return err
	}
	defer list.Clunk()
	if err := list.Open(ninep.OREAD); err != nil {
		return err
	}
	dirs, err := list.ReadDir()
	if err != nil {
		return err
	}
	for i := range dirs {
		f, err := dir.Walk(dirs[i].Name)
		if err != nil {
			continue // of a fid that was just clunked, with ORCLOSE
		}
		if f.IsDir() {
			if sub, err := f.Walk(); err == nil {
				if err := empty(sub); err != nil {
					return err
				}
			}
		}
		if err := f.Remove(); err != nil {
			return err
		}
	}
	return nil
}

// rolls rolls a fork of the tree back, again and again, while others read and write in it. They find
// files as they were written, in one state or the other.
func (r *parRig) rolls() {
	rng := r.rand(6)
	r.must(r.administer(func(c *ninep.Ctx) error { return r.fs.Label(c, snap.Main, "side", true) }), "fork side")
	c, root := r.attach(0, gefstest.User, "%side")
	r.create(root, "roll", ninep.DMDIR|0777)
	dir := r.walk(root, "roll")
	for i, size := range stampSizes {
		f := r.walk(dir)
		r.must(f.Create(fmt.Sprintf("f%d", i), 0666, ninep.OWRITE), "create")
		_, err := f.WriteAt(stamp(uint64(100+i), size), 0)
		r.must(err, "write")
		r.must(f.Clunk(), "clunk")
	}
	r.must(r.administer(func(c *ninep.Ctx) error { return r.fs.Label(c, "side", "side0", false) }), "label side0")
	back := func(keep string) {
		err := r.administer(func(c *ninep.Ctx) error { return r.fs.Rollback(c, "side", "side0", keep, true) })
		if errors.Is(err, snap.ErrSame) { // nothing was changed meanwhile
			return
		}
		r.must(err, "rollback")
		r.must(r.administer(func(c *ninep.Ctx) error { return r.fs.DeleteLabel(c, keep) }), "delete %s", keep)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for n := 0; r.step("roll"); n++ {
		for worker := range 3 {
			rng := r.rand(uint64(3000 + 10*n + worker))
			wg.Go(func() { r.rolled(dir, rng) })
		}
		for i := range 3 {
			time.Sleep(time.Duration(rng.IntN(5000)) * time.Microsecond)
			back(fmt.Sprintf("keep%d", i))
		}
		wg.Wait()
		old, err := dir.Walk("f0")
		if err == nil {
			r.must(old.Open(ninep.OREAD), "open f0")
		}
		back("keep")
		for i, size := range stampSizes {
			f := r.walk(dir, fmt.Sprintf("f%d", i))
			r.must(f.Open(ninep.OREAD), "open f%d", i)
			if v := r.stampOf(f, size); v != uint64(100+i) {
				r.fatalf("after a rollback f%d is %x", i, v)
			}
			if i == 0 && old != nil && f.Qid().Uid == old.Qid().Uid {
				if v := r.stampOf(old, size); v != 100 {
					r.fatalf("after a rollback f0 is %x for a fid that was open before", v)
				}
			}
			f.Clunk()
		}
		if old != nil {
			old.Clunk()
		}
	}
	c.Close()
	r.unlabel("side")
	r.unlabel("side0")
}

// stampOf reads a whole file in one message: it is a stamp, or empty, which is 0.
func (r *parRig) stampOf(f *client.Fid, size int) uint64 {
	buf := make([]byte, size+1)
	n, err := f.ReadAt(buf, 0)
	if n == 0 {
		return 0
	}
	if err != nil && err != io.EOF {
		r.must(err, "read")
	}
	v, err := unstamp(buf[:n], size)
	r.must(err, "read")
	return v
}

// rolled works in a directory that is rolled back all the time. Files may be gone at any time.
func (r *parRig) rolled(dir *client.Fid, rng *rand.Rand) {
	tolerable := func(err error) bool {
		for _, text := range []string{string(ninep.ErrNotFound), txtGone, txtExists} {
			if err != nil && strings.Contains(err.Error(), text) {
				return true
			}
		}
		r.must(err, "beside a rollback")
		return false
	}
	for range 10 {
		r.steps.Add(1)
		i := rng.IntN(len(stampSizes))
		name, size := fmt.Sprintf("f%d", i), stampSizes[i]
		f, err := dir.Walk(name)
		if tolerable(err) {
			if f = r.walk(dir); tolerable(f.Create(name, 0666, ninep.ORDWR)) {
				f.Clunk()
				continue
			}
		} else if rng.IntN(4) == 0 {
			tolerable(f.Remove())
			continue
		} else if tolerable(f.Open(ninep.ORDWR | uint8(rng.IntN(2)*ninep.OTRUNC))) {
			f.Clunk()
			continue
		}
		if rng.IntN(2) == 0 {
			_, err := f.WriteAt(stamp(rng.Uint64(), size), 0)
			tolerable(err)
		}
		r.stampOf(f, size)
		d, err := f.Stat()
		r.must(err, "stat")
		if d.Length != 0 && d.Length != uint64(size) {
			r.fatalf("%s is %d bytes long", name, d.Length)
		}
		r.must(f.Clunk(), "clunk")
	}
}
