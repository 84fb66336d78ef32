package bench

import (
	"context"
	"fmt"
	"strconv"

	"gefs9p/ninep"
)

// entryGuess is about how long a directory entry is, for a server that has none.
const entryGuess = ninep.DirSize + 8 + 3*6

// listMany is W8. An operation is one read; how many there are turns out at the end of the directory. The rate
// is that of entries.
func (st *site) listMany() *workload {
	files := st.size.Files
	w := &workload{
		id: "W8", what: fmt.Sprintf("read the directory of %d files", files),
		conns: 1, depth: 1, fixed: true, items: files,
		prepare: st.needMany,
	}
	w.open = func(c *conn) error {
		c.dirSeen = make([]bool, files)
		c.end = 1 << 31 // until pick says so
		return c.open(ninep.OREAD, manyName)
	}
	w.pick = func(c *conn, s *slot) bool {
		s.off, s.n = c.dirOff, c.chunk
		return !c.dirDone
	}
	w.steps = []step{{send: sendRead, check: checkList}}
	w.failed = func(c *conn, s *slot) { c.dirDone = true }
	w.finish = func(_ context.Context, cs []*conn) error {
		for _, c := range cs {
			st.dirBytes = c.dirOff
			if st.blind || c.tally.errors > 0 {
				continue
			}
			missing := 0
			for _, seen := range c.dirSeen {
				if !seen {
					missing++
				}
			}
			if missing > 0 {
				c.tally.errors++
				c.tally.first = fmt.Errorf("%d of %d files are missing from the directory", missing, files)
			}
		}
		return nil
	}
	return w
}

// checkList takes one read's entries.
func checkList(c *conn, s *slot) error {
	data := c.r.Rread.Data
	if len(data) > s.n {
		return fmt.Errorf("%d bytes read, asked for %d", len(data), s.n)
	}
	c.dirOff += int64(len(data))
	c.dirDone = len(data) == 0
	if c.site.null { // which never ends
		c.dirDone = c.dirOff >= c.site.dirBytes
		return nil
	}
	for len(data) > 0 {
		n, err := c.dirEntry.Decode(data)
		if err != nil {
			return fmt.Errorf("entry at %d: %w", c.dirOff-int64(len(data)), err)
		}
		if !c.site.blind {
			if err := c.listed(&c.dirEntry); err != nil {
				return err
			}
		}
		data = data[n:]
	}
	return nil
}

// listed notes that d was in the directory.
func (c *conn) listed(d *ninep.Dir) error {
	i, err := strconv.Atoi(d.Name[min(1, len(d.Name)):])
	switch {
	case err != nil || i < 0 || i >= len(c.dirSeen) || d.Name != c.site.names[i]:
		return fmt.Errorf("unknown entry %q", d.Name)
	case c.dirSeen[i]:
		return fmt.Errorf("entry %q comes twice", d.Name)
	case d.Length != 0 || d.Qid.Qtype&ninep.QTDIR != 0:
		return fmt.Errorf("entry %q is no empty file", d.Name)
	}
	c.dirSeen[i] = true
	return nil
}
