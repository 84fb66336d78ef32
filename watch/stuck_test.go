package watch

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/gefs"
)

// TestStuckIsNotHealthy: when nobody could change anything for a minute, the server says that it is not
// healthy, and everything still answers.
func TestStuckIsNotHealthy(t *testing.T) {
	dev := blkdev.NewMem(256 << 20)
	if err := gefs.Ream(dev, gefs.ReamOptions{User: "glenda"}); err != nil {
		t.Fatal(err)
	}
	fs, err := gefs.Open(dev, gefs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	w := &Watcher{FS: fs}
	get := func(path string) (int, string) {
		rec := httptest.NewRecorder()
		w.Handler(true).ServeHTTP(rec, httptest.NewRequest("GET", "http://localhost"+path, nil))
		return rec.Code, rec.Body.String()
	}
	if code, _ := get("/healthz"); code != 200 {
		t.Errorf("before the first sample: %d", code)
	}
	w.sample()
	if code, _ := get("/healthz"); code != 200 {
		t.Errorf("after a sample: %d", code)
	}
	w.ring[0].at = time.Now().Add(-2 * stuckAfter)
	if code, body := get("/healthz"); code != 503 || !strings.Contains(body, "2m0s") {
		t.Errorf("after two minutes without one: %d %q", code, body)
	}
	if _, body := get("/"); !strings.Contains(body, "stuck") {
		t.Error("the page does not say so")
	}
	if _, body := get("/metrics"); !strings.Contains(body, "\ngefs9p_sample_age_seconds 12") {
		t.Error("the metrics do not say so")
	}
	w.sample()
	if code, _ := get("/healthz"); code != 200 {
		t.Errorf("when it goes on: %d", code)
	}
}

// TestRingKeepsTheLast takes more samples than it keeps.
func TestRingKeepsTheLast(t *testing.T) {
	w := new(Watcher)
	base := time.Now()
	for i := range 3*samples + 7 {
		w.ring[w.n%samples] = sample{at: base.Add(time.Duration(i))}
		w.n++
		list := w.history()
		if len(list) != min(i+1, samples) || !list[len(list)-1].at.Equal(base.Add(time.Duration(i))) ||
			!list[0].at.Equal(base.Add(time.Duration(i+1-len(list)))) {
			t.Fatalf("after %d samples there are %d", i+1, len(list))
		}
	}
}

// TestNothingIsCountedWhileNobodyLooks: what costs reads of the disk is counted only while somebody looks.
func TestNothingIsCountedWhileNobodyLooks(t *testing.T) {
	dev := blkdev.NewMem(256 << 20)
	if err := gefs.Ream(dev, gefs.ReamOptions{User: "glenda"}); err != nil {
		t.Fatal(err)
	}
	fs, err := gefs.Open(dev, gefs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	w := &Watcher{FS: fs}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { w.Run(ctx); close(done) }()
	counted := func() bool {
		w.survey.mu.Lock()
		defer w.survey.mu.Unlock()
		return !w.survey.held.at.IsZero()
	}
	if err := w.WriteMetrics(new(strings.Builder)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(surveyEvery + surveyEvery/2)
	if counted() {
		t.Error("it counts, and nobody looks")
	}
	if err := w.WritePage(new(strings.Builder), 0); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); !counted(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("somebody looks, and it does not count")
		}
	}
	cancel()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("it does not end")
	}
}

// BenchmarkPage is the page of a small disk.
func BenchmarkPage(b *testing.B) {
	benchmark(b, func(w *Watcher, out *strings.Builder) error { w.blocks.last = nil; return w.WritePage(out, 0) })
}

// BenchmarkMetrics is what a scrape costs.
func BenchmarkMetrics(b *testing.B) {
	benchmark(b, func(w *Watcher, out *strings.Builder) error { return w.WriteMetrics(out) })
}

func benchmark(b *testing.B, do func(w *Watcher, out *strings.Builder) error) {
	dev := blkdev.NewMem(256 << 20)
	if err := gefs.Ream(dev, gefs.ReamOptions{User: "glenda"}); err != nil {
		b.Fatal(err)
	}
	fs, err := gefs.Open(dev, gefs.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer fs.Close()
	w := &Watcher{FS: fs}
	n := 0
	for b.Loop() {
		var out strings.Builder
		if err := do(w, &out); err != nil {
			b.Fatal(err)
		}
		n = out.Len()
	}
	b.ReportMetric(float64(n), "bytes")
}
