package nbd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkdev/blkdevtest"
	"gefs9p/nbd"
)

// need says by which program a test is skipped that cannot run here.
func need(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed (Debian: nbdkit, qemu-utils)", program)
	}
}

// A foreign server is a process that serves on a socket in a folder of its own.
type foreign struct {
	t      testing.TB
	socket string
	args   []string
	cmd    *exec.Cmd
	said   bytes.Buffer
}

// socketDir returns a folder with a short name: the path of a socket may not be long.
func socketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nbd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// run starts a server with args, in which SOCKET stands for its socket, and waits until it listens. It is killed
// at the end of the test.
func run(t testing.TB, args ...string) *foreign {
	t.Helper()
	f := &foreign{t: t, socket: filepath.Join(socketDir(t), "s"), args: args}
	f.start()
	t.Cleanup(func() { f.kill() })
	return f
}

func (f *foreign) start() {
	f.t.Helper()
	os.Remove(f.socket)
	args := make([]string, len(f.args))
	for i, a := range f.args {
		args[i] = strings.ReplaceAll(a, "SOCKET", f.socket)
	}
	f.cmd = exec.Command(args[0], args[1:]...)
	f.cmd.Stderr, f.cmd.Stdout = &f.said, &f.said
	if err := f.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	for range 500 {
		if nc, err := net.Dial("unix", f.socket); err == nil {
			nc.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.kill()
	f.t.Fatalf("%s does not listen: %s", f.args[0], &f.said)
}

func (f *foreign) kill() {
	f.cmd.Process.Kill()
	f.cmd.Wait()
}

func (f *foreign) address() nbd.Address {
	return address(f.t, "nbd+unix:///?socket="+f.socket)
}

// image makes a file of so many zero bytes.
func image(t testing.TB, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(name)
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestNbdkitIsADevice(t *testing.T) {
	need(t, "nbdkit")
	for _, c := range []struct{ name, args string }{ // IMAGE, SIZE and SOCKET are put in
		{"file", "nbdkit -f -U SOCKET file IMAGE"},
		{"memory, all written through", "nbdkit -f -U SOCKET --filter=fua memory SIZE fuamode=force"},
		{"memory with delays", "nbdkit -f -U SOCKET --filter=delay memory SIZE rdelay=1ms wdelay=1ms"},
		{"memory with a policy of blocks", "nbdkit -f -U SOCKET --filter=blocksize-policy memory SIZE blocksize-minimum=1 blocksize-preferred=4096 blocksize-maximum=8192 blocksize-error-policy=error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() && c.name != "file" {
				t.Skip("only a file with -short")
			}
			blkdevtest.TestDevice(t, func(t testing.TB, size int64) blkdev.Device {
				args := strings.NewReplacer("IMAGE", image(t, size), "SIZE", fmt.Sprint(size)).Replace(c.args)
				d, err := nbd.Open(context.Background(), run(t, strings.Fields(args)...).address(), nbd.Options{})
				if err != nil {
					t.Fatal(err)
				}
				return d
			})
		})
	}
}

// exercise compares a device with a model, on ranges of any place and length. The device is full of zeros.
func exercise(t *testing.T, d blkdev.Device, steps int) []byte {
	t.Helper()
	r := blkdevtest.Rand(t)
	size, err := d.Size()
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, size)
	for range steps {
		off := r.IntN(len(want))
		p := want[off : off+r.IntN(min(len(want)-off, 40_000)+1)]
		switch r.IntN(8) {
		case 0:
			if err := d.Sync(); err != nil {
				t.Fatal(err)
			}
		case 1:
			if err := d.Discard(int64(off), int64(len(p))); err != nil {
				t.Fatal(err)
			}
			fallthrough
		case 2, 3, 4:
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			if _, err := d.WriteAt(p, int64(off)); err != nil {
				t.Fatal(err)
			}
		default:
			got := make([]byte, len(p))
			if _, err := d.ReadAt(got, int64(off)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, p) {
				t.Fatalf("%d bytes at %d are not what was written", len(p), off)
			}
		}
	}
	return want
}

func TestQemuIsADevice(t *testing.T) {
	need(t, "qemu-nbd")
	for _, mode := range []string{"--cache=writeback --discard=unmap", "--cache=writethrough"} {
		t.Run(mode, func(t *testing.T) {
			disk := image(t, 4<<20)
			f := run(t, strings.Fields("qemu-nbd -k SOCKET -f raw -t -x disk "+mode+" "+disk)...)
			d := open(t, address(t, "nbd+unix:///disk?socket="+f.socket), nbd.Options{})
			want := exercise(t, d, 500)
			if err := d.Sync(); err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(disk); err != nil || !bytes.Equal(got, want) {
				t.Errorf("the image is not what was synced, or %v", err)
			}
			refused(t, address(t, "nbd+unix:///other?socket="+f.socket), nbd.Options{}, "no such export")
		})
	}
}

func TestQemuAdmitsOneClientOnly(t *testing.T) {
	need(t, "qemu-nbd")
	f := run(t, "qemu-nbd", "-k", "SOCKET", "-f", "raw", "-t", image(t, 1<<20))
	d := open(t, f.address(), nbd.Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if second, err := nbd.Open(ctx, f.address(), nbd.Options{}); err == nil {
		second.Close()
		t.Error("a second client is admitted")
	}
	d.Close()
	open(t, f.address(), nbd.Options{})
}

func TestNbdkitWithTLS(t *testing.T) {
	need(t, "nbdkit")
	dir := t.TempDir()
	certificates(t, dir)
	f := run(t, "nbdkit", "-f", "-U", "SOCKET", "--tls=require", "--tls-verify-peer", "--tls-certificates="+dir, "memory", "1M")
	query := "?socket=" + f.socket + "&tls-certificates=" + dir
	exercise(t, open(t, address(t, "nbds+unix:///"+query), nbd.Options{}), 200)
	exercise(t, open(t, address(t, "nbds+unix:///"+query+"&tls-hostname=storage.example"), nbd.Options{}), 0)
	refused(t, f.address(), nbd.Options{}, "nbds")
	if err := os.Remove(filepath.Join(dir, "client-cert.pem")); err != nil {
		t.Fatal(err)
	}
	refused(t, address(t, "nbds+unix:///"+query), nbd.Options{}, "") // a stranger
}

func TestErrorsOfNbdkitAreTold(t *testing.T) {
	need(t, "nbdkit")
	for _, c := range []struct {
		name string
		code uint32
	}{{"EIO", nbd.CodeIO}, {"ENOSPC", nbd.CodeNoSpace}, {"EPERM", nbd.CodePerm}, {"ENOMEM", nbd.CodeNoMem}} {
		trigger := filepath.Join(t.TempDir(), "trigger")
		f := run(t, "nbdkit", "-f", "-U", "SOCKET", "--filter=error", "memory", "1M", "error="+c.name, "error-rate=100%", "error-file="+trigger)
		d := open(t, f.address(), nbd.Options{})
		if _, err := d.WriteAt([]byte("x"), 0); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(trigger, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		var se *nbd.ServerError
		if _, err := d.ReadAt(make([]byte, 1), 0); !errors.As(err, &se) || se.Code != c.code {
			t.Errorf("%s: read: %v", c.name, err)
		}
		if err := d.Discard(0, 4096); !errors.As(err, &se) || se.Code != c.code {
			t.Errorf("%s: discard: %v", c.name, err)
		}
		if err := d.Sync(); err != nil {
			t.Errorf("%s: sync after a failed read and discard: %v", c.name, err)
		}
		if _, err := d.WriteAt([]byte("y"), 0); !errors.As(err, &se) || se.Code != c.code {
			t.Errorf("%s: write: %v", c.name, err)
		}
		if err := os.Remove(trigger); err != nil {
			t.Fatal(err)
		}
		if err := d.Sync(); !errors.As(err, &se) || se.Code != c.code {
			t.Errorf("%s: sync after a failed write: %v", c.name, err)
		}
		p := make([]byte, 1)
		if _, err := d.ReadAt(p, 0); err != nil || p[0] != 'x' {
			t.Errorf("%s: read afterwards: %q, %v", c.name, p, err)
		}
	}
}

// Some hundred requests with one delay each: one after the other they would take half a minute.
func TestManyRequestsAreUnderWayAtATime(t *testing.T) {
	need(t, "nbdkit")
	f := run(t, "nbdkit", "-f", "-U", "SOCKET", "-t", "64", "--filter=delay", "memory", "16M", "rdelay=100ms")
	d := open(t, f.address(), nbd.Options{})
	began := time.Now()
	var wg sync.WaitGroup
	for i := range 320 {
		wg.Go(func() {
			if _, err := d.ReadAt(make([]byte, 4096), int64(i)*4096); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("320 reads that take 100 ms each took %v", took)
	}
}

// nbdkit's cache loses what was not flushed when it is killed.
func TestForeignServerIsKilledAndForgets(t *testing.T) {
	need(t, "nbdkit")
	f := run(t, "nbdkit", "-f", "-U", "SOCKET", "--filter=cache", "file", image(t, 4<<20), "cache=writeback")
	d := open(t, f.address(), nbd.Options{Unflushed: 1 << 20})
	r := blkdevtest.Rand(t)
	want := make([]byte, 4<<20)
	for i := range 300 {
		off := r.IntN(len(want))
		p := want[off : off+r.IntN(min(len(want)-off, 40_000))]
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		if _, err := d.WriteAt(p, int64(off)); err != nil {
			t.Fatal(err)
		}
		if i%50 == 49 {
			f.kill()
			f.start()
		}
	}
	got := make([]byte, len(want))
	if _, err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("something that was acknowledged is not there, or %v", err)
	}
	if n, again := d.Stats(); n < 6 || again == 0 {
		t.Errorf("%d connections, %d writes again", n, again)
	}
}
