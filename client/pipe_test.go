package client

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"gefs9p/ninep"
)

func TestPipeKeepsRequestsOutstanding(t *testing.T) {
	const depth = 16
	outstanding, most := 0, 0
	var held []*ninep.Fcall
	addr := serveFake(t, func(f *fake, m *ninep.Fcall) {
		outstanding++
		most = max(most, outstanding)
		if held = append(held, m); len(held) == depth {
			var out []byte
			for _, m := range held {
				out = ninep.AppendRread(out, m.Tag, binary.BigEndian.AppendUint64(nil, m.Tread.Offset))
			}
			held, outstanding = nil, 0
			f.send(out)
		}
	})
	p, err := DialPipe(t.Context(), addr, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.Msize() != testMsize || p.Iounit() != 8192 {
		t.Errorf("msize %d, iounit %d", p.Msize(), p.Iounit())
	}
	var at [depth]uint64
	next := uint64(0)
	send := func(tag uint16) {
		at[tag] = next
		p.Out = ninep.AppendTread(p.Out, tag, 1, next, 8)
		next++
	}
	for tag := range uint16(depth) {
		send(tag)
	}
	var r ninep.Fcall
	for range depth * 100 {
		frame, err := p.Next()
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Decode(frame); err != nil {
			t.Fatal(err)
		}
		if got := binary.BigEndian.Uint64(r.Rread.Data); got != at[r.Tag] {
			t.Fatalf("tag %d asked for %d and got %d", r.Tag, at[r.Tag], got)
		}
		send(r.Tag)
	}
	if most != depth {
		t.Errorf("%d requests outstanding", most)
	}
}

func TestPipeDoesNotAllocate(t *testing.T) {
	addr := serveFake(t, func(f *fake, m *ninep.Fcall) { f.ok(m) })
	p, err := DialPipe(t.Context(), addr, 8192)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	// Replies that are there already: the fake's own allocations would count.
	const n = 200
	for tag := range uint16(n) {
		p.Out = ninep.AppendTclunk(p.Out, tag, 1)
	}
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	var r ninep.Fcall
	if _, err := p.Next(); err != nil {
		t.Fatal(err)
	}
	if a := testing.AllocsPerRun(n-10, func() {
		frame, err := p.Next()
		if err != nil || r.Decode(frame) != nil {
			t.Fatal(err)
		}
		p.Out = ninep.AppendTread(p.Out[:0], r.Tag, 1, 0, 10)
	}); a != 0 {
		t.Errorf("%v allocations a reply", a)
	}
}

func TestPipeTellsTheEndFromABreak(t *testing.T) {
	for _, c := range []struct {
		name string
		send []byte
		want error
	}{
		{"between frames", nil, io.EOF},
		{"inside a frame", []byte{11, 0, 0, 0, ninep.Rwrite}, io.ErrUnexpectedEOF},
		{"inside a size", []byte{11, 0}, io.ErrUnexpectedEOF},
		{"bad size", []byte{1, 0, 0, 0}, ErrProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := serveFake(t, func(f *fake, m *ninep.Fcall) {
				f.ok(m)
				f.send(c.send)
				f.conn.Close()
			})
			p, err := DialPipe(t.Context(), addr, 8192)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			p.Out = ninep.AppendTclunk(p.Out, 0, 1)
			if _, err := p.Next(); err != nil {
				t.Fatalf("the reply before: %v", err)
			}
			if _, err := p.Next(); !errors.Is(err, c.want) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestPipeCloseEndsNext(t *testing.T) {
	addr := serveFake(t, func(*fake, *ninep.Fcall) {})
	p, err := DialPipe(t.Context(), addr, 8192)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(10*time.Millisecond, func() { p.Close() })
	p.Out = ninep.AppendTclunk(p.Out, 0, 1)
	if _, err := p.Next(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("error %v", err)
	}
}

func TestPipeTakesFramesInAnyPieces(t *testing.T) {
	r := newRand(t)
	client, server := net.Pipe()
	var stream []byte
	const n = 500
	for i := range uint16(n) {
		stream = ninep.AppendRread(stream, i, make([]byte, r.IntN(testMsize-11)))
	}
	go func() {
		defer server.Close()
		f := &fake{t: t, conn: server, msize: testMsize}
		frame, err := ninep.ReadFrame(server, nil, 1<<20)
		if err != nil {
			t.Error(err)
		}
		m := new(ninep.Fcall)
		if err := m.Decode(frame); err != nil {
			t.Error(err)
		}
		b, _ := ninep.AppendRversion(nil, m.Tag, testMsize, ninep.Version)
		f.send(b)
		for len(stream) > 0 {
			k := min(1+r.IntN(20000), len(stream))
			f.send(stream[:k])
			stream = stream[k:]
		}
	}()
	p, err := NewPipe(t.Context(), client, testMsize)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var m ninep.Fcall
	for i := range uint16(n) {
		frame, err := p.Next()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Decode(frame); err != nil || m.Tag != i {
			t.Fatalf("frame %d: tag %d, %v", i, m.Tag, err)
		}
	}
	if _, err := p.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}
