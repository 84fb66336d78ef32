package watch_test

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// A family is what an exposition has of one metric.
type family struct {
	name, kind, unit, help string
	samples                []point
}

type point struct {
	name   string
	labels [][2]string
	value  float64
}

var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	realNumber = regexp.MustCompile(`^([+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?|\+Inf|-Inf|NaN)$`)
)

// parseExposition reads the text form of OpenMetrics 1.0, as strictly as its grammar is: no blank too many, families
// in one piece, each described before its samples, names that end as their type and unit want.
func parseExposition(t testing.TB, text string) []family {
	t.Helper()
	body, ok := strings.CutSuffix(text, "# EOF\n")
	if !ok || strings.Contains(body, "# EOF") {
		t.Fatalf("it does not end with # EOF, once: %q", text[max(0, len(text)-80):])
	}
	var list []family
	seen := map[string]bool{}
	points := map[string]bool{}
	for n, line := range strings.Split(strings.TrimSuffix(body, "\n"), "\n") {
		bad := func(why string) { t.Helper(); t.Fatalf("line %d: %s: %q", n+1, why, line) }
		if rest, ok := strings.CutPrefix(line, "# "); ok {
			word := strings.SplitN(rest, " ", 3)
			if len(word) != 3 || !metricName.MatchString(word[1]) {
				bad("no description")
			}
			if word[0] == "TYPE" {
				if seen[word[1]] {
					bad("a family comes twice")
				}
				seen[word[1]] = true
				list = append(list, family{name: word[1], kind: word[2]})
				if !slices.Contains([]string{"counter", "gauge", "histogram", "info"}, word[2]) {
					bad("unknown type")
				}
				continue
			}
			if len(list) == 0 || list[len(list)-1].name != word[1] || len(list[len(list)-1].samples) > 0 {
				bad("a description of something else")
			}
			f := &list[len(list)-1]
			switch word[0] {
			case "UNIT":
				f.unit = word[2]
				if !strings.HasSuffix(f.name, "_"+f.unit) {
					bad("the name does not end with the unit")
				}
			case "HELP":
				f.help = word[2]
				checkEscapes(t, f.help)
			default:
				bad("unknown description")
			}
			continue
		}
		if len(list) == 0 {
			bad("a sample of nothing")
		}
		f := &list[len(list)-1]
		end := strings.IndexAny(line, "{ ")
		if end < 0 {
			bad("no value")
		}
		p := point{name: line[:end]}
		rest := line[end:]
		if rest[0] == '{' {
			if p.labels, rest, ok = parseLabels(t, rest[1:]); !ok {
				bad("labels")
			}
		}
		value, ok := strings.CutPrefix(rest, " ")
		if !ok || !realNumber.MatchString(value) {
			bad("no number")
		}
		var err error
		if p.value, err = strconv.ParseFloat(value, 64); err != nil {
			bad(err.Error())
		}
		suffix, ok := strings.CutPrefix(p.name, f.name)
		want := map[string][]string{"counter": {"_total"}, "gauge": {""}, "info": {"_info"}, "histogram": {"_bucket", "_sum", "_count"}}[f.kind]
		if !ok || !slices.Contains(want, suffix) {
			bad("a name that a " + f.kind + " " + f.name + " does not have")
		}
		if f.kind == "counter" && !(p.value >= 0) {
			bad("a counter below 0")
		}
		id := line[:len(line)-len(value)]
		if points[id] {
			bad("a sample comes twice")
		}
		points[id] = true
		f.samples = append(f.samples, p)
	}
	for _, f := range list {
		if f.help == "" || !strings.HasPrefix(f.name, "gefs9p_") {
			t.Errorf("%s has no help, or is not one of ours", f.name)
		}
		for _, end := range []string{"_total", "_bucket", "_sum", "_count", "_info"} {
			if strings.HasSuffix(f.name, end) {
				t.Errorf("%s: a family's name must not end so", f.name)
			}
		}
		if f.kind == "histogram" {
			checkHistogram(t, f)
		}
	}
	return list
}

// parseLabels reads what follows a brace, up to and with the one that closes it.
func parseLabels(t testing.TB, s string) (labels [][2]string, rest string, ok bool) {
	for {
		name, after, ok := strings.Cut(s, `="`)
		if !ok || !labelName.MatchString(name) {
			return nil, s, false
		}
		end := -1
		for i := 0; i < len(after) && end < 0; i++ {
			switch after[i] {
			case '\\':
				i++
			case '"':
				end = i
			}
		}
		if end < 0 || end+1 >= len(after) {
			return nil, s, false
		}
		checkEscapes(t, after[:end])
		labels = append(labels, [2]string{name, after[:end]})
		switch after[end+1] {
		case '}':
			return labels, after[end+2:], true
		case ',':
			s = after[end+2:]
		default:
			return nil, s, false
		}
	}
}

// checkEscapes fails if a backslash is followed by what it must not be, or something needs one.
func checkEscapes(t testing.TB, s string) {
	t.Helper()
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			t.Fatalf("a quote without a backslash in %q", s)
		case s[i] == '\\':
			if i++; i == len(s) || !strings.ContainsRune(`\n"`, rune(s[i])) {
				t.Fatalf("a backslash before nothing it may escape in %q", s)
			}
		}
	}
}

// checkHistogram: for each set of labels the buckets ascend and end with +Inf, which is the count.
func checkHistogram(t testing.TB, f family) {
	t.Helper()
	type series struct {
		last, bound, count float64
		infinite, sum      bool
	}
	all := map[string]*series{}
	for _, p := range f.samples {
		key := ""
		bound := math.NaN()
		for _, l := range p.labels {
			if l[0] == "le" {
				bound, _ = strconv.ParseFloat(l[1], 64)
			} else {
				key += l[0] + "=" + l[1] + " "
			}
		}
		s := all[key]
		if s == nil {
			s = &series{bound: math.Inf(-1), count: -1}
			all[key] = s
		}
		switch strings.TrimPrefix(p.name, f.name) {
		case "_bucket":
			if !(bound > s.bound) || p.value < s.last {
				t.Errorf("%s: bucket %v of %v after %v of %v", key, bound, p.value, s.bound, s.last)
			}
			s.bound, s.last, s.infinite = bound, p.value, math.IsInf(bound, +1)
		case "_sum":
			s.sum = true
		case "_count":
			s.count = p.value
		}
	}
	for key, s := range all {
		if !s.infinite || !s.sum || s.count != s.last {
			t.Errorf("%s: histogram %+v", key, *s)
		}
	}
}

// value finds a sample: of the family or its suffix, with the label if one is given.
func value(list []family, name string, label ...string) (float64, bool) {
	for _, f := range list {
		for _, p := range f.samples {
			if p.name == name && (len(label) == 0 || slices.Contains(p.labels, [2]string{label[0], label[1]})) {
				return p.value, true
			}
		}
	}
	return 0, false
}

func TestMetricsAgreeWithWhatWasDone(t *testing.T) {
	r := newRig(t, gefs.Options{}, nil)
	c, root := r.attach(gefstest.User, "main")
	r.put(root, "file", bytes.Repeat([]byte("x"), 100_000))
	for range 20 {
		f, err := root.Walk("file")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Stat(); err != nil {
			t.Fatal(err)
		}
		f.Clunk()
	}
	for range 5 {
		if _, err := root.Walk("missing"); err == nil {
			t.Fatal("what is missing was found")
		}
	}
	_, body := r.get("/metrics")
	list := parseExposition(t, body)
	for _, tt := range []struct {
		name string
		typ  string
		want float64
	}{
		{"gefs9p_requests_total", "Tstat", 20}, {"gefs9p_request_errors_total", "Tstat", 0},
		{"gefs9p_requests_total", "Tattach", 1}, {"gefs9p_requests_total", "Tcreate", 1},
		{"gefs9p_requests_total", "Tclunk", 21}, {"gefs9p_requests_total", "Twalk", 26},
		{"gefs9p_request_errors_total", "Twalk", 5},
		{"gefs9p_request_duration_seconds_count", "Tstat", 20},
	} {
		if got, ok := value(list, tt.name, "type", tt.typ); !ok || got != tt.want {
			t.Errorf("%s of %s is %v, want %v", tt.name, tt.typ, got, tt.want)
		}
	}
	for name, want := range map[string]float64{
		"gefs9p_connections": 1, "gefs9p_fids": 1, "gefs9p_connections_accepted_total": 1, "gefs9p_read_only": 0,
		"gefs9p_scrub_running": 0, "gefs9p_hash_errors_total": 0, "gefs9p_arena_suspect": 0,
	} {
		if got, ok := value(list, name); !ok || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if got, _ := value(list, "gefs9p_snapshots", "kind", "mutable"); got != 2 {
		t.Errorf("%v mutable labels, want adm and main", got)
	}
	if _, ok := value(list, "gefs9p_scrub_age_seconds"); ok {
		t.Error("a scrub that never was has an age")
	}
	if _, ok := value(list, "gefs9p_read_only_reason"); ok {
		t.Error("there is a reason for what is not so")
	}
	// All that was received is 100,000 bytes of data and some messages.
	if got, _ := value(list, "gefs9p_received_bytes_total"); got < 100_000 || got > 110_000 {
		t.Errorf("%v bytes received", got)
	}
	used, size := 0.0, 0.0
	for _, a := range r.fs.Arenas() {
		used, size = used+float64(a.Used), size+float64(a.Size)
	}
	gotUsed, gotSize := 0.0, 0.0
	for i := range r.fs.Arenas() {
		v, _ := value(list, "gefs9p_arena_used_bytes", "arena", strconv.Itoa(i))
		gotUsed += v
		v, _ = value(list, "gefs9p_arena_size_bytes", "arena", strconv.Itoa(i))
		gotSize += v
	}
	if gotSize != size || math.Abs(gotUsed-used) > 1<<20 {
		t.Errorf("arenas have %v of %v in use, want %v of %v", gotUsed, gotSize, used, size)
	}
	c.Close()
	r.until("nobody is connected", func() bool { return r.must("gefs9p_connections") == 0 })
}

func TestUnsyncedSecondsGrowAndEnd(t *testing.T) {
	r := newRig(t, gefs.Options{CommitEvery: 1 << 40}, nil)
	if v := r.must("gefs9p_unsynced_seconds"); v != 0 {
		t.Fatalf("on a new disk the oldest change is %v s old", v)
	}
	_, root := r.attach(gefstest.User, "main")
	r.put(root, "file", []byte("x"))
	r.until("it grows", func() bool { return r.must("gefs9p_unsynced_seconds") > 0.05 })
	before := r.must("gefs9p_unsynced_seconds")
	r.put(root, "other", []byte("x"))
	if v := r.must("gefs9p_unsynced_seconds"); v < before {
		t.Errorf("after one more change the oldest is %v s old, and %v before", v, before)
	}
	commits := r.must("gefs9p_commits_total")
	if err := root.Fsync(); err != nil {
		t.Fatal(err)
	}
	if v := r.must("gefs9p_unsynced_seconds"); v != 0 {
		t.Errorf("after fsync there is a change %v s old", v)
	}
	if v := r.must("gefs9p_commits_total"); v != commits+1 {
		t.Errorf("%v commits, and %v before", v, commits)
	}
	if _, err := root.Walk("missing"); err == nil {
		t.Fatal("what is missing was found")
	}
	if f, err := root.Walk(); err != nil || f.Create("file", 0o644, ninep.OWRITE) == nil {
		t.Fatalf("a file was made twice: %v", err)
	}
	if v := r.must("gefs9p_unsynced_seconds"); v != 0 {
		t.Errorf("after a refused request there is a change %v s old", v)
	}
}

// TestMetricsSatisfyTheReferenceParser has the parser of Prometheus' own Python library read them.
func TestMetricsSatisfyTheReferenceParser(t *testing.T) {
	t.Parallel()
	const script = `
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
n = 0
for f in parse(sys.stdin.read()):
    n += len(f.samples)
print(n)
`
	var python string
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(name, "-c", "import prometheus_client.openmetrics.parser").Run() == nil {
			python = name
			break
		}
	}
	if python == "" {
		t.Skip("there is no library prometheus_client (Debian package python3-prometheus-client)")
	}
	r := newRig(t, gefs.Options{}, nil)
	_, root := r.attach(gefstest.User, "main")
	r.put(root, "file", []byte("x"))
	r.get("/")
	r.until("deadlists are counted", func() bool { _, ok := r.metric("gefs9p_deadlist_bytes"); return ok })
	r.fs.Store().Latch(hostile("a disk that fails with \"quotes\\\", \n<script>"))
	_, body := r.get("/metrics")
	cmd := exec.Command(python, "-c", script)
	cmd.Stdin = strings.NewReader(body)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	want := 0
	for _, f := range parseExposition(t, body) {
		want += len(f.samples)
	}
	if got := strings.TrimSpace(string(out)); got != strconv.Itoa(want) {
		t.Errorf("it reads %s samples, we %d", got, want)
	}
}

// hostile is an error whose text somebody else has chosen.
type hostile string

func (h hostile) Error() string { return string(h) }

// TestBoardNamesMetricsThatExist: every metric in the expressions of the Grafana board is one of the server's, and
// every expression names one.
func TestBoardNamesMetricsThatExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "docs", "grafana.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board map[string]any
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, gefs.Options{}, nil)
	_, root := r.attach(gefstest.User, "main")
	r.put(root, "file", []byte("x"))
	r.get("/")
	r.until("deadlists are counted", func() bool { _, ok := r.metric("gefs9p_deadlist_bytes"); return ok })
	if _, err := r.fs.StartScrub(0); err != nil {
		t.Fatal(err)
	}
	r.until("a scrub comes to its end", func() bool { _, ok := r.metric("gefs9p_scrub_age_seconds"); return ok })
	r.fs.Store().Latch(hostile("a failure"))
	_, body := r.get("/metrics")
	exist := map[string]bool{}
	for _, f := range parseExposition(t, body) {
		for _, p := range f.samples {
			exist[p.name] = true
		}
	}
	name := regexp.MustCompile(`gefs9p_[a-z0-9_]+`)
	exprs := 0
	var visit func(v any)
	visit = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if e, ok := v["expr"].(string); ok {
				exprs++
				names := name.FindAllString(e, -1)
				if len(names) == 0 {
					t.Errorf("no metric in %s", e)
				}
				for _, n := range names {
					if !exist[n] {
						t.Errorf("there is no %s, of which the board asks %s", n, e)
					}
				}
				if _, ok := v["refId"]; !ok {
					t.Errorf("%s has no refId", e)
				}
			}
			for _, x := range v {
				visit(x)
			}
		case []any:
			for _, x := range v {
				visit(x)
			}
		}
	}
	visit(board)
	if exprs < 20 {
		t.Errorf("the board has %d expressions", exprs)
	}
}

func TestMetricsHaveTheQuotas(t *testing.T) {
	r := newRig(t, gefs.Options{}, nil)
	if _, ok := r.metric(`gefs9p_quota_limit_bytes{label="main"}`); ok {
		t.Error("there is a metric of a quota without one")
	}
	_, root := r.attach("glenda", "main")
	r.put(root, "f", make([]byte, 20000))
	c, end := r.fs.Background()
	if err := r.fs.SetQuota(c, "main", "", gefs.Usage{Bytes: 1 << 20, Files: 7}); err != nil {
		t.Fatal(err)
	}
	end()
	r.until("the files are counted", func() bool {
		v, ok := r.metric(`gefs9p_quota_in_force{label="main"}`)
		return ok && v == 1
	})
	for name, want := range map[string]float64{"used_bytes": 32768, "limit_bytes": 1 << 20, "used_files": 1, "limit_files": 7} {
		if got := r.must(`gefs9p_quota_` + name + `{label="main"}`); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}
