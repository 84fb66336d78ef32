// Package gefs9p has no code: the root of the module holds what is true of all packages together.
package gefs9p

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// floors says who may import whom: a package imports of ours only what is on a floor below its own. A change
// here is a change of the design, and not how to make a build work.
var floors = [...][]string{
	0: {"blkfmt", "blkdev", "epoch", "ninep", "users", "auth", "dial", "internal/systemd"},
	1: {"logfmt", "kvfmt", "client", "nbd", "internal/trace"},
	2: {"arena", "check", "salvage", "bench", "mount", "stream", "internal/scale"},
	3: {"blkstore", "internal/scale/plan"},
	4: {"betree"},
	5: {"snap"},
	6: {"gefs"},
	7: {"cons", "watch"},
	8: {"internal/cli"},
	9: {"cmd/gefs9p"},
}

// helpers are for tests. Nothing that is built into a program imports them.
var helpers = []string{"blkdev/blkdevtest", "nbd/nbdtest", "ninep/ninetest", "internal/golden", "internal/gefstest", "internal/faults", "internal/damage", "internal/mutants", "internal/rules"}

// confined lists who may import packages of others, by the beginning of their paths. The longest
// beginning that fits counts; what is not listed must not be imported at all, except the standard library.
var confined = map[string][]string{
	"github.com/knusbaum/go9p/proto": {"ninep", "client", "bench"}, // the rest of go9p is not for network bytes
	"github.com/dchest/siphash":      {"blkfmt"},
	"github.com/emirpasic/gods/":     {"arena"},
	"github.com/spf13/cobra":         {"internal/cli"},
	"github.com/spf13/pflag":         {"internal/cli"}, // cobra's flags
	"golang.org/x/sys/":              {"blkdev", "bench", "internal/cli"},
	"golang.org/x/term":              {"bench", "internal/cli"},
	"golang.org/x/crypto/":           {"auth"},
	"github.com/cloudflare/circl/":   {"auth"},
	"github.com/hanwen/go-fuse/v2/":  {"mount"},
}

const module = "gefs9p/"

// pkg is what go list says of a package.
type pkg struct {
	ImportPath string
	GoFiles    []string
	Imports    []string
}

// list returns the packages that match, as built for the system goos.
func list(t *testing.T, goos string, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-e", "-json=ImportPath,GoFiles,Imports"}, args...)...)
	cmd.Env = append(cmd.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Logf("%s", exit.Stderr)
		}
		t.Fatal(err)
	}
	var pkgs []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// floor returns a package's floor, -1 if it has none.
func floor(path string) int {
	return slices.IndexFunc(floors[:], func(f []string) bool { return slices.Contains(f, path) })
}

func TestImportsPointDown(t *testing.T) {
	for _, goos := range []string{"linux", "windows"} { // files for one system only count too
		for _, p := range list(t, goos, "./...") {
			path := strings.TrimPrefix(p.ImportPath, module)
			if len(p.GoFiles) == 0 || slices.Contains(helpers, path) {
				continue
			}
			mine := floor(path)
			if mine < 0 {
				t.Errorf("%s is on no floor: it belongs into the table", path)
				continue
			}
			for _, imp := range p.Imports {
				ours, ok := strings.CutPrefix(imp, module)
				switch {
				case !ok:
				case slices.Contains(helpers, ours):
					t.Errorf("%s imports %s, which is for tests", path, ours)
				case floor(ours) >= mine:
					t.Errorf("%s (floor %d) imports %s (floor %d)", path, mine, ours, floor(ours))
				}
			}
		}
	}
}

func TestImportsOfOthersAreConfined(t *testing.T) {
	for _, goos := range []string{"linux", "windows"} {
		for _, p := range list(t, goos, "./...") {
			path := strings.TrimPrefix(p.ImportPath, module)
			if slices.Contains(helpers, path) {
				continue
			}
			for _, imp := range p.Imports {
				first, _, _ := strings.Cut(imp, "/")
				if !strings.Contains(first, ".") || strings.HasPrefix(imp, module) {
					continue // the standard library's, ours
				}
				best := ""
				for prefix := range confined {
					if strings.HasPrefix(imp, prefix) && len(prefix) > len(best) {
						best = prefix
					}
				}
				if !slices.Contains(confined[best], path) {
					t.Errorf("%s imports %s", path, imp)
				}
			}
		}
	}
}

// TestProgramKeepsTestHelpersOut looks at all that is linked into the program.
func TestProgramKeepsTestHelpersOut(t *testing.T) {
	for _, p := range list(t, "linux", "-deps", "./cmd/gefs9p") {
		if slices.Contains(helpers, strings.TrimPrefix(p.ImportPath, module)) || p.ImportPath == "testing" {
			t.Errorf("%s is part of the program", p.ImportPath)
		}
	}
}
