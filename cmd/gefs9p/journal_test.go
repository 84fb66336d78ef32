package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gefs9p/client"
)

// A journal is kept by clients of a server that may die at any moment, outside of its disk: which
// operations each of them sent and which of these were acknowledged, and the same of its fsyncs. Each client has a
// folder of its own, so that the order of its operations is known. verify holds what a dead server left
// against it:
//
//  1. A client's folder is as after some prefix of the client's operations.
//  2. Every operation that was acknowledged before an fsync was sent is in its client's prefix, when that fsync
//     was acknowledged, whoever sent it.
//  3. If an operation is in its client's prefix, so is every operation of any client that was acknowledged
//     before it was sent: together the prefixes are a state that the file system once had.
//
// The state that is found becomes the one from which the clients go on.
type journal struct {
	clock   atomic.Uint64 // stamps what is sent and acknowledged
	clients []*author
	sums    *tally
}

// A tally is what journals had in them.
type tally struct {
	ops, acked int // operations sent, acknowledged
	kept       int // operations that were found again
	fsyncs     int
}

func (s *tally) String() string {
	return fmt.Sprintf("%d operations sent, %d acknowledged, %d found again, %d fsyncs", s.ops, s.acked, s.kept, s.fsyncs)
}

// report fails a test that has seen nothing that could have been lost.
func (s *tally) report(t testing.TB) {
	t.Log(s)
	if !t.Failed() && (s.kept == 0 || s.fsyncs == 0) {
		t.Error("journals that prove nothing")
	}
}

// An author is one client of a journal. Between two runs it belongs to the journal; during one, to its
// goroutine.
type author struct {
	id     int
	rnd    *rand.Rand
	base   folder // the state found last
	now    folder // after all of ops
	serial uint64 // of the next operation; never twice
	ops    []entry
	fsyncs []entry
}

// An entry is one line of the journal.
type entry struct {
	op          op // the zero value for an fsync
	sent, acked uint64
	qid         uint64 // path of what the operation created; 0 otherwise
}

// A dialer connects to the server under test.
type dialer func(context.Context) (*client.Conn, error)

func newJournal(clients int, seed uint64, sums *tally) *journal {
	j := &journal{sums: sums}
	for i := range clients {
		j.clients = append(j.clients, &author{
			id:   i,
			rnd:  rand.New(rand.NewPCG(seed, uint64(2+i))),
			base: folder{}, now: folder{},
		})
	}
	return j
}

// A refusal is an operation that the server answered with an error.
type refusal struct {
	client int
	what   string
	err    error
}

func (r *refusal) Error() string { return fmt.Sprintf("client %d: %s: %v", r.client, r.what, r.err) }
func (r *refusal) Unwrap() error { return r.err }

// run has all clients at work, each on a connection of its own, until ctx ends, the server is gone
// or it refuses something. The refusals are returned, one of each client at most.
func (j *journal) run(ctx context.Context, dial dialer) error {
	errs := make([]error, len(j.clients))
	var wg sync.WaitGroup
	for i, a := range j.clients {
		wg.Go(func() { errs[i] = a.run(ctx, &j.clock, dial) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// run is the work of one client. What ends with the connection is no error.
func (a *author) run(ctx context.Context, clock *atomic.Uint64, dial dialer) error {
	c, err := dial(ctx)
	if err != nil {
		return nil // killed before we came
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	root, err := c.Attach("glenda", "")
	if err != nil {
		return a.refused("attach", err)
	}
	for ctx.Err() == nil {
		if a.rnd.IntN(12) == 0 {
			a.fsyncs = append(a.fsyncs, entry{sent: clock.Add(1)})
			if err := root.Fsync(); err != nil {
				return a.refused("fsync", err)
			}
			a.fsyncs[len(a.fsyncs)-1].acked = clock.Add(1)
			continue
		}
		o := a.next()
		p, err := o.prepare(root)
		if err != nil {
			return a.refused("before "+o.String(), err)
		}
		// From here on it may happen.
		a.ops = append(a.ops, entry{op: o, sent: clock.Add(1)})
		o.apply(a.now)
		qid, err := p.do()
		if err != nil {
			return a.refused(o.String(), err)
		}
		e := &a.ops[len(a.ops)-1]
		e.acked, e.qid = clock.Add(1), qid
		if o.kind == opRemove {
			continue // the fid is gone as well
		}
		if err := p.f.Clunk(); err != nil {
			return a.refused("after "+o.String(), err)
		}
	}
	return nil
}

// refused returns what the server said; nil if it said nothing because it was dead.
func (a *author) refused(what string, err error) error {
	if said := client.Error(""); errors.As(err, &said) || errors.Is(err, client.ErrNotFound) || errors.Is(err, client.ErrProtocol) {
		return &refusal{a.id, what, err}
	}
	return nil
}

// verify compares what the server has with the journal, and begins a new one from there. With all, nothing
// has died: whatever was acknowledged must be there.
func (j *journal) verify(ctx context.Context, dial dialer, all bool) error {
	found, cut, err := j.compare(ctx, dial, all)
	if err != nil {
		return err
	}
	for i, a := range j.clients {
		j.sums.ops += len(a.ops)
		j.sums.kept += cut[i]
		j.sums.fsyncs += len(a.fsyncs)
		for n, e := range a.ops {
			if e.acked != 0 {
				j.sums.acked++
			}
			if n < cut[i] {
				e.op.apply(a.base)
				if e.qid != 0 {
					a.base[e.op.path].qid = e.qid
				}
			}
		}
		if err := a.base.sameQids(found[i]); err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
		a.now = a.base.clone()
		a.ops, a.fsyncs = nil, nil
	}
	return nil
}

// compare is verify without the new journal. It returns what was found, and how many of each client's
// operations are in it.
func (j *journal) compare(ctx context.Context, dial dialer, all bool) (found []folder, cut []int, err error) {
	found = make([]folder, len(j.clients))
	errs := make([]error, len(j.clients))
	var wg sync.WaitGroup
	for i := range j.clients {
		wg.Go(func() { found[i], errs[i] = readFolder(ctx, dial, i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	cut, err = j.cut(found, all)
	return found, cut, err
}

// cut returns how many of each client's operations are in the state that was found: the least numbers that
// keep the journal's three rules.
func (j *journal) cut(found []folder, all bool) ([]int, error) {
	matches := make([][]int, len(j.clients)) // of each client the prefixes that give what was found
	for i, a := range j.clients {
		want := found[i].digest()
		state := a.base.clone()
		near, nearest := "", 0 // what is wrong after the prefix that fits best
		for n := 0; ; n++ {
			if state.digest() == want {
				matches[i] = append(matches[i], n)
			} else if len(matches[i]) == 0 {
				if d := found[i].differences(state); near == "" || strings.Count(d, "\n") < strings.Count(near, "\n") {
					near, nearest = d, n
				}
			}
			if n == len(a.ops) {
				break
			}
			a.ops[n].op.apply(state)
		}
		if len(matches[i]) == 0 {
			var b strings.Builder
			for n := max(0, nearest-3); n < min(nearest+3, len(a.ops)); n++ {
				fmt.Fprintf(&b, "operation %d: %v (sent at %d, acknowledged at %d)\n", n+1, a.ops[n].op, a.ops[n].sent, a.ops[n].acked)
			}
			return nil, fmt.Errorf("client %d: its folder is as after no prefix of its %d operations; the first %d fit best:\n%s%s",
				i, len(a.ops), nearest, near, &b)
		}
	}
	// Whatever was acknowledged before this moment must be there; each choice can move it forward.
	var horizon uint64
	why := "nothing"
	for _, a := range j.clients {
		for _, f := range a.fsyncs {
			if f.acked != 0 && f.sent > horizon {
				horizon, why = f.sent, fmt.Sprintf("the fsync that client %d sent at %d, and had acknowledged", a.id, f.sent)
			}
		}
	}
	if all {
		horizon, why = j.clock.Add(1), "a server that never ended"
	}
	cut := make([]int, len(j.clients))
	for again := true; again; {
		again = false
		for i, a := range j.clients {
			least := 0
			for n, e := range a.ops {
				if e.acked != 0 && e.acked < horizon {
					least = n + 1
				}
			}
			for len(matches[i]) > 0 && matches[i][0] < least {
				matches[i] = matches[i][1:]
			}
			if len(matches[i]) == 0 {
				e := a.ops[least-1]
				return nil, fmt.Errorf("client %d: operation %d of %d (%v), acknowledged at %d, is lost: it must be there because of %s",
					i, least, len(a.ops), e.op, e.acked, why)
			}
			cut[i] = matches[i][0]
			if n := cut[i]; n > 0 && a.ops[n-1].sent > horizon {
				horizon, why = a.ops[n-1].sent, fmt.Sprintf("operation %d of client %d (%v), sent at %d, which is there", n, i, a.ops[n-1].op, a.ops[n-1].sent)
				again = true
			}
		}
	}
	return cut, nil
}
