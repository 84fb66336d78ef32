package check

import "math/bits"

// A bitmap is a set of the block numbers of an arena. Runs of pages that are all zero or all one
// take no memory, so that an empty terabyte costs next to nothing.
type bitmap struct {
	n     int64
	count int64
	pages []*page // nil: no bit is set
	full  *page   // stands for every page of which all bits are set; never written
}

const pageBits = 4096

type page [pageBits / 64]uint64

func newBitmap(n int64) *bitmap {
	b := &bitmap{n: n, pages: make([]*page, (n+pageBits-1)/pageBits), full: new(page)}
	for i := range b.full {
		b.full[i] = ^uint64(0)
	}
	return b
}

func (b *bitmap) has(i int64) bool {
	p := b.pages[i/pageBits]
	return p != nil && p[i%pageBits/64]>>(i%64)&1 != 0
}

// set makes the n bits from lo equal to v. If one of them is so already it stops there, and
// returns its number and false. The range must be inside the bitmap.
func (b *bitmap) set(lo, n int64, v bool) (int64, bool) {
	for n > 0 {
		pi, off := lo/pageBits, lo%pageBits
		k := min(n, pageBits-off)
		p := b.pages[pi]
		switch {
		case k == pageBits && v && p == nil:
			b.pages[pi] = b.full
		case k == pageBits && !v && p == b.full:
			b.pages[pi] = nil
		default:
			if p == nil {
				p = new(page)
				b.pages[pi] = p
			} else if p == b.full {
				q := *p
				p = &q
				b.pages[pi] = p
			}
			for end := off + k; off < end; {
				w, bit := off/64, off%64
				m := min(end-off, 64-bit)
				mask := ^uint64(0) >> (64 - m) << bit
				if has := p[w] & mask; v && has != 0 {
					return pi*pageBits + w*64 + int64(bits.TrailingZeros64(has)), false
				} else if !v && has != mask {
					return pi*pageBits + w*64 + int64(bits.TrailingZeros64(^has&mask)), false
				}
				p[w] ^= mask
				off += m
			}
		}
		if v {
			b.count += k
		} else {
			b.count -= k
		}
		lo, n = lo+k, n-k
	}
	return 0, true
}
