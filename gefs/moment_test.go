package gefs_test

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gefs9p/blkstore"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
	"gefs9p/snap"
)

// beside runs the functions beside each other, again and again, for a moment. Each gets a Ctx of its
// own and the root. The first error ends it.
func beside(t *testing.T, fs *gefs.FS, fns ...func(c *ninep.Ctx, root ninep.File) error) {
	t.Helper()
	end := time.Now().Add(300 * time.Millisecond)
	var failed atomic.Bool
	var wg sync.WaitGroup
	for _, fn := range fns {
		wg.Go(func() {
			c, leave := fs.Background()
			root, err := gefstest.Attach(fs, c, gefstest.User, "")
			leave()
			for err == nil && !failed.Load() && time.Now().Before(end) {
				c, leave := fs.Background()
				err = fn(c, root)
				leave()
			}
			if err != nil {
				failed.Store(true)
				t.Error(err)
			}
			c, leave = fs.Background()
			if root != nil {
				root.Clunk(c)
			}
			leave()
		})
	}
	wg.Wait()
}

func openAt(c *ninep.Ctx, root ninep.File, name string, mode uint8) (ninep.File, error) {
	f, err := gefstest.Walk(c, root, name)
	if err != nil {
		return nil, err
	}
	if _, _, err = f.Open(c, mode); err != nil {
		f.Clunk(c)
		return nil, err
	}
	return f, nil
}

func createAt(c *ninep.Ctx, root ninep.File, name string, perm uint32, mode uint8) (ninep.File, error) {
	f, _, err := root.Walk(c, nil, nil)
	if err != nil {
		return nil, err
	}
	if _, _, err = f.Create(c, name, perm, mode); err != nil {
		f.Clunk(c)
		return nil, err
	}
	return f, nil
}

// TestReadSeesLengthAndBytesOfOneMoment truncates and writes a file while others read it: they find
// all that was written, or nothing; never zeros, which nobody wrote, nor a part.
func TestReadSeesLengthAndBytesOfOneMoment(t *testing.T) {
	fs := gefstest.Open(t, gefstest.Ream(t), gefs.Options{Cache: blkstore.MinCache})
	whole := bytes.Repeat([]byte("gefs"), 10000)
	write := func(c *ninep.Ctx, root ninep.File) error {
		f, err := openAt(c, root, "file", ninep.OWRITE|ninep.OTRUNC)
		if err != nil {
			return err
		}
		defer f.Clunk(c)
		_, err = f.Write(c, whole, 0)
		return err
	}
	read := func(c *ninep.Ctx, root ninep.File) error {
		f, err := openAt(c, root, "file", ninep.OREAD)
		if err != nil {
			return err
		}
		defer f.Clunk(c)
		buf := make([]byte, len(whole)+1)
		for range 20 {
			n, err := f.Read(c, buf, 0)
			if err != nil {
				return err
			}
			if n > 0 && !bytes.Equal(buf[:n], whole) {
				return fmt.Errorf("read %d bytes, beginning with %x; %d were written", n, buf[:4], len(whole))
			}
		}
		return nil
	}
	c, leave := fs.Background()
	root, err := gefstest.Attach(fs, c, gefstest.User, "")
	if err == nil {
		var f ninep.File
		if f, err = createAt(c, root, "file", 0644, ninep.OREAD); err == nil {
			f.Clunk(c)
		}
		root.Clunk(c)
	}
	leave()
	if err != nil {
		t.Fatal(err)
	}
	beside(t, fs, write, read, read, read)
}

// TestExclusiveFileIsItsHoldersAlone creates, opens and removes an exclusive file. Who has it open,
// be it from its creation, is alone, and it is there as long as he has it.
func TestExclusiveFileIsItsHoldersAlone(t *testing.T) {
	fs := gefstest.Open(t, gefstest.Ream(t), gefs.Options{Cache: blkstore.MinCache})
	var holders atomic.Int32
	hold := func() error {
		if n := holders.Add(1); n > 1 {
			return fmt.Errorf("%d have it open", n)
		}
		return nil
	}
	create := func(c *ninep.Ctx, root ninep.File) error {
		f, err := createAt(c, root, "excl", ninep.DMEXCL|0644, ninep.ORDWR)
		if err != nil {
			return nil
		}
		err = hold()
		holders.Add(-1)
		if rerr := f.Remove(c); err == nil && rerr != nil {
			err = fmt.Errorf("remove what only we have open: %w", rerr)
		}
		f.Clunk(c)
		return err
	}
	open := func(c *ninep.Ctx, root ninep.File) error {
		f, err := openAt(c, root, "excl", ninep.ORDWR)
		if err != nil {
			return nil
		}
		defer f.Clunk(c)
		err = hold()
		// As long as we have it, it is there.
		if _, werr := f.Write(c, []byte("x"), 0); err == nil && werr != nil {
			err = fmt.Errorf("write to what only we have open: %w", werr)
		}
		holders.Add(-1)
		return err
	}
	remove := func(c *ninep.Ctx, root ninep.File) error {
		f, err := gefstest.Walk(c, root, "excl")
		if err != nil {
			return nil
		}
		defer f.Clunk(c)
		f.Remove(c) // refused while somebody has it open
		return nil
	}
	leave := func(c *ninep.Ctx, root ninep.File) error {
		f, err := createAt(c, root, "excl", ninep.DMEXCL|0644, ninep.OREAD)
		if err != nil {
			return nil
		}
		f.Clunk(c)
		return nil
	}
	beside(t, fs, create, leave, open, open, remove, remove)
}

// TestWalkFindsAFileWhileItIsRenamed renames a file there and back. Whoever has walked to it can open
// it: it is never removed.
func TestWalkFindsAFileWhileItIsRenamed(t *testing.T) {
	fs := gefstest.Open(t, gefstest.Ream(t), gefs.Options{Cache: blkstore.MinCache})
	c, leave := fs.Background()
	root, err := gefstest.Attach(fs, c, gefstest.User, "")
	if err != nil {
		t.Fatal(err)
	}
	f, err := createAt(c, root, "a", 0644, ninep.OREAD)
	if err != nil {
		t.Fatal(err)
	}
	f.Clunk(c)
	root.Clunk(c)
	leave()
	rename := func(c *ninep.Ctx, root ninep.File) error {
		for _, names := range [][2]string{{"a", "b"}, {"b", "a"}} {
			f, err := gefstest.Walk(c, root, names[0])
			if err != nil {
				return fmt.Errorf("walk to %s, which only we rename: %w", names[0], err)
			}
			d := ninep.NullDir()
			d.Name = names[1]
			err = f.Wstat(c, &d)
			f.Clunk(c)
			if err != nil {
				return fmt.Errorf("rename %s: %w", names[0], err)
			}
		}
		return nil
	}
	var missed atomic.Int64
	open := func(name string) func(c *ninep.Ctx, root ninep.File) error {
		return func(c *ninep.Ctx, root ninep.File) error {
			f, err := gefstest.Walk(c, root, name)
			if errors.Is(err, ninep.ErrNotFound) {
				missed.Add(1)
				return nil
			}
			if err != nil {
				return err
			}
			defer f.Clunk(c)
			if _, _, err := f.Open(c, ninep.OREAD); err != nil {
				return fmt.Errorf("open %s after a walk to it: %w", name, err)
			}
			return nil
		}
	}
	beside(t, fs, rename, open("a"), open("b"), open("a"), open("b"), open("a"), open("b"), open("a"), open("b"), open("a"), open("b"))
	if missed.Load() == 0 {
		t.Error("nobody ever met a name that was not there")
	}
}

// TestRollbackIsOneMoment rolls a tree back while others read, write and remove a file in it, which is
// longer in one state than in the other. They find it whole, or not at all.
func TestRollbackIsOneMoment(t *testing.T) {
	dev := gefstest.Ream(t)
	fs := gefstest.Open(t, dev, gefs.Options{Cache: blkstore.MinCache})
	long, short := bytes.Repeat([]byte("long"), 10000), bytes.Repeat([]byte("shrt"), 100)
	c, leave := fs.Background()
	root, err := gefstest.Attach(fs, c, gefstest.User, "")
	if err != nil {
		t.Fatal(err)
	}
	f, err := createAt(c, root, "file", 0644, ninep.OWRITE)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(c, short, 0); err != nil {
		t.Fatal(err)
	}
	f.Clunk(c)
	if err := fs.Label(c, "main", "base", false); err != nil {
		t.Fatal(err)
	}
	leave()

	may := func(err error) error {
		for _, e := range []error{ninep.ErrNotFound, ninep.Error(ephase), ninep.Error(eexist)} {
			if errors.Is(err, e) {
				return nil
			}
		}
		return err
	}
	back := func(c *ninep.Ctx, root ninep.File) error {
		if err := fs.Rollback(c, "main", "base", "keep", true); err != nil {
			if errors.Is(err, snap.ErrSame) { // nobody has changed anything yet
				return nil
			}
			return err
		}
		return fs.DeleteLabel(c, "keep")
	}
	work := func(what int) func(c *ninep.Ctx, root ninep.File) error {
		return func(c *ninep.Ctx, root ninep.File) error {
			f, err := openAt(c, root, "file", ninep.ORDWR)
			if errors.Is(err, ninep.ErrNotFound) {
				f, err = createAt(c, root, "file", 0644, ninep.ORDWR)
			}
			if err != nil {
				return may(err)
			}
			defer f.Clunk(c)
			switch what {
			case 0:
				_, err = f.Write(c, long, 0)
			case 1:
				err = f.Remove(c)
			default:
				buf := make([]byte, len(long)+1)
				var n int
				n, err = f.Read(c, buf, 0)
				if buf = buf[:n]; n > 0 && buf[0] != 0 && !bytes.Equal(buf, long) && !bytes.Equal(buf, short) {
					return fmt.Errorf("read %d bytes that begin with %q", n, buf[:4])
				}
			}
			return may(err)
		}
	}
	beside(t, fs, back, work(0), work(0), work(1), work(2), work(2), work(2))
	c, leave = fs.Background()
	root.Clunk(c)
	leave()
	if err := fs.Close(); err != nil {
		t.Error(err)
	}
	gefstest.CheckStrict(t, dev)
}
