package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gefs9p/client"
	"gefs9p/ninep"
)

// Sizes that are part of what the workloads are.
const (
	blockSize = 8 << 10  // of the random reads and overwrites
	smallSize = 4 << 10  // of a small file
	syncSize  = 16 << 10 // written before each fsync
	syncTurn  = 256      // blocks of a file of W11, after which it starts over
)

// A workload is a kind of operation and how many of them run how.
type workload struct {
	id, what string
	conns    int
	depth    int  // operations under way on each connection
	fixed    bool // Options do not change conns and depth
	total    int  // operations of all connections
	items    int  // what the rate counts, if not operations; known before
	bytes    bool // the rate is bytes a second
	sync     bool // measure an fsync after the clock has stopped
	writes   bool // say how much was written to the disk

	// do is run instead of all that follows, if it is not nil.
	do func(ctx context.Context, m *meter) (Result, error)

	beside  *workload                       // runs meanwhile, on connections of its own; may be nil
	stop    func()                          // of one that runs beside another: it is to end
	prepare func(ctx context.Context) error // once, before the connections are opened; may be nil
	open    func(c *conn) error             // for every connection, before the clock starts; may be nil
	pick    func(c *conn, s *slot) bool     // choose what operation s.op is about; false: no more
	steps   []step
	failed  func(c *conn, s *slot)                      // an operation failed; may be nil
	finish  func(ctx context.Context, cs []*conn) error // after all connections are done; may be nil
}

// IDs returns the ids of all workloads in the order in which Run runs them. W11 is two: with one client
// and with many; W12 too: requests that read and such that change something.
func IDs() []string {
	return []string{"W1", "W2", "W3", "W4", "W5", "W6", "W7", "W8", "W9", "W10", "W11", "W12"}
}

// workloads returns the workloads that id stands for, on st.
func (st *site) workloads(id string) []*workload {
	switch id {
	case "W1":
		return []*workload{st.writeBig()}
	case "W2":
		return []*workload{st.readBig()}
	case "W3":
		return []*workload{st.createMany()}
	case "W4":
		return []*workload{st.createSmall()}
	case "W5":
		return []*workload{st.statSmall()}
	case "W6":
		return []*workload{st.readRandom()}
	case "W7":
		return []*workload{st.writeRandom()}
	case "W8":
		return []*workload{st.listMany()}
	case "W9":
		return []*workload{st.removeMany()}
	case "W11":
		return []*workload{st.syncLoop("W11/1", 1), st.syncLoop(fmt.Sprintf("W11/%d", st.size.Clients), st.size.Clients)}
	case "W10":
		return []*workload{st.snapshots()}
	case "W12":
		return []*workload{st.statBeside(), st.changeBeside()}
	}
	return nil
}

// writeBig is W1.
func (st *site) writeBig() *workload {
	size := st.size.FileSize
	w := &workload{
		id: "W1", what: "write " + bytesText(size) + " sequentially",
		conns: 1, depth: 8, bytes: true, sync: true,
	}
	w.prepare = func(ctx context.Context) error {
		st.big = nil
		return st.create(bigName)
	}
	w.open = func(c *conn) error {
		if err := c.open(ninep.OWRITE, bigName); err != nil {
			return err
		}
		c.share(int((size + int64(c.chunk) - 1) / int64(c.chunk)))
		return nil
	}
	w.pick = pickSequential(size)
	w.steps = []step{{send: sendWrite(original), check: checkWritten}}
	w.finish = func(_ context.Context, cs []*conn) error {
		st.big = make([]byte, (size+blockSize-1)/blockSize)
		for i := range st.big {
			st.big[i] = bigOriginal
		}
		return nil
	}
	return w
}

// readBig is W2.
func (st *site) readBig() *workload {
	size := st.size.FileSize
	w := &workload{
		id: "W2", what: "read " + bytesText(size) + " sequentially",
		conns: 1, depth: 8, bytes: true,
		prepare: st.needBig,
	}
	w.open = func(c *conn) error {
		if err := c.open(ninep.OREAD, bigName); err != nil {
			return err
		}
		c.share(int((size + int64(c.chunk) - 1) / int64(c.chunk)))
		return nil
	}
	w.pick = pickSequential(size)
	w.steps = []step{{send: sendRead, check: checkBig}}
	return w
}

// readRandom is W6.
func (st *site) readRandom() *workload {
	return &workload{
		id: "W6", what: fmt.Sprintf("random 8 KiB reads in %s", bytesText(st.size.FileSize)),
		conns: 8, depth: 4, total: st.size.Reads,
		prepare: st.needBig,
		open:    func(c *conn) error { return c.openBlocks(ninep.OREAD) },
		pick:    pickRandomBlock,
		steps:   []step{{send: sendRead, check: checkBig}},
	}
}

// writeRandom is W7.
func (st *site) writeRandom() *workload {
	return &workload{
		id: "W7", what: fmt.Sprintf("random 8 KiB overwrites in %s", bytesText(st.size.FileSize)),
		conns: 4, depth: 4, total: st.size.Writes, sync: true,
		prepare: st.needBig,
		open: func(c *conn) error {
			c.marks = make([]byte, len(st.big))
			return c.openBlocks(ninep.OWRITE)
		},
		pick: pickRandomBlock,
		steps: []step{{send: sendWrite(overwritten), check: func(c *conn, s *slot) error {
			if err := checkWritten(c, s); err != nil {
				return err
			}
			if m := &c.marks[s.off/blockSize]; *m == 0 {
				*m = bigOverwritten
			}
			return nil
		}}},
		failed: func(c *conn, s *slot) { c.marks[s.off/blockSize] = bigEither },
		finish: func(_ context.Context, cs []*conn) error {
			for _, want := range []byte{bigOverwritten, bigEither} { // the less certain wins
				for _, c := range cs {
					for i, m := range c.marks {
						if m == want {
							st.big[i] = want
						}
					}
				}
			}
			return nil
		},
	}
}

// createMany is W3.
func (st *site) createMany() *workload {
	return &workload{
		id: "W3", what: fmt.Sprintf("create %d empty files in one directory", st.size.Files),
		conns: 1, depth: 8, total: st.size.Files, sync: true,
		prepare: st.emptyMany,
		open:    func(c *conn) error { return c.walk(baseFid, workFid, manyName) },
		pick:    func(*conn, *slot) bool { return true },
		steps: []step{
			{makes: true, check: checkWalked(0), send: func(c *conn, s *slot, b []byte) ([]byte, error) {
				return ninep.AppendTwalk(b, 0, workFid, s.fid)
			}},
			{check: checkCreated, send: func(c *conn, s *slot, b []byte) ([]byte, error) {
				return ninep.AppendTcreate(b, 0, s.fid, st.names[s.op], 0666, ninep.OWRITE)
			}},
			clunkStep,
		},
		finish: func(context.Context, []*conn) error { st.many = true; return nil },
	}
}

// createSmall is W4.
func (st *site) createSmall() *workload {
	return &workload{
		id: "W4", what: fmt.Sprintf("create and write %d files of 4 KiB in %d directories", st.size.SmallFiles, st.size.Dirs),
		conns: 1, depth: 8, total: st.size.SmallFiles, sync: true,
		prepare: st.emptySmall,
		open: func(c *conn) error {
			for i, dir := range st.dirs {
				if err := c.walk(baseFid, uint32(dirFid+i), smallName, dir); err != nil {
					return err
				}
			}
			return nil
		},
		pick: func(_ *conn, s *slot) bool {
			s.off, s.n = 0, smallSize
			return true
		},
		steps: []step{
			{makes: true, check: checkWalked(0), send: func(c *conn, s *slot, b []byte) ([]byte, error) {
				return ninep.AppendTwalk(b, 0, uint32(dirFid+s.op%len(st.dirs)), s.fid)
			}},
			{check: checkCreated, send: func(c *conn, s *slot, b []byte) ([]byte, error) {
				return ninep.AppendTcreate(b, 0, s.fid, st.names[s.op], 0666, ninep.OWRITE)
			}},
			{check: checkWritten, send: func(c *conn, s *slot, b []byte) ([]byte, error) {
				return ninep.AppendTwrite(b, 0, s.fid, 0, st.pat.at(small(s.op), 0, smallSize)), nil
			}},
			clunkStep,
		},
		finish: func(context.Context, []*conn) error { st.small = true; return nil },
	}
}

// statSmall is W5.
func (st *site) statSmall() *workload {
	return &workload{
		id: "W5", what: fmt.Sprintf("walk, stat and clunk random ones of %d files", st.size.SmallFiles),
		conns: 8, depth: 4, total: st.size.Stats,
		prepare: st.needSmall,
		pick: func(c *conn, s *slot) bool {
			s.off = int64(c.rng.IntN(st.size.SmallFiles))
			return true
		},
		steps: []step{
			{makes: true, check: checkWalked(3), send: func(c *conn, s *slot, b []byte) ([]byte, error) {
				dir := st.dirs[int(s.off)%len(st.dirs)]
				return ninep.AppendTwalk(b, 0, baseFid, s.fid, smallName, dir, st.names[s.off])
			}},
			{
				send: func(c *conn, s *slot, b []byte) ([]byte, error) { return ninep.AppendTstat(b, 0, s.fid), nil },
				check: func(c *conn, s *slot) error {
					d := &c.r.Rstat.Stat
					if !st.blind && (d.Length != smallSize || d.Name != st.names[s.off]) {
						return fmt.Errorf("stat of %s says %s, %d bytes", st.names[s.off], d.Name, d.Length)
					}
					return nil
				},
			},
			clunkStep,
		},
	}
}

// removeMany is W9.
func (st *site) removeMany() *workload {
	w := st.removal(manyName, st.names[:st.size.Files])
	w.id, w.what = "W9", fmt.Sprintf("remove the %d files", st.size.Files)
	w.conns, w.depth, w.sync = 1, 8, true
	w.prepare = st.needMany
	w.finish = func(context.Context, []*conn) error { st.many = false; return nil }
	return w
}

// removal is a workload that removes the files called names from the directory dir.
func (st *site) removal(dir string, names []string) *workload {
	return &workload{
		what: "remove what an earlier run left", conns: 1, depth: 64, total: len(names),
		open: func(c *conn) error { return c.walk(baseFid, workFid, strings.Split(dir, "/")...) },
		pick: func(*conn, *slot) bool { return true },
		steps: []step{
			{makes: true, check: checkWalked(1), send: func(c *conn, s *slot, b []byte) ([]byte, error) {
				return ninep.AppendTwalk(b, 0, workFid, s.fid, names[s.op])
			}},
			{drops: true, send: func(c *conn, s *slot, b []byte) ([]byte, error) {
				return ninep.AppendTremove(b, 0, s.fid), nil
			}},
		},
	}
}

// syncLoop is W11.
func (st *site) syncLoop(id string, clients int) *workload {
	w := &workload{
		id: id, what: fmt.Sprintf("write 16 KiB and fsync, %d clients", clients),
		conns: clients, depth: 1, fixed: true, writes: true, total: st.size.Syncs,
	}
	if clients == 1 {
		w.what = "write 16 KiB and fsync, 1 client"
	}
	null := ninep.NullDir()
	w.prepare = func(context.Context) error {
		for i := range clients {
			if err := st.create(syncName(i)); err != nil {
				return err
			}
		}
		return nil
	}
	w.open = func(c *conn) error { return c.open(ninep.OWRITE, syncName(c.num)) }
	w.pick = func(c *conn, s *slot) bool {
		s.n = min(syncSize, c.chunk)
		s.off = int64(s.op%syncTurn) * int64(s.n)
		return true
	}
	w.steps = []step{
		{send: sendWrite(original), check: checkWritten},
		{send: func(c *conn, s *slot, b []byte) ([]byte, error) {
			return ninep.AppendTwstat(b, 0, workFid, &null)
		}},
	}
	w.finish = func(context.Context, []*conn) error {
		for i := range clients {
			if err := st.remove(syncName(i)); err != nil {
				return err
			}
		}
		return nil
	}
	return w
}

// share gives the connection its part of n operations: a contiguous one, so that sequential stays that.
func (c *conn) share(n int) {
	conns := c.load.conns
	c.next = n * c.num / conns
	c.end = n * (c.num + 1) / conns
}

// openBlocks opens the big file for requests of one block.
func (c *conn) openBlocks(mode uint8) error {
	if err := c.open(mode, bigName); err != nil {
		return err
	}
	if c.chunk < blockSize {
		return fmt.Errorf("the server takes %d bytes in a request; this workload wants %d", c.chunk, blockSize)
	}
	return nil
}

// pickSequential makes operation i the i-th piece of a file of size bytes.
func pickSequential(size int64) func(*conn, *slot) bool {
	return func(c *conn, s *slot) bool {
		s.off = int64(s.op) * int64(c.chunk)
		s.n = int(min(int64(c.chunk), size-s.off))
		return true
	}
}

// pickRandomBlock chooses a whole block of the big file.
func pickRandomBlock(c *conn, s *slot) bool {
	s.off = c.rng.Int64N(c.site.size.FileSize/blockSize) * blockSize
	s.n = blockSize
	return true
}

func sendRead(c *conn, s *slot, b []byte) ([]byte, error) {
	return ninep.AppendTread(b, 0, workFid, uint64(s.off), uint32(s.n)), nil
}

func sendWrite(str stream) func(*conn, *slot, []byte) ([]byte, error) {
	return func(c *conn, s *slot, b []byte) ([]byte, error) {
		return ninep.AppendTwrite(b, 0, workFid, uint64(s.off), c.site.pat.at(str, s.off, s.n)), nil
	}
}

var clunkStep = step{drops: true, send: func(c *conn, s *slot, b []byte) ([]byte, error) {
	return ninep.AppendTclunk(b, 0, s.fid), nil
}}

// checkWalked checks that a walk came to the end of its n names.
func checkWalked(n int) func(*conn, *slot) error {
	return func(c *conn, s *slot) error {
		if len(c.r.Rwalk.Wqid) != n {
			return fmt.Errorf("walk stopped after %d of %d names: %w", len(c.r.Rwalk.Wqid), n, client.ErrNotFound)
		}
		return nil
	}
}

func checkCreated(c *conn, s *slot) error {
	if c.r.Rcreate.Qid.Qtype&ninep.QTDIR != 0 {
		return errors.New("created a directory instead of a file")
	}
	return nil
}

func checkWritten(c *conn, s *slot) error {
	if n := int64(c.r.Rwrite.Count); n != int64(s.n) {
		return fmt.Errorf("%d bytes written of %d at %d", n, s.n, s.off)
	}
	c.tally.bytes += int64(s.n)
	return nil
}

// checkBig compares what was read from the big file.
func checkBig(c *conn, s *slot) error {
	data := c.r.Rread.Data
	if len(data) != s.n {
		return fmt.Errorf("%d bytes read of %d at %d", len(data), s.n, s.off)
	}
	c.tally.bytes += int64(s.n)
	if c.site.blind {
		return nil
	}
	for off := s.off; len(data) > 0; {
		n := min(len(data), int(blockSize-off%blockSize))
		if !c.site.bigHolds(off, data[:n]) {
			return fmt.Errorf("wrong data in the %d bytes read at %d", n, off)
		}
		data, off = data[n:], off+int64(n)
	}
	return nil
}
