package gefs_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

var (
	quotaSeed  = flag.Uint64("quota.seed", 0, "seed of the random changes under quotas; 0 takes the time")
	quotaSteps = flag.Int("quota.steps", 0, "how many random changes are made under quotas; 0 is 400, 100 with the race detector or -short")
)

// TestRandomChangesAreCountedAndLimited makes random changes under quotas. After each, what is said to be used is
// what the files are, as a client sees them; and a change is refused if, and only if, it would go beyond a limit.
func TestRandomChangesAreCountedAndLimited(t *testing.T) {
	seed, steps := *quotaSeed, *quotaSteps
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	if steps == 0 {
		if steps = 400; raceEnabled || testing.Short() {
			steps = 100
		}
	}
	t.Logf("seed: -quota.seed=%d -quota.steps=%d", seed, steps)
	m := &quotaModel{world: newWorld(t), r: rand.New(rand.NewPCG(seed, 0)), own: map[string]gefs.Usage{}}
	defer func() {
		if t.Failed() {
			t.Logf("the last steps:\n%s", strings.Join(m.done[max(0, len(m.done)-30):], "\n"))
		}
	}()
	s := m.as("glenda", "%")
	s.chmod("", ninep.DMDIR|0777)
	s.hangUp()
	m.label = gefs.Usage{Bytes: 1 << 20, Files: 25}
	m.limit("main", "", m.label.Bytes, m.label.Files)
	m.quota("main")
	m.sync()
	for range steps {
		m.step()
		m.verify()
	}
	t.Logf("%d steps, %d refused; %v", len(m.done), m.refused, m.kinds)
	if m.refused == 0 && steps >= 300 {
		t.Error("nothing was ever refused")
	}
	for len(m.open) > 0 {
		m.closeOne(0)
	}
	m.verify()
	m.end()
}

// A quotaModel knows the limits, and the removed files that are still open. What else there is it looks up.
type quotaModel struct {
	*world
	r     *rand.Rand
	label gefs.Usage
	each  *gefs.Usage
	own   map[string]gefs.Usage
	open  []removedFile
	snaps []string

	n       int
	refused int
	done    []string
	kinds   [32]int
}

// A removedFile is a file that was removed while somebody, on Linux, has it open.
type removedFile struct {
	l      *linux
	fid    uint32
	user   string
	length int64
}

func blocksOf(length int64) int64 {
	return (length + blkfmt.BlkSize - 1) / blkfmt.BlkSize * blkfmt.BlkSize
}

func (m *quotaModel) note(format string, args ...any) {
	m.done = append(m.done, fmt.Sprintf("%d: ", len(m.done))+fmt.Sprintf(format, args...))
}

// opened returns what removed files that are open use, of one user, or of all for "".
func (m *quotaModel) opened(user string) (n int64) {
	for _, o := range m.open {
		if user == "" || user == o.user {
			n += blocksOf(o.length)
		}
	}
	return n
}

// exceeds says whether a change goes beyond a limit, that gives a user more, and the label.
func (m *quotaModel) exceeds(user string, more, labelMore gefs.Usage) bool {
	_, users, total := m.du("main")
	over := func(limit, has gefs.Usage, open int64, more gefs.Usage) bool {
		return more.Bytes > 0 && limit.Bytes > 0 && has.Bytes+open+more.Bytes > limit.Bytes ||
			more.Files > 0 && limit.Files > 0 && has.Files+more.Files > limit.Files
	}
	limit, ok := m.own[user]
	if !ok && m.each != nil {
		limit = *m.each
	}
	return over(limit, users[user], m.opened(user), more) || over(m.label, total, m.opened(""), labelMore)
}

// outcome compares what a change said with what it should.
func (m *quotaModel) outcome(err error, exceeds bool) (done bool) {
	m.t.Helper()
	switch {
	case exceeds:
		m.refused++
		if err == nil || !strings.Contains(err.Error(), equota) {
			m.t.Fatalf("%s: %v, want %q", m.done[len(m.done)-1], err, equota)
		}
		return false
	case err != nil:
		m.t.Fatalf("%s: %v", m.done[len(m.done)-1], err)
	}
	return true
}

// verify compares everything.
func (m *quotaModel) verify() {
	m.t.Helper()
	q := m.same(m.done[len(m.done)-1], "main")
	if q.Removed != m.opened("") || q.Limit != m.label || (q.Each == nil) != (m.each == nil) || q.Each != nil && *q.Each != *m.each {
		m.t.Fatalf("%s: %+v, want %d removed, limits %+v %+v", m.done[len(m.done)-1], q, m.opened(""), m.label, m.each)
	}
	for _, u := range q.Users {
		own, ok := m.own[u.User]
		if u.Removed != m.opened(u.User) || u.Own != ok || ok && u.Limit != own {
			m.t.Fatalf("%s: %+v, want %d removed, limit %+v", m.done[len(m.done)-1], u, m.opened(u.User), own)
		}
	}
}

// pick returns the name of something that is there, "" if there is nothing of the sort.
func (m *quotaModel) pick(dir bool) (name string, f usedFile, length int64) {
	files, _, _ := m.du("main")
	var names []string
	for name := range files {
		if strings.HasPrefix(path.Base(name), "d") == dir {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "", f, 0
	}
	slices.Sort(names)
	name = names[m.r.IntN(len(names))]
	s := m.as("glenda", "%")
	defer s.hangUp()
	return name, files[name], int64(s.stat(name).Length)
}

func (m *quotaModel) user() string { return []string{"alice", "bob", "carol", "glenda"}[m.r.IntN(4)] }

func (m *quotaModel) length() int64 {
	if m.r.IntN(8) == 0 {
		return m.r.Int64N(4 << 20) // with holes
	}
	return m.r.Int64N(150 << 10)
}

func (m *quotaModel) step() {
	op := m.r.IntN(20)
	m.kinds[op]++
	s := m.as("glenda", "%")
	defer func() { s.hangUp() }()
	before := len(m.done)
	switch op {
	case 0, 1, 2, 3:
		m.create()
	case 4, 5, 6:
		if name, f, length := m.pick(false); name != "" {
			off, n := m.length(), 1+m.r.IntN(30<<10) // in one message
			grow := gefs.Usage{Bytes: blocksOf(max(length, off+int64(n))) - blocksOf(length)}
			m.note("write %d bytes at %d to %s, %s's, of %d", n, off, name, f.user, length)
			x := m.exceeds(f.user, grow, grow)
			w := s.open(name, ninep.OWRITE)
			m.outcome(w.writeErr(strings.Repeat("w", n), off), x)
			w.clunk()
		}
	case 7, 8:
		if name, f, length := m.pick(false); name != "" {
			to := m.length()
			grow := gefs.Usage{Bytes: blocksOf(to) - blocksOf(length)}
			m.note("length of %s, %s's, from %d to %d", name, f.user, length, to)
			x := m.exceeds(f.user, grow, grow)
			m.outcome(s.wstatErr(name, func(d *ninep.Dir) { d.Length = uint64(to) }), x)
		}
	case 9:
		if name, _, _ := m.pick(false); name != "" {
			m.note("open %s to be truncated", name)
			s.open(name, ninep.OWRITE|ninep.OTRUNC).clunk()
		}
	case 10, 11:
		m.give(s)
	case 12:
		if name, _, _ := m.pick(m.r.IntN(4) == 0); name != "" {
			m.note("remove %s", name)
			if err := s.removeErr(name); err != nil && err.Error() != enotempty {
				m.t.Fatalf("remove %s: %v", name, err)
			}
		}
	case 13:
		m.move()
	case 14:
		m.removeOpen()
	case 15:
		m.useRemoved()
	case 16:
		m.limits()
	case 17:
		m.snapshots()
	case 18:
		s.hangUp()
		m.again()
	case 19:
		m.note("count anew")
		c, end := m.fs.Background()
		if err := m.fs.CountQuota(c, "main"); err != nil {
			m.t.Fatal(err)
		}
		end()
	}
	if len(m.done) == before {
		m.create()
	}
}

func (m *quotaModel) create() {
	user, dir := m.user(), m.r.IntN(5) == 0
	at := ""
	if d, _, _ := m.pick(true); d != "" && m.r.IntN(2) == 0 {
		at = d + "/"
	}
	m.n++
	name := fmt.Sprintf("%sf%d", at, m.n)
	perm, mode := uint32(0666), uint8(ninep.OWRITE)
	if dir {
		name, perm, mode = fmt.Sprintf("%sd%d", at, m.n), ninep.DMDIR|0777, ninep.OREAD
	}
	m.note("%s creates %s", user, name)
	x := m.exceeds(user, gefs.Usage{Files: 1}, gefs.Usage{Files: 1})
	s := m.as(user, "")
	defer s.hangUp()
	f, err := s.createErr(name, perm, mode)
	if m.outcome(err, x) {
		f.clunk()
	}
}

// give gives a file to another user, with another name and length now and then.
func (m *quotaModel) give(s *session) {
	name, f, length := m.pick(m.r.IntN(4) == 0)
	if name == "" {
		return
	}
	to, newLength, newName := m.user(), length, ""
	isDir := strings.HasPrefix(path.Base(name), "d")
	if !isDir && m.r.IntN(3) == 0 {
		newLength = m.length()
	}
	if m.r.IntN(3) == 0 {
		m.n++
		newName = fmt.Sprintf("%s%d", path.Base(name)[:1], m.n)
	}
	more := gefs.Usage{Bytes: blocksOf(newLength) - blocksOf(length)}
	labelMore := more
	if to != f.user {
		more = gefs.Usage{Bytes: blocksOf(newLength), Files: 1}
	}
	m.note("%s of %s to %s, length %d to %d, name %q", name, f.user, to, length, newLength, newName)
	x := m.exceeds(to, more, labelMore)
	m.outcome(s.wstatErr(name, func(d *ninep.Dir) {
		d.Uid = to
		if d.Name = newName; newLength != length {
			d.Length = uint64(newLength)
		}
	}), x)
}

// move puts a file in the place of another.
func (m *quotaModel) move() {
	a, _, _ := m.pick(false)
	b, _, _ := m.pick(false)
	if a == "" || a == b {
		return
	}
	m.note("move %s to %s", a, b)
	l := m.linux("glenda", "%")
	defer l.Close()
	dir := func(p string) string { return strings.TrimPrefix(path.Dir(p), ".") }
	l.must("rename", l.rename(dir(a), path.Base(a), dir(b), path.Base(b)))
}

// removeOpen removes a file that somebody has open.
func (m *quotaModel) removeOpen() {
	name, f, length := m.pick(false)
	if name == "" {
		return
	}
	m.note("remove %s, %s's, while it is open", name, f.user)
	l := m.linux("glenda", "%")
	fid := l.at(name)
	_, err := l.RPC(ninep.Tlopen, &ninep.LOpen{Fid: fid, Flags: ninep.ORDWR})
	l.must("open", err)
	l.must("unlink", l.unlink(strings.TrimPrefix(path.Dir(name), "."), path.Base(name), 0))
	m.open = append(m.open, removedFile{l, fid, f.user, length})
}

// useRemoved goes on with a file that was removed, or closes it.
func (m *quotaModel) useRemoved() {
	if len(m.open) == 0 {
		return
	}
	i := m.r.IntN(len(m.open))
	o := &m.open[i]
	to := m.length()
	switch m.r.IntN(3) {
	case 0:
		m.note("close the removed file %d", i)
		m.closeOne(i)
	case 1:
		m.note("length of the removed file %d, %s's, from %d to %d", i, o.user, o.length, to)
		more := gefs.Usage{Bytes: blocksOf(to) - blocksOf(o.length)}
		if m.outcome(unLinux(o.l.setattr(o.fid, ninep.LSetattr{Valid: ninep.SetSize, Size: uint64(to)})), m.exceeds(o.user, more, more)) {
			o.length = to
		}
	default:
		m.note("write to the removed file %d, %s's, of %d, up to %d", i, o.user, o.length, to+9)
		more := gefs.Usage{Bytes: blocksOf(max(o.length, to+9)) - blocksOf(o.length)}
		if m.outcome(unLinux(o.l.Write(o.fid, uint64(to), "a removal")), m.exceeds(o.user, more, more)) {
			o.length = max(o.length, to+9)
		}
	}
}

// unLinux gives the error of Linux the words of Plan 9.
func unLinux(err error) error {
	if err == ninep.EDQUOT {
		return ninep.Error(equota)
	}
	return err
}

func (m *quotaModel) closeOne(i int) {
	m.open[i].l.Clunk(m.open[i].fid)
	m.open[i].l.Close()
	m.open = slices.Delete(m.open, i, i+1)
}

// limits sets or clears one.
func (m *quotaModel) limits() {
	limit := gefs.Usage{Bytes: blocksOf(1 + m.r.Int64N(2<<20)), Files: 1 + m.r.Int64N(40)}
	if m.r.IntN(3) == 0 {
		limit.Bytes = 0
	}
	if m.r.IntN(3) == 0 {
		limit.Files = 0
	}
	user := []string{"", "", gefs.EachUser, m.user()}[m.r.IntN(4)]
	clearIt := user != "" && m.r.IntN(3) == 0
	m.note("limit of %q: %+v, clear %v", user, limit, clearIt)
	c, end := m.fs.Background()
	defer end()
	_, had := m.own[user]
	switch {
	case clearIt && (user == gefs.EachUser && m.each != nil || had):
		if err := m.fs.ClearQuota(c, "main", user); err != nil {
			m.t.Fatal(err)
		}
		if user == gefs.EachUser {
			m.each = nil
		}
		delete(m.own, user)
	case clearIt:
	default:
		if err := m.fs.SetQuota(c, "main", user, limit); err != nil {
			m.t.Fatal(err)
		}
		switch user {
		case "":
			m.label = limit
		case gefs.EachUser:
			m.each = &limit
		default:
			m.own[user] = limit
		}
	}
	c.Sleep(m.sync) // so that a crash does not take it back
}

// snapshots makes one, or goes back to one.
func (m *quotaModel) snapshots() {
	if len(m.snaps) == 0 || m.r.IntN(2) == 0 {
		m.n++
		name := fmt.Sprintf("s%d", m.n)
		m.note("snapshot %s", name)
		m.snapshot("main", name, false)
		m.snaps = append(m.snaps, name)
		m.sync()
		return
	}
	m.n++
	old, keep := m.snaps[m.r.IntN(len(m.snaps))], fmt.Sprintf("s%d", m.n)
	m.note("back to %s, keeping %s", old, keep)
	c, end := m.fs.Background()
	defer end()
	for began := time.Now(); ; c.Sleep(func() { time.Sleep(time.Millisecond) }) {
		err := m.fs.Rollback(c, "main", old, keep, true)
		if err == nil {
			m.snaps = append(m.snaps, keep)
			break
		}
		if strings.Contains(err.Error(), "name the same snapshot") {
			break
		}
		if !strings.Contains(err.Error(), "still being cleared") || time.Since(began) > 20*time.Second {
			m.t.Fatal(err)
		}
	}
	c.Sleep(m.sync)
	if slices.Contains(m.snaps, keep) {
		for len(m.open) > 0 { // they are nobody's now
			m.closeOne(0)
		}
	}
}

// again ends the service, in one way or another, and begins anew.
func (m *quotaModel) again() {
	how := m.r.IntN(4)
	m.note("%s", []string{"restart", "power cut", "power cut after a sync", "a server that does not count"}[how])
	if how == 2 {
		m.sync()
	}
	if how == 3 {
		m.fs.StopCounting()
		s := m.as("glenda", "")
		m.n++
		s.put(fmt.Sprintf("f%d", m.n), 0666, strings.Repeat("x", m.r.IntN(100<<10)))
		s.hangUp()
	}
	var cut *blkdev.Mem
	if how == 1 || how == 2 {
		cut = m.dev.(*blkdev.Mem).Clone()
		gefstest.CheckStrict(m.t, cut)
	}
	for len(m.open) > 0 {
		m.closeOne(0)
	}
	m.stop()
	if cut != nil {
		m.dev = cut
	} else {
		gefstest.CheckStrict(m.t, m.dev)
	}
	m.start()
	have := map[string]bool{}
	for _, l := range m.fs.Labels() {
		have[l.Name] = true
	}
	m.snaps = slices.DeleteFunc(m.snaps, func(name string) bool { return !have[name] })
	if how == 0 && len(m.own) > 0 && m.r.IntN(2) == 0 {
		user := slices.Sorted(maps.Keys(m.own))[0]
		c, end := m.fs.Background()
		if err := m.fs.ClearQuota(c, "main", user); err != nil {
			m.t.Fatal(err)
		}
		c.Sleep(m.sync)
		end()
		delete(m.own, user)
	}
}
