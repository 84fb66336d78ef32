package watch_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/client"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
	"gefs9p/watch"
)

const patience = 20 * time.Second

// A rig is a disk in memory that is served over 9P and watched over HTTP.
type rig struct {
	t    testing.TB
	dev  *blkdev.Mem
	fs   *gefs.FS
	srv  *ninep.Server
	w    *watch.Watcher
	log  *slog.Logger
	url  string
	addr string
}

// newRig starts everything; set may change the options before.
func newRig(t testing.TB, opt gefs.Options, set func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, dev: blkdev.NewMem(256 << 20)}
	if err := gefs.Ream(r.dev, gefs.ReamOptions{User: gefstest.User}); err != nil {
		t.Fatal(err)
	}
	events := watch.NewEvents(100)
	r.log = slog.New(events.Handler(slog.NewTextHandler(io.Discard, nil)))
	opt.Logger = r.log
	r.fs = gefstest.Open(t, r.dev, opt)
	meter := new(ninep.Meter)
	r.srv = &ninep.Server{FS: r.fs, NewWorker: r.fs.NewWorker, FreeWorker: r.fs.FreeWorker, Logger: r.log, Meter: meter}
	r.w = &watch.Watcher{FS: r.fs, Meter: meter, Clients: r.srv.Clients, Events: events, Disk: "disk.img", Version: "of a test", Logger: r.log}
	if set != nil {
		set(r)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 3)
	listen := func(f func(l net.Listener) error) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { over <- f(l) }()
		return l.Addr().String()
	}
	r.addr = listen(func(l net.Listener) error { return r.srv.Serve(context.Background(), l) })
	r.url = "http://" + listen(func(l net.Listener) error { return r.w.Serve(ctx, l) })
	go func() { r.w.Run(ctx); over <- nil }()
	t.Cleanup(func() {
		cancel()
		if err := r.srv.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		for range 3 {
			select {
			case err := <-over:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(patience):
				t.Fatal("it does not end")
			}
		}
	})
	return r
}

// attach opens a connection and attaches.
func (r *rig) attach(uname, aname string) (*client.Conn, *client.Fid) {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := client.New(r.t.Context(), nc, 64<<10)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	f, err := c.Attach(uname, aname)
	if err != nil {
		r.t.Fatal(err)
	}
	return c, f
}

// put writes a file.
func (r *rig) put(root *client.Fid, name string, data []byte) {
	r.t.Helper()
	f, err := root.Walk()
	if err == nil {
		err = f.Create(name, 0o664, ninep.OWRITE)
	}
	if err == nil && len(data) > 0 {
		_, err = f.WriteAt(data, 0)
	}
	if err == nil {
		err = f.Clunk()
	}
	if err != nil {
		r.t.Fatalf("put %s: %v", name, err)
	}
}

// label makes a snapshot.
func (r *rig) label(old, name string, mutable bool) {
	r.t.Helper()
	c, end := r.fs.Background()
	err := r.fs.Label(c, old, name, mutable)
	end()
	if err == nil {
		err = r.fs.Sync(r.t.Context())
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// get asks for a path and returns status and body.
func (r *rig) get(path string) (int, string) {
	r.t.Helper()
	return r.do("GET", path, "")
}

// do is get with a method and the Host header; "" for the usual one.
func (r *rig) do(method, path, host string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// until waits until what it is asked for holds.
func (r *rig) until(what string, holds func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("it does not come to pass: %s", what)
		}
	}
}

// metric returns the value of a sample, written as in the exposition, and whether it is there.
func (r *rig) metric(name string) (float64, bool) {
	r.t.Helper()
	_, body := r.get("/metrics")
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			var v float64
			if _, err := fmt.Sscan(rest, &v); err != nil {
				r.t.Fatalf("%q: %v", line, err)
			}
			return v, true
		}
	}
	return 0, false
}

// must is metric for a sample that must be there.
func (r *rig) must(name string) float64 {
	r.t.Helper()
	v, ok := r.metric(name)
	if !ok {
		r.t.Fatalf("no sample %s", name)
	}
	return v
}
