package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"gefs9p/ninep/ninetest"
)

func TestJSONIsTheReport(t *testing.T) {
	o := tiny(serve(t, ninetest.New()), "W1", "W3")
	o.JSON = true
	o.Wire = true
	var out bytes.Buffer
	rep, err := Run(t.Context(), o, &out, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if len(got.Rows) != 2 || got.Rows[1].Ours != rep.Rows[1].Ours || *got.Rows[0].Wire != *rep.Rows[0].Wire || got.Addr != o.Addr || got.Seed != 1 {
		t.Errorf("%+v\nwant %+v", got, rep)
	}
}

func TestTableIsAligned(t *testing.T) {
	o := tiny(serve(t, ninetest.New()))
	o.Wire, o.DeviceDir = true, t.TempDir()
	var out bytes.Buffer
	if _, err := Run(t.Context(), o, &out, nil); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 2+len(IDs())+2 {
		t.Fatalf("%d lines:\n%s", len(lines), &out)
	}
	for _, l := range lines[1:] {
		if n := utf8.RuneCountInString(l); n != utf8.RuneCountInString(lines[1]) {
			t.Errorf("a line of %d characters:\n%s", n, &out)
		}
	}
	if !regexp.MustCompile(`^id +what +load +rate +fsync +written +wire +ratio +device +ratio +p50 +p99 +p99\.9 +max +wire p99\.9 +errors$`).MatchString(lines[1]) {
		t.Errorf("head %q", lines[1])
	}
	if !regexp.MustCompile(`^W1 +write 327780 bytes sequentially +1×8 +[0-9.]+ MB/s +[0-9.]+ [µm]?s +0.00× +[0-9.]+ MB/s +[0-9.]+ +[0-9.]+ MB/s .* 0$`).MatchString(lines[2]) {
		t.Errorf("row %q", lines[2])
	}
}

func TestOutputThatFailsIsAnError(t *testing.T) {
	o := tiny(serve(t, ninetest.New()), "W1")
	if _, err := Run(t.Context(), o, badWriter{}, nil); !errors.Is(err, errBadWriter) {
		t.Errorf("error %v", err)
	}
}

type badWriter struct{}

var errBadWriter = errors.New("no paper")

func (badWriter) Write([]byte) (int, error) { return 0, errBadWriter }

func TestNumbersForPeople(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 ns", 999: "999 ns", 1234: "1.23 µs", 12345: "12.3 µs", 123456: "123 µs",
		1500 * time.Microsecond: "1.50 ms", 90 * time.Second: "90.0 s", 1000 * time.Second: "1000 s",
	} {
		if got := durText(d); got != want {
			t.Errorf("durText(%d) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{1 << 30: "1 GiB", 3 << 19: "1536 KiB", 100: "100 bytes", 1<<30 + 1: "1073741825 bytes"} {
		if got := bytesText(n); got != want {
			t.Errorf("bytesText(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestMeterWritesOneLine(t *testing.T) {
	var b bytes.Buffer
	m := meter{w: &b}
	m.load("W1 write").say("W1 write: 5 of 10")
	m.say("W2")
	m.clear()
	want := "\rW1 write\rW1 write: 5 of 10\rW2               \r  \r"
	if b.String() != want {
		t.Errorf("wrote %q, want %q", &b, want)
	}
	if s := progressText("W3", 50, 200, 2*time.Second); s != "W3: 50 of 200, 25%, 25 ops/s" {
		t.Errorf("progress %q", s)
	}
	b.Reset()
	var quiet meter
	quiet.open(&b) // no terminal
	quiet.load("W1").start(nil, 1)
	quiet.stop()
	quiet.close()
	if b.Len() != 0 {
		t.Errorf("wrote %q where nobody looks", &b)
	}
}
