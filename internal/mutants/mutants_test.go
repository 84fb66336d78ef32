package mutants

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	howMany  = flag.String("mutants", "0", `how many mutants to run, chosen at random; "all" runs all`)
	seedFlag = flag.Uint64("seed", 0, "seed of the choice; 0 takes one from the clock")
	patience = flag.Duration("mutants.timeout", 5*time.Minute, "how long the test of a mutant may take")
)

// A mutant is a defect, and the test that notices it.
type mutant struct {
	name    string
	pitfall string // numbers in docs/pitfalls.md; empty for a defect that is our own idea
	file    string // from the module's root
	old     string // lines that stand there once
	new     string
	pkg     string // where the test is; empty: the file's directory
	test    string
	short   bool // the test notices with -short as well, and takes long without
}

// root is the module's.
const root = "../.."

func (m *mutant) dir() string {
	if m.pkg != "" {
		return m.pkg
	}
	return filepath.Dir(m.file)
}

// mutated returns the file with the defect in it.
func (m *mutant) mutated(t *testing.T) []byte {
	t.Helper()
	src, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(src, []byte(m.old)); n != 1 {
		t.Fatalf("what is to be replaced stands %d times in %s, must be once:\n%s", n, m.file, m.old)
	}
	return bytes.Replace(src, []byte(m.old), []byte(m.new), 1)
}

func TestMutantsStillApply(t *testing.T) {
	names := map[string]bool{}
	listed := pitfallsListed(t)
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			if names[m.name] {
				t.Error("there is another of that name")
			}
			names[m.name] = true
			m.mutated(t)
			if !hasTest(t, m.dir(), m.test) {
				t.Errorf("no %s in %s", m.test, m.dir())
			}
			for _, n := range strings.Fields(m.pitfall) {
				if !strings.Contains(listed[n], m.test) {
					t.Errorf("docs/pitfalls.md does not name %s for pitfall %s", m.test, n)
				}
			}
		})
	}
}

// TestEveryPitfallHasItsTest holds docs/pitfalls.md to the code: there is a line for each of the 140, and the
// tests that it names are there.
func TestEveryPitfallHasItsTest(t *testing.T) {
	listed := pitfallsListed(t)
	name := regexp.MustCompile("`([a-z0-9/]+)\\.(Test\\w+)`")
	for i := 1; i <= 140; i++ {
		line, ok := listed[strconv.Itoa(i)]
		if !ok {
			t.Errorf("pitfall %d has no line", i)
			continue
		}
		tests := name.FindAllStringSubmatch(line, -1)
		if len(tests) == 0 && !strings.Contains(line, "cannot be here") {
			t.Errorf("pitfall %d has no test: %s", i, line)
		}
		for _, m := range tests {
			if !hasTest(t, m[1], m[2]) {
				t.Errorf("pitfall %d: there is no %s in %s", i, m[2], m[1])
			}
		}
	}
}

// pitfallsListed returns the lines of the table in docs/pitfalls.md by number.
func pitfallsListed(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs/pitfalls.md"))
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|.*$`).FindAllStringSubmatch(string(text), -1) {
		if lines[m[1]] != "" {
			t.Errorf("two lines for pitfall %s", m[1])
		}
		lines[m[1]] = m[0]
	}
	return lines
}

// hasTest says whether there is a test of that name in the directory.
func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(src, []byte("\nfunc "+name+"(t *testing.T)")) {
			return true
		}
	}
	return false
}

// TestMutantsAreCaught runs the test of each mutant chosen, with the defect and without.
func TestMutantsAreCaught(t *testing.T) {
	chosen := mutants
	if *howMany != "all" {
		n, err := strconv.Atoi(*howMany)
		if err != nil {
			t.Fatalf("-mutants %s: a number or all", *howMany)
		}
		if n == 0 {
			t.Skip("-mutants says how many to run")
		}
		seed := *seedFlag
		if seed == 0 {
			seed = uint64(time.Now().UnixNano())
		}
		t.Logf("-seed %d", seed)
		chosen = nil
		for _, i := range rand.New(rand.NewPCG(seed, 1)).Perm(len(mutants))[:min(n, len(mutants))] {
			chosen = append(chosen, mutants[i])
		}
	}
	for _, m := range chosen {
		t.Run(m.name, m.run)
	}
}

func (m *mutant) run(t *testing.T) {
	began := time.Now()
	if out, err := m.goTest(t); err != nil {
		t.Fatalf("%s fails without the mutant: %v\n%s", m.test, err, tail(out))
	}
	dir := t.TempDir()
	file := filepath.Join(dir, filepath.Base(m.file))
	if err := os.WriteFile(file, m.mutated(t), 0o666); err != nil {
		t.Fatal(err)
	}
	whole, err := filepath.Abs(filepath.Join(root, m.file))
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {whole: file}})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o666); err != nil {
		t.Fatal(err)
	}
	// The same as just now: a mutant that is slow, or waits for ever, is one that is noticed.
	out, err := m.goTest(t, "-overlay", list)
	var exit *exec.ExitError
	switch {
	case err == nil:
		t.Fatalf("%s does not notice it (%s)", m.test, m.file)
	case !errors.As(err, &exit) || strings.Contains(out, "[build failed]") || strings.Contains(out, "[setup failed]"):
		t.Fatalf("it does not build: %v\n%s", err, tail(out))
	case !strings.Contains(out, "--- FAIL: "+m.test) && !strings.Contains(out, "panic:") && !strings.Contains(out, "fatal error:"):
		t.Fatalf("something fails, but not %s:\n%s", m.test, tail(out))
	}
	t.Logf("%s notices it; %.1f s", m.test, time.Since(began).Seconds())
}

// goTest runs the mutant's test and returns what it printed.
func (m *mutant) goTest(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), *patience+time.Minute)
	defer cancel()
	args = append([]string{"test", "-vet=off", "-timeout", patience.String(), "-run", "^" + m.test + "$"}, args...)
	if m.short {
		args = append(args, "-short")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+m.dir())...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// tail returns the end of a text that may be long.
func tail(s string) string { return s[max(0, len(s)-3000):] }
