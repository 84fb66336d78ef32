package gefs_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/cons"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/internal/golden"
	"gefs9p/ninep"
)

// The conversations with the reference took place at about this time, and ours do. A time in this
// window is when something happened; a time outside it was set by the client or by ream.
const (
	recorded = 1795392000
	window   = 3600
)

// TestTranscript has the conversations that were recorded with the reference again, with the same
// frames, and compares the answers. What varies is made the same: times, and the numbers of qids and
// versions that are shifted since we refused what the reference did. Otherwise every field must be the
// reference's, unless the step is one of the deliberate differences, or what differs is in general.
func TestTranscript(t *testing.T) {
	steps := gefstest.Transcript(t)
	seen := make(map[string]bool)
	for len(steps) > 0 {
		n := 1
		for n < len(steps) && steps[n].Instance == steps[0].Instance {
			n++
		}
		t.Run(fmt.Sprint("instance ", steps[0].Instance), func(t *testing.T) { playInstance(t, steps[:n], seen) })
		steps = steps[n:]
	}
	for at := range deliberate {
		if !seen[at] {
			t.Errorf("step %s is listed as a difference and is none", at)
		}
	}
}

// playInstance plays the steps of one instance, and notes the differences it meets.
func playInstance(t *testing.T, steps []*gefstest.Step, seen map[string]bool) {
	dev := gefstest.Ream(t)
	clock := int64(recorded)
	fs := gefstest.Open(t, dev, gefs.Options{Now: func() time.Time {
		clock++
		return time.Unix(recorded, clock)
	}})
	p := gefstest.Play(t, fs)
	v := &view{t: t, toRef: make(map[uint64]uint64), drift: make(map[uint64]int32), msize: make(map[int]uint32)}
	for _, s := range steps {
		switch {
		case s.Close:
			p.Send(s)
		case s.Console != "":
			want := s.Output
			if d, ok := deliberate[s.String()]; ok {
				want = d.want
			}
			if got := console(t, fs, s.Console); got != want {
				t.Errorf("%v: console: %s\nour  %s\nref  %s\nwant %s", s, s.Console, got, s.Output, want)
			}
		default:
			v.compare(s, p.Send(s))
		}
		if d, ok := deliberate[s.String()]; ok {
			seen[s.String()] = true
			v.shift += d.qids
			for path, n := range d.vers {
				v.drift[path] += n
			}
		}
	}
	p.Stop()
	if err := fs.Close(); err != nil {
		t.Error(err)
	}
	gefstest.CheckStrict(t, dev)
}

// console returns what the console prints after a line.
func console(t *testing.T, fs *gefs.FS, line string) string {
	words, err := cons.Split(line)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := (&cons.Console{FS: fs}).Exec(t.Context(), words, &out); err != nil {
		fmt.Fprintln(&out, err)
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// A view compares answers.
type view struct {
	t     *testing.T
	toRef map[uint64]uint64 // qid paths of files made here: ours to the reference's
	shift uint64            // how many more qids the reference has handed out
	drift map[uint64]int32  // by the reference's qid path: how many versions it is ahead
	msize map[int]uint32    // by connection: what we agreed to
}

// compare checks the answer r, nil if the server hung up, to step s.
func (v *view) compare(s *gefstest.Step, r []byte) {
	if len(r) > 0 {
		if tag := binary.LittleEndian.Uint16(r[5:]); tag != binary.LittleEndian.Uint16(s.T[5:]) {
			v.t.Errorf("%v: answered with the tag %d", s, tag)
		}
	}
	v.learn(s, r)
	our, ref := v.answer(s, r, true), v.answer(s, s.R, false)
	want := ref.text
	if d := deliberate[s.String()]; d.want != "" {
		want = d.want
		if our.text == ref.text {
			v.t.Errorf("%v is not different: %s", s, ref.text)
		}
	} else if our.text != ref.text && our.like(&ref) {
		return
	}
	if our.text != want {
		v.t.Errorf("%v: %s\nT   %s\nour %s\nref %s\nwant %s", s, s.Desc, v.answer(s, s.T, false).text, our.text, ref.text, want)
	}
}

// learn notes which qid path of ours is which of the reference's.
func (v *view) learn(s *gefstest.Step, r []byte) {
	var ref, our ninep.Fcall
	if ref.Decode(s.R) != nil || our.Decode(r) != nil || ref.Type != ninep.Rcreate || our.Type != ninep.Rcreate {
		return
	}
	o, w := our.Rcreate.Qid.Uid, ref.Rcreate.Qid.Uid
	if o+v.shift != w {
		v.t.Errorf("%v: the new file has qid path %d, want %d", s, o, w-v.shift)
	}
	v.toRef[o] = w
}

// An answer is a message as text, without its tag, and the stat records in it.
type answer struct {
	text string
	typ  uint8
	dirs []ninep.Dir
}

func (v *view) answer(s *gefstest.Step, frame []byte, our bool) answer {
	switch {
	case len(frame) > 0:
	case !our && s.Dead:
		return answer{text: "no answer"}
	default:
		return answer{text: "hang-up"}
	}
	var fc ninep.Fcall
	if err := fc.Decode(frame); err != nil {
		return answer{text: fmt.Sprintf("%x", frame)}
	}
	a := answer{typ: fc.Type}
	qid := func(q *ninep.Qid) {
		switch {
		case q.Uid >= 1<<63:
			q.Vers = 0 // of the dump directory: the next generation
		case our:
			if ref, ok := v.toRef[q.Uid]; ok {
				q.Uid = ref
			}
			q.Vers += uint32(v.drift[q.Uid])
		}
	}
	iounit := func(n *uint32) {
		if want := v.msize[s.Conn] - 24; our && *n != want {
			v.t.Errorf("%v: iounit is %d, want %d", s, *n, want)
		}
		*n = 0
	}
	stat := func(d *proto.Stat) {
		qid(&d.Qid)
		for _, x := range []*uint32{&d.Atime, &d.Mtime} {
			if *x >= recorded && *x < recorded+window {
				*x = recorded
			}
		}
		a.dirs = append(a.dirs, ninep.Dir(*d))
	}
	switch fc.Type {
	case ninep.Rversion:
		if our {
			v.msize[s.Conn] = fc.Version.Msize
		}
	case ninep.Rattach:
		qid(&fc.Rattach.Qid)
	case ninep.Rwalk:
		for i := range fc.Rwalk.Wqid {
			qid(&fc.Rwalk.Wqid[i])
		}
	case ninep.Ropen:
		qid(&fc.Ropen.Qid)
		iounit(&fc.Ropen.Iounit)
	case ninep.Rcreate:
		qid(&fc.Rcreate.Qid)
		iounit(&fc.Rcreate.Iounit)
	case ninep.Rstat:
		stat(&fc.Rstat.Stat)
	case ninep.Rread:
		if dirs, err := ninep.DecodeDirs(fc.Rread.Data); err == nil && len(dirs) > 0 {
			a.text = "Rread of a directory"
			for i := range dirs {
				stat((*proto.Stat)(&dirs[i]))
				_, rec, _ := strings.Cut(ninep.Format(&proto.RStat{Stat: proto.Stat(dirs[i])}), "stat ")
				a.text += "\n\t" + rec
			}
			return a
		}
	}
	a.text = ninep.Format(fc.Msg())
	if i := strings.Index(a.text, " tag "); i >= 0 {
		_, rest, _ := strings.Cut(a.text[i+5:], " ")
		a.text = strings.TrimSpace(a.text[:i] + " " + rest)
	}
	return a
}

// like says that a, an answer of ours, differs from the reference's only in stat records, and in these
// only as ours differ everywhere.
func (a *answer) like(ref *answer) bool {
	return a.typ == ref.typ && len(a.dirs) > 0 && slices.EqualFunc(a.dirs, ref.dirs, func(o, r ninep.Dir) bool {
		// The stat of a file in use: the reference has not counted the version since it was opened.
		if o.Qid.Qtype&ninep.QTDIR == 0 && a.typ == ninep.Rstat && r.Qid.Vers < o.Qid.Vers {
			r.Qid.Vers = o.Qid.Vers
		}
		// A directory in which something was created, removed or renamed: the reference counts its
		// version, but leaves who and when as they were.
		if o.Qid.Qtype&ninep.QTDIR != 0 && o.Qid.Vers > 0 && r.Mtime < o.Mtime {
			r.Mtime, r.Muid = o.Mtime, o.Muid
		}
		// The dump directory's entries: the generations of the snapshots.
		if o.Mode == ninep.DMDIR|0555 && o.Uid == "adm" && o.Muid == "adm" && o.Atime == 0 {
			r.Qid = o.Qid
		}
		return o == r
	})
}

// A difference is a step to which our answer is not the reference's, on purpose.
type difference struct {
	want string           // our answer; empty if only numbers differ from here on
	why  string           // the heading in docs/differences.md
	qids uint64           // qid paths that the reference used up
	vers map[uint64]int32 // versions that the reference counted and we did not, by its qid path
}

// TestEveryDifferenceIsDocumented looks for the reasons of the table in the documentation.
func TestEveryDifferenceIsDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(golden.Root(t), "docs", "differences.md"))
	if errors.Is(err, os.ErrNotExist) {
		t.Fatal("docs/differences.md is missing")
	}
	if err != nil {
		t.Fatal(err)
	}
	for at, d := range deliberate {
		if !strings.Contains(string(text), "\n### "+d.why+"\n") {
			t.Errorf("step %s: there is no heading %q", at, d.why)
		}
	}
}
