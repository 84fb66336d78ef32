package gefs_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/client"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// What the server says to those who come second.
const (
	txtExists   = "create/wstat -- file exists"
	txtGone     = "phase error -- use after remove"
	txtLocked   = "open/create -- file is locked"
	txtNotEmpty = "directory is not empty"
)

// shared is the directory in which everybody works, and what they have seen there. Every member of
// the crowd notes what it does with the time at which it began and ended; verify finds out whether
// there is an order of it all that makes sense.
type shared struct {
	r     *parRig
	crowd []*member

	movers map[uint64]bool // by qid path

	holders atomic.Int32 // of the exclusive file

	mu      sync.Mutex
	winners map[string]int // of creates of which only one may succeed
	tried   map[string]int
}

// Files whose every write is one Twrite of a whole stamp of this length: inside of a block, a block,
// and parts of several. An order of such writes and reads is that of a register.
var stampSizes = []int{5000, 16384, 40000, 70000}

const (
	parNames   = 6  // names that are created and removed
	parMovers  = 6  // files that are renamed
	parPlaces  = 10 // names that they have
	parStatics = 120
	recordSize = 64 // of the log
)

func newShared(r *parRig, root *client.Fid) *shared {
	s := &shared{r: r, movers: make(map[uint64]bool), winners: make(map[string]int), tried: make(map[string]int)}
	dir := r.walk(root, "shared")
	for i, size := range stampSizes {
		for _, kind := range []string{"reg", "cut"} {
			name := fmt.Sprintf("%s%d", kind, i)
			r.create(dir, name, 0666)
			f := r.walk(dir, name)
			d := ninep.NullDir()
			d.Mode = 0666
			r.must(f.Wstat(d), "chmod")
			r.must(f.Open(ninep.OWRITE), "open")
			_, err := f.WriteAt(stamp(1, size), 0)
			r.must(err, "write")
			r.must(f.Clunk(), "clunk")
		}
	}
	for _, name := range []string{"names", "movers", "static", "race", "dirs"} {
		r.create(dir, name, ninep.DMDIR|0777)
	}
	for i := range parMovers {
		q := r.create(r.walk(dir, "movers"), fmt.Sprintf("m%d", i), 0644)
		s.movers[q.Uid] = true
	}
	for i := range parStatics {
		r.create(r.walk(dir, "static"), fmt.Sprintf("s%03d", 2*i), 0644)
	}
	for name, bit := range map[string]uint32{"log": ninep.DMAPPEND, "excl": ninep.DMEXCL} {
		r.create(dir, name, bit|0666)
		f := r.walk(dir, name)
		d := ninep.NullDir()
		d.Mode = bit | 0666
		r.must(f.Wstat(d), "chmod")
		r.must(f.Clunk(), "clunk")
	}
	for i := range parClients * parCrowd {
		s.crowd = append(s.crowd, &member{
			r: r, s: s, c: r.clients[i%parClients], id: uint64(i + 1), rng: r.rand(2000 + uint64(i)), gen: -1,
			regs: make(map[string][]gefstest.RegisterOp), names: make(map[string][]nameOp),
		})
	}
	return s
}

func (r *parRig) startShared() {
	for _, m := range r.shared.crowd {
		r.worker("shared", m.run)
	}
}

// stamp is a text of which each 8 bytes say whose it is.
func stamp(v uint64, size int) []byte {
	p := make([]byte, size)
	for i := 0; i < size; i += 8 {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], v)
		copy(p[i:], b[:])
	}
	return p
}

// unstamp returns whose text p is, all of it.
func unstamp(p []byte, size int) (uint64, error) {
	if len(p) < 8 {
		return 0, fmt.Errorf("%d bytes, want %d", len(p), size)
	}
	v := binary.BigEndian.Uint64(p)
	want := stamp(v, size)
	if !bytes.Equal(p, want) {
		for i := 0; i+8 <= min(len(p), size); i += 8 {
			if w := binary.BigEndian.Uint64(p[i:]); w != v {
				return 0, fmt.Errorf("%d bytes, want %d; it begins as %x, but is %x at %d", len(p), size, v, w, i)
			}
		}
		return 0, fmt.Errorf("%d bytes of %x, want %d", len(p), v, size)
	}
	return v, nil
}

// A member is one of the crowd.
type member struct {
	r    *parRig
	s    *shared
	c    *parClient
	id   uint64
	rng  *rand.Rand
	gen  int
	dir  *client.Fid
	seq  uint64
	race int

	regs   map[string][]gefstest.RegisterOp
	cuts   []cutOp // truncations, and reads that found nothing
	names  map[string][]nameOp
	logged []logOp
	log    []byte // as read last
}

// A nameOp is what somebody did with a name, or saw of it.
type nameOp struct {
	op         string // create, exists, remove, see, miss
	qid        uint64
	start, end time.Duration
	who        string
}

func (o *nameOp) String() string {
	return fmt.Sprintf("%s: %s %d in [%v, %v]", o.who, o.op, o.qid, o.start, o.end)
}

// A cutOp is a truncation of a file, or a read that found it empty.
type cutOp struct {
	file       string
	read       bool
	start, end time.Duration
}

// A logOp is a record appended to the log.
type logOp struct {
	record     string
	start, end time.Duration
}

func (m *member) who() string { return fmt.Sprintf("%s/%d", m.c.user(), m.id) }

func (m *member) time() time.Duration { return time.Since(m.r.began) }

func (m *member) must(err error, format string, args ...any) {
	if err != nil {
		m.r.fatalf("%s: %s: %v", m.who(), fmt.Sprintf(format, args...), err)
	}
}

// among wants no error, or one with one of the texts; it reports whether there was none.
func (m *member) among(err error, what string, texts ...string) bool {
	if err == nil {
		return true
	}
	for _, t := range texts {
		if strings.Contains(err.Error(), t) {
			return false
		}
	}
	m.must(err, "%s", what)
	return false
}

func (m *member) run() {
	for m.r.step("shared") {
		m.one()
	}
}

func (m *member) one() {
	m.r.quiet.RLock()
	defer m.r.quiet.RUnlock()
	if m.gen != m.c.gen {
		root, err := m.c.conn.Attach(m.c.user(), "")
		m.must(err, "attach")
		m.dir = m.walk(root, "shared")
		m.clunk(root)
		m.gen = m.c.gen
	}
	switch op := m.rng.IntN(100); {
	case op < 25:
		m.register()
	case op < 40:
		m.truncated()
	case op < 60:
		m.name()
	case op < 70:
		m.move()
	case op < 75:
		m.listMovers()
	case op < 80:
		m.listStatic()
	case op < 86:
		m.exclusive()
	case op < 93:
		m.append()
	case op < 95:
		m.readLog()
	case op < 97:
		m.raceCreate()
	default:
		m.dirs()
	}
}

func (m *member) walk(f *client.Fid, names ...string) *client.Fid {
	g, err := f.Walk(names...)
	m.must(err, "walk to %v", names)
	return g
}

func (m *member) clunk(f *client.Fid) { m.must(f.Clunk(), "clunk") }

func (m *member) next() uint64 {
	m.seq++
	return m.id<<32 | m.seq
}

func (m *member) note(file string, op gefstest.RegisterOp) {
	op.End = m.time()
	op.Who = m.who()
	m.regs[file] = append(m.regs[file], op)
}

// register writes or reads a register a few times, with two fids at once.
func (m *member) register() {
	i := m.rng.IntN(len(stampSizes))
	name, size := fmt.Sprintf("reg%d", i), stampSizes[i]
	f := m.walk(m.dir, name)
	m.must(f.Open(ninep.ORDWR), "open %s", name)
	for range 1 + m.rng.IntN(6) {
		op := gefstest.RegisterOp{Write: m.rng.IntN(3) == 0, Start: m.time()}
		if op.Write {
			op.Value = m.next()
			n, err := f.WriteAt(stamp(op.Value, size), 0)
			if err == nil && n != size {
				err = fmt.Errorf("%d bytes taken of %d", n, size)
			}
			m.must(err, "write %s", name)
		} else {
			op.Value = m.readStamp(f, name, size)
		}
		m.note(name, op)
	}
	m.clunk(f)
}

func (m *member) readOnce(f *client.Fid, name string, size int) []byte {
	k, err := m.c.conn.Start(&proto.TRead{Fid: f.Num(), Count: uint32(size)})
	m.must(err, "read %s", name)
	var r ninep.Fcall
	m.must(k.Wait(&r), "read %s", name)
	return r.Rread.Data
}

func (m *member) readStamp(f *client.Fid, name string, size int) uint64 {
	v, err := unstamp(m.readOnce(f, name, size+100), size)
	m.must(err, "read %s", name)
	return v
}

// truncated writes and truncates a file: it is a stamp of its length, or empty, and nothing else.
func (m *member) truncated() {
	i := m.rng.IntN(len(stampSizes))
	name, size := fmt.Sprintf("cut%d", i), stampSizes[i]
	f := m.walk(m.dir, name)
	start := m.time()
	trunc := uint8(0)
	if m.rng.IntN(4) == 0 {
		trunc = ninep.OTRUNC
	}
	m.must(f.Open(ninep.ORDWR|trunc), "open %s", name)
	cut := func() { m.cuts = append(m.cuts, cutOp{name, false, start, m.time()}) }
	if trunc != 0 {
		cut()
	}
	for range 1 + m.rng.IntN(6) {
		start = m.time()
		switch m.rng.IntN(6) {
		case 0:
			d := ninep.NullDir()
			d.Length = 0
			m.must(f.Wstat(d), "truncate %s", name)
			cut()
		case 1, 2:
			op := gefstest.RegisterOp{Write: true, Value: m.next(), Start: start}
			_, err := f.WriteAt(stamp(op.Value, size), 0)
			m.must(err, "write %s", name)
			m.note(name, op)
		default:
			if p := m.readOnce(f, name, size+100); len(p) == 0 {
				m.cuts = append(m.cuts, cutOp{name, true, start, m.time()})
			} else {
				v, err := unstamp(p, size)
				m.must(err, "read %s", name)
				m.note(name, gefstest.RegisterOp{Value: v, Start: start})
			}
		}
		d, err := f.Stat()
		m.must(err, "stat %s", name)
		if d.Length != 0 && d.Length != uint64(size) {
			m.must(fmt.Errorf("%d bytes long", d.Length), "stat %s", name)
		}
	}
	m.clunk(f)
}

func (m *member) noteName(name, op string, qid uint64, start time.Duration) {
	m.names[name] = append(m.names[name], nameOp{op, qid, start, m.time(), m.who()})
}

// name creates, looks for or removes a name for which others do the same.
func (m *member) name() {
	name := fmt.Sprintf("n%d", m.rng.IntN(parNames))
	start := m.time()
	if m.rng.IntN(2) == 0 {
		f := m.walk(m.dir, "names")
		mode := uint8(ninep.ORDWR)
		rclose := m.rng.IntN(3) == 0
		if rclose {
			mode |= ninep.ORCLOSE
		}
		err := f.Create(name, 0666, mode)
		if !m.among(err, "create "+name, txtExists) {
			m.noteName(name, "exists", 0, start)
			m.clunk(f)
			return
		}
		m.noteName(name, "create", f.Qid().Uid, start)
		qid := f.Qid().Uid
		if m.rng.IntN(2) == 0 {
			_, err := f.WriteAt(m.rand(1+m.rng.IntN(20000)), 0)
			m.among(err, "write "+name, txtGone)
		}
		switch {
		case rclose: // unless somebody removed it before
			start = m.time()
			m.clunk(f)
			m.noteName(name, "gone", qid, start)
		case m.rng.IntN(2) == 0:
			m.removeName(f, name)
		default:
			m.clunk(f)
		}
		return
	}
	f, err := m.dir.Walk("names", name)
	if !m.among(err, "walk to "+name, string(ninep.ErrNotFound)) {
		m.noteName(name, "miss", 0, start)
		return
	}
	m.noteName(name, "see", f.Qid().Uid, start)
	switch m.rng.IntN(3) {
	case 0:
		m.removeName(f, name)
	case 1:
		start = m.time()
		if m.among(f.Open(ninep.OREAD), "open "+name, string(ninep.ErrNotFound)) {
			m.noteName(name, "see", f.Qid().Uid, start)
			m.readOnce(f, name, 30000)
		} else {
			m.noteName(name, "gone", f.Qid().Uid, start)
		}
		fallthrough
	default:
		m.clunk(f)
	}
}

func (m *member) rand(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(m.rng.Uint32())
	}
	return p
}

func (m *member) removeName(f *client.Fid, name string) {
	start, qid := m.time(), f.Qid().Uid
	if m.among(f.Remove(), "remove "+name, txtGone) {
		m.noteName(name, "remove", qid, start)
	} else {
		m.noteName(name, "gone", qid, start)
	}
}

// move renames one of the files that are never removed: it must be possible to open it.
func (m *member) move() {
	from, to := fmt.Sprintf("m%d", m.rng.IntN(parPlaces)), fmt.Sprintf("m%d", m.rng.IntN(parPlaces))
	f, err := m.dir.Walk("movers", from)
	if !m.among(err, "walk to "+from, string(ninep.ErrNotFound)) {
		return
	}
	if !m.s.movers[f.Qid().Uid] {
		m.must(fmt.Errorf("qid %v is none of the files there", f.Qid()), "walk to %s", from)
	}
	if m.rng.IntN(4) == 0 {
		m.must(f.Open(ninep.OREAD), "open %s", from)
		m.clunk(f)
		return
	}
	d := ninep.NullDir()
	d.Name = to
	m.among(f.Wstat(d), "rename "+from+" "+to, txtExists)
	m.clunk(f)
}

// listMovers reads the directory of the files that move in one message, which is one moment's.
func (m *member) listMovers() {
	f := m.walk(m.dir, "movers")
	m.must(f.Open(ninep.OREAD), "open movers")
	dirs, err := ninep.DecodeDirs(m.readOnce(f, "movers", 100000))
	m.must(err, "read movers")
	m.clunk(f)
	names, qids := make(map[string]bool), make(map[uint64]bool)
	for i := range dirs {
		names[dirs[i].Name] = true
		qids[dirs[i].Qid.Uid] = m.s.movers[dirs[i].Qid.Uid]
	}
	for q := range m.s.movers {
		if !qids[q] {
			m.must(fmt.Errorf("file %d is not in %+v", q, dirs), "read movers")
		}
	}
	if len(names) != parMovers || len(qids) != parMovers || len(dirs) != parMovers {
		m.must(fmt.Errorf("%d entries, %d names, %d files", len(dirs), len(names), len(qids)), "read movers")
	}
}

// listStatic reads a directory in many messages, between which names come and go there; those that
// stay must each be found once, and none twice.
func (m *member) listStatic() {
	d := m.walk(m.dir, "static")
	name := fmt.Sprintf("s%03d.%d", m.rng.IntN(2*parStatics), m.id)
	if f, err := d.Walk(name); err == nil {
		m.must(f.Remove(), "remove %s", name) // nobody else has names with our number
	} else {
		f := m.walk(d)
		m.must(f.Create(name, 0644, ninep.OWRITE), "create %s", name)
		m.clunk(f)
	}
	m.must(d.Open(ninep.OREAD), "open static")
	seen := make(map[string]bool)
	last := ""
	for off := uint64(0); ; {
		k, err := m.c.conn.Start(&proto.TRead{Fid: d.Num(), Offset: off, Count: uint32(300 + m.rng.IntN(4000))})
		m.must(err, "read static")
		var r ninep.Fcall
		m.must(k.Wait(&r), "read static")
		if len(r.Rread.Data) == 0 {
			break
		}
		off += uint64(len(r.Rread.Data))
		dirs, err := ninep.DecodeDirs(r.Rread.Data)
		m.must(err, "read static")
		for i := range dirs {
			if seen[dirs[i].Name] {
				m.must(fmt.Errorf("%s is listed twice", dirs[i].Name), "read static")
			}
			seen[dirs[i].Name] = true
			last = dirs[i].Name
		}
	}
	for i := range parStatics {
		if n := fmt.Sprintf("s%03d", 2*i); !seen[n] {
			m.must(fmt.Errorf("%s is not listed; the last was %s", n, last), "read static")
		}
	}
	m.clunk(d)
}

// exclusive opens the file that only one may have open.
func (m *member) exclusive() {
	f := m.walk(m.dir, "excl")
	if m.among(f.Open(ninep.ORDWR), "open excl", txtLocked) {
		if n := m.s.holders.Add(1); n != 1 {
			m.must(fmt.Errorf("%d have it open", n), "open excl")
		}
		v := m.next()
		_, err := f.WriteAt(stamp(v, 20000), 0)
		m.must(err, "write excl")
		if got := m.readStamp(f, "excl", 20000); got != v {
			m.must(fmt.Errorf("it is %x, we wrote %x", got, v), "read excl")
		}
		m.s.holders.Add(-1)
	}
	m.clunk(f)
}

func (m *member) record() string {
	return fmt.Sprintf("%-*s\n", recordSize-1, fmt.Sprintf("%s %x", m.who(), m.next()))
}

// append appends records to the log, all in flight at once, at offsets that mean nothing.
func (m *member) append() {
	f := m.walk(m.dir, "log")
	m.must(f.Open(ninep.OWRITE), "open log")
	start := m.time()
	type sent struct {
		call *client.Call
		rec  string
	}
	var list []sent
	for range 1 + m.rng.IntN(6) {
		rec := m.record()
		k, err := m.c.conn.Start(&proto.TWrite{Fid: f.Num(), Offset: uint64(m.rng.IntN(1000)), Data: []byte(rec)})
		m.must(err, "append")
		list = append(list, sent{k, rec})
	}
	var r ninep.Fcall
	for _, k := range list {
		m.must(k.call.Wait(&r), "append")
		m.logged = append(m.logged, logOp{k.rec, start, m.time()})
	}
	m.clunk(f)
}

// readLog reads the log: what was there stays as it was, and what we appended is there.
func (m *member) readLog() {
	mine := len(m.logged)
	f := m.walk(m.dir, "log")
	m.must(f.Open(ninep.OREAD), "open log")
	d, err := f.Stat()
	m.must(err, "stat log")
	from := max(0, len(m.log)-10*recordSize)
	buf := make([]byte, int(d.Length)-from)
	n, err := f.ReadFull(buf, int64(from))
	m.must(err, "read log")
	m.clunk(f)
	if n%recordSize != 0 {
		m.must(fmt.Errorf("%d bytes", from+n), "read log")
	}
	if !bytes.HasPrefix(buf, m.log[from:]) {
		m.must(errors.New("what was there is no more"), "read log")
	}
	m.log = append(m.log[:from:from], buf...)
	for _, op := range m.logged[max(0, mine-5):mine] {
		if !strings.Contains(string(m.log), op.record) {
			m.must(fmt.Errorf("%q is not in it", op.record), "read log")
		}
	}
}

// raceCreate creates the next name that each of the crowd creates once.
func (m *member) raceCreate() {
	name := fmt.Sprintf("r%d", m.race)
	m.race++
	f := m.walk(m.dir, "race")
	won := m.among(f.Create(name, 0644, ninep.OWRITE), "create "+name, txtExists)
	m.clunk(f)
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	m.s.tried[name]++
	if won {
		m.s.winners[name]++
	}
}

// dirs makes and removes directories and what is in them: one that has something stays.
func (m *member) dirs() {
	name := fmt.Sprintf("d%d", m.rng.IntN(3))
	parent := m.walk(m.dir, "dirs")
	defer m.clunk(parent)
	f := m.walk(parent)
	made := m.among(f.Create(name, ninep.DMDIR|0777, ninep.OREAD), "mkdir "+name, txtExists)
	m.clunk(f)
	if made {
		if f, err := parent.Walk(name); m.among(err, "walk", string(ninep.ErrNotFound)) {
			d := ninep.NullDir()
			d.Mode = ninep.DMDIR | 0777
			m.among(f.Wstat(d), "chmod "+name, txtGone, "not owner")
			m.clunk(f)
		}
	}
	f, err := parent.Walk(name)
	if !m.among(err, "walk to "+name, string(ninep.ErrNotFound)) {
		return
	}
	own := fmt.Sprintf("own%x", m.next())
	if !m.among(f.Create(own, 0644, ninep.OWRITE), "create "+own, txtGone, "permission denied") {
		m.clunk(f)
		return
	}
	m.clunk(f)
	m.clunk(m.walk(parent, name, own))
	f = m.walk(parent, name)
	if err := f.Remove(); err == nil || !strings.Contains(err.Error(), txtNotEmpty) {
		m.must(fmt.Errorf("the error is %v", err), "rmdir %s, which holds %s", name, own)
	}
	m.must(m.walk(parent, name, own).Remove(), "remove %s/%s", name, own)
	if f, err := parent.Walk(name); m.among(err, "walk to "+name, string(ninep.ErrNotFound)) {
		m.among(f.Remove(), "rmdir "+name, txtNotEmpty, txtGone)
	}
}

// verify looks for an order of all that the crowd has seen, and at what is left.
func (s *shared) verify(root *client.Fid, when string) {
	r := s.r
	bad := func(format string, args ...any) { r.t.Errorf("%s: %s", when, fmt.Sprintf(format, args...)) }
	dir := r.walk(root, "shared")
	regs := make(map[string][]gefstest.RegisterOp)
	names := make(map[string][]nameOp)
	var cuts []cutOp
	var logged []logOp
	for _, m := range s.crowd {
		for file, ops := range m.regs {
			regs[file] = append(regs[file], ops...)
		}
		for name, ops := range m.names {
			names[name] = append(names[name], ops...)
		}
		cuts = append(cuts, m.cuts...)
		logged = append(logged, m.logged...)
	}
	read := func(name string) []byte {
		f := r.walk(dir, strings.Split(name, "/")...)
		defer f.Clunk()
		r.must(f.Open(ninep.OREAD), "open %s", name)
		d, err := f.Stat()
		r.must(err, "stat %s", name)
		p := make([]byte, d.Length)
		_, err = f.ReadFull(p, 0)
		r.must(err, "read %s", name)
		return p
	}
	end := time.Since(r.began)
	for i, size := range stampSizes {
		for _, kind := range []string{"reg", "cut"} {
			name := fmt.Sprintf("%s%d", kind, i)
			ops := append(regs[name], gefstest.RegisterOp{Write: true, Value: 1, Start: -2, End: -1, Who: "setup"})
			if p := read(name); len(p) > 0 || kind == "reg" {
				v, err := unstamp(p, size)
				if err != nil {
					bad("%s: %v", name, err)
					continue
				}
				ops = append(ops, gefstest.RegisterOp{Value: v, Start: end, End: end + 1, Who: "verify"})
			} else {
				cuts = append(cuts, cutOp{name, true, end, end + 1})
			}
			if err := checkCuts(name, ops, cuts); err != nil {
				bad("%s: %v", name, err)
			}
		}
	}
	for name, ops := range names {
		if f, err := dir.Walk("names", name); err == nil {
			ops = append(ops, nameOp{"see", f.Qid().Uid, end, end + 1, "verify"})
			f.Clunk()
		} else {
			ops = append(ops, nameOp{"miss", 0, end, end + 1, "verify"})
		}
		if err := checkName(ops); err != nil {
			bad("names/%s: %v", name, err)
		}
	}
	if err := checkLog(string(read("log")), logged); err != nil {
		bad("log: %v", err)
	}
	for name, n := range s.tried {
		if s.winners[name] != 1 {
			bad("race/%s: %d of %d creates succeeded", name, s.winners[name], n)
		}
	}
	if p := read("excl"); len(p) > 0 {
		if _, err := unstamp(p, 20000); err != nil {
			bad("excl: %v", err)
		}
	}
	movers := r.walk(dir, "movers")
	r.must(movers.Open(ninep.OREAD), "open movers")
	dirs, err := movers.ReadDir()
	r.must(err, "read movers")
	if len(dirs) != parMovers {
		bad("movers: %+v", dirs)
	}
}

// checkCuts checks a register that is truncated now and then. A truncation, and a read that finds
// nothing, are one moment of another value; and what the read found must be a truncation's.
func checkCuts(name string, ops []gefstest.RegisterOp, cuts []cutOp) error {
	var trunc []cutOp
	for i, c := range cuts {
		if c.file != name {
			continue
		}
		ops = append(ops, gefstest.RegisterOp{Write: true, Value: 1<<63 | uint64(i), Start: c.start, End: c.end, Who: "truncate"})
		if !c.read {
			trunc = append(trunc, c)
		}
	}
	for _, c := range cuts {
		if c.file != name || !c.read {
			continue
		}
		last := time.Duration(-1 << 62) // when the last write began that ended before
		for i := range ops {
			if op := &ops[i]; op.Write && op.Value>>63 == 0 && op.End < c.start {
				last = max(last, op.Start)
			}
		}
		if !slices.ContainsFunc(trunc, func(t cutOp) bool { return t.start < c.end && t.end >= last }) {
			return fmt.Errorf("it was empty in [%v, %v], but nobody had truncated it since %v", c.start, c.end, last)
		}
	}
	return gefstest.CheckRegister(ops)
}

// checkName checks what was seen of one name, at which there is at any time one file or none. Every
// file has its own qid path, and its life is from its create to its removal.
func checkName(ops []nameOp) error {
	type life struct{ create, remove *nameOp }
	lives := make(map[uint64]*life)
	for i := range ops {
		if op := &ops[i]; op.op == "create" {
			if lives[op.qid] != nil {
				return fmt.Errorf("qid %d was given twice: %v, %v", op.qid, lives[op.qid].create, op)
			}
			lives[op.qid] = &life{create: op}
		}
	}
	// The times at which a file was surely there, as in CheckRegister.
	var hist []gefstest.RegisterOp
	absent := uint64(1) << 63
	for i := range ops {
		op := &ops[i]
		l := lives[op.qid]
		switch op.op {
		case "create":
			hist = append(hist, gefstest.RegisterOp{Write: true, Value: op.qid, Start: op.start, End: op.end, Who: op.who})
		case "see", "remove":
			if l == nil {
				return fmt.Errorf("%v, which nobody created", op)
			}
			if op.op == "remove" {
				if l.remove != nil {
					return fmt.Errorf("removed twice: %v, %v", l.remove, op)
				}
				l.remove = op
			}
			hist = append(hist, gefstest.RegisterOp{Value: op.qid, Start: op.start, End: op.end, Who: op.who})
		case "miss":
			absent++
			hist = append(hist, gefstest.RegisterOp{Write: true, Value: absent, Start: op.start, End: op.end, Who: op.who})
		}
	}
	for i := range ops {
		op := &ops[i]
		switch op.op {
		case "see":
			if l := lives[op.qid]; l.remove != nil && op.start > l.remove.end {
				return fmt.Errorf("%v after %v", op, l.remove)
			}
		case "gone": // somebody else removed it, or the one whose ORCLOSE this is
			absent++
			_ = absent
		case "exists":
			if !slices.ContainsFunc(slices.Collect(mapValues(lives)), func(l *life) bool {
				return l.create.start < op.end && (l.remove == nil || l.remove.end > op.start)
			}) {
				return fmt.Errorf("%v, but nothing was there", op)
			}
		}
	}
	// After its ORCLOSE or a refused removal a file is gone for good.
	for i := range ops {
		if op := &ops[i]; op.op == "gone" {
			for j := range ops {
				if see := &ops[j]; see.op == "see" && see.qid == op.qid && see.start > op.end {
					return fmt.Errorf("%v after %v", see, op)
				}
			}
		}
	}
	return gefstest.CheckRegister(hist)
}

func mapValues[K comparable, V any](m map[K]V) func(func(V) bool) {
	return func(yield func(V) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// checkLog checks that every record was appended once, after those that were before it.
func checkLog(text string, ops []logOp) error {
	at := make(map[string]int)
	for i := 0; i < len(text); i += recordSize {
		rec := text[i:min(i+recordSize, len(text))]
		if _, twice := at[rec]; twice {
			return fmt.Errorf("record %q at %d is there twice", rec, i)
		}
		at[rec] = i
	}
	if len(at) != len(ops) {
		return fmt.Errorf("%d records, %d were appended", len(at), len(ops))
	}
	for _, op := range ops {
		if _, ok := at[op.record]; !ok {
			return fmt.Errorf("record %q is missing", op.record)
		}
	}
	slices.SortFunc(ops, func(a, b logOp) int { return cmp.Compare(at[a.record], at[b.record]) })
	// From the end: no record may have been finished before one that lies before it was begun.
	ended := time.Duration(1<<63 - 1)
	var first *logOp
	for i := len(ops) - 1; i >= 0; i-- {
		if op := &ops[i]; op.start > ended {
			return fmt.Errorf("record %q, begun at %v, lies before %q, finished at %v", op.record, op.start, first.record, ended)
		} else if op.end < ended {
			ended, first = op.end, op
		}
	}
	return nil
}
