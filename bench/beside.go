package bench

import (
	"fmt"
	"sync/atomic"

	"gefs9p/ninep"
)

// W12 asks how long metadata takes while others have their data committed all the time.

// besideClients is how many others there are.
const besideClients = 4

// fsyncsBeside gives w others that write and fsync as in W11 until it is done.
func (st *site) fsyncsBeside(w *workload) *workload {
	w.what += fmt.Sprintf(" beside %d that fsync", besideClients)
	w.beside = st.syncLoop("", besideClients)
	w.beside.total = maxBeside
	var over atomic.Bool
	pick := w.beside.pick
	w.beside.pick = func(c *conn, s *slot) bool { return !over.Load() && pick(c, s) }
	w.beside.stop = func() { over.Store(true) }
	return w
}

// maxBeside is more operations than any run lasts for.
const maxBeside = 1 << 40

// statBeside is the first W12.
func (st *site) statBeside() *workload {
	w := st.statSmall()
	w.id, w.what = "W12/r", "walk, stat and clunk files"
	w.depth, w.fixed = 1, true
	return st.fsyncsBeside(w)
}

// changeBeside is the second W12.
func (st *site) changeBeside() *workload {
	return st.fsyncsBeside(&workload{
		id: "W12/w", what: "create and remove empty files",
		conns: 8, depth: 1, fixed: true, total: st.size.Stats,
		pick: func(*conn, *slot) bool { return true },
		steps: []step{
			{makes: true, check: checkWalked(0), send: func(c *conn, s *slot, b []byte) ([]byte, error) {
				return ninep.AppendTwalk(b, 0, baseFid, s.fid)
			}},
			{check: checkCreated, send: func(c *conn, s *slot, b []byte) ([]byte, error) {
				return ninep.AppendTcreate(b, 0, s.fid, fmt.Sprintf("w12-%d-%d", c.num, s.fid), 0666, ninep.OWRITE)
			}},
			{drops: true, send: func(c *conn, s *slot, b []byte) ([]byte, error) {
				return ninep.AppendTremove(b, 0, s.fid), nil
			}},
		},
	})
}
