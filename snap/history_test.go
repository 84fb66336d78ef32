package snap

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"gefs9p/blkdev"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "seed of the random histories; 0 takes one from the clock")
	stepsFlag  = flag.Int("steps", 10000, "steps of the random histories, all together")
	scriptFlag = flag.String("script", "", "play this history, as a failure printed it")
	wideFlag   = flag.Bool("wide", false, "with -script: trees with more than one leaf")
	eachFlag   = flag.Bool("each", false, "with -script: commit after every step")
	biteFlag   = flag.Int("bite", 0, "with -script: how much a piece of Reclaim does; 0 is the usual")
	shrinkFlag = flag.Duration("shrink", 20*time.Second, "time for making a failing history shorter")
)

// maxLabels bounds the snapshots of a history.
const maxLabels = 40

// A step is one operation of a history: a letter and what it chooses by. What it does depends on the
// state it meets, so that a history from which steps are taken away is still one.
type step struct {
	op   byte
	a, b uint16
}

// ops are the letters, as often as they are to come.
var ops = func() string {
	var s strings.Builder
	for _, x := range []struct {
		op byte
		n  int
	}{
		{'w', 40}, // write to a mutable label
		{'W', 5},  // write much
		{'r', 8},  // remove files
		{'l', 12}, // label
		{'f', 8},  // fork
		{'b', 3},  // roll back
		{'d', 16}, // delete a label
		{'c', 10}, // commit
		{'o', 4},  // commit, and change things meanwhile
		{'x', 2},  // crash
		{'q', 1},  // commit, stop and open again
		{'h', 4},  // hold a label open, or stop to
		{'e', 1},  // what must be refused
		{'p', 8},  // a piece of what deletions left to do
		{'P', 4},  // one, while others change things
		{'S', 1},  // a survey, and then the deletions themselves
		{'s', 2},  // a survey of what deletions would give back, while others change things
	} {
		s.WriteString(strings.Repeat(string(x.op), x.n))
	}
	return s.String()
}()

func randomSteps(r *rand.Rand, n int) []step {
	list := make([]step, n)
	for i := range list {
		list[i] = step{ops[r.IntN(len(ops))], uint16(r.Uint32()), uint16(r.Uint32())}
	}
	return list
}

func formatScript(list []step) string {
	var s strings.Builder
	for i, x := range list {
		if i > 0 {
			s.WriteByte(' ')
		}
		fmt.Fprintf(&s, "%c%x.%x", x.op, x.a, x.b)
	}
	return s.String()
}

func parseScript(text string) (list []step, err error) {
	for _, w := range strings.Fields(text) {
		var x step
		if _, err := fmt.Sscanf(w, "%c%x.%x", &x.op, &x.a, &x.b); err != nil {
			return nil, fmt.Errorf("step %q: %w", w, err)
		}
		list = append(list, x)
	}
	return list, nil
}

// A how says how a history is played.
type how struct {
	wide bool // trees with more than one leaf
	each bool // commit after every step, and check the disk
	bite int  // how much a piece of Reclaim does; 0 is the usual
}

// String returns h as flags.
func (h how) String() string {
	return fmt.Sprintf("-wide=%v -each=%v -bite %d", h.wide, h.each, h.bite)
}

// A player plays a history.
type player struct {
	w     *world
	names int
	told  []string // what was done
	how
}

func (p *player) say(format string, arg ...any) { p.told = append(p.told, fmt.Sprintf(format, arg...)) }

// play plays the steps on a new disk. The error says at which step something was wrong.
func play(list []step, h how) (p *player, err error) {
	p = &player{how: h}
	i := -1
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("panic: %v", x)
		}
		if err != nil {
			err = fmt.Errorf("step %d: %w", i, err)
		}
		if p.w != nil {
			p.w.stop()
		}
	}()
	if p.w, err = newWorld(blkdev.NewMem(diskSize)); err != nil {
		return p, err
	}
	p.w.lazy = true
	if n := h.bite; n > 0 {
		p.w.bite = pieceSize{n, n, n}
		p.w.f.piece = p.w.bite
	}
	if h.wide {
		// Names so long that a few hundred fill several leaves.
		for k := range 30 {
			m := make(map[string]bool)
			for j := range 10 {
				m[fmt.Sprintf("%0200d", k*10+j)] = false
			}
			if err := p.w.write(Main, m); err != nil {
				return p, err
			}
		}
	}
	for i = range list {
		if err := p.step(list[i]); err != nil {
			return p, err
		}
		if p.each {
			if err := p.w.commit(nil); err != nil {
				return p, err
			}
		}
		if err := p.w.verifyAll(); err != nil {
			return p, err
		}
	}
	i++
	if err := p.w.commit(nil); err != nil {
		return p, err
	}
	if err := p.w.verifyAll(); err != nil {
		return p, err
	}
	return p, p.end()
}

// pick returns the label that n chooses among those for which ok holds, "" if there is none.
func (p *player) pick(n uint16, ok func(name string, l labelled) bool) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(p.w.now)) {
		if ok(name, p.w.now[name]) {
			list = append(list, name)
		}
	}
	if len(list) == 0 {
		return ""
	}
	return list[int(n)%len(list)]
}

func mutable(_ string, l labelled) bool { return l.mutable }
func any_(string, labelled) bool        { return true }

func (p *player) name() string {
	p.names++
	return fmt.Sprintf("n%d", p.names)
}

// files returns some names of files, chosen by n.
func (p *player) files(n uint16, count int) []string {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	var list []string
	for range count {
		if p.wide && r.IntN(3) > 0 {
			list = append(list, fmt.Sprintf("%0200d", r.IntN(300)))
		} else {
			list = append(list, fmt.Sprintf("f%d", r.IntN(12)))
		}
	}
	return list
}

func (p *player) change(label string, files []string, remove bool) error {
	m := make(map[string]bool)
	for _, f := range files {
		m[f] = remove
	}
	return p.w.write(label, m)
}

func (p *player) step(s step) error {
	w := p.w
	switch s.op {
	case 'w', 'W', 'r':
		label := p.pick(s.a, mutable)
		n := 1 + int(s.b)%3
		if s.op == 'W' {
			n = 10 + int(s.b)%30
		}
		p.say("write %d files of %s (%c)", n, label, s.op)
		return p.change(label, p.files(s.b, n), s.op == 'r')
	case 'l', 'f':
		if len(w.now) >= maxLabels {
			return nil
		}
		old, name := p.pick(s.a, any_), p.name()
		p.say("label %s %s, mutable: %v", old, name, s.op == 'f')
		return w.label(old, name, s.op == 'f')
	case 'b':
		if len(w.now) >= maxLabels {
			return nil
		}
		label := p.pick(s.a, func(n string, l labelled) bool { return l.mutable && n != Adm })
		old := p.pick(s.b, func(n string, l labelled) bool { return l.root == w.now[label].root && n != label })
		if old == "" {
			return nil
		}
		keep := p.name()
		p.say("rollback %s %s %s", label, old, keep)
		err := w.rollback(label, old, keep)
		if err != nil && w.f.labels[label].val.Gen == w.f.labels[old].val.Gen {
			return nil
		}
		return err
	case 'd':
		name := p.pick(s.a, func(n string, _ labelled) bool { return n != Empty && n != Adm && n != Main && w.open[n] == nil })
		if name == "" {
			return nil
		}
		p.say("delete %s", name)
		return w.unlabel(name)
	case 'c', 'o':
		if w.busy {
			return nil
		}
		p.say("commit (%c)", s.op)
		var meanwhile func() error
		if s.op == 'o' {
			meanwhile = func() error { return p.meanwhile(s, "wrlfbdhps") }
		}
		if err := w.commit(meanwhile); err != nil {
			return err
		}
		return w.verify(p.pick(s.b, any_))
	case 'x':
		p.say("crash")
		if err := w.crash(); err != nil {
			return err
		}
		return w.census()
	case 'q':
		p.say("reopen")
		if err := w.commit(nil); err != nil {
			return err
		}
		return w.crash()
	case 'h':
		if name := p.pick(s.a, func(n string, _ labelled) bool { return w.open[n] != nil }); name != "" && s.b%2 == 0 {
			p.say("drop %s", name)
			w.drop(name)
			return nil
		}
		name := p.pick(s.a, func(n string, _ labelled) bool { return w.open[n] == nil })
		if name == "" {
			return nil
		}
		p.say("hold %s", name)
		return w.hold(name)
	case 'e':
		return p.refusals(s)
	case 'p', 'P':
		p.say("reclaim (%c)", s.op)
		var x *interruption
		if s.op == 'P' {
			x = &interruption{int(s.a) % 5, func() error { return p.meanwhile(s, "wrlfbdhcs") }}
		}
		_, err := w.piece(x)
		return err
	case 's', 'S':
		var names []string
		for _, n := range []uint16{s.a, s.b, s.a ^ s.b} {
			name := p.pick(n, func(n string, _ labelled) bool { return n != Empty && n != Adm && !slices.Contains(names, n) })
			if name != "" {
				names = append(names, name)
			}
		}
		p.say("survey of %q (%c)", names, s.op)
		if s.op == 'S' {
			return p.survey(names)
		}
		_, err := w.space(&interruption{int(s.a) % 5, func() error { return p.meanwhile(s, "wrlfbdhcp") }}, names...)
		return err
	}
	return fmt.Errorf("no such step: %c", s.op)
}

// survey compares what a survey of labels has found with what deleting them gives back.
func (p *player) survey(names []string) error {
	w := p.w
	names = slices.DeleteFunc(names, func(n string) bool { return n == Main || w.open[n] != nil })
	if w.part != nil || w.busy {
		return nil
	}
	if err := w.reclaim(); err != nil {
		return err
	}
	if err := w.commit(nil); err != nil {
		return err
	}
	before := w.held()
	n, err := w.space(nil, names...)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := w.unlabel(name); err != nil {
			return err
		}
	}
	if err := w.reclaim(); err != nil {
		return err
	}
	if err := w.commit(nil); err != nil {
		return err
	}
	if got := before - w.held(); got != n {
		return fmt.Errorf("deleting %q has freed %d blocks; the survey found %d", names, got, n)
	}
	return nil
}

// meanwhile does some steps of these kinds, chosen by s.
func (p *player) meanwhile(s step, kinds string) error {
	r := rand.New(rand.NewPCG(uint64(s.a), uint64(s.b)))
	for _, x := range randomSteps(r, 4) {
		if strings.IndexByte(kinds, x.op) >= 0 {
			if err := p.step(x); err != nil {
				return err
			}
		}
	}
	return nil
}

// refusals makes commands that must be refused; the state of the disk does not change by them.
func (p *player) refusals(s step) error {
	w := p.w
	some := p.pick(s.a, any_)
	list := map[string]error{
		"label of nothing":        w.f.Label("nosuch", "x", false),
		"label that exists":       w.f.Label(some, some, false),
		"label dump":              w.f.Label(some, Dump, true),
		"label with a slash":      w.f.Label(some, "a/b", true),
		"rollback to itself":      w.f.Rollback(some, some, "x"),
		"rollback of nothing":     w.f.Rollback("nosuch", some, "x"),
		"rollback to nothing":     w.f.Rollback(Main, "nosuch", "x"),
		"rollback, name in use":   w.f.Rollback(Main, Empty, some),
		"rollback, reserved name": w.f.Rollback(Main, Empty, Adm),
	}
	for _, name := range []string{"nosuch", Empty, Adm, Dump} {
		list["delete "+name] = w.f.Delete(name)
	}
	for name := range w.open {
		list["delete "+name+", which is open"] = w.f.Delete(name)
	}
	for what, err := range list {
		if !refused(err) {
			return fmt.Errorf("%s: %v", what, err)
		}
	}
	return nil
}

// end deletes everything, and compares the space with that of a disk that never had it.
func (p *player) end() error {
	w := p.w
	for name := range maps.Clone(w.open) {
		w.drop(name)
	}
	names := slices.Sorted(maps.Keys(w.now))
	r := rand.New(rand.NewPCG(uint64(len(names)), uint64(w.ver)))
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for i, name := range names {
		if name == Empty || name == Adm || name == Main {
			continue
		}
		if err := w.unlabel(name); err != nil {
			return fmt.Errorf("at the end, delete %s: %w", name, err)
		}
		if i%7 == 0 {
			if err := w.commit(nil); err != nil {
				return fmt.Errorf("at the end, having deleted %s: %w", name, err)
			}
		}
	}
	for _, name := range []string{Main, Adm} {
		if err := p.change(name, slices.Sorted(maps.Keys(w.now[name].files)), true); err != nil {
			return fmt.Errorf("at the end, empty %s: %w", name, err)
		}
		if err := w.settle(name); err != nil {
			return fmt.Errorf("at the end, settle %s: %w", name, err)
		}
	}
	if err := w.reclaim(); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	if err := w.commit(nil); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	if err := w.verifyAll(); err != nil {
		return err
	}
	// Empty's root, main's and adm's roots and the users file. The snapshot tree may have grown a level.
	if c := w.report.Counts; w.held() > 4 || c.SnapNodes > 3 || c.Deadlist > 0 {
		return fmt.Errorf("with everything deleted there are blocks in use: %+v", c)
	}
	if n := len(w.f.snaps); n != 3 {
		return fmt.Errorf("with everything deleted there are %d snapshots", n)
	}
	return nil
}

// shorten takes steps away as long as the history still fails.
func shorten(list []step, h how, until time.Time) []step {
	for size := len(list) / 2; size > 0 && time.Now().Before(until); {
		gone := false
		for at := 0; at+size <= len(list) && time.Now().Before(until); {
			less := slices.Delete(slices.Clone(list), at, at+size)
			if _, err := play(less, h); err != nil {
				list, gone = less, true
			} else {
				at += size
			}
		}
		if !gone || size > len(list) {
			size /= 2
		}
	}
	return list
}

// TestHistories plays random histories against a model. After every step every snapshot has the contents
// that the model says; after every commit, which in every third history comes after every step, the device
// is checked: every block has one owner, none is lost. Pitfalls 57 to 70.
func TestHistories(t *testing.T) {
	if *scriptFlag != "" {
		list, err := parseScript(*scriptFlag)
		if err != nil {
			t.Fatal(err)
		}
		p, err := play(list, how{*wideFlag, *eachFlag, *biteFlag})
		if err != nil {
			t.Fatalf("%v\n%s", err, strings.Join(p.told, "\n"))
		}
		return
	}
	s := *seedFlag
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("replay with -seed %d", s)
	total := *stepsFlag
	if raceEnabled && total > 1000 {
		total = 1000
	}
	if testing.Short() && total > 2000 {
		total = 2000
	}
	const each = 500
	for i := 0; i*each < total; i++ {
		r := rand.New(rand.NewPCG(s, uint64(i)))
		list := randomSteps(r, min(each, total-i*each))
		h := how{wide: i%4 == 3, each: i%3 == 2, bite: []int{0, 1, 2, 5}[i/4%4]}
		if _, err := play(list, h); err != nil {
			short := shorten(list, h, time.Now().Add(*shrinkFlag))
			p, err2 := play(short, h)
			t.Fatalf("history %d: %v\n\nas short as it gets: %v\n%s\n\n%v -script '%s'", i, err, err2, strings.Join(p.told, "\n"), h, formatScript(short))
		}
	}
}
