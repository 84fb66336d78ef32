package faults

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"gefs9p/internal/gefstest"
)

// A Kind says what an Op does.
type Kind string

// The kinds of operations. What is in brackets are the fields they use besides Path.
const (
	Create   Kind = "create"   // [Mode]
	Mkdir    Kind = "mkdir"    // [Mode]
	Write    Kind = "write"    // [Off Len Seed] bytes made from the seed
	Truncate Kind = "truncate" // [Len]
	Remove   Kind = "remove"
	Rename   Kind = "rename" // [To] in the same directory
	Move     Kind = "move"   // [To] a path; what is there is replaced, as rename(2) does
	Chmod    Kind = "chmod"  // [Mode]
	Label    Kind = "label"  // a snapshot of main, named Path
	Unlabel  Kind = "unlabel"
	Rollback Kind = "rollback" // [To] main is as the snapshot Path; what it was is kept as To
	Fsync    Kind = "fsync"    // no Path
	Fill     Kind = "fill"     // [Len] until that many blocks are left; in the tree adm, where the oracle does not look
	Drain    Kind = "drain"    // [Len] the other way round
	Trim     Kind = "trim"     // what is free is discarded; no Path
	Enlarge  Kind = "enlarge"  // [Len] the device, by hand, by that many MiB; no Path
	Grow     Kind = "grow"     // [Len] the device by that many MiB, and the disk into what it gained since it last grew
)

// An Op is one operation on a file system. Paths are of the tree main and have no leading slash.
type Op struct {
	Kind Kind
	Path string
	To   string
	Off  int
	Len  int
	Mode uint32
	Seed uint64
}

// String is the operation in the form that ParseOps reads: words, of which the first is the kind.
func (op Op) String() string {
	switch op.Kind {
	case Create, Mkdir, Chmod:
		return fmt.Sprintf("%s %s %o", op.Kind, op.Path, op.Mode)
	case Write:
		return fmt.Sprintf("%s %s %d %d %d", op.Kind, op.Path, op.Off, op.Len, op.Seed)
	case Truncate:
		return fmt.Sprintf("%s %s %d", op.Kind, op.Path, op.Len)
	case Remove, Label, Unlabel:
		return fmt.Sprintf("%s %s", op.Kind, op.Path)
	case Rename, Move, Rollback:
		return fmt.Sprintf("%s %s %s", op.Kind, op.Path, op.To)
	case Fill, Drain, Enlarge, Grow:
		return fmt.Sprintf("%s %d", op.Kind, op.Len)
	}
	return string(op.Kind)
}

// Text is the operations as ParseOps reads them.
func Text(ops []Op) string {
	var b strings.Builder
	for _, op := range ops {
		fmt.Fprintln(&b, op)
	}
	return b.String()
}

// ParseOps reads operations, one a line. Empty lines and those that begin with # are skipped.
func ParseOps(text string) ([]Op, error) {
	var ops []Op
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		kind, _, _ := strings.Cut(line, " ")
		op := Op{Kind: Kind(kind)}
		var err error
		switch op.Kind {
		case Create, Mkdir, Chmod:
			_, err = fmt.Sscanf(line, kind+" %s %o", &op.Path, &op.Mode)
		case Write:
			_, err = fmt.Sscanf(line, kind+" %s %d %d %d", &op.Path, &op.Off, &op.Len, &op.Seed)
		case Truncate:
			_, err = fmt.Sscanf(line, kind+" %s %d", &op.Path, &op.Len)
		case Remove, Label, Unlabel:
			_, err = fmt.Sscanf(line, kind+" %s", &op.Path)
		case Rename, Move, Rollback:
			_, err = fmt.Sscanf(line, kind+" %s %s", &op.Path, &op.To)
		case Fill, Drain, Enlarge, Grow:
			_, err = fmt.Sscanf(line, kind+" %d", &op.Len)
		case Fsync, Trim:
		default:
			err = fmt.Errorf("there is no such operation")
		}
		if err != nil || op.String() != line {
			return nil, fmt.Errorf("bad operation %q: %v", line, err)
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// Data returns what a write writes.
func (op Op) Data() []byte {
	r := rand.NewPCG(op.Seed, uint64(op.Len))
	p := make([]byte, op.Len+8)
	for i := 0; i < op.Len; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], r.Uint64())
	}
	return p[:op.Len]
}

// Fits reports whether the operation can be done in this state. One of a shorter script may not.
func (op Op) Fits(o *gefstest.Oracle) bool {
	n := o.Nodes[op.Path]
	isDir := func(p string) bool { d := o.Nodes[p]; return d != nil && d.Dir }
	_, labelled := o.Labels[op.Path]
	_, kept := o.Labels[op.To]
	switch op.Kind {
	case Create, Mkdir:
		return n == nil && isDir(path.Dir(op.Path))
	case Write, Truncate:
		return n != nil && !n.Dir && op.Off <= len(n.Data)+1<<20
	case Remove:
		return n != nil && op.Path != "." && (!n.Dir || o.Empty(op.Path))
	case Rename:
		return n != nil && op.Path != "." && o.Nodes[path.Join(path.Dir(op.Path), op.To)] == nil
	case Move:
		to := o.Nodes[op.To]
		switch {
		case n == nil || op.Path == "." || op.To == op.Path || !isDir(path.Dir(op.To)):
			return false
		case n.Dir && strings.HasPrefix(op.To, op.Path+"/"):
			return false
		}
		return to == nil || to.Dir == n.Dir && op.To != "." && (!to.Dir || o.Empty(op.To))
	case Chmod:
		return n != nil && op.Path != "."
	case Label:
		return !labelled
	case Unlabel:
		return labelled
	case Rollback:
		// The tree of the snapshot may be younger than it looks, but not the same if it looks different.
		return labelled && !kept && o.Labels[op.Path] != o.Tree()
	}
	return true
}

// Predict does the operation, which fits and which the file system has done at that time, to the
// oracle.
func (op Op) Predict(o *gefstest.Oracle, now int64) {
	switch op.Kind {
	case Create, Mkdir:
		o.Create(op.Path, op.Kind == Mkdir, op.Mode, now)
	case Write:
		o.Write(op.Path, op.Off, op.Data(), now)
	case Truncate:
		o.Truncate(op.Path, op.Len)
	case Remove:
		o.Remove(op.Path, now)
	case Rename:
		o.Rename(op.Path, op.To, now)
	case Move:
		o.Move(op.Path, op.To, now)
	case Chmod:
		o.Chmod(op.Path, op.Mode)
	case Label:
		o.Label(op.Path)
	case Unlabel:
		o.Unlabel(op.Path)
	case Rollback:
		o.Rollback(op.Path, op.To)
	}
}

// Limits of the tree that a Source makes. What is on the disk is read again for every case, so it
// is small; the snapshots make the disk's history long all the same.
const (
	maxFiles  = 40
	maxDirs   = 10
	maxLabels = 4
	maxBytes  = 2 << 20 // of all files together
	large     = 1<<20 + 40000
)

// A Source makes up operations: files written, cut, renamed and removed, large ones now and then whose
// removal goes on in the background; snapshots made and deleted, those of a schedule among them;
// rollbacks; a disk that gets full and has room again.
type Source struct {
	R     *rand.Rand
	Full  bool // the disk may get full
	Moves bool // half of it are moves between directories
	N     int  // names handed out so far
	fills int
}

func (s *Source) name(prefix string) string {
	s.N++
	if prefix == "f" && s.R.IntN(8) == 0 {
		return fmt.Sprintf("f%d-%0*d", s.N, 1+s.R.IntN(200), 7)
	}
	return fmt.Sprint(prefix, s.N)
}

// Ops returns n operations, each of which fits the state that those before it lead to, beginning with o, if none is
// refused.
func (s *Source) Ops(o *gefstest.Oracle, n int) []Op {
	o = o.Clone()
	var ops, next []Op
	for now := int64(1); len(ops) < n; {
		if len(next) == 0 {
			next = s.think(o)
		}
		op := next[0]
		if next = next[1:]; op.Fits(o) {
			op.Predict(o, now)
			now++
			ops = append(ops, op)
		}
	}
	return ops
}

func pick[E any](r *rand.Rand, list []E) E { return list[r.IntN(len(list))] }

// think returns what to do next.
func (s *Source) think(o *gefstest.Oracle) []Op {
	r := s.R
	files, dirs := o.Paths(false), o.Paths(true)
	if len(files) == 0 {
		return []Op{{Kind: Create, Path: path.Join(pick(r, dirs), s.name("f")), Mode: 0644}}
	}
	bytes := 0
	for _, p := range files {
		bytes += len(o.Nodes[p].Data)
	}
	full := s.fills%2 == 1 // what much else hangs on would be refused
	p := pick(r, files)
	size := len(o.Nodes[p].Data)
	if s.Moves && r.IntN(2) == 0 {
		return []Op{s.move(o, files, dirs)}
	}
	switch op := r.IntN(1000); {
	case op < 200 && len(files) < maxFiles:
		return []Op{{Kind: Create, Path: path.Join(pick(r, dirs), s.name("f")), Mode: 0644}}
	case op < 240 && len(dirs) < maxDirs && !full:
		return []Op{{Kind: Mkdir, Path: path.Join(pick(r, dirs), s.name("d")), Mode: 0755}}
	case op < 570 && bytes < maxBytes:
		return []Op{{Kind: Write, Path: p, Off: s.offset(size), Len: s.length(), Seed: r.Uint64()}}
	case op < 576 && bytes < maxBytes/4:
		return []Op{
			{Kind: Write, Path: p, Len: 1 << 20, Seed: r.Uint64()},
			{Kind: Write, Path: p, Off: 1 << 20, Len: large - 1<<20, Seed: r.Uint64()},
		}
	case op < 680:
		return []Op{{Kind: Truncate, Path: p, Len: r.IntN(min(size, 200000) + 20000)}}
	case op < 800:
		for _, big := range files { // large ones do not stay for long: reading them again takes time
			if len(o.Nodes[big].Data) > large/2 && r.IntN(2) == 0 {
				p = big
			}
		}
		return []Op{{Kind: Remove, Path: p}}
	case op < 820:
		return []Op{{Kind: Remove, Path: pick(r, dirs)}}
	case op < 860:
		if r.IntN(3) == 0 && !full {
			p = pick(r, dirs)
		}
		return []Op{{Kind: Rename, Path: p, To: s.name("f")}}
	case op < 890:
		return []Op{{Kind: Chmod, Path: p, Mode: uint32(r.IntN(0400)) | 0600}}
	case op < 950:
		return s.labels(o, full)
	case op < 955 && s.Full:
		s.fills++
		if s.fills%2 == 1 {
			return []Op{{Kind: Fill, Len: r.IntN(120)}}
		}
		return []Op{{Kind: Drain, Len: 600 + r.IntN(400)}}
	case op >= 970:
		return []Op{{Kind: Fsync}}
	}
	return []Op{{Kind: Create, Path: path.Join(pick(r, dirs), s.name("f")), Mode: 0600}, {Kind: Fsync}}[r.IntN(2):]
}

// move returns a move of a file or directory, half of the time onto another one.
func (s *Source) move(o *gefstest.Oracle, files, dirs []string) Op {
	from, kind := files, "f"
	if s.R.IntN(4) == 0 {
		from, kind = dirs, "d"
	}
	op := Op{Kind: Move, Path: pick(s.R, from), To: path.Join(pick(s.R, dirs), s.name(kind))}
	if s.R.IntN(2) == 0 {
		op.To = pick(s.R, from)
	}
	return op
}

// labels returns something to do with snapshots.
func (s *Source) labels(o *gefstest.Oracle, full bool) []Op {
	r := s.R
	var names, auto []string
	for name := range o.Labels {
		names = append(names, name)
		if strings.HasPrefix(name, "main@") {
			auto = append(auto, name)
		}
	}
	slices.Sort(names)
	slices.Sort(auto)
	switch k := r.IntN(10); {
	case k < 3 && len(names) < maxLabels:
		return []Op{{Kind: Label, Path: s.name("label")}}
	case k < 6: // as the schedule does it: what is too old goes, then comes the new one
		var ops []Op
		for i := 0; i+1 < len(auto); i++ {
			ops = append(ops, Op{Kind: Unlabel, Path: auto[i]})
		}
		s.N++
		return append(ops, Op{Kind: Label, Path: fmt.Sprintf("main@minute.2026.01.02_%02d:%02d:%02d", s.N/3600%24, s.N/60%60, s.N%60)})
	case k < 7 && !full && len(names) > 0 && len(names) < maxLabels:
		return []Op{{Kind: Rollback, Path: pick(r, names), To: s.name("kept")}}
	case len(names) > 0:
		return []Op{{Kind: Unlabel, Path: pick(r, names)}}
	}
	return []Op{{Kind: Label, Path: s.name("label")}}
}

func (s *Source) offset(size int) int {
	if size == 0 || size > 100000 {
		return 0
	}
	return s.R.IntN(size + size/4 + 1)
}

func (s *Source) length() int {
	switch s.R.IntN(10) {
	case 0:
		return 1 + s.R.IntN(70000)
	case 1:
		return 16384 * (1 + s.R.IntN(3))
	}
	return 1 + s.R.IntN(3000)
}
