package ninep_test

import (
	"bufio"
	"net"
	"testing"
	"time"

	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

// benchFile is a File that costs nothing, so that what is left is the server.
type benchFile struct{ data []byte }

func (f *benchFile) Walk(c *ninep.Ctx, names []string, qids []ninep.Qid) (ninep.File, int, error) {
	return f, len(names), nil
}
func (f *benchFile) Open(*ninep.Ctx, uint8) (ninep.Qid, uint32, error) { return ninep.Qid{}, 0, nil }
func (f *benchFile) Create(*ninep.Ctx, string, uint32, uint8) (ninep.Qid, uint32, error) {
	return ninep.Qid{}, 0, nil
}
func (f *benchFile) Read(c *ninep.Ctx, p []byte, off uint64) (int, error) {
	return copy(p, f.data), nil
}
func (f *benchFile) Write(c *ninep.Ctx, p []byte, off uint64) (int, error) {
	if off == 1 {
		c.Block()
	}
	return len(p), nil
}
func (f *benchFile) Stat(c *ninep.Ctx, d *ninep.Dir) error  { *d = ninep.Dir{Name: "x"}; return nil }
func (f *benchFile) Wstat(c *ninep.Ctx, d *ninep.Dir) error { return nil }
func (f *benchFile) Remove(c *ninep.Ctx) error              { return nil }
func (f *benchFile) Clunk(c *ninep.Ctx)                     {}

type benchFS struct{ f *benchFile }

func (fs benchFS) Auth(*ninep.Ctx, string, string) (ninep.AuthFile, ninep.Qid, error) {
	return nil, ninep.Qid{}, ninep.ErrNoAuth
}
func (fs benchFS) Attach(*ninep.Ctx, ninep.AttachArgs) (ninep.File, ninep.Qid, error) {
	return fs.f, ninep.Qid{}, nil
}

// benchConn starts a server of a benchFS and attaches fid 0.
func benchConn(b *testing.B) net.Conn { return benchMetered(b, nil) }

// benchMetered is benchConn with a server that counts.
func benchMetered(b testing.TB, m *ninep.Meter) net.Conn {
	s := &ninep.Server{FS: benchFS{&benchFile{make([]byte, 8192)}}, Meter: m}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- s.Serve(b.Context(), l) }()
	b.Cleanup(func() {
		s.Shutdown(b.Context())
		<-served
	})
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	p := ninetest.NewPeer(b, c)
	p.Version(64 << 10)
	p.Attach(0, "glenda")
	c.SetReadDeadline(time.Time{})
	return c
}

// pump sends batch and reads as many replies, again and again.
func pump(b *testing.B, c net.Conn, batch []byte, n int) {
	br := bufio.NewReaderSize(c, 256<<10)
	var buf []byte
	var err error
	for i := 0; i < b.N; i += n {
		if _, err = c.Write(batch); err != nil {
			b.Fatal(err)
		}
		for range n {
			if buf, err = ninep.ReadFrame(br, buf, 1<<20); err != nil {
				b.Fatal(err)
			}
			if buf[4] == ninep.Rerror {
				b.Fatalf("Rerror %q", buf)
			}
		}
	}
}

// BenchmarkRead8K is one operation per 8 KiB read, eight in flight, on one connection.
func BenchmarkRead8K(b *testing.B) {
	c := benchConn(b)
	var batch []byte
	for i := range 8 {
		batch = ninep.AppendTread(batch, uint16(i), 0, 0, 8192)
	}
	b.SetBytes(8192)
	b.ReportAllocs()
	b.ResetTimer()
	pump(b, c, batch, 8)
}

// BenchmarkStat is one operation per Tstat, eight in flight: the cost of a request without data.
func BenchmarkStat(b *testing.B) {
	c := benchConn(b)
	var batch []byte
	for i := range 8 {
		batch = ninep.AppendTstat(batch, uint16(i), 0)
	}
	b.ReportAllocs()
	b.ResetTimer()
	pump(b, c, batch, 8)
}

// BenchmarkMeteredStat and BenchmarkMeteredRead8K are the same with a Meter.
func BenchmarkMeteredStat(b *testing.B) {
	c := benchMetered(b, new(ninep.Meter))
	var batch []byte
	for i := range 8 {
		batch = ninep.AppendTstat(batch, uint16(i), 0)
	}
	b.ReportAllocs()
	b.ResetTimer()
	pump(b, c, batch, 8)
}

func BenchmarkMeteredRead8K(b *testing.B) {
	c := benchMetered(b, new(ninep.Meter))
	var batch []byte
	for i := range 8 {
		batch = ninep.AppendTread(batch, uint16(i), 0, 0, 8192)
	}
	b.SetBytes(8192)
	b.ReportAllocs()
	b.ResetTimer()
	pump(b, c, batch, 8)
}

// BenchmarkMeteredStatAlone is one Tstat after the other, so that each is a frame, a read and a write.
func BenchmarkMeteredStatAlone(b *testing.B) {
	c := benchMetered(b, new(ninep.Meter))
	b.ReportAllocs()
	b.ResetTimer()
	pump(b, c, ninep.AppendTstat(nil, 1, 0), 1)
}

// BenchmarkStatAlone is the same without a Meter.
func BenchmarkStatAlone(b *testing.B) {
	c := benchConn(b)
	b.ReportAllocs()
	b.ResetTimer()
	pump(b, c, ninep.AppendTstat(nil, 1, 0), 1)
}

// BenchmarkWrite8K is one operation per 8 KiB write, eight in flight.
func BenchmarkWrite8K(b *testing.B) {
	c := benchConn(b)
	var batch []byte
	for i := range 8 {
		batch = ninep.AppendTwrite(batch, uint16(i), 0, 0, make([]byte, 8192))
	}
	b.SetBytes(8192)
	b.ReportAllocs()
	b.ResetTimer()
	pump(b, c, batch, 8)
}

// BenchmarkBlockedWrite is BenchmarkWrite8K with handlers that all call Block.
func BenchmarkBlockedWrite(b *testing.B) {
	c := benchConn(b)
	var batch []byte
	for i := range 8 {
		batch = ninep.AppendTwrite(batch, uint16(i), 0, 1, make([]byte, 8192))
	}
	b.SetBytes(8192)
	b.ReportAllocs()
	b.ResetTimer()
	pump(b, c, batch, 8)
}

// BenchmarkDecodeTread is the codec alone.
func BenchmarkDecodeTread(b *testing.B) {
	frame := ninep.AppendTread(nil, 1, 2, 3, 4)
	var f ninep.Fcall
	b.ReportAllocs()
	for b.Loop() {
		if err := f.Decode(frame); err != nil {
			b.Fatal(err)
		}
	}
}
