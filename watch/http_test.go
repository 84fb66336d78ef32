package watch_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
	"gefs9p/watch"
)

func TestOnlyGetAndHeadAreAnswered(t *testing.T) {
	r := newRig(t, gefs.Options{}, nil)
	for _, path := range []string{"/", "/metrics", "/healthz", "/readyz"} {
		if code, body := r.get(path); code != 200 || body == "" {
			t.Errorf("GET %s: %d, %d bytes", path, code, len(body))
		}
		if code, body := r.do("HEAD", path, ""); code != 200 || body != "" {
			t.Errorf("HEAD %s: %d, %d bytes", path, code, len(body))
		}
		for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW"} {
			if code, _ := r.do(method, path, ""); code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, code)
			}
		}
	}
	for _, path := range []string{"/nothing", "/metrics/x", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/vars"} {
		if code, _ := r.get(path); code != 404 {
			t.Errorf("GET %s: %d", path, code)
		}
	}
}

func TestAPageThatPointsItsNameHereIsNotLetIn(t *testing.T) {
	r := newRig(t, gefs.Options{}, nil)
	ask := func(local bool, host, path string) int {
		rec := httptest.NewRecorder()
		req := httptest.NewRequest("GET", path, nil)
		req.Host = host
		r.w.Handler(local).ServeHTTP(rec, req)
		return rec.Code
	}
	for host, want := range map[string]int{
		"localhost": 200, "LocalHost:8564": 200, "127.0.0.1": 200, "127.8.9.10:1": 200, "[::1]:8564": 200, "[::1]": 200, "[::ffff:127.0.0.1]:1": 200,
		"evil.example": 421, "evil.example:8564": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421,
		"10.0.0.1": 421, "0.0.0.0": 421, "[::]:80": 421, "2130706433": 421, "localhost@evil.example": 421, "localhost.": 421,
	} {
		for _, path := range []string{"/", "/metrics", "/healthz"} {
			if code := ask(true, host, path); code != want {
				t.Errorf("Host %s: %d for %s, want %d", host, code, path, want)
			}
		}
	}
	if code, _ := r.do("GET", "/metrics", "evil.example"); code != 421 {
		t.Errorf("the server on loopback answers %d to another host's name", code)
	}
	// On another address everybody is let in who can connect.
	if code := ask(false, "server.example", "/healthz"); code != 200 {
		t.Errorf("on a public address: %d", code)
	}
}

func TestProfilesOnlyIfAskedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, gefs.Options{}, func(r *rig) { r.w.Pprof = true })
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline", "/debug/pprof/profile?seconds=1"} {
		if code, body := r.get(path); code != 200 || body == "" {
			t.Errorf("%s: %d, %d bytes: %.80s", path, code, len(body), body)
		}
	}
}

func TestReadOnlyByFailureIsNotReady(t *testing.T) {
	r := newRig(t, gefs.Options{}, nil)
	if code, body := r.get("/readyz"); code != 200 || body != "ok\n" {
		t.Fatalf("ready: %d %q", code, body)
	}
	r.fs.Store().Latch(errors.New("the device is on fire"))
	if code, body := r.get("/readyz"); code != 503 || !strings.Contains(body, "the device is on fire") {
		t.Errorf("after a failure: %d %q", code, body)
	}
	if code, _ := r.get("/healthz"); code != 200 {
		t.Errorf("it lives: %d", code)
	}
	if v := r.must("gefs9p_read_only"); v != 1 {
		t.Errorf("read_only is %v", v)
	}
	if v := r.must(`gefs9p_read_only_reason{reason="the device is on fire"}`); v != 1 {
		t.Errorf("the reason is %v", v)
	}
	if _, body := r.get("/"); !strings.Contains(body, "the device is on fire") || strings.Contains(body, "in order") {
		t.Error("the page says nothing of the failure")
	}
}

func TestServedReadOnlyIsReady(t *testing.T) {
	dev := gefstest.Ream(t)
	fs := gefstest.Open(t, dev, gefs.Options{ReadOnly: true})
	w := &watch.Watcher{FS: fs}
	h := w.Handler(true)
	for path, want := range map[string]string{"/readyz": "ok\n", "/metrics": "gefs9p_read_only 1\n", "/": "served read-only"} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("GET", "http://localhost"+path, nil))
		if rec.Code != 200 || !strings.Contains(rec.Body.String(), want) {
			t.Errorf("%s: %d, without %q", path, rec.Code, want)
		}
	}
}

// TestHashErrorsAreCounted reads a file whose block has rotted.
func TestHashErrorsAreCounted(t *testing.T) {
	t.Parallel()
	dev := blkdev.NewMem(256 << 20)
	if err := gefs.Ream(dev, gefs.ReamOptions{User: gefstest.User}); err != nil {
		t.Fatal(err)
	}
	mark := []byte(strings.Repeat("look for me ", 2000))
	write := func() {
		fs, err := gefs.Open(dev, gefs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s := gefstest.Serve(t, fs, 0)
		f := s.Attach(gefstest.User, "main")
		if err := f.Create("rotten", 0o644, ninep.OWRITE); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(mark, 0); err != nil {
			t.Fatal(err)
		}
		s.Stop()
		if err := fs.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write()
	buf := make([]byte, 16<<10)
	size, err := dev.Size()
	if err != nil {
		t.Fatal(err)
	}
	rotted := 0
	for at := int64(0); at < size; at += int64(len(buf)) {
		if _, err := dev.ReadAt(buf, at); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(buf), "look for me ") {
			rotted++
			buf[100] ^= 1
			if err := dev.WriteVec([][]byte{buf}, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	if rotted == 0 {
		t.Fatal("the file's block is not on the device")
	}
	fs := gefstest.Open(t, dev, gefs.Options{})
	w := &watch.Watcher{FS: fs}
	s := gefstest.Serve(t, fs, 0)
	defer s.Stop()
	f, err := s.Attach(gefstest.User, "main").Walk("rotten")
	if err == nil {
		err = f.Open(ninep.OREAD)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(buf, 0); err == nil {
		t.Fatal("what has rotted was read")
	}
	var b strings.Builder
	if err := w.WriteMetrics(&b); err != nil {
		t.Fatal(err)
	}
	if v, _ := value(parseExposition(t, b.String()), "gefs9p_hash_errors_total"); v < 1 {
		t.Errorf("%v hash errors", v)
	}
	b.Reset()
	if err := w.WritePage(&b, 0); err != nil || !strings.Contains(b.String(), "not what it should be") {
		t.Errorf("the page says nothing of it: %v", err)
	}
}

// More connections than there are seats, which say nothing or only half of something, are hung up on.
func TestConnectionsThatSayNothingKeepNobodyOutForLong(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it waits until they are hung up on")
	}
	r := newRig(t, gefs.Options{}, nil)
	addr := strings.TrimPrefix(r.url, "http://")
	for i := range 100 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%2 == 0 {
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: localhost\r\nX-")
		}
	}
	began := time.Now()
	hc := http.Client{Timeout: patience}
	resp, err := hc.Get(r.url + "/healthz")
	if err != nil {
		t.Fatalf("after %v: %v", time.Since(began), err)
	}
	resp.Body.Close()
}

func TestAHeadThatIsTooLongIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, gefs.Options{}, nil)
	c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	go func() { // the server need not read all of it
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: "+strings.Repeat("x", 1<<20)+"\r\n\r\n")
	}()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.Contains(line, "431") {
		t.Errorf("it is answered %q", line)
	}
}

// TestClientsAndWatchersAtOnce: with clients at work and people looking at everything there is, all get
// their answers. It is for the race detector too.
func TestClientsAndWatchersAtOnce(t *testing.T) {
	t.Parallel()
	rng, s := random(t)
	r := newRig(t, gefs.Options{Schedule: true}, nil)
	if !testing.Short() {
		past(r, rng)
	}
	stop := make(chan struct{})
	wait := busy(r, 4, s, stop)
	end := time.Now().Add(3 * time.Second)
	done := make(chan error, 8)
	for i := range cap(done) {
		path := []string{"/", "/metrics", "/readyz", "/healthz"}[i%4]
		go func() {
			for time.Now().Before(end) {
				resp, err := http.Get(r.url + path)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if resp.StatusCode != 200 {
						err = fmt.Errorf("%s: %s", path, resp.Status)
					}
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for i := 0; time.Now().Before(end); i++ { // labels come and go meanwhile
		name := fmt.Sprintf("coming and going %d", i)
		r.label("main", name, i%3 == 0)
		c, stop := r.fs.Background()
		err := r.fs.DeleteLabel(c, name)
		stop()
		if err != nil {
			t.Error(err)
		}
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wait()
	if v := r.must("gefs9p_read_only"); v != 0 {
		t.Error("the disk is read-only")
	}
	_, body := r.get("/metrics")
	parseExposition(t, body)
}

// TestADiskThatGrowsIsShownAsItIs: when arenas are added while somebody looks, the page has them, and what was counted
// of a smaller disk is not put into the wrong cells.
func TestADiskThatGrowsIsShownAsItIs(t *testing.T) {
	t.Parallel()
	r := newRig(t, gefs.Options{}, nil)
	_, root := r.attach(gefstest.User, "main")
	r.put(root, "file", make([]byte, 1<<20))
	r.label("main", "kept", false)
	r.put(root, "other", make([]byte, 1<<20))
	r.get("/")
	r.until("deadlists are counted", func() bool { _, ok := r.metric("gefs9p_deadlist_bytes"); return ok })
	before := len(r.fs.Arenas())
	if _, err := r.fs.Grow(t.Context(), 1<<30); err != nil {
		t.Fatal(err)
	}
	after := r.fs.Arenas()
	if len(after) <= before {
		t.Fatalf("%d arenas, and %d before", len(after), before)
	}
	last := fmt.Sprint(len(after) - 1)
	if v := r.must(`gefs9p_arena_size_bytes{arena="` + last + `"}`); v != float64(after[len(after)-1].Size) {
		t.Errorf("arena %s has %v bytes, want %d", last, v, after[len(after)-1].Size)
	}
	r.until("the page shows the new arenas", func() bool {
		_, body := r.get("/")
		return strings.Contains(body, ">"+last+"<title>arena "+last)
	})
}
