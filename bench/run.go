package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Run measures what o asks for. It writes a table to out, a row as soon as it is there, or at the end
// the report as JSON; and to progress, if that is a terminal, how far it is. Progress may be nil.
//
// Operations that the server refuses or that give wrong data are counted in the rows. An error of Run
// means that it could not go on, or ctx ended; the report then has the rows so far, and the files stay
// on the server. Errors about o itself wrap ErrUsage.
func Run(ctx context.Context, o Options, out, progress io.Writer) (Report, error) {
	o.ensureDefaults()
	if err := o.validate(); err != nil {
		return Report{}, err
	}
	for o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	b := &run{opts: &o, out: out, pat: newPattern()}
	b.report = Report{
		Addr: o.Addr, Seed: o.Seed, Scale: o.Scale, Cold: o.Cold, Started: time.Now().UTC(),
	}
	b.meter.open(progress)
	err := b.run(ctx)
	b.meter.close()
	if o.JSON {
		err = errors.Join(err, b.report.writeJSON(out))
	} else {
		err = errors.Join(err, b.table.err)
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err() // whatever broke, broke because of that
	}
	return b.report, err
}

// A run is one call of Run.
type run struct {
	opts   *Options
	out    io.Writer
	pat    *pattern
	report Report
	table  table
	meter  meter

	ours *site
	wire *site // nil without
}

func (b *run) run(ctx context.Context) (err error) {
	o := b.opts
	b.ours, err = openSite(ctx, o.Addr, o, b.pat)
	if err != nil {
		return err
	}
	defer b.ours.close()
	b.report.Msize, b.report.Checked = b.ours.msize, !b.ours.blind
	if o.Wire {
		addr, stop, err := startNull(ctx, o.Addr, o.WireCommand)
		if err != nil {
			return fmt.Errorf("null server: %w", err)
		}
		defer stop()
		wireOpts := *o
		wireOpts.Msize = b.ours.msize // the same frames
		if b.wire, err = openSite(ctx, addr, &wireOpts, b.pat); err != nil {
			return fmt.Errorf("null server: %w", err)
		}
		defer b.wire.close()
	}
	ids := o.chosen()
	b.startTable(ids)
	for _, id := range ids {
		loads := b.ours.workloads(id)
		for i, w := range loads {
			if err := b.one(ctx, w, id, i); err != nil {
				return fmt.Errorf("%s: %w", w.id, err)
			}
		}
	}
	if o.Keep || o.Cold {
		return nil
	}
	b.meter.say("removing the files")
	return b.ours.cleanup(ctx)
}

// startTable writes the head of the table.
func (b *run) startTable(ids []string) {
	if b.opts.JSON {
		return
	}
	b.table = table{w: b.out, wire: b.opts.Wire, device: b.opts.DeviceDir != "", written: b.opts.Console != nil}
	for _, id := range ids {
		for _, w := range b.ours.workloads(id) {
			n := utf8.RuneCountInString(w.what)
			if b.opts.Cold {
				n += len(coldMark)
			}
			b.table.what = max(b.table.what, n)
		}
	}
	b.meter.clear()
	b.table.begin(&b.report)
}

// one makes the row of w, which is the i-th workload of id.
func (b *run) one(ctx context.Context, w *workload, id string, i int) error {
	o := b.opts
	row := Row{ID: w.id, What: w.what, Cold: o.Cold}
	var err error
	if row.Ours, err = b.ours.run(ctx, w, b.meter.load(w.id+" "+w.what)); err != nil {
		return err
	}
	row.Conns, row.Depth = w.conns, w.depth // as they were in the end
	if b.wire != nil && w.do == nil {
		b.wire.dirBytes = b.ours.dirBytes
		res, err := b.wire.run(ctx, b.wire.workloads(id)[i], b.meter.load(w.id+" wire"))
		if err == nil && res.Errors > 0 {
			err = errors.New(res.FirstError)
		}
		if err != nil {
			return fmt.Errorf("null server: %w", err)
		}
		row.Wire, row.WireRatio = &res, ratio(row.Ours.Rate, res.Rate)
	}
	if o.DeviceDir != "" && (id == "W1" || id == "W10" || id == "W11" || id == "W6" && o.Cold) {
		b.meter.say(w.id + " device")
		res, err := b.device(ctx, id)
		if err != nil {
			return fmt.Errorf("device: %w", err)
		}
		row.Device, row.DeviceRatio = &res, ratio(row.Ours.syncedRate(), res.Rate)
	}
	b.report.Rows = append(b.report.Rows, row)
	b.meter.clear()
	if !o.JSON {
		b.table.row(&row)
	}
	return nil
}

// run runs w, and says to m how far it is, unless that is nil. The error is one that kept w from being
// measured.
func (st *site) run(ctx context.Context, w *workload, m *meter) (Result, error) {
	o := st.opts
	if !w.fixed && w.id != "" {
		if o.Conns > 0 {
			w.conns = o.Conns
		}
		if o.Depth > 0 {
			w.depth = o.Depth
		}
	}
	if w.do != nil {
		return w.do(ctx, m)
	}
	if w.prepare != nil {
		if err := w.prepare(ctx); err != nil {
			return Result{}, err
		}
	}
	// Whoever fails first hangs up for all.
	ctx, hangUp := context.WithCancel(ctx)
	defer hangUp()
	conns := make([]*conn, 0, w.conns)
	for i := range w.conns {
		c, err := st.connect(ctx, w)
		if err != nil {
			return Result{}, fmt.Errorf("connection %d: %w", i, err)
		}
		defer c.close()
		conns = append(conns, c)
		c.num = i
		c.share(w.total)
		// One random order for each workload and connection, the same on every site.
		c.rng = rand.New(rand.NewPCG(o.Seed, idNumber(w.id)<<16|uint64(i)))
		c.slots = make([]slot, w.depth)
		for j := range c.slots {
			c.slots[j].fid = slotFid + uint32(j)
		}
		if w.open != nil {
			if err := w.open(c); err != nil {
				return Result{}, fmt.Errorf("connection %d: %w", i, err)
			}
		}
	}
	total := 0
	for _, c := range conns {
		total += c.end - c.next
	}
	var done atomic.Int64
	m.start(&done, total)
	defer m.stop()

	written, err := st.written(ctx, w)
	if err != nil {
		return Result{}, err
	}
	end := st.begin(ctx, w.beside)
	var (
		wg      sync.WaitGroup
		failure onceError
	)
	began := time.Now()
	for _, c := range conns {
		wg.Go(func() {
			if err := c.drive(&done); err != nil {
				if err == io.EOF {
					err = errors.New("the server hung up")
				}
				failure.set(fmt.Errorf("connection %d: %w", c.num, err))
				hangUp()
			}
		})
	}
	wg.Wait()
	res := Result{Elapsed: time.Since(began)}
	if err := end(); err != nil {
		failure.set(fmt.Errorf("beside it: %w", err))
	}
	if failure.err != nil {
		return res, failure.err
	}
	if w.sync {
		t := time.Now()
		err := st.fsync()
		if !missing(err) && err != nil { // a server may refuse it
			return res, fmt.Errorf("fsync: %w", err)
		}
		if err == nil {
			res.Synced = time.Since(t)
		}
	}
	if res.Written, err = written(); err != nil {
		return res, err
	}
	if w.finish != nil {
		if err := w.finish(ctx, conns); err != nil {
			return res, err
		}
	}
	var lat hist
	for _, c := range conns {
		lat.merge(&c.tally.lat)
		res.Bytes += c.tally.bytes
		res.Errors += c.tally.errors
		if res.FirstError == "" && c.tally.first != nil {
			res.FirstError = c.tally.first.Error()
		}
	}
	res.Ops = int64(lat.n)
	res.setLatency(&lat)
	n := res.Ops
	if w.items > 0 {
		n = int64(w.items)
	}
	if w.bytes {
		n = res.Bytes
	}
	res.setRate(n, w.bytes)
	return res, nil
}

// begin starts w, if it is not nil, and returns what ends it.
func (st *site) begin(ctx context.Context, w *workload) (end func() error) {
	if w == nil {
		return func() error { return nil }
	}
	ended := make(chan error, 1)
	go func() {
		_, err := st.run(ctx, w, nil)
		ended <- err
	}()
	return func() error {
		w.stop()
		return <-ended
	}
}

// written returns what says how much the server has written to its disk since, if w is about that and the
// server can be asked. What was changed before has reached the disk then.
func (st *site) written(ctx context.Context, w *workload) (since func() (int64, error), err error) {
	if st.null || st.opts.Console == nil || !w.sync && !w.writes {
		return func() (int64, error) { return 0, nil }, nil
	}
	if err := st.fsync(); err != nil && !missing(err) {
		return nil, fmt.Errorf("fsync: %w", err)
	}
	before, err := st.opts.Console.Written(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask how much was written: %w", err)
	}
	return func() (int64, error) {
		now, err := st.opts.Console.Written(ctx)
		if err != nil {
			return 0, fmt.Errorf("ask how much was written: %w", err)
		}
		return now - before, nil
	}, nil
}

// idNumber makes a number of the id of a workload.
func idNumber(id string) uint64 {
	var n uint64
	for _, c := range []byte(id) {
		n = n*31 + uint64(c)
	}
	return n
}

// A onceError keeps the first error.
type onceError struct {
	once sync.Once
	err  error
}

func (e *onceError) set(err error) { e.once.Do(func() { e.err = err }) }
