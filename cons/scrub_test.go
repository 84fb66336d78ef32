package cons_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"gefs9p/cons"
	"gefs9p/gefs"
)

// TestScrubFromTheConsole starts scrubs, waits for them, and is told of a file that is damaged.
func TestScrubFromTheConsole(t *testing.T) {
	c, dev, _ := newConsole(t)
	write(t, c.FS, "main", "file", bytes.Repeat([]byte("precious"), 1000))
	must(t, c, "sync")
	if out := must(t, c, "scrub"); out != "scrub: idle\n" {
		t.Errorf("before any: %q", out)
	}
	if out, err := exec(t, c, "scrub stop"); err == nil || err.Error() != "scrub: there is no scrub under way" {
		t.Errorf("stop: %q, %v", out, err)
	}
	for _, line := range []string{"scrub start now", "scrub start 0", "scrub start 10T", "scrub start M", "scrub stop now", "scrub faster", "scrub wait 1"} {
		if _, err := exec(t, c, line); err == nil || !strings.HasPrefix(err.Error(), "unknown command '"+line) {
			t.Errorf("%s: %v", line, err)
		}
	}
	if _, err := exec(t, c, "scrub start 1K"); err == nil || !strings.Contains(err.Error(), "at least 65536") {
		t.Errorf("a slow scrub: %v", err)
	}
	if out := must(t, c, "scrub start 500M"); !strings.HasPrefix(out, "scrub: ") {
		t.Errorf("start: %q", out)
	}
	if out := must(t, c, "scrub wait"); !strings.HasPrefix(out, "scrub: idle\nended:\t") || !strings.Contains(out, "damaged:\t0\n") {
		t.Errorf("wait: %q", out)
	}
	i := bytes.Index(devBytes(t, dev), []byte("preciousprecious"))
	if _, err := dev.WriteAt([]byte("gone"), int64(i)+100); err != nil {
		t.Fatal(err)
	}
	must(t, c, "scrub start")
	out, err := exec(t, c, "scrub wait")
	if err != cons.ErrReported || !strings.Contains(out, "damaged:\t1\nhealed:\t0\nerror: corrupt: data block at ") || !strings.HasSuffix(out, "\n\tmain/file\n") {
		t.Errorf("%v, %q", err, out)
	}
	var st gefs.ScrubStatus
	js, err := exec(t, c, "--json scrub status")
	if err != nil || json.Unmarshal([]byte(js), &st) != nil || st.State != gefs.ScrubIdle || st.Bad != 1 ||
		len(st.Problems) != 1 || st.Problems[0].Paths[0] != "main/file" || st.Rate != 500<<20 || st.Began.IsZero() {
		t.Errorf("%v: %s", err, js)
	}
}

// devBytes returns what is on the device.
func devBytes(t *testing.T, dev interface {
	Size() (int64, error)
	ReadAt([]byte, int64) (int, error)
}) []byte {
	t.Helper()
	size, err := dev.Size()
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, size)
	if _, err := dev.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	return p
}
