package blkstore

// A qheap is a binary heap of queue entries, the first by qcmp on top.
type qheap []qent

func (h *qheap) push(e qent) {
	*h = append(*h, e)
	h.up(len(*h) - 1)
}

// pop takes the top off; there is one.
func (h *qheap) pop() {
	s := *h
	n := len(s) - 1
	s[0] = s[n]
	s[n] = qent{} // do not keep its block
	*h = s[:n]
	h.down(0)
}

// filter keeps the entries for which keep returns true, in linear time.
func (h *qheap) filter(keep func(qent) bool) {
	s := *h
	kept := s[:0]
	for _, e := range s {
		if keep(e) {
			kept = append(kept, e)
		}
	}
	clear(s[len(kept):])
	*h = kept
	for i := len(kept)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h *qheap) up(i int) {
	s := *h
	for i > 0 {
		p := (i - 1) / 2
		if qcmp(s[i], s[p]) >= 0 {
			return
		}
		s[i], s[p] = s[p], s[i]
		i = p
	}
}

func (h *qheap) down(i int) {
	s := *h
	for {
		c := 2*i + 1
		if c >= len(s) {
			return
		}
		if c+1 < len(s) && qcmp(s[c+1], s[c]) < 0 {
			c++
		}
		if qcmp(s[i], s[c]) <= 0 {
			return
		}
		s[i], s[c] = s[c], s[i]
		i = c
	}
}
