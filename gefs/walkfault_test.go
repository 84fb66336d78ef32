package gefs_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/blkdev"
	"gefs9p/blkstore"
	"gefs9p/client"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

// TestWalkTellsDamageFromAbsence walks over several names to an entry that cannot be read. A walk that ends
// early means to every client that the next name does not exist; nobody may be told that of a file that is
// there.
func TestWalkTellsDamageFromAbsence(t *testing.T) {
	disk := blkdev.NewMem(gefstest.SmallDisk)
	if err := gefs.Ream(disk, gefs.ReamOptions{User: gefstest.User}); err != nil {
		t.Fatal(err)
	}
	name := func(i int) string { return fmt.Sprintf("%03d-%s", i, strings.Repeat("n", 200)) }
	fs := gefstest.Open(t, disk, gefs.Options{})
	srv := gefstest.Serve(t, fs, 0)
	dir := must(t)(srv.Attach(gefstest.User, "").Walk())
	if err := dir.Create("dir", ninep.DMDIR|0775, ninep.OREAD); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		f := must(t)(srv.Attach(gefstest.User, "").Walk("dir"))
		if err := f.Create(name(i), 0664, ninep.OWRITE); err != nil {
			t.Fatal(err)
		}
		f.Clunk()
	}
	srv.Stop()
	if err := fs.Close(); err != nil {
		t.Fatal(err)
	}

	dev := blkdev.NewFault(disk)
	fs = gefstest.Open(t, dev, gefs.Options{Cache: blkstore.MinCache})
	srv = gefstest.Serve(t, fs, 0)
	root := srv.Attach(gefstest.User, "")
	must(t)(root.Walk("dir"))
	dev.Hook(func(op blkdev.Op, _, _ int64) error {
		if op == blkdev.OpRead {
			return errors.New("head crash")
		}
		return nil
	})
	failed, last := 0, ""
	for i := range 300 {
		f, err := root.Walk("dir", name(i))
		switch {
		case err == nil: // its leaf was read before
			f.Clunk()
		case !strings.Contains(err.Error(), "i/o error") || !strings.Contains(err.Error(), "/dir/"+name(i)[:4]):
			t.Fatalf("walk to dir/%s...: %v", name(i)[:4], err)
		default:
			failed++
			last = name(i)
		}
	}
	if failed == 0 {
		t.Error("every entry was in the cache: nothing was tested")
	}
	// In whatever dialect, behind whatever names, and the fid that was to go there stays where it was.
	p := ninetest.NewPeer(t, srv.Pipe())
	p.Version(8192)
	p.Attach(0, gefstest.User)
	p.Walk(0, 1, "dir")
	for _, names := range [][]string{{last}, {"..", "dir", last}, {last, "below"}, {"..", "dir", "..", "dir", last, "..", "x"}} {
		if f := p.RPC(&proto.TWalk{Fid: 1, Newfid: 1, Nwname: uint16(len(names)), Wname: names}); f.Type != ninep.Rerror || !strings.Contains(f.Rerror.Ename, "i/o error") {
			t.Errorf("walk over %d names: %s", len(names), ninep.Format(f.Msg()))
		}
		if f := p.RPC(&proto.TStat{Fid: 1}); f.Type != ninep.Rstat || f.Rstat.Stat.Name != "dir" {
			t.Errorf("then the fid is %s", ninep.Format(f.Msg()))
		}
	}
	l := ninetest.NewLinux(t, srv.Pipe(), 8192)
	lroot, err := l.Attach(gefstest.User, "", ninep.NOUID)
	if err != nil {
		t.Fatal(err)
	}
	for _, names := range [][]string{{"dir", last}, {"dir", "..", "dir", last}} {
		if _, err := l.Walk(lroot, names...); err != ninep.EIO {
			t.Errorf("walk over %d names in 9P2000.L: %v, want EIO", len(names), err)
		}
	}
	// What is not there is not there, once the disk can be read.
	dev.Hook(nil)
	if _, err := root.Walk("dir", "missing"); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("walk to what is not there: %v", err)
	}
	must(t)(root.Walk("dir", name(299)))
}

// must returns a function that returns a fid, or ends the test.
func must(t *testing.T) func(*client.Fid, error) *client.Fid {
	return func(f *client.Fid, err error) *client.Fid {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
}
