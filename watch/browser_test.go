package watch_test

import (
	"context"
	"flag"
	"fmt"
	"image/png"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gefs9p/gefs"
)

var (
	seed    = flag.Uint64("seed", 0, "of random choices; 0 for another each time")
	picture = flag.String("picture", "", "`FILE` to which the browser's picture of the page is written")
	busyFor = flag.Duration("busy", time.Second, "how long clients work before the picture is taken")
)

// random returns a source that a failing test can be run with again.
func random(t testing.TB) (*rand.Rand, uint64) {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("-seed=%d", s)
	return rand.New(rand.NewPCG(s, 0)), s
}

// chromium returns the browser's program; without one the test is skipped.
func chromium(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("there is no browser (Debian package chromium)")
	return ""
}

// browse runs the browser without a screen, and returns what it prints.
func browse(t testing.TB, args ...string) string {
	t.Helper()
	program := chromium(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	home := t.TempDir()
	cmd := exec.CommandContext(ctx, program, append([]string{
		"--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-background-networking", "--user-data-dir=" + filepath.Join(home, "profile"),
	}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+home)
	var errs strings.Builder
	cmd.Stderr = &errs
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, errs.String())
	}
	return string(out)
}

// shoot takes a picture of a page.
func shoot(t testing.TB, url, file string, width, height int, more ...string) {
	t.Helper()
	size := fmt.Sprintf("%d,%d", width, height)
	browse(t, append([]string{"--screenshot=" + file, "--window-size=" + size, "--force-device-scale-factor=1", "--virtual-time-budget=2000"}, append(more, url)...)...)
}

// TestPageInABrowser has a browser draw the page of a busy server. With -picture FILE -busy 11m it makes the
// picture in docs.
func TestPageInABrowser(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a browser takes some seconds")
	}
	chromium(t)
	rng, s := random(t)
	r := newRig(t, gefs.Options{}, nil)
	past(r, rng)
	incidents(r)
	stop := make(chan struct{})
	wait := busy(r, 5, s, stop)
	r.get("/") // from now on snapshots are counted
	end := time.Now().Add(*busyFor)
	for ; time.Now().Before(end); time.Sleep(time.Second) {
		r.get("/")
	}
	r.until("all snapshots are counted", func() bool {
		_, body := r.get("/")
		return !strings.Contains(body, "not counted yet")
	})
	file := filepath.Join(t.TempDir(), "page.png")
	shoot(t, r.url+"/?refresh=0", file, 1240, 1900)
	close(stop)
	wait()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	colours := map[[3]uint32]int{}
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y += 2 {
		for x := b.Min.X; x < b.Max.X; x += 2 {
			r, g, b, _ := img.At(x, y).RGBA()
			colours[[3]uint32{r >> 8, g >> 8, b >> 8}]++
		}
	}
	// What the map and the time line are made of is there, in its colours.
	for name, c := range map[string][3]uint32{
		"live": {0x5f, 0x86, 0xab}, "kept for snapshots": {0xa9, 0x8b, 0xb5}, "free": {0xe4, 0xe8, 0xea}, "by hand": {0xc9, 0x85, 0x58},
	} {
		if colours[c] < 10 {
			t.Errorf("%d points of the picture are of the colour of %q", colours[c], name)
		}
	}
	if *picture != "" {
		p, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(*picture, p, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
