package gefs_test

import (
	"bytes"
	"errors"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/check"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/logfmt"
)

// TestReamMakesTheReferencesDisk compares a new disk with the one that the reference made for the same
// user. Superblocks and arena headers are the same in every field, and the rest of the disk byte for
// byte, but for the allocation logs: ours end in the barrier of generation 0, which the reference does
// not write, and have an empty tail behind it. Before the barrier both say that the same blocks are free.
func TestReamMakesTheReferencesDisk(t *testing.T) {
	quick(t)
	ref, our := gefstest.Golden(t, "fresh"), gefstest.Ream(t)
	rsuper, osuper := super(t, ref, 0), super(t, our, 0)
	skip := make(map[blkfmt.Addr]bool) // blocks compared by what they say
	for i, ra := range rsuper.Arenas {
		oa := osuper.Arenas[i]
		rh, oh := arenaHdr(t, ref, ra), arenaHdr(t, our, oa)
		rlog, olog := readLog(t, ref, rh.Log.Addr), readLog(t, our, oh.Log.Addr)
		if !maps.Equal(rlog.free, olog.free) {
			t.Errorf("arena %d: %d blocks are free, %d in the reference's, or others", i, len(olog.free), len(rlog.free))
		}
		if rlog.barrier || !olog.barrier {
			t.Errorf("arena %d: barrier %v, in the reference's %v", i, olog.barrier, rlog.barrier)
		}
		if len(rlog.blocks) != 1 || len(olog.blocks) != 2 || rlog.blocks[0] != olog.blocks[0] {
			t.Errorf("arena %d: the log is in %v, the reference's in %v", i, olog.blocks, rlog.blocks)
		}
		for _, a := range append(rlog.blocks, olog.blocks...) {
			skip[a] = true
		}
		skip[ra.Addr], skip[ra.Addr+blkfmt.BlkSize] = true, true
		// The hash of the log is of one that differs, and so is that of the header.
		rh.Log.Hash, oh.Log.Hash = 0, 0
		rsuper.Arenas[i].Hash, osuper.Arenas[i].Hash = 0, 0
		if diff := cmp.Diff(rh, oh); diff != "" {
			t.Errorf("arena %d: header: %s", i, diff)
		}
	}
	if diff := cmp.Diff(rsuper, osuper); diff != "" {
		t.Errorf("superblock: %s", diff)
	}
	backup := blkfmt.BackupAddr(gefstest.SmallDisk)
	for _, disk := range []*blkdev.Mem{ref, our} {
		if !bytes.Equal(block(t, disk, 0), block(t, disk, backup)) {
			t.Errorf("the superblocks of a disk differ")
		}
	}
	skip[0], skip[backup] = true, true
	same := 0
	for a := blkfmt.Addr(0); a < gefstest.SmallDisk; a += blkfmt.BlkSize {
		if skip[a] {
			continue
		}
		r, o := block(t, ref, a), block(t, our, a)
		if !bytes.Equal(r, o) {
			t.Errorf("block %v differs:\n%x\nthe reference has\n%x", a, bytes.Trim(o, "\x00"), bytes.Trim(r, "\x00"))
		}
		if len(bytes.Trim(r, "\x00")) > 0 {
			same++
		}
	}
	if same != 4 { // three leaves and the users file
		t.Errorf("%d blocks compared that are not zeros", same)
	}
	gefstest.CheckStrict(t, our)
}

func block(t *testing.T, dev blkdev.Device, a blkfmt.Addr) []byte {
	t.Helper()
	p := make([]byte, blkfmt.BlkSize)
	if _, err := dev.ReadAt(p, int64(a)); err != nil {
		t.Fatal(err)
	}
	return p
}

func super(t *testing.T, dev blkdev.Device, a blkfmt.Addr) *blkfmt.Super {
	t.Helper()
	s, err := blkfmt.DecodeSuper(block(t, dev, a), nil, a)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// arenaHdr reads the header that ref names, whose copy must be the same.
func arenaHdr(t *testing.T, dev blkdev.Device, ref blkfmt.ArenaRef) *blkfmt.ArenaHdr {
	t.Helper()
	p := block(t, dev, ref.Addr)
	if got := (blkfmt.Metro{}).Sum(p); got != ref.Hash {
		t.Errorf("header %v has the hash %x, the superblock says %x", ref.Addr, got, ref.Hash)
	}
	if !bytes.Equal(p, block(t, dev, ref.Addr+blkfmt.BlkSize)) {
		t.Errorf("header %v and its copy differ", ref.Addr)
	}
	h, err := blkfmt.DecodeArenaHdr(p, ref.Addr)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// A replayed log is what it says up to its barrier, or its end.
type replayed struct {
	blocks  []blkfmt.Addr // of the log, all of them
	free    map[blkfmt.Addr]bool
	barrier bool
}

func readLog(t *testing.T, dev blkdev.Device, at blkfmt.Addr) replayed {
	t.Helper()
	r := replayed{free: make(map[blkfmt.Addr]bool)}
	for at != blkfmt.NoAddr {
		r.blocks = append(r.blocks, at)
		p := block(t, dev, at)
		h, err := blkfmt.DecodeLogHdr(p, blkfmt.Log, blkfmt.Metro{}, at)
		if err != nil {
			t.Fatal(err)
		}
		for p = p[blkfmt.LogHdSize:][:h.Size]; len(p) > 0; {
			e, n, err := logfmt.Next(p)
			if err != nil {
				t.Fatal(err)
			}
			p = p[n:]
			if e.Op == logfmt.Sync {
				r.barrier = true
			}
			if r.barrier {
				continue
			}
			for a := e.Addr; a < e.Addr+blkfmt.Addr(e.Len); a += blkfmt.BlkSize {
				switch e.Op {
				case logfmt.Free, logfmt.Free1:
					r.free[a] = true
				default:
					if !r.free[a] {
						t.Errorf("block %v is taken and not free", a)
					}
					delete(r.free, a)
				}
			}
		}
		at = h.Chain.Addr
	}
	return r
}

// TestReamIsTheSameTwice makes the same disk on one that is full of other bytes.
func TestReamIsTheSameTwice(t *testing.T) {
	quick(t)
	fresh := gefstest.Ream(t)
	used := gefstest.Golden(t, "tree")
	if err := gefs.Ream(used, gefs.ReamOptions{User: gefstest.User}); err != nil {
		t.Fatal(err)
	}
	for a := blkfmt.Addr(0); a < gefstest.SmallDisk; a += blkfmt.BlkSize {
		p := block(t, fresh, a)
		if len(bytes.Trim(p, "\x00")) > 0 && !bytes.Equal(p, block(t, used, a)) {
			t.Errorf("block %v differs", a)
		}
	}
	gefstest.CheckStrict(t, used)
}

// TestKeyedDisks opens disks that are hashed with a secret key, and is refused without it, with
// another, or with one that the disk does not need.
func TestKeyedDisks(t *testing.T) {
	key, other := &[blkfmt.KeySize]byte{1, 2, 3}, &[blkfmt.KeySize]byte{1, 2, 4}
	for _, tt := range []struct {
		name      string
		sip       bool
		make, use *[blkfmt.KeySize]byte
		want      error // nil: it opens
		corrupt   bool
	}{
		{name: "key inside", sip: true},
		{name: "key file", sip: true, make: key, use: key},
		{name: "key file missing", sip: true, make: key, want: blkfmt.ErrNoKey},
		{name: "wrong key file", sip: true, make: key, use: other, corrupt: true},
		{name: "key file for a key inside", sip: true, use: key, want: blkfmt.ErrForeignKey},
		{name: "key file for no key", use: key, want: blkfmt.ErrForeignKey},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dev := blkdev.NewMem(gefstest.SmallDisk)
			if err := gefs.Ream(dev, gefs.ReamOptions{User: gefstest.User, Sip: tt.sip, Key: tt.make}); err != nil {
				t.Fatal(err)
			}
			before := dev.Clone()
			fs, err := gefs.Open(dev, gefs.Options{Key: tt.use})
			var corrupt *blkfmt.CorruptError
			switch {
			case tt.want != nil || tt.corrupt:
				if err == nil {
					fs.Close()
				}
				if tt.want != nil && !errors.Is(err, tt.want) || tt.corrupt && !errors.As(err, &corrupt) {
					t.Errorf("open says %v", err)
				}
				if same, off := dev.Equal(before); !same {
					t.Errorf("a disk that was refused has changed at %#x", off)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			if err := fs.Close(); err != nil {
				t.Fatal(err)
			}
			if v := string(block(t, dev, 0)[:8]); v != blkfmt.VersionSip {
				t.Errorf("version %q", v)
			}
			// It is a disk as any other.
			opt := gefs.Options{Key: tt.use}
			fs = gefstest.Open(t, dev, opt)
			srv := gefstest.Serve(t, fs, 0)
			scribble(t, srv.Attach(gefstest.User, "%main"), "main")
			want := gefstest.Tree(t, srv.Attach(gefstest.User, "%main"))
			srv.Stop()
			if err := fs.Close(); err != nil {
				t.Fatal(err)
			}
			size, _ := dev.Size()
			rep, err := check.Run(t.Context(), dev, size, check.Options{Key: tt.use})
			if err != nil {
				t.Fatal(err)
			}
			if !rep.Clean(true) {
				t.Errorf("check: %s", gefstest.Text(rep))
			}
			fs = gefstest.Open(t, dev, opt)
			got := gefstest.Tree(t, gefstest.Serve(t, fs, 0).Attach(gefstest.User, "%main"))
			gefstest.SameTree(t, "main", got, want)
		})
	}
}
