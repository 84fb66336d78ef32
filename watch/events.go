package watch

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
)

// An Event is a line of the log.
type Event struct {
	Time    time.Time
	Level   slog.Level
	Message string
	Attrs   string // key=value, with blanks between
}

// Events remembers what was logged last. Make one with NewEvents.
type Events struct {
	mu   sync.Mutex
	ring []Event
	n    uint64 // so far
}

// attrsMax is how many bytes are kept of a line's attributes, and of its text.
const attrsMax = 500

// NewEvents returns Events for the last n lines.
func NewEvents(n int) *Events { return &Events{ring: make([]Event, max(n, 1))} }

// Handler returns a handler that remembers what it hands on to next. What next does not want is not
// remembered either.
func (e *Events) Handler(next slog.Handler) slog.Handler { return &remember{e: e, next: next} }

// Last returns what is remembered, the newest first.
func (e *Events) Last() []Event {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	size := uint64(len(e.ring))
	list := make([]Event, 0, min(e.n, size))
	for i := e.n; i > e.n-uint64(cap(list)); i-- {
		list = append(list, e.ring[(i-1)%size])
	}
	return list
}

func (e *Events) add(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ring[e.n%uint64(len(e.ring))] = ev
	e.n++
}

// remember is the handler.
type remember struct {
	e     *Events
	next  slog.Handler
	attrs string // of WithAttrs
	group string // of WithGroup, with a dot behind each
}

func (r *remember) Enabled(ctx context.Context, l slog.Level) bool { return r.next.Enabled(ctx, l) }

func (r *remember) Handle(ctx context.Context, rec slog.Record) error {
	var b strings.Builder
	b.WriteString(r.attrs)
	rec.Attrs(func(a slog.Attr) bool {
		appendAttr(&b, r.group, a)
		return b.Len() < attrsMax
	})
	r.e.add(Event{rec.Time, rec.Level, clip(rec.Message), clip(b.String())})
	return r.next.Handle(ctx, rec)
}

func (r *remember) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *r
	var b strings.Builder
	b.WriteString(r.attrs)
	for _, a := range attrs {
		appendAttr(&b, r.group, a)
	}
	n.attrs, n.next = b.String(), r.next.WithAttrs(attrs)
	return &n
}

func (r *remember) WithGroup(name string) slog.Handler {
	n := *r
	if name != "" {
		n.group += name + "."
	}
	n.next = r.next.WithGroup(name)
	return &n
}

// appendAttr writes an attribute as slog.TextHandler does, about.
func appendAttr(b *strings.Builder, group string, a slog.Attr) {
	v := a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return
	}
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, a := range v.Group() {
			appendAttr(b, group, a)
		}
		return
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	b.WriteString(group)
	b.WriteString(a.Key)
	b.WriteByte('=')
	if s := v.String(); s == "" || strings.ContainsAny(s, " =\"") {
		b.WriteString(strconv.Quote(s))
	} else {
		b.WriteString(s)
	}
}

// clip cuts what is too long to be looked at.
func clip(s string) string {
	if len(s) <= attrsMax {
		return s
	}
	return strings.ToValidUTF8(s[:attrsMax], "") + " …"
}
