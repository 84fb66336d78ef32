package ninep_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

// counted returns what m knows of a type of requests.
func counted(t testing.TB, m *ninep.Meter, name string) ninep.TypeCount {
	t.Helper()
	for _, tc := range m.Counts().Types {
		if tc.Name == name {
			return tc
		}
	}
	t.Fatalf("%s is no type of requests", name)
	return ninep.TypeCount{}
}

// eventually waits until what it is asked for holds: a request is counted before its answer is sent if it did
// not block, and else at about the same time.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(ninetest.Patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to pass: %s", what)
		}
	}
}

func TestMeterCountsEveryRequestOnce(t *testing.T) {
	m := new(ninep.Meter)
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		s.Meter = m
		fs.Hook = on("write", func(c *ninep.Ctx, name string) error { c.Block(); return nil })
	})
	p := r.session()
	p.Walk(0, 1, "hello")
	p.Open(1, ninep.ORDWR)
	for range 100 {
		p.RPC(&proto.TRead{Fid: 1, Count: 5})
	}
	for range 10 {
		p.RPC(&proto.TWrite{Fid: 1, Data: []byte("hello")}) // each leaves the leader
	}
	for range 7 {
		p.Send(&proto.TStat{Header: tag(3), Fid: 99})
		p.WantError(3, ninep.ErrUnknownFid)
	}
	p.Send(&proto.TFlush{Header: tag(4), Oldtag: 77})
	p.Want(ninep.Rflush, 4)
	for name, want := range map[string][2]uint64{
		"Tversion": {1, 0}, "Tattach": {1, 0}, "Twalk": {1, 0}, "Topen": {1, 0}, "Tread": {100, 0},
		"Twrite": {10, 0}, "Tstat": {7, 7}, "Tflush": {1, 0}, "Tclunk": {0, 0}, "Treaddir": {0, 0},
	} {
		eventually(t, name, func() bool { tc := counted(t, m, name); return tc.Requests() >= want[0] })
		tc := counted(t, m, name)
		if n := tc.Requests(); n != want[0] || tc.Errors != want[1] {
			t.Errorf("%s: %d requests, %d errors, want %d", name, n, tc.Errors, want)
		}
		if (tc.Total > 0) != (want[0] > 0) {
			t.Errorf("%s: %d requests took %v", name, want[0], tc.Total)
		}
	}
}

func TestMeterCountsBytesAndConnections(t *testing.T) {
	m := new(ninep.Meter)
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) { s.Meter, s.Limits.Conns = m, 2 })
	p := r.dial()
	var sent, received int
	rpc := func(c proto.FCall) {
		b := ninetest.Frames(t, c)
		sent += len(b)
		p.Write(b)
		f := p.Recv()
		b = ninetest.Frames(t, f.Msg())
		received += len(b)
	}
	rpc(&proto.TRVersion{Header: proto.Header{Type: ninep.Tversion, Tag: ninep.NOTAG}, Msize: 8192, Version: ninep.Version})
	rpc(&proto.TAttach{Fid: 0, Afid: ninep.NOFID, Uname: "glenda"})
	rpc(&proto.TStat{Fid: 0})
	eventually(t, "all bytes are counted", func() bool { return m.Counts().Sent == uint64(received) })
	if c := m.Counts(); c.Received != uint64(sent) || c.Accepted != 1 {
		t.Errorf("%d bytes received, %d connections, want %d and 1", c.Received, c.Accepted, sent)
	}
	cl := r.s.Clients()
	if len(cl) != 1 || cl[0].Received != uint64(sent) || cl[0].Sent != uint64(received) || cl[0].Fids != 1 ||
		!slices.Equal(cl[0].Users, []string{"glenda"}) || cl[0].Dialect != ninep.Plan9 || time.Since(cl[0].Since) > time.Minute {
		t.Errorf("the client is %+v", cl)
	}
	eventually(t, "the client's requests", func() bool { return r.s.Clients()[0].Requests == 3 })

	r.session()
	q := r.dial() // one too many
	q.WantError(ninep.NOTAG, ninep.ErrTooManyConn)
	p.Write([]byte{7, 0, 0, 0, ninep.Rstat, 1, 0}) // a reply: it is hung up on
	p.WantHangup()
	eventually(t, "one refused, one hung up", func() bool { c := m.Counts(); return c.Refused == 1 && c.HungUp == 1 })
	if c := m.Counts(); c.Accepted != 2 {
		t.Errorf("%d connections accepted, want 2", c.Accepted)
	}
}

func TestTimesFallIntoTheirClass(t *testing.T) {
	m := new(ninep.Meter)
	const nap = 20 * time.Millisecond
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		s.Meter = m
		fs.Hook = on("read", func(c *ninep.Ctx, name string) error { time.Sleep(nap); return nil })
	})
	p := r.session()
	p.Walk(0, 1, "hello")
	p.Open(1, ninep.OREAD)
	p.RPC(&proto.TRead{Fid: 1, Count: 5})
	tc := counted(t, m, "Tread")
	i := slices.Index(tc.Took[:], 1)
	if i < 1 || i < ninep.TimeBuckets-1 && tc.Total > ninep.TimeBound(i) || tc.Total <= ninep.TimeBound(i-1) {
		t.Errorf("a request that took %v is in class %d, up to %v", tc.Total, i, ninep.TimeBound(i))
	}
	if tc.Total < nap {
		t.Errorf("it slept %v and took %v", nap, tc.Total)
	}
	// What comes behind it in one piece is not charged with it.
	p.Write(slices.Concat(ninetest.Frames(t, &proto.TRead{Header: tag(1), Fid: 1, Count: 5}),
		ninetest.Frames(t, &proto.TStat{Header: tag(2), Fid: 1})))
	p.Want(ninep.Rread, 1)
	p.Want(ninep.Rstat, 2)
	if tc := counted(t, m, "Tstat"); tc.Total >= nap {
		t.Errorf("a stat behind a slow read took %v", tc.Total)
	}
}

func TestUsersOfAConnectionAreCutShort(t *testing.T) {
	r := newRig(t, nil)
	p := r.dial()
	p.Version(64 << 10)
	for i := range 20 {
		p.Attach(uint32(i), strings.Repeat("é", 1000)[:2*i+2])
	}
	p.Attach(100, strings.Repeat("é", 1000))
	cl := r.s.Clients()
	if n := len(cl[0].Users); n != 8 {
		t.Errorf("%d users are kept", n)
	}
	p.Version(64 << 10)
	if cl := r.s.Clients(); len(cl[0].Users) != 0 {
		t.Errorf("a new session begins with the users %q", cl[0].Users)
	}
	p.Attach(0, "x"+strings.Repeat("é", 1000))
	if got, want := r.s.Clients()[0].Users[0], "x"+strings.Repeat("é", 31); got != want {
		t.Errorf("a long name is kept as %q, want %q", got, want)
	}
}

// TestManyConnectionsAddUp has clients at work while others look.
func TestManyConnectionsAddUp(t *testing.T) {
	m := new(ninep.Meter)
	r := newRig(t, func(fs *ninetest.FS, s *ninep.Server) {
		s.Meter = m
		fs.Hook = on("stat", func(c *ninep.Ctx, name string) error {
			if c.Conn.String()[0]%2 == 0 {
				c.Block()
			}
			return nil
		})
	})
	const clients, each = 8, 200
	var wg sync.WaitGroup
	for range clients {
		p := r.session()
		wg.Go(func() {
			for i := range each {
				p.Send(&proto.TStat{Header: tag(i), Fid: 0})
				p.Want(ninep.Rstat, uint16(i))
			}
		})
	}
	stop := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for last := uint64(0); ; {
			select {
			case <-stop:
				return
			default:
			}
			tc := counted(t, m, "Tstat")
			if n := tc.Requests(); n < last {
				t.Errorf("%d requests, and %d before", n, last)
			} else {
				last = n
			}
			r.s.Clients()
		}
	})
	wg.Wait()
	close(stop)
	watcher.Wait()
	eventually(t, "all are counted", func() bool { tc := counted(t, m, "Tstat"); return tc.Requests() == clients*each })
}

func TestMeteringAllocatesNothing(t *testing.T) {
	frame := ninep.AppendTstat(nil, 1, 0)
	allocs := func(m *ninep.Meter) float64 {
		c := benchMetered(t, m)
		var reply [256]byte
		return testing.AllocsPerRun(2000, func() {
			if _, err := c.Write(frame); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(reply[:]); err != nil {
				t.Fatal(err)
			}
		})
	}
	if without, with := allocs(nil), allocs(new(ninep.Meter)); with > without {
		t.Errorf("a request allocates %v times with a Meter, %v times without", with, without)
	}
}
