package snap

import (
	"slices"

	"gefs9p/kvfmt"
)

// A Span is a range of keys: From up to To, which is not included. A nil To is above every key.
type Span struct{ From, To []byte }

// Spans is a sorted list of spans that do not touch.
type Spans []Span

// add enters a span, which must not begin before one entered earlier.
func (l *Spans) add(s Span) {
	if n := len(*l); n > 0 {
		last := &(*l)[n-1]
		if last.To == nil || kvfmt.Compare(s.From, last.To) <= 0 {
			if last.To != nil && (s.To == nil || kvfmt.Compare(s.To, last.To) > 0) {
				last.To = s.To
			}
			return
		}
	}
	*l = append(*l, s)
}

// behind returns the first key above key.
func behind(key []byte) []byte { return append(key[:len(key):len(key)], 0) }

// union returns the spans in order, those that touch joined.
func union(found []Span) Spans {
	slices.SortFunc(found, func(a, b Span) int { return kvfmt.Compare(a.From, b.From) })
	var l Spans
	for _, s := range found {
		l.add(s)
	}
	return l
}

// With returns the union of l and more.
func (l Spans) With(more ...Span) Spans { return union(append(slices.Clone(l), more...)) }
