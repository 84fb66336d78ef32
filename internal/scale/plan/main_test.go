package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gefs9p/internal/scale"
)

func plan(args ...string) (out, errs string, err error) {
	var o, e bytes.Buffer
	err = run(args, &o, &e)
	return o.String(), e.String(), err
}

func TestTableSaysWhatIsNotMeasured(t *testing.T) {
	if raceOn {
		t.Skip("one goroutine does it, and slowly with the race detector")
	}
	none := filepath.Join(t.TempDir(), "none.json")
	out, errs, err := plan("--files", "1e7", "--bytes", "100G", "--servers", "1,10", "--growth", none)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(errs, "scripts/growth") {
		t.Errorf("standard error is %q", errs)
	}
	for _, line := range strings.Split(out, "\n") {
		if strings.Contains(line, "days to create") && strings.Count(line, " -") != 2 {
			t.Errorf("%q, though nothing was measured", line)
		}
	}
}

// TestTimesComeFromTheCurves gives curves of round numbers: the days follow by hand.
func TestTimesComeFromTheCurves(t *testing.T) {
	file := filepath.Join(t.TempDir(), "growth.json")
	text := `{"create": [{"x":1000,"y":99}, {"x":100000,"y":50}], "ranges": [{"x":0,"y":100}, {"x":1000,"y":1100}]}`
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	out, _, err := plan("--files", "8.64e7", "--bytes", "100G", "--servers", "2", "--growth", file, "--json")
	if err != nil {
		t.Fatal(err)
	}
	var list []scale.Estimate
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	e := list[0]
	if e.Fill < 9.99 || e.Fill > 10.01 { // 4.32e7 files, 50 a second
		t.Errorf("%v days, want 10", e.Fill)
	}
	if want := e.Ranges/1e3 + 0.1; e.Open < want*0.999 || e.Open > want*1.001 {
		t.Errorf("%v s to open with %v ranges, want %v", e.Open, e.Ranges, want)
	}
}

func TestCurvesAreDrawnAsTheyAreWritten(t *testing.T) {
	if testing.Short() || raceOn {
		t.Skip("it takes seconds, and one goroutine does it")
	}
	file := filepath.Join(t.TempDir(), "scale.json")
	if _, _, err := plan("--curves", file); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	curves, err := scale.ReadGrowth(f)
	if err != nil {
		t.Fatal(err)
	}
	drawn, err := os.ReadFile("../../../tests/plots/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for name, points := range curves {
		if !bytes.Contains(drawn, []byte(`{"`+name+`", `)) {
			t.Errorf("tests/plots draws no curve %q", name)
		}
		if len(points) < 5 {
			t.Errorf("%s has %d points", name, len(points))
		}
	}
}

// TestDocumentedPlanIsWhatIsPrinted compares the table in docs/scale.md with what the measured curves and the
// simulation say now. If it fails because either has changed for good, the table there is to be made anew, and the
// text around it read again.
func TestDocumentedPlanIsWhatIsPrinted(t *testing.T) {
	if testing.Short() || raceOn {
		t.Skip("it takes seconds, and one goroutine does it")
	}
	out, _, err := plan("--growth", "../../../docs/growth.json")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../../docs/scale.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```\n")
	shown, _, ok := strings.Cut(rest, "```\n")
	if !ok {
		t.Fatal("docs/scale.md has no table")
	}
	if err := similar(shown, out); err != nil {
		t.Errorf("docs/scale.md: %v\nis printed now:\n%s", err, out)
	}
	if similar(shown, strings.ReplaceAll(out, "131", "141")) == nil {
		t.Error("another number makes no difference")
	}
}

// similar says where two tables differ, in words or in numbers by more than 3 %: processors round differently.
func similar(want, got string) error {
	w, g := strings.Fields(want), strings.Fields(got)
	if len(w) != len(g) {
		return fmt.Errorf("%d words, and not %d", len(w), len(g))
	}
	for i := range w {
		x, errx := strconv.ParseFloat(w[i], 64)
		y, erry := strconv.ParseFloat(g[i], 64)
		if w[i] != g[i] && (errx != nil || erry != nil || math.Abs(x-y) > 0.03*math.Abs(y)) {
			return fmt.Errorf("%s, and now %s", w[i], g[i])
		}
	}
	return nil
}

func TestNonsenseIsRefused(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.json")
	if err := os.WriteFile(bad, []byte(`{"create":[{"x":1,"y":-1}]}`), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--files", "-3"}, {"--files", "many"}, {"--bytes", "10X"}, {"--servers", "none"}, {"--servers", "0"},
		{"--name", "245"}, {"--full", "0"}, {"--holes", "2"}, {"--files", "10", "--servers", "100"},
		{"--growth", bad}, {"--growth", dir}, {"--bytes", "1e22", "--servers", "1"}, {"what"},
	} {
		if out, _, err := plan(args...); err == nil {
			t.Errorf("%v is not refused: %s", args, out)
		}
	}
}
