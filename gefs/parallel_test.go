package gefs_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkstore"
	"gefs9p/client"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

var (
	parallelSeed = flag.Uint64("parallel.seed", 0, "seed of the parallel clients; 0 takes one from the clock")
	parallelTime = flag.Duration("parallel.time", 0, "how long the parallel clients work; 0 is 10 s, 60 s with the race detector, 2 s with -short")
	parallelOnly = flag.String("parallel.only", "", "comma-separated kinds of workers to run: alone, shared, label, users, flush, cut, rude, roll")
)

const (
	parClients = 8
	parHands   = 3 // workers of each client with a directory of their own
	parCrowd   = 2 // workers of each client in the shared directory
	parDisk    = 512 << 20
	parStall   = 30 * time.Second // nothing may take longer
)

// TestParallelClients lets eight clients, on unix sockets and TCP, each with several requests in
// flight, work on one small cache, with commits all the time. Some workers have a directory of their
// own and know what must be in it. Others share one; what they saw is checked afterwards against the
// rules that any order of their requests obeys. Meanwhile labels come and go, the users file changes,
// requests are flushed, connections are cut, and one client does everything at once.
//
// In the end the disk must be sound and hold what the workers know, also after it was opened again.
func TestParallelClients(t *testing.T) {
	total := *parallelTime
	if total == 0 {
		switch {
		case testing.Short():
			total = 2 * time.Second
		case raceEnabled:
			total = 60 * time.Second
		default:
			total = 10 * time.Second
		}
	}
	t.Run("memory", func(t *testing.T) {
		testParallel(t, slow(blkdev.NewMem(parDisk)), total*2/3)
	})
	t.Run("file", func(t *testing.T) {
		dev, err := blkdev.CreateFile(filepath.Join(t.TempDir(), "disk"), parDisk)
		if err != nil {
			t.Fatal(err)
		}
		defer dev.Close()
		testParallel(t, dev, total/3)
	})
}

// slow returns a device on which operations take their time, now and then, so that much else happens
// meanwhile.
func slow(dev blkdev.Device) blkdev.Device {
	f := blkdev.NewFault(dev)
	f.Hook(func(op blkdev.Op, off, n int64) error {
		switch rand.IntN(16) {
		case 0:
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
		case 1, 2, 3:
			runtime.Gosched()
		}
		return nil
	})
	return f
}

// parUsers is the users file: each client is a user, all of them are in the group team.
func parUsers() string {
	var b, members strings.Builder
	b.WriteString("-1:adm::glenda\n0:none::\n1:glenda:glenda:\n")
	for i := range parClients {
		fmt.Fprintf(&b, "%d:c%d:c%d:\n", 10+i, i, i)
		fmt.Fprintf(&members, ",c%d", i)
	}
	fmt.Fprintf(&b, "50:team::%s\n", members.String()[1:])
	return b.String()
}

// A parRig is the server and what all workers share.
type parRig struct {
	t     *testing.T
	seed  uint64
	fs    *gefs.FS
	srv   *gefstest.Server
	addrs []net.Addr
	began time.Time
	until time.Time

	ctx    context.Context // ends when a worker fails
	cancel context.CancelFunc
	wg     sync.WaitGroup
	steps  atomic.Int64 // of all workers; the watchdog looks whether it grows
	counts sync.Map     // kind of worker: *atomic.Int64

	// quiet is held for writing by whoever wants nobody to be in the middle of a step.
	quiet   sync.RWMutex
	clients []*parClient
	hands   []*hand
	shared  *shared
	kept    []*parLabel
}

// A parClient is one user at one machine. Its connection is made again when it was cut; that
// happens only in quiet.
type parClient struct {
	r    *parRig
	n    int
	conn *client.Conn
	gen  int // of the connection
}

func (c *parClient) user() string { return fmt.Sprintf("c%d", c.n) }

func testParallel(t *testing.T, dev blkdev.Device, d time.Duration) {
	seed := *parallelSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed: -parallel.seed=%d -parallel.time=%v", seed, d)
	if err := gefs.Ream(dev, gefs.ReamOptions{User: gefstest.User}); err != nil {
		t.Fatal(err)
	}
	var warnings logBuffer
	opt := gefs.Options{
		Cache:       blkstore.MinCache,
		CommitEvery: 50 * time.Millisecond,
		Logger:      slog.New(slog.NewTextHandler(&warnings, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	fs, err := gefs.Open(dev, opt)
	if err != nil {
		t.Fatal(err)
	}
	r := &parRig{t: t, seed: seed, fs: fs, srv: gefstest.Serve(t, fs, 0)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	defer r.cancel()
	defer r.watch()()
	r.addrs = []net.Addr{
		r.srv.Listen("unix", filepath.Join(t.TempDir(), "9p")),
		r.srv.Listen("tcp", "127.0.0.1:0"),
	}
	r.began = time.Now()
	r.setUp()
	t.Logf("setting up took %v", time.Since(r.began))
	r.began = time.Now()
	r.until = r.began.Add(d)
	kinds := []struct {
		name  string
		start func()
	}{
		{"alone", r.startAlone},
		{"shared", r.startShared},
		{"label", func() { r.worker("label", r.labels) }},
		{"users", func() { r.worker("users", r.reloadUsers) }},
		{"flush", func() { r.worker("flush", r.flushes) }},
		{"cut", func() { r.worker("cut", r.cuts) }},
		{"rude", func() { r.worker("rude", r.rude) }},
		{"roll", func() { r.worker("roll", r.rolls) }},
	}
	for _, k := range kinds {
		if *parallelOnly == "" || strings.Contains(","+*parallelOnly+",", ","+k.name+",") {
			k.start()
		}
	}
	r.wg.Wait()
	took := time.Since(r.began)
	t.Logf("worked for %v", took)
	r.counts.Range(func(k, v any) bool {
		t.Logf("%-6s %7d steps, %.0f each second", k, v.(*atomic.Int64).Load(), float64(v.(*atomic.Int64).Load())/took.Seconds())
		return true
	})
	t.Logf("%+v", fs.Store().Stats())
	if t.Failed() {
		r.srv.Stop()
		fs.Close()
		t.Logf("the server's log:\n%s", warnings.String())
		return
	}
	r.verify(fs, "at the end")
	if err := fs.Store().Err(); err != nil {
		t.Errorf("the file system went read-only: %v", err)
	}
	r.srv.Stop()
	if err := fs.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if text := warnings.String(); text != "" {
		t.Errorf("the server logged errors:\n%s", text)
	}
	gefstest.CheckStrict(t, dev)
	t.Logf("sound after %v", time.Since(r.began))
	if fs, err = gefs.Open(dev, opt); err != nil {
		t.Fatalf("open again: %v", err)
	}
	r.fs = fs
	r.srv = gefstest.Serve(t, fs, 0)
	r.addrs = []net.Addr{r.srv.Listen("tcp", "127.0.0.1:0")}
	r.verify(fs, "after opening again")
	r.srv.Stop()
	if err := fs.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	gefstest.CheckStrict(t, dev)
	t.Logf("all is verified after %v", time.Since(r.began))
}

// A logBuffer collects what is logged.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// watch ends the program, with what every goroutine is doing, when no worker makes a step for too
// long. The function it returns ends the watch.
func (r *parRig) watch() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		last, at := r.steps.Load(), time.Now()
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Second):
			}
			if now := r.steps.Load(); now != last {
				last, at = now, time.Now()
			} else if time.Since(at) > parStall {
				buf := make([]byte, 16<<20)
				fmt.Fprintf(os.Stderr, "%s\n", buf[:runtime.Stack(buf, true)])
				panic(fmt.Sprintf("no progress for %v; seed %d", parStall, r.seed))
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// worker starts a worker of that kind.
func (r *parRig) worker(kind string, run func()) {
	r.counts.LoadOrStore(kind, new(atomic.Int64))
	r.wg.Go(run)
}

// step reports whether a worker of that kind is to make one more step.
func (r *parRig) step(kind string) bool {
	r.steps.Add(1)
	if r.ctx.Err() != nil || time.Now().After(r.until) {
		return false
	}
	n, _ := r.counts.Load(kind)
	n.(*atomic.Int64).Add(1)
	return true
}

// fatalf fails the test and ends the calling worker.
func (r *parRig) fatalf(format string, args ...any) {
	r.t.Errorf(format, args...)
	r.cancel()
	runtime.Goexit()
}

// must ends the calling worker if there is an error.
func (r *parRig) must(err error, format string, args ...any) {
	if err != nil {
		r.fatalf("%s: %v", fmt.Sprintf(format, args...), err)
	}
}

// rand returns a source of random numbers of its own for a worker.
func (r *parRig) rand(worker uint64) *rand.Rand { return rand.New(rand.NewPCG(r.seed, worker)) }

// dial returns a new transport to the server.
func (r *parRig) dial(n int) net.Conn {
	a := r.addrs[n%len(r.addrs)]
	nc, err := net.Dial(a.Network(), a.String())
	r.must(err, "dial %v", a)
	return nc
}

func (r *parRig) connect(n int) *client.Conn {
	c, err := client.New(context.Background(), r.dial(n), 1<<20)
	r.must(err, "connect")
	return c
}

// attach returns the root of a label, on a connection of its own.
func (r *parRig) attach(n int, user, aname string) (*client.Conn, *client.Fid) {
	c := r.connect(n)
	f, err := c.Attach(user, aname)
	r.must(err, "attach %s to %q", user, aname)
	return c, f
}

// walk is Walk that must work.
func (r *parRig) walk(f *client.Fid, names ...string) *client.Fid {
	g, err := f.Walk(names...)
	r.must(err, "walk to %v", names)
	return g
}

// create makes a file that is clunked at once.
func (r *parRig) create(dir *client.Fid, name string, perm uint32) ninep.Qid {
	f := r.walk(dir)
	mode := uint8(ninep.OREAD)
	r.must(f.Create(name, perm, mode), "create %s", name)
	if perm&0777 == 0777 { // which the directory has masked
		d := ninep.NullDir()
		d.Mode = perm
		r.must(f.Wstat(d), "chmod %s", name)
	}
	q := f.Qid()
	r.must(f.Clunk(), "clunk %s", name)
	return q
}

// setUp makes the users and the directories.
func (r *parRig) setUp() {
	adm, f := r.attach(0, gefstest.User, "%adm")
	defer adm.Close()
	u := r.walk(f, "users")
	r.must(u.Open(ninep.OWRITE|ninep.OTRUNC), "open users")
	_, err := u.WriteAt([]byte(parUsers()), 0)
	r.must(err, "write users")
	r.must(r.fs.ReloadUsers(), "reload users")

	c, root := r.attach(1, gefstest.User, "%main")
	defer c.Close()
	r.create(root, "alone", ninep.DMDIR|0777)
	r.create(root, "shared", ninep.DMDIR|0777)
	for i := range parClients {
		r.clients = append(r.clients, &parClient{r: r, n: i, conn: r.connect(i)})
	}
	r.t.Cleanup(func() {
		for _, c := range r.clients {
			c.conn.Close()
		}
	})
	r.create(root, "rude", ninep.DMDIR|0755)
	r.create(r.walk(root, "rude"), "box", ninep.DMDIR|0777)
	for i, name := range []string{"flush", "cut"} {
		user, f := r.attach(0, fmt.Sprintf("c%d", i), "")
		r.create(r.walk(f, "alone"), name, ninep.DMDIR|0755)
		user.Close()
	}
	for i := range parClients * parHands {
		r.hands = append(r.hands, newHand(r, r.clients[i%parClients], i))
	}
	r.shared = newShared(r, root)
}

// verify compares everything with what the workers know.
func (r *parRig) verify(fs *gefs.FS, when string) {
	c, root := r.attach(0, gefstest.User, "%main")
	defer c.Close()
	for _, h := range r.hands {
		r.steps.Add(1)
		if err := h.model.Compare(r.walk(root, "alone", h.name)); err != nil {
			r.t.Errorf("%s: /alone/%s: %v", when, h.name, err)
		}
	}
	r.shared.verify(root, when)
	for _, l := range r.kept {
		l.verify(r, r.rand(9), 6, when)
	}
	for _, dir := range [][]string{{"alone", "flush"}, {"alone", "cut"}, {"rude", "box"}} {
		f := r.walk(root, dir...)
		r.must(f.Open(ninep.OREAD), "open %s", dir)
		dirs, err := f.ReadDir()
		r.must(err, "read %s", dir)
		if len(dirs) > 0 {
			r.t.Errorf("%s: files are left in %s: %+v", when, dir, dirs)
		}
	}
}
