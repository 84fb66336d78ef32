package gefs_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
	"gefs9p/users"
)

// usersFile returns the content of /adm/users.
func usersFile(t *testing.T, fs *gefs.FS) string {
	t.Helper()
	c, end := fs.Background()
	defer end()
	root, err := gefstest.Attach(fs, c, "glenda", "%adm")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Clunk(c)
	f, err := gefstest.Walk(c, root, "users")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Clunk(c)
	text, err := gefstest.ReadAll(c, f)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func editUsers(fs *gefs.FS, edit func(text []byte) ([]byte, error)) error {
	c, end := fs.Background()
	defer end()
	return fs.EditUsers(c, edit)
}

// TestEditUsers makes the file longer and shorter, over the ends of blocks, and lets the power fail
// after each step: what is found then is the text that was committed last.
func TestEditUsers(t *testing.T) {
	dev := gefstest.Ream(t)
	fs := gefstest.Open(t, dev, gefs.Options{})
	want := usersFile(t, fs)
	for _, n := range []int{0, 1, 400, 2000, 1200, 700, 3, 2500, 0} {
		text := "-1:adm::glenda\n0:none::\n1:glenda:glenda:\n"
		for i := range n {
			text += fmt.Sprintf("%d:user%d::\n# a line to fill it\n", i+10, i)
		}
		if err := editUsers(fs, func(old []byte) ([]byte, error) {
			if string(old) != want {
				t.Errorf("edit is shown %d bytes that are not the text of before", len(old))
			}
			return []byte(text), nil
		}); err != nil {
			t.Fatalf("%d users: %v", n, err)
		}
		if fs.Users().Len() != n+3 {
			t.Errorf("%d users in force, want %d", fs.Users().Len(), n+3)
		}
		if err := fs.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		want = text
		for _, refuse := range []func([]byte) ([]byte, error){
			func([]byte) ([]byte, error) { return nil, errors.New("no") },
			func([]byte) ([]byte, error) { return []byte("fool"), nil },
			func([]byte) ([]byte, error) { return bytes.Repeat([]byte("#\n"), users.MaxSize/2), nil },
		} {
			table := fs.Users()
			if err := editUsers(fs, refuse); err == nil {
				t.Error("not refused")
			}
			if fs.Users() != table {
				t.Error("a refused edit is in force")
			}
		}
		if got := usersFile(t, fs); got != want {
			t.Errorf("%d users: the file holds %d bytes, want %d", n, len(got), len(want))
		}
		after := dev.Clone()
		gefstest.CheckStrict(t, after)
		cut := gefstest.Open(t, after, gefs.Options{})
		if got := usersFile(t, cut); got != want || cut.Users().Len() != n+3 {
			t.Errorf("%d users: after a power cut the file holds %d bytes, want %d", n, len(got), len(want))
		}
		cut.Close()
	}
	if err := fs.Close(); err != nil {
		t.Fatal(err)
	}
	gefstest.CheckStrict(t, dev)

	ro := gefstest.Open(t, dev, gefs.Options{ReadOnly: true})
	if err := editUsers(ro, func(text []byte) ([]byte, error) { return text, nil }); err == nil {
		t.Error("edited on a disk that is only read")
	}
}

// TestEditUsersMeanwhile edits and reloads while a client writes the same file, and truncates it: whatever is
// in force at any time is one of the texts as a whole.
func TestEditUsersMeanwhile(t *testing.T) {
	fs := gefstest.Open(t, gefstest.Ream(t), gefs.Options{})
	const head = "-1:adm::glenda\n0:none::\n1:glenda:glenda:\n"
	long := head + "5:long::\n" + strings.Repeat("# fill\n", 5000)
	short := head + "6:short::\n"
	var wg sync.WaitGroup
	for _, text := range []string{long, short} {
		wg.Go(func() {
			for range 30 {
				if err := editUsers(fs, func([]byte) ([]byte, error) { return []byte(text), nil }); err != nil {
					t.Errorf("edit: %v", err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 60 {
			if err := fs.ReloadUsers(); err != nil {
				t.Errorf("reload: %v", err)
			}
		}
	})
	wg.Go(func() {
		c, end := fs.Background()
		defer end()
		root, err := gefstest.Attach(fs, c, "glenda", "%adm")
		if err != nil {
			t.Error(err)
			return
		}
		defer root.Clunk(c)
		for range 30 {
			f, err := gefstest.Walk(c, root, "users")
			if err != nil {
				t.Error(err)
				return
			}
			if _, _, err := f.Open(c, ninep.ORDWR); err != nil {
				t.Error(err)
			} else if _, err := f.Write(c, []byte(head), 0); err != nil {
				t.Error(err)
			}
			f.Clunk(c)
		}
	})
	wg.Wait()
	if got := usersFile(t, fs); got != long && got != short {
		t.Errorf("the file holds %d bytes", len(got))
	}
	table := fs.Users()
	_, hasLong := table.ID("long")
	_, hasShort := table.ID("short")
	if hasLong == hasShort {
		t.Errorf("long %t, short %t", hasLong, hasShort)
	}
}
