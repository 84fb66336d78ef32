package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"gefs9p/client"
	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

// serve serves fs on a Unix socket until the test ends.
func serve(t testing.TB, fs *ninetest.FS) string {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &ninep.Server{FS: fs, Limits: ninep.Limits{Msize: 32<<10 + ninep.IOHDRSZ}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- srv.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
		if m := fs.Misuse(); len(m) > 0 {
			t.Errorf("misuse of files: %q", m)
		}
	})
	return l.Addr().String()
}

// serveNullFor serves a Null until the test ends.
func serveNullFor(t testing.TB, network, address string) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var n Null
	done := make(chan error)
	go func() { done <- n.Serve(l) }()
	t.Cleanup(func() {
		n.Close()
		if err := <-done; err != nil {
			t.Errorf("null server: %v", err)
		}
	})
	return l.Addr().String()
}

// tiny are options that make every workload run in milliseconds.
func tiny(addr string, ids ...string) Options {
	return Options{
		Addr: addr, Workloads: ids, Seed: 1,
		Sizes: Sizes{
			FileSize: 40*blockSize + 100, Files: 700, SmallFiles: 90, Dirs: 4,
			Stats: 200, Reads: 200, Writes: 60, Syncs: 40, Clients: 5, Snapshots: 30,
		},
		Console: new(console),
	}
}

// A console is one whose server wrote 1000 bytes more each time it is asked, and of which snapshots are names.
type console struct {
	written int64
	all     map[string]bool
	failAt  int // this snapshot is refused, if not 0
}

var errNoSnapshot = errors.New("no snapshot today")

func (c *console) Written(context.Context) (int64, error) {
	c.written += 1000
	return c.written, nil
}

func (c *console) Snapshot(_ context.Context, name string) error {
	if c.all == nil {
		c.all = make(map[string]bool)
	}
	if c.all[name] {
		return fmt.Errorf("%s is there", name)
	}
	c.all[name] = true
	time.Sleep(100 * time.Microsecond) // or the table has no room for the rate
	if len(c.all) == c.failAt {
		delete(c.all, name)
		return errNoSnapshot
	}
	return nil
}

func (c *console) Forget(_ context.Context, names []string) error {
	for _, name := range names {
		if !c.all[name] {
			return fmt.Errorf("%s is not there", name)
		}
		delete(c.all, name)
	}
	return nil
}

// TestSnapshotsAreForgotten is about W10, when it works and when a snapshot fails.
func TestSnapshotsAreForgotten(t *testing.T) {
	for _, failAt := range []int{0, 3, 100} {
		fs := ninetest.New()
		o := tiny(serve(t, fs), "W10")
		con := &console{failAt: failAt}
		o.Console = con
		rep, err := Run(t.Context(), o, io.Discard, nil)
		if failAt > 0 && !errors.Is(err, errNoSnapshot) || failAt == 0 && (err != nil || rep.Rows[0].Ours.Ops != snapsTaken) {
			t.Errorf("snapshot %d fails: %+v, %v", failAt, rep, err)
		}
		if con.all == nil || len(con.all) != 0 {
			t.Errorf("snapshot %d fails: %d are left", failAt, len(con.all))
		}
	}
}

func TestWrittenIsWhatTheConsoleSays(t *testing.T) {
	rep := mustRun(t, tiny(serve(t, ninetest.New())))
	for _, r := range rep.Rows {
		want := int64(0)
		switch r.ID {
		case "W1", "W3", "W4", "W7", "W9", "W11/1", "W11/5":
			want = 1000
		}
		if r.Ours.Written != want {
			t.Errorf("%s: %d bytes written, want %d", r.ID, r.Ours.Written, want)
		}
	}
}

// mustRun runs o, which must work, without any operation failing.
func mustRun(t *testing.T, o Options) Report {
	t.Helper()
	var out bytes.Buffer
	rep, err := Run(t.Context(), o, &out, nil)
	if err != nil {
		t.Fatalf("Run: %v\n%s", err, &out)
	}
	if rep.Errors() != 0 {
		t.Fatalf("errors:\n%s", &out)
	}
	return rep
}

// row returns the row of a workload.
func row(t *testing.T, rep Report, id string) Row {
	t.Helper()
	for _, r := range rep.Rows {
		if r.ID == id {
			return r
		}
	}
	t.Fatalf("no row %s", id)
	return Row{}
}

func TestEveryWorkloadRuns(t *testing.T) {
	fs := ninetest.New()
	o := tiny(serve(t, fs))
	o.Wire = true
	o.DeviceDir = t.TempDir()
	rep := mustRun(t, o)
	if !rep.Checked || rep.Msize != 32<<10+ninep.IOHDRSZ {
		t.Errorf("checked %v, msize %d", rep.Checked, rep.Msize)
	}
	var ids []string
	for _, r := range rep.Rows {
		ids = append(ids, r.ID)
	}
	if want := []string{"W1", "W2", "W3", "W4", "W5", "W6", "W7", "W8", "W9", "W10", "W11/1", "W11/5", "W12/r", "W12/w"}; !slices.Equal(ids, want) {
		t.Errorf("rows %v", ids)
	}
	size := o.Sizes
	pieces := (size.FileSize + 32<<10 - 1) / (32 << 10)
	for _, c := range []struct {
		id         string
		ops, bytes int64
		unit       string
		synced     bool
	}{
		{"W1", pieces, size.FileSize, "MB/s", true},
		{"W2", pieces, size.FileSize, "MB/s", false},
		{"W3", 700, 0, "ops/s", true},
		{"W4", 90, 90 * smallSize, "ops/s", true},
		{"W5", 200, 0, "ops/s", false},
		{"W6", 200, 200 * blockSize, "ops/s", false},
		{"W7", 60, 60 * blockSize, "ops/s", true},
		{"W9", 700, 0, "ops/s", true},
		{"W11/1", 40, 40 * syncSize, "ops/s", false},
		{"W11/5", 40, 40 * syncSize, "ops/s", false},
		{"W12/r", 200, 0, "ops/s", false},
		{"W12/w", 200, 0, "ops/s", false},
	} {
		r := row(t, rep, c.id)
		for where, res := range map[string]*Result{"server": &r.Ours, "wire": r.Wire} {
			if res == nil {
				t.Errorf("%s: no %s", c.id, where)
				continue
			}
			if res.Ops != c.ops || res.Bytes != c.bytes || res.Unit != c.unit {
				t.Errorf("%s on the %s: %d operations, %d bytes, %s", c.id, where, res.Ops, res.Bytes, res.Unit)
			}
			if c.synced != (res.Synced > 0) {
				t.Errorf("%s on the %s: fsync took %v", c.id, where, res.Synced)
			}
			if res.Rate <= 0 || res.P50 <= 0 || res.P50 > res.P99 || res.P99 > res.P999 || res.P999 > res.Max || res.Max > res.Elapsed {
				t.Errorf("%s on the %s: %+v", c.id, where, *res)
			}
		}
		if got, want := r.WireRatio, r.Ours.Rate/r.Wire.Rate; got != want {
			t.Errorf("%s: ratio %v, want %v", c.id, got, want)
		}
		if wantDevice := c.id == "W1" || strings.HasPrefix(c.id, "W11"); wantDevice != (r.Device != nil) {
			t.Errorf("%s: device %v", c.id, r.Device)
		} else if wantDevice && (r.Device.Bytes != c.bytes || r.Device.Unit != c.unit || r.DeviceRatio <= 0) {
			t.Errorf("%s: device %+v, ratio %v", c.id, *r.Device, r.DeviceRatio)
		}
	}
	// An operation of W8 is a read, but the rate is that of entries.
	w8 := row(t, rep, "W8").Ours
	if rate := 700 / w8.Elapsed.Seconds(); w8.Ops < 2 || w8.Ops > 10 || w8.Rate < rate*0.99 || w8.Rate > rate*1.01 {
		t.Errorf("W8: %+v", w8)
	}
	if _, there := fs.Get(DefaultPath); there {
		t.Error("the run left its directory")
	}
	if left, err := os.ReadDir(o.DeviceDir); err != nil || len(left) != 0 {
		t.Errorf("the run left %v, %v", left, err)
	}
}

func TestEveryWorkloadRunsAlone(t *testing.T) {
	fs := ninetest.New()
	addr := serve(t, fs)
	for _, id := range IDs() {
		o := tiny(addr, strings.ToLower(id))
		if rep := mustRun(t, o); len(rep.Rows) == 0 || !strings.HasPrefix(rep.Rows[0].ID, id) {
			t.Errorf("%s: rows %v", id, rep.Rows)
		}
	}
}

func TestNullServerRunsEveryWorkload(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "s")
		}
		o := tiny(serveNullFor(t, network, address))
		o.Wire = true
		rep := mustRun(t, o)
		if rep.Checked {
			t.Error("checked data of a server that has none")
		}
		if len(rep.Rows) != len(IDs())+2 {
			t.Errorf("%d rows", len(rep.Rows))
		}
	}
}

func TestConnectionsAndDepthCanBeChosen(t *testing.T) {
	fs := ninetest.New()
	o := tiny(serve(t, fs))
	o.Conns, o.Depth = 3, 2
	rep := mustRun(t, o)
	for _, r := range rep.Rows {
		conns, depth := 3, 2
		switch r.ID {
		case "W8", "W10", "W11/1":
			conns, depth = 1, 1
		case "W12/r", "W12/w":
			conns, depth = 8, 1
		case "W11/5":
			conns, depth = 5, 1
		}
		if r.Conns != conns || r.Depth != depth {
			t.Errorf("%s: %d connections of %d", r.ID, r.Conns, r.Depth)
		}
	}
	if n := row(t, rep, "W3").Ours.Ops; n != 700 {
		t.Errorf("W3: %d operations", n)
	}
	if n := row(t, rep, "W1").Ours.Bytes; n != o.Sizes.FileSize {
		t.Errorf("W1: %d bytes", n)
	}
}

// The benchmark is a check: what follows are servers that forget or garble.

func TestWrongDataIsAnError(t *testing.T) {
	fs := ninetest.New()
	o := tiny(serve(t, fs), "W1")
	o.Keep = true
	mustRun(t, o)
	data, ok := fs.Get(DefaultPath + "/" + bigName)
	if !ok || int64(len(data)) != o.Sizes.FileSize {
		t.Fatalf("%d bytes, %v", len(data), ok)
	}

	o.Workloads = []string{"W2", "W6"}
	mustRun(t, o)
	broken := bytes.Clone(data)
	broken[5*blockSize+17] ^= 1
	fs.Put(DefaultPath+"/"+bigName, broken)
	var out bytes.Buffer
	rep, err := Run(t.Context(), o, &out, nil)
	if err != nil {
		t.Fatal(err)
	}
	w2 := row(t, rep, "W2").Ours
	if w2.Errors != 1 || !strings.Contains(w2.FirstError, "operation 1: wrong data in the 8192 bytes read at 40960") {
		t.Errorf("W2: %d errors, %q", w2.Errors, w2.FirstError)
	}
	if w6 := row(t, rep, "W6").Ours; w6.Errors < 1 {
		t.Error("W6 did not notice")
	}
	if !strings.Contains(out.String(), "first error: operation 1: wrong data") {
		t.Errorf("the table does not say so:\n%s", &out)
	}

	// Two blocks in each other's place.
	copy(broken, data)
	copy(broken[:blockSize], data[blockSize:])
	copy(broken[blockSize:2*blockSize], data)
	fs.Put(DefaultPath+"/"+bigName, broken)
	o.Workloads = []string{"W2"}
	if rep, err = Run(t.Context(), o, &out, nil); err != nil || rep.Errors() != 1 {
		t.Errorf("swapped blocks: %d errors, %v", rep.Errors(), err)
	}
	o.NoVerify = true
	if rep, err = Run(t.Context(), o, &out, nil); err != nil || rep.Errors() != 0 || rep.Checked {
		t.Errorf("unverified: %d errors, %v", rep.Errors(), err)
	}
}

func TestOverwritesThatWereLostAreErrors(t *testing.T) {
	fs := ninetest.New()
	o := tiny(serve(t, fs), "W1")
	o.Keep = true
	mustRun(t, o)
	before, _ := fs.Get(DefaultPath + "/" + bigName)

	// A file that a run before overwrote in part may hold either content, but whole blocks of it.
	o.Workloads = []string{"W7"}
	mustRun(t, o)
	after, _ := fs.Get(DefaultPath + "/" + bigName)
	if bytes.Equal(before, after) {
		t.Fatal("W7 changed nothing")
	}
	o.Workloads = []string{"W2", "W6"}
	mustRun(t, o)
	pat := newPattern()
	i := 0
	for ; pat.holds(original, int64(i)*blockSize, after[i*blockSize:(i+1)*blockSize]); i++ {
	}
	torn := bytes.Clone(after)
	copy(torn[i*blockSize:i*blockSize+blockSize/2], before[i*blockSize:])
	fs.Put(DefaultPath+"/"+bigName, torn)
	o.Workloads = []string{"W2"}
	if rep, err := Run(t.Context(), o, new(bytes.Buffer), nil); err != nil || rep.Errors() != 1 {
		t.Errorf("torn block: %d errors, %v", rep.Errors(), err)
	}

	// Within a run it is known what each block holds: here a W7 whose writes are all undone.
	fs.Put(DefaultPath+"/"+bigName, before)
	opts := tiny("x")
	opts.ensureDefaults()
	st := &site{opts: &opts, size: &opts.Sizes, pat: pat, big: []byte{bigOriginal, bigOverwritten, bigEither}}
	for _, c := range []struct {
		block int64
		str   stream
		want  bool
	}{{0, original, true}, {0, overwritten, false}, {1, original, false}, {1, overwritten, true}, {2, original, true}, {2, overwritten, true}} {
		if got := st.bigHolds(c.block*blockSize+5, pat.at(c.str, c.block*blockSize+5, 100)); got != c.want {
			t.Errorf("block %d, content %d: %v", c.block, c.str, got)
		}
	}
}

func TestWrongDirectoryIsAnError(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(fs *ninetest.FS, root *client.Fid) error
		want  string
	}{
		{"file missing", func(fs *ninetest.FS, root *client.Fid) error {
			f, err := root.Walk(DefaultPath, manyName, "f0000123")
			if err != nil {
				return err
			}
			return f.Remove()
		}, "1 of 700 files are missing"},
		{"file too many", func(fs *ninetest.FS, root *client.Fid) error {
			fs.Put(DefaultPath+"/"+manyName+"/f0000700", nil)
			return nil
		}, `unknown entry "f0000700"`},
		{"strange name", func(fs *ninetest.FS, root *client.Fid) error {
			fs.Put(DefaultPath+"/"+manyName+"/f123", nil)
			return nil
		}, `unknown entry "f123"`},
		{"file not empty", func(fs *ninetest.FS, root *client.Fid) error {
			fs.Put(DefaultPath+"/"+manyName+"/f0000123", []byte("x"))
			return nil
		}, `entry "f0000123" is no empty file`},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := ninetest.New()
			o := tiny(serve(t, fs), "W3")
			o.Keep = true
			mustRun(t, o)
			conn, err := client.Dial(t.Context(), o.Addr, 8192)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			root, err := conn.Attach("glenda", "")
			if err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(fs, root); err != nil {
				t.Fatal(err)
			}
			o.Workloads = []string{"W8"}
			rep, err := Run(t.Context(), o, new(bytes.Buffer), nil)
			if err != nil {
				t.Fatal(err)
			}
			if r := rep.Rows[0].Ours; r.Errors != 1 || !strings.Contains(r.FirstError, c.want) {
				t.Errorf("%d errors, %q", r.Errors, r.FirstError)
			}
		})
	}
}

func TestWrongLengthIsAnError(t *testing.T) {
	fs := ninetest.New()
	o := tiny(serve(t, fs), "W4")
	o.Keep = true
	mustRun(t, o)
	for i := 1; i < 40; i++ {
		fs.Put(fmt.Sprintf("%s/%s/d%07d/f%07d", DefaultPath, smallName, i%4, i), []byte("short"))
	}
	o.Workloads = []string{"W5"}
	rep, err := Run(t.Context(), o, new(bytes.Buffer), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := rep.Rows[0].Ours; r.Errors == 0 || r.Errors == int(r.Ops) || !strings.Contains(r.FirstError, "5 bytes") {
		t.Errorf("%d errors in %d operations, %q", r.Errors, r.Ops, r.FirstError)
	}
}

func TestRefusedOperationsAreCounted(t *testing.T) {
	fs := ninetest.New()
	creates := 0
	fs.Hook = func(c *ninep.Ctx, op, name string) error {
		if op == "create" && name == manyName { // one connection, so one at a time
			if creates++; creates%7 == 0 {
				return ninep.Error("file system full")
			}
		}
		return nil
	}
	o := tiny(serve(t, fs), "W3")
	o.Keep = true
	rep, err := Run(t.Context(), o, new(bytes.Buffer), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := rep.Rows[0].Ours
	if r.Errors != 100 || r.Ops != 700 || !strings.HasSuffix(r.FirstError, "file system full") {
		t.Errorf("%d errors in %d operations, %q", r.Errors, r.Ops, r.FirstError)
	}
	// No more than those: the fid of each failed operation was clunked, or the next one in its slot would
	// have been told "fid in use".
	if rep.Errors() != 100 {
		t.Errorf("the report has %d errors", rep.Errors())
	}
}

func TestColdRunMakesNothing(t *testing.T) {
	fs := ninetest.New()
	addr := serve(t, fs)
	o := tiny(addr, "W1", "W3", "W4")
	o.Keep = true
	mustRun(t, o)
	o.Workloads = nil // W2, W5, W6 and W8
	o.Cold, o.Keep = true, false
	if runtime.GOOS == "linux" {
		o.DeviceDir = t.TempDir()
	}
	var out bytes.Buffer
	rep, err := Run(t.Context(), o, &out, nil)
	if err != nil || rep.Errors() != 0 || len(rep.Rows) != 4 {
		t.Fatalf("%v\n%s", err, &out)
	}
	if d := row(t, rep, "W6").Device; o.DeviceDir != "" && (d == nil || d.Ops != 200 || d.Rate <= 0) {
		t.Errorf("the device's part of W6: %+v", d)
	}
	if !rep.Rows[0].Cold || strings.Count(out.String(), "(cold)") != 4 {
		t.Errorf("rows do not say cold:\n%s", &out)
	}
	if _, there := fs.Get(DefaultPath + "/" + bigName); !there {
		t.Error("a cold run removed the files")
	}

	o.Addr = serve(t, ninetest.New())
	if _, err := Run(t.Context(), o, &out, nil); err == nil {
		t.Error("a cold run on an empty server")
	}
	fs2 := ninetest.New()
	fs2.Put(DefaultPath+"/x", nil)
	o.Addr = serve(t, fs2)
	for _, id := range []string{"W2", "W5", "W6", "W8"} {
		o.Workloads = []string{id}
		if _, err := Run(t.Context(), o, &out, nil); !errors.Is(err, ErrCold) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestLeftoversOfOtherSizesAreReplaced(t *testing.T) {
	fs := ninetest.New()
	o := tiny(serve(t, fs), "W1", "W3", "W4")
	o.Keep = true
	mustRun(t, o)
	o.Sizes.FileSize *= 2
	o.Sizes.Files /= 2
	o.Sizes.SmallFiles, o.Sizes.Dirs = 50, 3
	mustRun(t, o)
	o.Workloads, o.Keep = nil, false
	mustRun(t, o)
	if _, there := fs.Get(DefaultPath); there {
		t.Error("the run left its directory")
	}
}

func TestCancelledRunStopsAtOnce(t *testing.T) {
	before := runtime.NumGoroutine()
	// Stuck at an operation, in a connection's preparation, in the run's.
	for op, id := range map[string]string{"write": "W1", "open": "W2", "create": "W3", "attach": "W1"} {
		t.Run(op, func(t *testing.T) {
			fs := ninetest.New()
			stuck := make(chan struct{}, 100)
			fs.Hook = func(c *ninep.Ctx, o, name string) error {
				if o == op {
					stuck <- struct{}{}
					c.Sleep(func() { <-c.Cancelled() })
					return ninep.ErrInterrupted
				}
				return nil
			}
			if op == "open" {
				fs.Put(DefaultPath+"/"+bigName, make([]byte, tiny("").Sizes.FileSize))
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-stuck
				cancel()
			}()
			rep, err := Run(ctx, tiny(serve(t, fs), id), new(bytes.Buffer), nil)
			if err != context.Canceled || len(rep.Rows) != 0 {
				t.Errorf("%d rows, %v", len(rep.Rows), err)
			}
		})
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, before %d", runtime.NumGoroutine(), before)
		}
	}
}

func TestServerThatHangsUpEndsTheRun(t *testing.T) {
	var n Null
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- n.Serve(l) }()
	o := tiny(l.Addr().String(), "W6")
	o.Sizes.Reads = 1 << 40
	go func() {
		for all := false; !all; time.Sleep(time.Millisecond) {
			n.mu.Lock()
			all = len(n.conns) == 9 // eight, and the one that prepares
			n.mu.Unlock()
		}
		n.Close()
	}()
	_, err = Run(t.Context(), o, new(bytes.Buffer), nil)
	if err == nil || !strings.Contains(err.Error(), "W6: ") {
		t.Errorf("error %v", err)
	}
	<-done
}

func TestHotLoopDoesNotAllocate(t *testing.T) {
	addr := serveNullFor(t, "unix", filepath.Join(t.TempDir(), "s"))
	// The same run with many more operations must not allocate many more times. The Null is counted
	// too: it runs in this process.
	count := func(id string, n int) uint64 {
		o := tiny(addr, id)
		o.Sizes.Reads, o.Sizes.Writes = n, n
		var a, b runtime.MemStats
		runtime.ReadMemStats(&a)
		mustRun(t, o)
		runtime.ReadMemStats(&b)
		return b.Mallocs - a.Mallocs
	}
	for _, id := range []string{"W6", "W7"} { // not W5: for the names in walks the Null does allocate
		few, many := count(id, 1000), count(id, 21000)
		if perOp := (float64(many) - float64(few)) / 20000; perOp > 0.05 {
			t.Errorf("%s: %.2f allocations an operation", id, perOp)
		}
	}
}
