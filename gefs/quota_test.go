package gefs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/check"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
	"gefs9p/snap"
)

const equota = "disk quota exceeded"

const kb = 1 << 10

// limitErr sets a quota; the others of these functions end the test if that fails.
func (w *world) limitErr(label, user string, limit gefs.Usage) error {
	c, end := w.fs.Background()
	defer end()
	return w.fs.SetQuota(c, label, user, limit)
}

func (w *world) limit(label, user string, bytes, files int64) {
	w.t.Helper()
	if err := w.limitErr(label, user, gefs.Usage{Bytes: bytes, Files: files}); err != nil {
		w.t.Fatalf("limit %s of %q: %v", label, user, err)
	}
}

// quota returns what is said of a label, once its files are counted.
func (w *world) quota(label string) gefs.Quota {
	w.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		list := w.fs.Quotas(true)
		for _, q := range list {
			switch {
			case q.Label != label:
			case q.State == gefs.QuotaCounted:
				return q
			case q.State == gefs.QuotaFailed || time.Now().After(end):
				w.t.Fatalf("the files of %s are not counted: %+v", label, q)
			}
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s has no quota: %+v", label, list)
		}
	}
}

// A usedFile is a file as du would count it.
type usedFile struct {
	user string
	gefs.Usage
}

// du adds up the files of a label, from what a client sees of them.
func (w *world) du(label string) (files map[string]usedFile, users map[string]gefs.Usage, total gefs.Usage) {
	w.t.Helper()
	c, end := w.fs.Background()
	defer end()
	root, err := gefstest.Attach(w.fs, c, "glenda", "%"+label)
	if err != nil {
		w.t.Fatal(err)
	}
	defer root.Clunk(c)
	files, users = make(map[string]usedFile), make(map[string]gefs.Usage)
	var list func(dir ninep.File, at string)
	list = func(dir ninep.File, at string) {
		f, _, err := dir.Walk(c, nil, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		defer f.Clunk(c)
		p, err := gefstest.ReadAll(c, f)
		if err != nil {
			w.t.Fatal(err)
		}
		dirs, err := ninep.DecodeDirs(p)
		if err != nil {
			w.t.Fatal(err)
		}
		for i := range dirs {
			d := &dirs[i]
			u := gefs.Usage{Bytes: (int64(d.Length) + blkfmt.BlkSize - 1) / blkfmt.BlkSize * blkfmt.BlkSize, Files: 1}
			files[at+d.Name] = usedFile{d.Uid, u}
			users[d.Uid] = gefs.Usage{Bytes: users[d.Uid].Bytes + u.Bytes, Files: users[d.Uid].Files + 1}
			total = gefs.Usage{Bytes: total.Bytes + u.Bytes, Files: total.Files + 1}
			if d.Mode&ninep.DMDIR != 0 {
				sub, err := gefstest.Walk(c, dir, d.Name)
				if err != nil {
					w.t.Fatal(err)
				}
				list(sub, at+d.Name+"/")
				sub.Clunk(c)
			}
		}
	}
	list(root, "")
	return files, users, total
}

// same fails the test if what is said of a label is not what its files use.
func (w *world) same(what, label string) gefs.Quota {
	w.t.Helper()
	q := w.quota(label)
	_, users, total := w.du(label)
	if q.Used != total {
		w.t.Fatalf("%s: %s uses %+v, its files are %+v", what, label, q.Used, total)
	}
	for _, u := range q.Users {
		if u.Used != users[u.User] {
			w.t.Fatalf("%s: in %s, %s uses %+v, the files are %+v", what, label, u.User, u.Used, users[u.User])
		}
		delete(users, u.User)
	}
	if len(users) > 0 {
		w.t.Fatalf("%s: nothing is said of %+v in %s", what, users, label)
	}
	return q
}

func TestAQuotaRefusesWhatGrowsAndNothingElse(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.put("old", 0666, strings.Repeat("x", 200*kb))
	w.limit("main", "", 256*kb, 3)
	if q := w.same("at first", "main"); q.Used != (gefs.Usage{Bytes: 208 * kb, Files: 1}) || q.Limit != (gefs.Usage{Bytes: 256 * kb, Files: 3}) {
		t.Fatalf("%+v", q)
	}
	f := s.create("new", 0666, ninep.ORDWR)
	f.write(strings.Repeat("y", 48*kb), 0) // to the last byte
	refused(t, "a byte more", f.writeErr("z", 48*kb), equota)
	refused(t, "a hole more", f.writeErr("z", 1<<40), equota)
	refused(t, "wstat to be longer", s.wstatErr("new", func(d *ninep.Dir) { d.Length = 48*kb + 1 }), equota)
	refused(t, "wstat to be longer, with a name", s.wstatErr("new", func(d *ninep.Dir) { d.Length, d.Name = 1<<50, "newer" }), equota)
	if d := f.stat(); d.Length != 48*kb {
		t.Errorf("what was refused left a length of %d", d.Length)
	}
	f.write(strings.Repeat("Y", 48*kb), 0) // in place
	w.same("full", "main")

	w.limit("main", "", 64*kb, 2) // less than what is there
	f.write("in place", 5)
	s.truncate("old", 200*kb-1)
	s.truncate("old", 100*kb)
	refused(t, "back", s.wstatErr("old", func(d *ninep.Dir) { d.Length = 200 * kb }), equota)
	_, err := s.createErr("third", 0666, ninep.OWRITE)
	refused(t, "create", err, equota)
	_, err = s.createErr("dir", ninep.DMDIR|0777, ninep.OREAD)
	refused(t, "mkdir", err, equota)
	s.wstat("new", func(d *ninep.Dir) { d.Name, d.Mode = "other", 0600 })
	s.open("old", ninep.OWRITE|ninep.OTRUNC).clunk()
	s.remove("old")
	s.put("dir", 0666, "") // there is room for it again
	f.write("more", 50*kb)
	refused(t, "beyond it", f.writeErr("z", 64*kb), equota)
	w.same("in the end", "main")

	l := w.linux("glenda", "")
	n := l.at("dir")
	l.is("write of Linux", func() error {
		o := l.at("dir")
		_, err := l.RPC(ninep.Tlopen, &ninep.LOpen{Fid: o, Flags: ninep.ORDWR})
		l.must("open", err)
		return l.Write(o, 0, "x")
	}(), ninep.EDQUOT)
	l.is("setattr of Linux", l.setattr(n, ninep.LSetattr{Valid: ninep.SetSize, Size: 1}), ninep.EDQUOT)
	l.is("mkdir of Linux", l.mkdir("", "another"), ninep.EDQUOT)
	l.Close()
	f.clunk()
	s.hangUp()
	w.end()
}

func TestUsersHaveQuotasOfTheirOwn(t *testing.T) {
	w := newWorld(t)
	glenda := w.as("glenda", "%")
	glenda.chmod("", ninep.DMDIR|0777)
	w.limit("main", gefs.EachUser, 64*kb, 0)
	w.limit("main", "alice", 32*kb, 2)
	w.limit("main", "carol", 0, 0)
	w.quota("main")
	fill := func(user string, most int64) {
		t.Helper()
		s := w.as(user, "")
		f := s.create(user, 0666, ninep.OWRITE)
		if most > 0 {
			f.write(strings.Repeat("x", int(most)), 0)
			refused(t, user+" beyond the limit", f.writeErr("x", most), equota)
		} else {
			f.write("x", 1<<30)
		}
		f.clunk()
		s.hangUp()
	}
	fill("alice", 32*kb)
	fill("bob", 64*kb)
	fill("carol", 0)
	// The owner is charged, whoever writes.
	bob := w.as("bob", "")
	f := bob.open("alice", ninep.OWRITE)
	refused(t, "bob in alice's file", f.writeErr("x", 32*kb), equota)
	f.clunk()
	bob.hangUp()
	// Giving files away.
	refused(t, "a file for alice", glenda.wstatErr("bob", func(d *ninep.Dir) { d.Uid = "alice" }), equota)
	glenda.wstat("bob", func(d *ninep.Dir) { d.Uid = "carol" })
	fill2 := w.same("given away", "main")
	for _, u := range fill2.Users {
		switch u.User {
		case "alice":
			if u.Used != (gefs.Usage{Bytes: 32 * kb, Files: 1}) || u.Limit != (gefs.Usage{Bytes: 32 * kb, Files: 2}) || !u.Own {
				t.Errorf("%+v", u)
			}
		case "carol":
			if u.Used.Bytes != 1<<30+16*kb+64*kb || u.Limit != (gefs.Usage{}) || !u.Own {
				t.Errorf("%+v", u)
			}
		default:
			t.Errorf("unexpected %+v", u)
		}
	}
	c, end := w.fs.Background()
	if err := w.fs.ClearQuota(c, "main", "alice"); err != nil {
		t.Error(err)
	}
	end()
	alice := w.as("alice", "")
	alice.truncate("alice", 64*kb)
	refused(t, "alice as everybody", alice.wstatErr("alice", func(d *ninep.Dir) { d.Length = 65 * kb }), equota)
	alice.hangUp()
	glenda.hangUp()
	w.restart()
	alice = w.as("alice", "")
	refused(t, "after a restart", alice.wstatErr("alice", func(d *ninep.Dir) { d.Length = 65 * kb }), equota)
	alice.hangUp()
	w.same("after a restart", "main")
	w.end()
}

func TestQuotasThatMakeNoSenseAreRefused(t *testing.T) {
	w := newWorld(t)
	w.snapshot("main", "old", false)
	for _, tt := range []struct {
		label, user string
		limit       gefs.Usage
		want        error
		text        string
	}{
		{"nosuch", "", gefs.Usage{}, snap.ErrNoLabel, ""},
		{"old", "", gefs.Usage{}, snap.ErrNotMutable, ""},
		{"main", "nobody-knows", gefs.Usage{}, nil, "'nobody-knows': user does not exist"},
		{"main", "", gefs.Usage{Bytes: 16*kb - 1}, nil, "a limit of 16383 bytes and 0 files: at least 16384 bytes and 1 file are needed, or 0 for none"},
		{"main", "", gefs.Usage{Bytes: -1}, nil, "a limit of -1 bytes and 0 files: at least 16384 bytes and 1 file are needed, or 0 for none"},
		{"main", "", gefs.Usage{Files: -1}, nil, "a limit of 0 bytes and -1 files: at least 16384 bytes and 1 file are needed, or 0 for none"},
	} {
		err := w.limitErr(tt.label, tt.user, tt.limit)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || tt.text != "" && err.Error() != tt.text {
			t.Errorf("%+v: %v", tt, err)
		}
	}
	if list := w.fs.Quotas(true); len(list) > 0 {
		t.Errorf("what was refused left %+v", list)
	}
	c, end := w.fs.Background()
	if err := w.fs.ClearQuota(c, "main", ""); !errors.Is(err, gefs.ErrNoQuota) {
		t.Errorf("clear: %v", err)
	}
	if err := w.fs.CountQuota(c, "main"); !errors.Is(err, gefs.ErrNoQuota) {
		t.Errorf("count: %v", err)
	}
	end()
	w.limit("main", "", 0, 0)
	w.limit("main", "12345", 16*kb, 0) // a user who was deleted
	c, end = w.fs.Background()
	if err := w.fs.ClearQuota(c, "main", "alice"); !errors.Is(err, gefs.ErrNoQuota) {
		t.Errorf("clear alice: %v", err)
	}
	if err := w.fs.ClearQuota(c, "main", ""); err != nil {
		t.Errorf("clear: %v", err)
	}
	end()
	w.restart()
	if list := w.fs.Quotas(true); len(list) > 0 {
		t.Errorf("what was cleared is back: %+v", list)
	}
	w.end()
}

// TestManyWritersNeverExceedAQuota has 8 clients of two users write until nothing more is taken.
func TestManyWritersNeverExceedAQuota(t *testing.T) {
	const clients, limit, each = 8, 300 * 16 * kb, 200 * 16 * kb
	w := newWorld(t)
	glenda := w.as("glenda", "%")
	glenda.chmod("", ninep.DMDIR|0777)
	w.limit("main", "", limit, 0)
	w.limit("main", gefs.EachUser, each, 0)
	w.quota("main")
	ctx, stop := context.WithCancel(t.Context())
	var watch sync.WaitGroup
	watch.Go(func() {
		for ctx.Err() == nil {
			q := w.quota("main")
			if q.Used.Bytes > limit {
				t.Errorf("%d bytes are used of %d", q.Used.Bytes, limit)
			}
			for _, u := range q.Users {
				if u.Used.Bytes > each {
					t.Errorf("%s uses %d bytes of %d", u.User, u.Used.Bytes, each)
				}
			}
		}
	})
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			s := w.as([]string{"alice", "bob"}[i%2], "")
			defer s.hangUp()
			for n := 0; ; n++ {
				f, err := s.createErr(fmt.Sprintf("c%d.%d", i, n), 0666, ninep.OWRITE)
				if err != nil {
					t.Errorf("create: %v", err)
					return
				}
				err = nil
				for off := int64(0); off < 100*kb && err == nil; off += 10 * kb {
					err = f.writeErr(strings.Repeat("x", 10*kb), off)
				}
				f.Clunk()
				if err != nil {
					refused(t, "the last write", err, equota)
					return
				}
				if n%3 == 2 {
					if err := s.removeErr(fmt.Sprintf("c%d.%d", i, n-1)); err != nil {
						t.Errorf("remove: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	stop()
	watch.Wait()
	q := w.same("in the end", "main")
	if q.Used.Bytes < limit-clients*16*kb {
		t.Errorf("only %d bytes are used of %d", q.Used.Bytes, limit)
	}
	glenda.hangUp()
	w.end()
}

// TestFilesAreCountedWhileTheyChange sets the first quota of a large directory under clients that write to it.
func TestFilesAreCountedWhileTheyChange(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	const files = 5000
	for i := range files {
		f := s.create(fmt.Sprintf("f%d", i), 0666, ninep.OWRITE)
		f.clunk()
	}
	for round := range 3 {
		w.limit("main", "", 1<<40, 0)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				s := w.as("glenda", "")
				defer s.hangUp()
				for n := i; ctx.Err() == nil; n += 2 {
					name := fmt.Sprintf("f%d", n*7%files)
					if err := s.wstatErr(name, func(d *ninep.Dir) { d.Length = uint64(n) * 1000 }); err != nil {
						t.Errorf("wstat %s: %v", name, err)
						return
					}
				}
			})
		}
		w.quota("main")
		time.Sleep(5 * time.Millisecond)
		stop()
		wg.Wait()
		w.same(fmt.Sprintf("round %d", round), "main")
		c, end := w.fs.Background()
		if err := w.fs.ClearQuota(c, "main", ""); err != nil {
			t.Fatal(err)
		}
		end()
	}
	s.hangUp()
	w.end()
}

// TestAForeignChangeIsNoticed has a server that knows of no quotas change a label in between.
func TestAForeignChangeIsNoticed(t *testing.T) {
	var log logBuffer
	w := newWorldOn(t, gefstest.Ream(t), gefs.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s := w.as("glenda", "")
	s.put("a", 0666, strings.Repeat("x", 100*kb))
	w.limit("main", "", 1<<20, 0)
	w.same("at first", "main")
	s.hangUp()
	w.restart()
	w.same("after a restart", "main")
	const said = "changed by a server that does not count"
	if strings.Contains(log.String(), said) {
		t.Fatalf("nobody has changed anything:\n%s", log.String())
	}

	w.fs.StopCounting()
	s = w.as("glenda", "")
	s.put("b", 0666, strings.Repeat("x", 300*kb))
	s.hangUp()
	w.stop()
	if rep := gefstest.CheckStrict(t, w.dev); rep.ByKind[check.QuotaStale] != 1 {
		t.Errorf("check says\n%s", gefstest.Text(rep))
	}
	w.start()
	if q := w.same("after the change", "main"); q.Used.Bytes != 112*kb+304*kb {
		t.Errorf("%+v", q)
	}
	if !strings.Contains(log.String(), said) {
		t.Errorf("nothing is said of it:\n%s", log.String())
	}
	w.restart()
	w.same("after another restart", "main")
	w.stop()
	if rep := gefstest.CheckStrict(t, w.dev); rep.ByKind[check.QuotaStale] != 0 {
		t.Errorf("check says\n%s", gefstest.Text(rep))
	}
}

func TestQuotasStayWithTheirLabel(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	s.put("a", 0666, strings.Repeat("x", 100*kb))
	w.limit("main", "", 1<<20, 0)
	w.quota("main")
	w.snapshot("main", "first", false)
	s.put("b", 0666, strings.Repeat("x", 300*kb))
	w.snapshot("main", "exp", true)
	w.limit("exp", "", 2<<20, 0)
	w.same("a fork", "exp")
	e := w.as("glenda", "exp")
	e.put("c", 0666, strings.Repeat("x", 500*kb))
	e.hangUp()
	w.same("a fork with a file more", "exp")
	w.same("the label it came from", "main")

	roll := func(old, keep string) {
		t.Helper()
		c, end := w.fs.Background()
		defer end()
		if err := w.fs.Rollback(c, "main", old, keep, true); err != nil {
			t.Fatal(err)
		}
	}
	roll("first", "second")
	if q := w.same("rolled back", "main"); q.Used.Bytes != 112*kb || q.Limit.Bytes != 1<<20 {
		t.Errorf("%+v", q)
	}
	s.put("d", 0666, "d")
	w.same("after that", "main")
	s.hangUp()
	w.sync()
	roll("second", "third") // nobody has it mounted
	w.same("and back", "main")
	w.restart()
	w.same("after a restart", "main")

	c, end := w.fs.Background()
	if err := w.fs.DeleteLabel(c, "exp"); err != nil {
		t.Fatal(err)
	}
	end()
	list := w.fs.Quotas(true)
	if len(list) != 1 || list[0].Label != "main" {
		t.Errorf("after the label is deleted: %+v", list)
	}
	w.end()
}

func TestRemovedFilesCountAsLongAsTheyAreOpen(t *testing.T) {
	w := newWorld(t)
	l := w.linux("glenda", "")
	early := l.create("", "early", strings.Repeat("x", 20*kb))
	l.must("unlink", l.unlink("", "early", 0))
	w.limit("main", "", 112*kb, 0)
	w.limit("main", "glenda", 200*kb, 0)
	is := func(what string, used, removed int64) {
		t.Helper()
		q := w.same(what, "main")
		if q.Used.Bytes != used || q.Removed != removed || q.Used.Bytes+q.Removed > 0 && q.Users[0].Removed != removed {
			t.Errorf("%s: %+v, want %d and %d", what, q, used, removed)
		}
	}
	is("removed before there was a quota", 0, 32*kb)
	f := l.create("", "f", strings.Repeat("x", 40*kb))
	is("there", 48*kb, 32*kb)
	l.must("unlink", l.unlink("", "f", 0))
	is("removed", 0, 80*kb)
	l.must("write", l.Write(f, 60*kb, "x"))
	is("longer", 0, 96*kb)
	l.is("too long", l.Write(f, 100*kb, "x"), ninep.EDQUOT)
	l.is("another", func() error {
		n := l.create("", "n", "")
		defer l.Clunk(n)
		return l.Write(n, 0, strings.Repeat("x", 20*kb))
	}(), ninep.EDQUOT)
	l.must("truncate", l.setattr(f, ninep.LSetattr{Valid: ninep.SetSize, Size: 1}))
	is("shorter", 0, 48*kb)
	l.Clunk(f)
	is("closed", 0, 32*kb)
	w.sync()
	cut := w.dev.(*blkdev.Mem).Clone()
	l.Clunk(early)
	is("all closed", 0, 0)
	l.Close()
	w.end()

	w = newWorldOn(t, cut, gefs.Options{})
	is("after a crash", 0, 0)
	w.end()
}

func TestStatfsShowsTheQuota(t *testing.T) {
	w := newWorld(t)
	l := w.linux("glenda", "")
	statfs := func() *ninep.LStatfs {
		t.Helper()
		m, err := l.RPC(ninep.Tstatfs, &ninep.LFid{Fid: l.root})
		l.must("statfs", err)
		return m.(*ninep.LStatfs)
	}
	disk := statfs()
	l.put("", "f", strings.Repeat("x", 40*kb))
	w.limit("main", "", 10*16*kb, 20)
	w.quota("main")
	if s := statfs(); s.Blocks != 10 || s.Bfree != 7 || s.Bavail != 7 || s.Files != 20 || s.Ffree != 19 {
		t.Errorf("%+v", s)
	}
	w.limit("main", "", 1<<40, 0)
	if s := statfs(); s.Blocks != disk.Blocks || s.Files != 0 {
		t.Errorf("%+v, without a quota %+v", s, disk)
	}
	w.limit("main", "", 16*kb, 0)
	if s := statfs(); s.Blocks != 1 || s.Bfree != 0 || s.Bavail != 0 {
		t.Errorf("over the limit: %+v", s)
	}
	l.Close()
	w.end()
}

// TestWrongCountsAreFoundAndRepaired has a disk on which what is recorded is not what the files are.
func TestWrongCountsAreFoundAndRepaired(t *testing.T) {
	w := newWorld(t)
	s := w.as("glenda", "")
	w.limit("main", "", 1<<20, 0)
	w.quota("main")
	w.fs.Miscount("main")
	s.put("f", 0666, "f")
	s.hangUp()
	w.stop()
	ctx := t.Context()
	size, err := w.dev.Size()
	if err != nil {
		t.Fatal(err)
	}
	rep, err := check.Run(ctx, w.dev, size, check.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if rep.ByKind[check.QuotaWrong] != 2 || rep.Clean(false) {
		t.Errorf("check says\n%s", gefstest.Text(rep))
	}
	done, err := gefs.Repair(ctx, w.dev, gefs.Options{}, rep)
	if err != nil || !done.Quotas {
		t.Fatalf("repair: %+v, %v", done, err)
	}
	if rep := gefstest.CheckStrict(t, w.dev); rep.ByKind[check.QuotaWrong]+rep.ByKind[check.QuotaBad] != 0 {
		t.Errorf("after the repair check says\n%s", gefstest.Text(rep))
	}
	w.start()
	if q := w.same("after the repair", "main"); q.Limit.Bytes != 1<<20 || q.Used.Files != 1 {
		t.Errorf("%+v", q)
	}
	w.end()
}
