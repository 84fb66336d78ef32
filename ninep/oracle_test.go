package ninep_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"9fans.net/go/plan9"
	"9fans.net/go/plan9/client"

	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

// Plan 9's own Go client does what a user would do, from several goroutines at once.
func TestPlan9ClientWorks(t *testing.T) {
	for _, blocks := range []bool{false, true} {
		t.Run(fmt.Sprintf("blocking %v", blocks), func(t *testing.T) {
			r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
				if blocks {
					fs.Hook = func(c *ninep.Ctx, op, name string) error { c.Block(); return nil }
				}
			})
			nc, err := net.Dial("tcp", r.addr.String())
			if err != nil {
				t.Fatal(err)
			}
			conn, err := client.NewConn(nc)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Auth("glenda", ""); err == nil || err.Error() != string(ninep.ErrNoAuth) {
				t.Errorf("auth: %v", err)
			}
			fs, err := conn.Attach(nil, "glenda", "main")
			if err != nil {
				t.Fatal(err)
			}
			defer fs.Close()
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					if err := useFsys(fs, fmt.Sprintf("user%d", i)); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		})
	}
}

// useFsys works in a directory of its own.
func useFsys(fs *client.Fsys, dir string) error {
	d, err := fs.Create(dir, plan9.OREAD, plan9.DMDIR|0755)
	if err != nil {
		return fmt.Errorf("mkdir: %w", err)
	}
	d.Close()
	data := bytes.Repeat([]byte(dir), 10000) // many messages
	for i := range 5 {
		f, err := fs.Create(fmt.Sprintf("%s/f%d", dir, i), plan9.ORDWR, 0644)
		if err != nil {
			return fmt.Errorf("create: %w", err)
		}
		if n, err := f.Write(data); n != len(data) || err != nil {
			return fmt.Errorf("write: %d of %d, %w", n, len(data), err)
		}
		if _, err := f.Seek(0, 0); err != nil {
			return err
		}
		got, err := io.ReadAll(f)
		if err != nil || !bytes.Equal(got, data) {
			return fmt.Errorf("read %d bytes, %v", len(got), err)
		}
		f.Close()
	}
	if d, err = fs.Open(dir, plan9.OREAD); err != nil {
		return err
	}
	dirs, err := d.Dirreadall()
	if err != nil || len(dirs) != 5 || dirs[4].Name != "f4" || dirs[4].Length != uint64(len(data)) {
		return fmt.Errorf("directory: %v, %v", dirs, err)
	}
	d.Close()
	var w plan9.Dir
	w.Null()
	w.Name, w.Mode = "renamed", 0600
	if err := fs.Wstat(dir+"/f0", &w); err != nil {
		return fmt.Errorf("wstat: %w", err)
	}
	st, err := fs.Stat(dir + "/renamed")
	if err != nil || st.Mode != 0600 || st.Uid != "glenda" {
		return fmt.Errorf("stat: %v, %v", st, err)
	}
	if _, err := fs.Stat(dir + "/f0"); err == nil {
		return fmt.Errorf("the old name is still there")
	}
	if err := fs.Remove(dir); err == nil || err.Error() != string(ninetest.ErrEmpty) {
		return fmt.Errorf("remove of a directory that is not empty: %v", err)
	}
	for _, name := range []string{"renamed", "f1", "f2", "f3", "f4"} {
		if err := fs.Remove(dir + "/" + name); err != nil {
			return fmt.Errorf("remove: %w", err)
		}
	}
	return fs.Remove(dir)
}
