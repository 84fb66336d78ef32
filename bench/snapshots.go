package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gefs9p/client"
	"gefs9p/ninep"
)

// A Console does what 9P has no words for. Its methods may be slow; they are called by one goroutine.
type Console interface {
	// Written returns how many bytes the server has written to its disk since it began, in blocks of
	// trees and files.
	Written(ctx context.Context) (bytes int64, err error)

	// Snapshot makes a snapshot of the tree that the run works in. It is durable when Snapshot returns.
	Snapshot(ctx context.Context, name string) error

	// Forget deletes snapshots.
	Forget(ctx context.Context, names []string) error
}

const (
	snapsTaken = 200 // snapshots whose taking W10 measures
	snapsTurn  = 100 // that are deleted by one command
)

// snapshots is W10. A file changes before each, so that none is the same as the one before.
func (st *site) snapshots() *workload {
	n := st.size.Snapshots
	w := &workload{id: "W10", what: fmt.Sprintf("snapshot, durable, when there are %d", n), conns: 1, depth: 1, fixed: true}
	w.do = func(ctx context.Context, m *meter) (res Result, err error) {
		f, err := st.changing()
		if err != nil {
			return Result{}, err
		}
		var taken []string
		defer func() {
			err = errors.Join(err, f.Remove(), st.forget(context.WithoutCancel(ctx), taken))
		}()
		var lat hist
		for i := range n + snapsTaken {
			if _, err := f.WriteAt(fmt.Appendf(nil, "%10d", i), 0); err != nil {
				return Result{}, fmt.Errorf("between snapshots: %w", err)
			}
			name := fmt.Sprintf("%s.%x.%d", st.opts.Path, st.opts.Seed, i) // an earlier run may have left some
			began := time.Now()
			if err := st.opts.Console.Snapshot(ctx, name); err != nil {
				return Result{}, fmt.Errorf("snapshot %d: %w", i, err)
			}
			taken = append(taken, name)
			if took := time.Since(began); i >= n {
				lat.add(took)
				res.Elapsed += took
			}
		}
		res.Ops = int64(lat.n)
		res.setLatency(&lat)
		res.setRate(res.Ops, false)
		return res, nil
	}
	return w
}

// changing makes the file that changes between snapshots, open for writing.
func (st *site) changing() (*client.Fid, error) {
	const name = "changing"
	if err := st.remove(name); err != nil {
		return nil, err
	}
	fid, err := st.base.Walk()
	if err != nil {
		return nil, err
	}
	if err := fid.Create(name, 0666, ninep.OWRITE); err != nil {
		return nil, errors.Join(fmt.Errorf("create %s: %w", name, err), fid.Clunk())
	}
	return fid, nil
}

// forget deletes the snapshots.
func (st *site) forget(ctx context.Context, names []string) error {
	for len(names) > 0 {
		n := min(len(names), snapsTurn)
		if err := st.opts.Console.Forget(ctx, names[:n]); err != nil {
			return fmt.Errorf("delete the snapshots: %w", err)
		}
		names = names[n:]
	}
	return nil
}
