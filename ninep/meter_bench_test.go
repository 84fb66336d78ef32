package ninep

import (
	"testing"
	"time"
)

// BenchmarkCount is what a Meter adds to a request: a look at the clock and two additions.
func BenchmarkCount(b *testing.B) {
	c := &Conn{born: time.Now(), meter: new(Meter).shard(0)}
	r := &request{c: c}
	r.fc.Type = Tread
	b.ReportAllocs()
	for b.Loop() {
		r.began = c.lead.start(c)
		c.count(r)
	}
}

// BenchmarkCountNothing is the same without one.
func BenchmarkCountNothing(b *testing.B) {
	c := new(Conn)
	r := &request{c: c}
	b.ReportAllocs()
	for b.Loop() {
		c.count(r)
	}
}
