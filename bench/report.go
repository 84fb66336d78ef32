package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A Report is what a run measured.
type Report struct {
	Addr    string    `json:"addr"`
	Msize   uint32    `json:"msize"` // agreed on
	Seed    uint64    `json:"seed"`  // of the random order
	Scale   float64   `json:"scale"`
	Cold    bool      `json:"cold,omitempty"`
	Checked bool      `json:"checked"` // what was read was compared
	Started time.Time `json:"started"`
	Rows    []Row     `json:"rows"`
}

// Errors returns the number of operations on the server that failed or gave wrong data.
func (r *Report) Errors() int {
	n := 0
	for i := range r.Rows {
		n += r.Rows[i].Ours.Errors
	}
	return n
}

// A Row is one workload on the server, and its ceilings where they were measured.
type Row struct {
	ID    string `json:"id"`
	What  string `json:"what"`
	Cold  bool   `json:"cold,omitempty"`
	Conns int    `json:"conns"`
	Depth int    `json:"depth"` // operations under way on each connection

	Ours Result `json:"ours"`

	Wire      *Result `json:"wire,omitempty"`       // the same on a Null
	WireRatio float64 `json:"wire_ratio,omitempty"` // ours to wire

	// The same bytes in a plain file, synced. The ratio takes the fsync after the workload into
	// account, if there was one.
	Device      *Result `json:"device,omitempty"`
	DeviceRatio float64 `json:"device_ratio,omitempty"`
}

// A Result is one run of one workload. Durations are nanoseconds in JSON.
type Result struct {
	Ops     int64         `json:"ops"` // operations, of which Errors failed
	Bytes   int64         `json:"bytes"`
	Elapsed time.Duration `json:"elapsed_ns"`
	Rate    float64       `json:"rate"`
	Unit    string        `json:"unit"` // of Rate: "MB/s" or "ops/s"

	// Written is how many bytes the server wrote to its disk for it, the fsync included; 0 if that is not known.
	Written int64 `json:"written,omitempty"`

	// Synced is how long the fsync after the workload took; 0 if it has none.
	Synced time.Duration `json:"synced_ns,omitempty"`

	P50  time.Duration `json:"p50_ns"`
	P99  time.Duration `json:"p99_ns"`
	P999 time.Duration `json:"p999_ns"`
	Max  time.Duration `json:"max_ns"`

	Errors     int    `json:"errors"`
	FirstError string `json:"first_error,omitempty"`
}

// setRate sets the rate from n bytes or operations.
func (r *Result) setRate(n int64, bytes bool) {
	v := float64(n) / max(r.Elapsed, 1).Seconds()
	r.Rate, r.Unit = v, "ops/s"
	if bytes {
		r.Rate, r.Unit = v/1e6, "MB/s"
	}
}

// setLatency sets the latencies from what a histogram holds.
func (r *Result) setLatency(h *hist) {
	r.P50, r.P99, r.P999, r.Max = h.quantile(0.5), h.quantile(0.99), h.quantile(0.999), h.max
}

// syncedRate is the rate with the time of the fsync counted in.
func (r *Result) syncedRate() float64 {
	return r.Rate * r.Elapsed.Seconds() / max(r.Elapsed+r.Synced, 1).Seconds()
}

func ratio(a, b float64) float64 {
	if b <= 0 {
		return 0
	}
	return a / b
}

// writeJSON writes the report as one JSON value.
func (r *Report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "\t")
	return e.Encode(r)
}

// A table writes rows as soon as they are there, aligned.
type table struct {
	w            io.Writer
	what         int // width of that column
	wire, device bool
	written      bool
	err          error
}

// begin writes the head.
func (t *table) begin(r *Report) {
	fmt.Fprintf(&errWriter{t}, "%s, msize %d, seed %d, scale %g\n", r.Addr, r.Msize, r.Seed, r.Scale)
	cells := []string{"rate", "fsync"}
	if t.written {
		cells = append(cells, "written")
	}
	if t.wire {
		cells = append(cells, "wire", "ratio")
	}
	if t.device {
		cells = append(cells, "device", "ratio")
	}
	cells = append(cells, "p50", "p99", "p99.9", "max")
	if t.wire {
		cells = append(cells, "wire p99.9")
	}
	t.line("id", "what", "load", append(cells, "errors"))
}

// row writes a row, and what went wrong below it.
func (t *table) row(r *Row) {
	cells := []string{rateText(&r.Ours), ""}
	if r.Ours.Synced > 0 {
		cells[1] = durText(r.Ours.Synced)
	}
	if t.written {
		cells = append(cells, writtenText(&r.Ours))
	}
	other := func(o *Result, ratio float64) {
		if o == nil {
			cells = append(cells, "-", "-")
		} else {
			cells = append(cells, rateText(o), strconv.FormatFloat(ratio, 'f', 3, 64))
		}
	}
	if t.wire {
		other(r.Wire, r.WireRatio)
	}
	if t.device {
		other(r.Device, r.DeviceRatio)
	}
	for _, d := range []time.Duration{r.Ours.P50, r.Ours.P99, r.Ours.P999, r.Ours.Max} {
		cells = append(cells, durText(d))
	}
	switch {
	case t.wire && r.Wire != nil:
		cells = append(cells, durText(r.Wire.P999))
	case t.wire:
		cells = append(cells, "-")
	}
	what := r.What
	if r.Cold {
		what += coldMark
	}
	t.line(r.ID, what, fmt.Sprintf("%d×%d", r.Conns, r.Depth), append(cells, strconv.Itoa(r.Ours.Errors)))
	if r.Ours.Errors > 0 {
		fmt.Fprintf(&errWriter{t}, "       first error: %s\n", r.Ours.FirstError)
	}
}

const coldMark = " (cold)"

// line writes one line: three columns of text, and columns of numbers.
func (t *table) line(id, what, load string, cells []string) {
	const rate, ratio, dur, errors = 15, 7, 9, 8
	widths := []int{rate, dur}
	if t.written {
		widths = append(widths, dur)
	}
	if t.wire {
		widths = append(widths, rate, ratio)
	}
	if t.device {
		widths = append(widths, rate, ratio)
	}
	widths = append(widths, dur, dur, dur, dur)
	if t.wire {
		widths = append(widths, dur+3)
	}
	widths = append(widths, errors)
	var b strings.Builder
	pad := func(s string, n int) {
		b.WriteString(s)
		b.WriteString(strings.Repeat(" ", max(0, n-utf8.RuneCountInString(s))))
	}
	pad(id, 7)
	pad(what, t.what+2)
	pad(load, 6)
	for i, c := range cells {
		b.WriteString(strings.Repeat(" ", max(1, widths[i]-utf8.RuneCountInString(c))))
		b.WriteString(c)
	}
	b.WriteByte('\n')
	io.WriteString(&errWriter{t}, b.String())
}

// An errWriter keeps the table's first error.
type errWriter struct{ t *table }

func (e *errWriter) Write(p []byte) (int, error) {
	if e.t.err == nil {
		_, e.t.err = e.t.w.Write(p)
	}
	return len(p), nil
}

func rateText(r *Result) string {
	prec := 0
	if r.Rate < 100 {
		prec = 1
	}
	return strconv.FormatFloat(r.Rate, 'f', prec, 64) + " " + r.Unit
}

// writtenText says how much was written for each byte of payload, or if there is none, for each operation.
func writtenText(r *Result) string {
	switch {
	case r.Written == 0:
		return "-"
	case r.Bytes > 0:
		return strconv.FormatFloat(float64(r.Written)/float64(r.Bytes), 'f', 2, 64) + "×"
	}
	return strconv.FormatInt(r.Written/max(r.Ops, 1), 10) + " B"
}

// durText writes a duration with three digits that count.
func durText(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "µs"}} {
		if d >= u.unit {
			v := float64(d) / float64(u.unit)
			prec := 2
			if v >= 100 {
				prec = 0
			} else if v >= 10 {
				prec = 1
			}
			return strconv.FormatFloat(v, 'f', prec, 64) + " " + u.name
		}
	}
	return strconv.FormatInt(int64(d), 10) + " ns"
}

// bytesText writes a size in the largest unit that divides it.
func bytesText(n int64) string {
	for _, u := range []struct {
		unit int64
		name string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.unit && n%u.unit == 0 {
			return strconv.FormatInt(n/u.unit, 10) + " " + u.name
		}
	}
	return strconv.FormatInt(n, 10) + " bytes"
}
