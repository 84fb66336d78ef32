package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/gefs"
	"gefs9p/internal/systemd"
)

// memDisk is a disk in memory.
type memDisk struct{ *blkdev.Mem }

func (memDisk) Path() string { return "memory" }

// fixedDisk is one that can neither discard nor be made longer.
type fixedDisk struct{ disk }

func (fixedDisk) Discards() bool { return false }

// TestManagerIsPatientAsLongAsTheDiskGoesOn and no longer.
func TestManagerIsPatientAsLongAsTheDiskGoesOn(t *testing.T) {
	addr := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	next := func(d time.Duration) string {
		l.SetReadDeadline(time.Now().Add(d))
		buf := make([]byte, 4096)
		n, err := l.Read(buf)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	v, err := newService(func(name string) string { return map[string]string{"NOTIFY_SOCKET": addr}[name] }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	v.every = 20 * time.Millisecond
	dev := v.meter(memDisk{blkdev.NewMem(1 << 20)})
	v.during("opening disk")
	if got := next(20 * time.Second); got != "STATUS=opening disk" {
		t.Errorf("%q", got)
	}
	if got := next(10 * v.every); got != "" {
		t.Errorf("nothing is done on the disk: %q", got)
	}
	for i, do := range []func() error{
		func() error { _, err := dev.ReadAt(make([]byte, 512), 0); return err },
		func() error { _, err := dev.WriteAt(make([]byte, 512), 0); return err },
		func() error { return dev.WriteVec([][]byte{make([]byte, 512)}, 0) },
		dev.Sync,
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if got := next(20 * time.Second); !strings.HasPrefix(got, systemd.Extend(extendBy)+"\nSTATUS=opening disk") {
			t.Errorf("operation %d: %q", i, got)
		}
		if got := next(5 * v.every); got != "" {
			t.Errorf("after operation %d: %q", i, got)
		}
	}
	if _, err := dev.ReadAt(make([]byte, 512), 1<<30); err == nil {
		t.Fatal("there is something behind the end")
	}
	if got := next(10 * v.every); got != "" {
		t.Errorf("what fails is no progress: %q", got)
	}
	v.during("committing")
	if got := next(20 * time.Second); got != "STATUS=committing" {
		t.Errorf("%q", got)
	}
	v.rest()
	if err := dev.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := next(5 * v.every); got != "" {
		t.Errorf("after the end: %q", got)
	}
	v.close()
}

// TestMeteredDiskCanWhatTheDiskCan and nothing else.
func TestMeteredDiskCanWhatTheDiskCan(t *testing.T) {
	v := &service{n: new(systemd.Notifier)}
	type enlarger interface{ Enlarge(int64) error }
	mem := v.meter(memDisk{blkdev.NewMem(1 << 20)})
	e, ok := mem.(enlarger)
	if !ok {
		t.Fatal("it cannot be made longer")
	}
	if err := e.Enlarge(2 << 20); err != nil {
		t.Error(err)
	}
	if size, err := mem.Size(); size != 2<<20 || err != nil || mem.Path() != "memory" {
		t.Errorf("%s has %d bytes, %v", mem.Path(), size, err)
	}
	if d, ok := mem.(interface{ Discards() bool }); !ok || !d.Discards() {
		t.Error("it does not discard")
	}
	fixed := v.meter(fixedDisk{memDisk{blkdev.NewMem(1 << 20)}})
	if _, ok := fixed.(enlarger); ok {
		t.Error("what cannot be made longer can")
	}
	if d, ok := fixed.(interface{ Discards() bool }); !ok || d.Discards() {
		t.Error("what does not discard does")
	}
}

// TestManagerHearsWhyTheDiskIsReadOnly: the device fails while it is served.
func TestManagerHearsWhyTheDiskIsReadOnly(t *testing.T) {
	mem := blkdev.NewMem(256 << 20)
	if err := gefs.Ream(mem, gefs.ReamOptions{User: "glenda"}); err != nil {
		t.Fatal(err)
	}
	dev := blkdev.NewFault(mem)
	fsys, err := gefs.Open(dev, gefs.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer fsys.Close()
	addr := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	env := map[string]string{"NOTIFY_SOCKET": addr, "WATCHDOG_USEC": "40000"}
	v, err := newService(func(name string) string { return env[name] }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	await := func(want string) {
		t.Helper()
		l.SetReadDeadline(time.Now().Add(20 * time.Second))
		for buf := make([]byte, 4096); ; {
			n, err := l.Read(buf)
			if err != nil {
				t.Fatalf("%q is not said: %v", want, err)
			}
			if strings.Contains(string(buf[:n]), want) {
				return
			}
		}
	}
	end := v.serving(t.Context(), fsys, memDisk{mem}, "it serves")
	await("READY=1\nSTATUS=it serves")
	await("WATCHDOG=1")
	dev.Fail(blkdev.Rule{Op: blkdev.OpWrite, Nth: 1, Forever: true, Err: errors.New("the medium is bad")})
	c, leave := fsys.Background()
	if err := fsys.SetConf(c, "main", "retain", "@h"); err != nil {
		t.Fatal(err)
	}
	leave()
	if err := fsys.Sync(context.Background()); err == nil {
		t.Fatal("a commit to a bad medium")
	}
	await("STATUS=read-only since a failure: ")
	await("WATCHDOG=1") // another server would be read-only, too
	end()
}

func TestAddressesOfPassedSockets(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	unix := func(name string) net.Addr { return &net.UnixAddr{Name: name, Net: "unix"} }
	tcp := func(ip string, port int) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: port} }
	for _, tt := range []struct {
		network, address string
		at               net.Addr
		want             bool
	}{
		{"unix", "/run/x.sock", unix("/run/x.sock"), true},
		{"unix", "/run//./x.sock", unix("/run/x.sock"), true},
		{"unix", "x.sock", unix(filepath.Join(wd, "x.sock")), true},
		{"unix", "/run/x.sock", unix("/run/y.sock"), false},
		{"unix", "/run/x.sock", tcp("::", 564), false},
		{"tcp", ":564", tcp("::", 564), true},
		{"tcp", ":564", tcp("0.0.0.0", 564), true},
		{"tcp", ":564", tcp("127.0.0.1", 564), false},
		{"tcp", "127.0.0.1:564", tcp("127.0.0.1", 564), true},
		{"tcp", "127.0.0.1:564", tcp("::", 564), false},
		{"tcp", "127.0.0.1:564", tcp("127.0.0.1", 565), false},
		{"tcp", "[::1]:564", tcp("::1", 564), true},
		{"tcp", ":0", tcp("::", 0), false},
		{"tcp", ":564", unix("/run/x.sock"), false},
		{"", "", tcp("::", 564), false},
	} {
		if got := (address{network: tt.network, address: tt.address}).is(tt.at); got != tt.want {
			t.Errorf("%s %s is %v: %v", tt.network, tt.address, tt.at, got)
		}
	}
}
