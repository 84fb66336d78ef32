package nbd_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkdev/blkdevtest"
	"gefs9p/nbd"
	"gefs9p/nbd/nbdtest"
)

// All that a device must do, on connections that do not last: one request in forty is the end of one,
// before it is done or after.
func TestLostConnectionsAreNotNoticed(t *testing.T) {
	r := blkdevtest.Rand(t)
	var mu sync.Mutex
	var lost atomic.Int64
	blkdevtest.TestDevice(t, func(t testing.TB, size int64) blkdev.Device {
		s := &nbdtest.Server{Dev: blkdev.NewMem(size), Hook: func(q nbdtest.Request) nbdtest.Fault {
			mu.Lock()
			n := r.IntN(80)
			mu.Unlock()
			if n < 2 {
				lost.Add(1)
			}
			return nbdtest.Fault{Lost: n == 0, Mute: n == 1}
		}}
		d, err := nbd.Open(context.Background(), serve(t, s), nbd.Options{})
		for i := 0; err != nil && i < 20; i++ {
			d, err = nbd.Open(context.Background(), address(t, "nbd://"+s.Addr()+"/disk"), nbd.Options{})
		}
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
	if lost.Load() < 5 { // some thirty are to be expected, more without -short
		t.Errorf("only %d connections were lost", lost.Load())
	}
}

// A server with a cache is killed again and again. The client must find what it wrote, flushed or not; and
// when the client is gone as well, what it had synced must be there.
func TestServerThatForgetsIsToldAgain(t *testing.T) {
	const size, block = 1 << 20, 4096
	r := blkdevtest.Rand(t)
	for round := range 6 {
		disk := nbdtest.NewVolatile(size)
		s := &nbdtest.Server{Dev: disk}
		d := open(t, serve(t, s), nbd.Options{Unflushed: 200_000})
		want := make([]byte, size)
		var synced []byte
		var since [][2]int // written since the last Sync
		keep := float64(round%3) / 2
		for range 200 {
			switch k := r.IntN(40); {
			case k < 30:
				off := r.IntN(size/block)*block + r.IntN(2)*r.IntN(block)
				n := min(1+r.IntN(3*block), size-off)
				for i := range n {
					want[off+i] = byte(r.Uint32())
				}
				if _, err := d.WriteAt(want[off:off+n], int64(off)); err != nil {
					t.Fatal(err)
				}
				since = append(since, [2]int{off, n})
			case k < 33:
				if err := d.Sync(); err != nil {
					t.Fatal(err)
				}
				synced, since = bytes.Clone(want), nil
			case k < 36:
				s.Leave()
				disk = disk.Crash(r, keep)
				s.Return(disk)
			default:
				off := r.IntN(size)
				p := make([]byte, r.IntN(size-off))
				if _, err := d.ReadAt(p, int64(off)); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(p, want[off:off+len(p)]) {
					t.Fatalf("round %d: %d bytes at %d are not what was written", round, len(p), off)
				}
			}
		}
		d.Close()
		s.Leave()
		left := disk.Crash(r, keep)
		got := make([]byte, size)
		if _, err := left.ReadAt(got, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		for _, w := range since { // these may be anything
			copy(got[w[0]:w[0]+w[1]], synced[w[0]:])
		}
		if synced != nil && !bytes.Equal(got, synced) {
			t.Fatalf("round %d: something that was synced is not there", round)
		}
	}
}

// limited is a connection that ends after so many bytes in one direction.
type limited struct {
	net.Conn
	in, out *atomic.Int64 // bytes that may pass still; nil for any number
}

func (l *limited) Read(p []byte) (int, error) {
	if l.in == nil {
		return l.Conn.Read(p)
	}
	left := l.in.Load()
	if left <= 0 {
		l.Conn.Close()
		return 0, io.EOF
	}
	n, err := l.Conn.Read(p[:min(int64(len(p)), left)])
	l.in.Add(-int64(n))
	return n, err
}

func (l *limited) Write(p []byte) (int, error) {
	if l.out == nil {
		return l.Conn.Write(p)
	}
	left := l.out.Load()
	n, err := l.Conn.Write(p[:min(int64(len(p)), left)])
	l.out.Add(-int64(n))
	if err == nil && n < len(p) {
		l.Conn.Close()
		err = io.ErrClosedPipe
	}
	return n, err
}

func TestConnectionMayBeCutAtAnyByte(t *testing.T) {
	session := func(d *nbd.Disk) error {
		got := make([]byte, 100)
		for i := range 3 {
			if _, err := d.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, 100), int64(50*i)); err != nil {
				return err
			}
			if err := d.Sync(); err != nil {
				return err
			}
			if _, err := d.ReadAt(got, int64(50*i)); err != nil {
				return err
			}
			if bytes.Count(got, []byte{byte(i + 1)}) != 100 {
				return errors.New("what was read is not what was written")
			}
		}
		return nil
	}
	random := blkdevtest.Rand(t)
	// Not all of some 1,500 bytes in one run; another run tries others.
	step := int64(5)
	if testing.Short() {
		step = 31
	}
	for _, way := range []string{"from the server", "to the server"} {
		t.Run(way, func(t *testing.T) {
			whole := false
			one := func(t *testing.T, cut int64) {
				disk := nbdtest.NewVolatile(4096)
				s := &nbdtest.Server{Dev: disk}
				a := serve(t, s)
				var conns, left atomic.Int64
				var away sync.RWMutex
				left.Store(cut)
				opt := nbd.Options{Dial: func(ctx context.Context) (net.Conn, error) {
					away.RLock()
					defer away.RUnlock()
					nc, err := new(net.Dialer).DialContext(ctx, "tcp", s.Addr())
					// The first is whole until the session begins, the second is the one that is cut.
					if n := conns.Add(1); err != nil || n > 2 {
						return nc, err
					} else if n == 1 {
						return nc, nil
					}
					if way == "to the server" {
						return &limited{Conn: nc, out: &left}, nil
					}
					return &limited{Conn: nc, in: &left}, nil
				}}
				d := open(t, a, opt)
				if _, err := d.WriteAt([]byte("unflushed"), 3000); err != nil {
					t.Fatal(err)
				}
				away.Lock()
				s.Leave()
				disk = disk.Crash(random, 0)
				s.Return(disk)
				away.Unlock()
				if err := session(d); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, 9)
				if _, err := d.ReadAt(got, 3000); err != nil || string(got) != "unflushed" {
					t.Fatalf("an unflushed write is lost: %q, %v", got, err)
				}
				d.Close()
				s.Leave()
				if left.Load() > 0 {
					if cut < 300 {
						t.Fatalf("a session of %d bytes", cut)
					}
					whole = true
				}
			}
			for cut := 1 + random.Int64N(step); !whole; cut += step {
				if !t.Run(strconv.FormatInt(cut, 10), func(t *testing.T) { one(t, cut) }) {
					return
				}
			}
		})
	}
}

func TestUnflushedWritesAreBounded(t *testing.T) {
	s := &nbdtest.Server{Dev: blkdev.NewMem(8 << 20)}
	d := open(t, serve(t, s), nbd.Options{Unflushed: 1 << 20})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			p := make([]byte, 16384)
			for i := range 400 {
				if _, err := d.WriteAt(p, int64((i*4+w)%512*16384)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := s.Count(nbdtest.Flush); n < 24 || n > 400 {
		t.Errorf("%d flushes for 25 MiB of writes, of which one may be unflushed", n)
	}
	s.Leave()
	before := s.Count(nbdtest.Write)
	s.Return(nil)
	if _, err := d.ReadAt(make([]byte, 1), 0); err != nil {
		t.Fatal(err)
	}
	if n := s.Count(nbdtest.Write) - before; n > 64 {
		t.Errorf("%d writes of 16 KiB were made again", n)
	}
}

// While there is no server, writes wait as soon as the memory for them is used up, and reads wait; then all goes on.
func TestAllWaitWhileTheServerIsAway(t *testing.T) {
	disk := nbdtest.NewVolatile(4 << 20)
	s := &nbdtest.Server{Dev: disk}
	d := open(t, serve(t, s), nbd.Options{Unflushed: 1 << 20})
	s.Leave()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			p := bytes.Repeat([]byte{byte(w + 1)}, 16384)
			for i := range 32 {
				if _, err := d.WriteAt(p, int64((w*32+i)*16384)); err != nil {
					t.Error(err)
				}
			}
			if err := d.Sync(); err != nil {
				t.Error(err)
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	s.Return(nil)
	wg.Wait()
	p := make([]byte, 4<<20)
	if _, err := d.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	for i, b := range p {
		if b != byte(i/16384/32+1) {
			t.Fatalf("byte %d is %d", i, b)
		}
	}
}

func TestPatienceEnds(t *testing.T) {
	s := &nbdtest.Server{Dev: blkdev.NewMem(1 << 20)}
	d := open(t, serve(t, s), nbd.Options{Patience: 200 * time.Millisecond})
	if _, err := d.WriteAt([]byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	s.Leave()
	_, err := d.ReadAt(make([]byte, 1), 0)
	if err == nil || !strings.Contains(err.Error(), "1 writes since the last flush may be lost") || !strings.Contains(err.Error(), "hung up") {
		t.Errorf("read without a server: %v", err)
	}
	s.Return(nil)
	if err := d.Sync(); err == nil {
		t.Error("what was lost can be synced")
	}
	if _, err := d.WriteAt([]byte("x"), 0); err == nil {
		t.Error("a lost disk is written")
	}
	if err := d.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := d.Close(); err == nil {
		t.Error("closed twice")
	}
}

func TestCloseFreesThoseWhoWait(t *testing.T) {
	for _, how := range []string{"the server is away", "the server hangs"} {
		t.Run(how, func(t *testing.T) {
			var hang atomic.Bool
			s := &nbdtest.Server{Dev: blkdev.NewMem(1 << 20), Hook: func(nbdtest.Request) nbdtest.Fault { return nbdtest.Fault{Hang: hang.Load()} }}
			d := open(t, serve(t, s), nbd.Options{Unflushed: 1000})
			if hang.Store(how == "the server hangs"); !hang.Load() {
				s.Leave()
			}
			var wg sync.WaitGroup
			errs := make([]error, 8)
			for i := range errs {
				wg.Go(func() {
					switch i % 4 {
					case 0:
						_, errs[i] = d.ReadAt(make([]byte, 10), 0)
					case 1, 2:
						_, errs[i] = d.WriteAt(make([]byte, 900), 0) // the second waits for room
					default:
						errs[i] = d.Sync()
					}
				})
			}
			time.Sleep(20 * time.Millisecond)
			if err := d.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			wg.Wait()
			for i, err := range errs {
				if !errors.Is(err, os.ErrClosed) {
					t.Errorf("%d: %v", i, err)
				}
			}
		})
	}
}

func TestServerThatDoesNotReplyIsLeft(t *testing.T) {
	s := &nbdtest.Server{Dev: blkdev.NewMem(1 << 20)}
	s.Hook = func(r nbdtest.Request) nbdtest.Fault { return nbdtest.Fault{Hang: r.N == 3} }
	d := open(t, serve(t, s), nbd.Options{Stall: 50 * time.Millisecond})
	time.Sleep(100 * time.Millisecond) // nothing is asked, so nothing is late
	if _, err := d.WriteAt([]byte("one"), 0); err != nil {
		t.Fatal(err)
	}
	if s.Conns() != 1 {
		t.Errorf("an idle connection was given up")
	}
	if _, err := d.WriteAt([]byte("two"), 3); err != nil { // request 3: 1 is the first sector's
		t.Fatal(err)
	}
	if n, again := d.Stats(); n != 2 || again != 2 {
		t.Errorf("%d connections, %d writes again; want 2 and 2", n, again)
	}
	p := make([]byte, 6)
	if _, err := d.ReadAt(p, 0); err != nil || string(p) != "onetwo" {
		t.Errorf("read %q, %v", p, err)
	}
}

func TestAnotherDiskIsNotWritten(t *testing.T) {
	other := func(size int64, first byte) *blkdev.Mem {
		m := blkdev.NewMem(size)
		if _, err := m.WriteAt([]byte{first}, 0); err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, c := range []struct {
		name, want string
		disk       *blkdev.Mem
	}{
		{"other contents", "not the disk that it was", other(1<<20, 77)},
		{"an older state", "not the disk that it was", other(1<<20, 0)},
		{"smaller", "has 1024 now", other(1024, 2)},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := blkdev.NewMem(1 << 20)
			s := &nbdtest.Server{Dev: disk}
			d := open(t, serve(t, s), nbd.Options{Patience: 300 * time.Millisecond})
			for i := range byte(2) {
				if _, err := d.WriteAt([]byte{i + 1}, 0); err != nil {
					t.Fatal(err)
				}
				if err := d.Sync(); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := d.WriteAt([]byte("unflushed"), 10_000); err != nil {
				t.Fatal(err)
			}
			before := c.disk.Clone()
			s.Leave()
			s.Return(c.disk)
			if err := d.Sync(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Sync: %v; want %q", err, c.want)
			}
			if same, off := before.Equal(c.disk); !same {
				t.Errorf("the other disk was written at %d", off)
			}
		})
	}
	t.Run("and then the right one", func(t *testing.T) {
		disk := nbdtest.NewVolatile(1 << 20)
		s := &nbdtest.Server{Dev: disk}
		d := open(t, serve(t, s), nbd.Options{})
		for i := range byte(4) { // the last two are not flushed, and may be there or not
			if _, err := d.WriteAt([]byte{i + 1, i}, int64(i%2)); err != nil {
				t.Fatal(err)
			}
			if i == 1 {
				if err := d.Sync(); err != nil {
					t.Fatal(err)
				}
			}
		}
		s.Leave()
		disk = disk.Crash(blkdevtest.Rand(t), 0.5)
		s.Return(other(1<<20, 77))
		time.Sleep(100 * time.Millisecond)
		s.Leave()
		s.Return(disk)
		if err := d.Sync(); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 3)
		if _, err := disk.ReadAt(p, 0); err != nil || !bytes.Equal(p, []byte{3, 4, 3}) {
			t.Errorf("%v, %v", p, err)
		}
	})
}

// TestUnflushedWritesMayHaveComeToTheStorageInAnyOrder: what is left then is the disk that it was all the same.
func TestUnflushedWritesMayHaveComeToTheStorageInAnyOrder(t *testing.T) {
	s := &nbdtest.Server{Dev: blkdev.NewMem(1 << 20)}
	d := open(t, serve(t, s), nbd.Options{Patience: 5 * time.Second})
	for i := range byte(4) {
		if _, err := d.WriteAt([]byte{i + 1, i}, int64(i%2)); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			if err := d.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	left := blkdev.NewMem(1 << 20)
	if _, err := left.WriteAt([]byte{3, 2, 3}, 0); err != nil { // the last write came before the one before it
		t.Fatal(err)
	}
	s.Leave()
	s.Return(left)
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 3)
	if _, err := left.ReadAt(p, 0); err != nil || !bytes.Equal(p, []byte{3, 4, 3}) {
		t.Errorf("%v, %v", p, err)
	}
}

func TestMayGrowWhileTheServerIsAway(t *testing.T) {
	s := &nbdtest.Server{Dev: blkdev.NewMem(1 << 20)}
	d := open(t, serve(t, s), nbd.Options{})
	s.Leave()
	s.Return(blkdev.NewMem(2 << 20))
	if _, err := d.ReadAt(make([]byte, 1), 0); err != nil {
		t.Fatal(err)
	}
	if n, err := d.Size(); n != 2<<20 || err != nil {
		t.Errorf("Size() = %d, %v", n, err)
	}
}

// TestLostSaysSinceWhen: from when the server has left until it has answered again.
func TestLostSaysSinceWhen(t *testing.T) {
	s := &nbdtest.Server{Dev: blkdev.NewMem(1 << 20)}
	d := open(t, serve(t, s), nbd.Options{})
	read := func() error {
		_, err := d.ReadAt(make([]byte, 512), 0)
		return err
	}
	if err := read(); err != nil || !d.Lost().IsZero() {
		t.Fatalf("lost since %v, and there is an answer: %v", d.Lost(), err)
	}
	before := time.Now()
	s.Leave()
	for end := before.Add(20 * time.Second); d.Lost().IsZero(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the server has left, and nothing is lost")
		}
	}
	if at := d.Lost(); at.Before(before) || at.After(time.Now()) {
		t.Errorf("lost since %v, and it was after %v", at, before)
	}
	s.Return(nil)
	if err := read(); err != nil || !d.Lost().IsZero() {
		t.Errorf("lost since %v, and there is an answer again: %v", d.Lost(), err)
	}
}
