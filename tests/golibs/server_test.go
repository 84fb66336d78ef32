package golibs

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var seed = flag.Uint64("seed", 0, "of everything random; 0 is another one each time")

func newRand(t *testing.T) *rand.Rand {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed=%d", *seed)
	return rand.New(rand.NewPCG(*seed, 9))
}

var program string // the gefs9p under test

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(withProgram(m))
}

func withProgram(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gefs9p-golibs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "gefs9p")
	build := exec.Command("go", "build", "-o", program, "./cmd/gefs9p")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// An endpoint is where a server listens, in the words of package net.
type endpoint struct{ network, addr string }

// serve makes a disk for glenda and serves it over TCP and on a Unix socket, to everybody. When the test ends,
// the server must end cleanly and the disk be sound.
func serve(t *testing.T) []endpoint {
	t.Helper()
	dir := t.TempDir()
	disk, sock := filepath.Join(dir, "disk"), filepath.Join(dir, "sock")
	if out, err := exec.Command(program, "ream", "-u", "glenda", "--size", "512M", disk).CombinedOutput(); err != nil {
		t.Fatalf("ream: %v\n%s", err, out)
	}
	cmd := exec.Command(program, "serve", "-m", "64M", "--uids", "none", "-A", "-a", "tcp!127.0.0.1!0", "-a", "unix!"+sock, disk)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	drained := make(chan struct{})
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		kill := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		defer kill.Stop()
		<-drained
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server: %v\n%s", err, &errs)
		}
		if out, err := exec.Command(program, "check", "--strict", disk).CombinedOutput(); err != nil {
			t.Errorf("check: %v\n%s", err, out)
		}
	})
	lines := bufio.NewScanner(out)
	var at []endpoint
	for len(at) < 2 && lines.Scan() {
		name, ok := strings.CutPrefix(lines.Text(), "listening ")
		switch {
		case !ok:
			t.Errorf("the server says %q", lines.Text())
		case strings.Contains(name, "/"):
			at = append(at, endpoint{"unix", sock})
		default:
			at = append(at, endpoint{"tcp", name[strings.LastIndexByte(name, ' ')+1:]})
		}
	}
	go func() { io.Copy(io.Discard, out); close(drained) }()
	if len(at) < 2 {
		t.Fatal("the server does not listen")
	}
	return at
}
