// Plan says what files and bytes come to on so many servers: blocks, levels of the tree, blocks written for
// a change, commits, days to fill and to scrub, and how much of the format is used up.
//
//	go run ./internal/scale/plan                          10^12 files, 10 PiB, on 1 to 1000 servers
//	go run ./internal/scale/plan --files 1e9 --bytes 50T --servers 1,4 --json
//	go run ./internal/scale/plan --curves scale.json      the curves of docs/scale.svg
//
// Rates come from the measured curves in docs/growth.json (--growth); without them days to fill and seconds to
// open are left out.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"gefs9p/internal/scale"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "plan:", err)
		}
		os.Exit(1)
	}
}

// number is a flag for numbers with a suffix: 1e12, 10P.
type number float64

func (n *number) String() string { return strconv.FormatFloat(float64(*n), 'g', -1, 64) }

func (n *number) Set(s string) error {
	scale := 1.0
	if i := strings.IndexAny(s, "KMGTP"); i >= 0 && i == len(s)-1 {
		scale = math.Ldexp(1, 10*(strings.IndexByte("KMGTP", s[i])+1))
		s = s[:i]
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f > 0) || math.IsInf(f, 0) {
		return errors.New("a number above 0 is wanted, like 1e12 or 10P")
	}
	*n = number(f * scale)
	return nil
}

func run(args []string, out, errw io.Writer) error {
	p := scale.Plan{Name: 16, Full: 0.8, Every: 5, Rate: 20_000, Holes: 0.01, Seed: 1}
	files, size, memory := number(1e12), number(10<<50), number(64<<30)
	f := flag.NewFlagSet("plan", flag.ContinueOnError)
	f.SetOutput(errw)
	f.Var(&files, "files", "files, on all servers together")
	f.Var(&size, "bytes", "in all files together (suffixes K M G T P)")
	f.Var(&memory, "memory", "bytes of cache of each server")
	servers := f.String("servers", "1,10,100,1000", "columns: numbers of servers")
	f.IntVar(&p.Name, "name", p.Name, "bytes of a file's name")
	f.Float64Var(&p.Full, "full", p.Full, "share of a disk that is in use in the end")
	f.Float64Var(&p.Every, "every", p.Every, "seconds between commits")
	f.Float64Var(&p.Rate, "rate", p.Rate, "operations a second of each server")
	f.Float64Var(&p.Holes, "holes", p.Holes, "free ranges for each block in use")
	f.Uint64Var(&p.Seed, "seed", p.Seed, "of the simulation")
	growth := f.String("growth", "docs/growth.json", "measured curves")
	asJSON := f.Bool("json", false, "print JSON")
	curves := f.String("curves", "", "write the curves of the picture to `FILE` instead")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("%q is no flag", f.Arg(0))
	}
	p.Files, p.Bytes, p.Memory = float64(files), float64(size), float64(memory)
	if *curves != "" {
		return writeCurves(p, *curves)
	}
	g, err := readGrowth(*growth, errw)
	if err != nil {
		return err
	}
	var list []*scale.Estimate
	for _, s := range strings.Split(*servers, ",") {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return fmt.Errorf("--servers %s: %q is no number", *servers, s)
		}
		p.Servers = n
		e, err := p.Estimate(g)
		if err != nil {
			return err
		}
		list = append(list, e)
	}
	if *asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "\t")
		return enc.Encode(list)
	}
	return table(out, list)
}

// readGrowth reads the measured curves; none if there is no such file.
func readGrowth(name string, errw io.Writer) (scale.Growth, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(errw, "plan: there is no %s: nothing is said of time. scripts/growth measures it.\n", name)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return scale.ReadGrowth(f)
}

// table prints a column for each estimate.
func table(out io.Writer, list []*scale.Estimate) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, value func(e *scale.Estimate) string) {
		fmt.Fprint(w, name, "\t")
		for _, e := range list {
			fmt.Fprint(w, value(e), "\t")
		}
		fmt.Fprintln(w)
	}
	num := func(name string, f func(e *scale.Estimate) float64) {
		row(name, func(e *scale.Estimate) string { return short(f(e)) })
	}
	size := func(name string, f func(e *scale.Estimate) float64) {
		row(name, func(e *scale.Estimate) string { return binary(f(e)) })
	}
	unknown := func(name string, f func(e *scale.Estimate) float64) {
		row(name, func(e *scale.Estimate) string {
			if v := f(e); v > 0 {
				return short(v)
			}
			return "-"
		})
	}
	num("servers", func(e *scale.Estimate) float64 { return e.Plan.Servers })
	num("files of each", func(e *scale.Estimate) float64 { return e.Files })
	num("data blocks", func(e *scale.Estimate) float64 { return e.Blocks })
	size("disk of each", func(e *scale.Estimate) float64 { return e.Device })
	num("arenas", func(e *scale.Estimate) float64 { return float64(e.Arenas) })
	num("levels of the tree", func(e *scale.Estimate) float64 { return float64(e.Tree.Height()) })
	num("levels, made at random", func(e *scale.Estimate) float64 { return float64(e.Shuffled.Height()) })
	size("all nodes", func(e *scale.Estimate) float64 { return e.Census })
	size("all pivots", func(e *scale.Estimate) float64 { return e.Upper })
	num("blocks read for a lookup", func(e *scale.Estimate) float64 { return e.Cold })
	num("written: file copied in order", func(e *scale.Estimate) float64 { return e.InOrder })
	num("written: file created at random", func(e *scale.Estimate) float64 { return e.AtRandom })
	num("written: block overwritten at random", func(e *scale.Estimate) float64 { return e.Rewrite })
	num("commit: blocks, least", func(e *scale.Estimate) float64 { return scale.Idle(e.Arenas).Blocks() })
	num("commit: blocks, copying", func(e *scale.Estimate) float64 { return e.Commit.Blocks() })
	unknown("days to create all files", func(e *scale.Estimate) float64 { return e.Fill })
	num("free ranges", func(e *scale.Estimate) float64 { return e.Ranges })
	unknown("seconds to open", func(e *scale.Estimate) float64 { return e.Open })
	size("memory for free ranges", func(e *scale.Estimate) float64 { return e.Memory.Ranges })
	size("memory of a check", func(e *scale.Estimate) float64 { return e.Memory.Check })
	size("memory of salvage", func(e *scale.Estimate) float64 { return e.Memory.Salvage })
	num("days to scrub at 20 MiB/s", func(e *scale.Estimate) float64 { return e.Scrub })
	num("share of the addresses", func(e *scale.Estimate) float64 { return e.Addr })
	num("share of the qid paths", func(e *scale.Estimate) float64 { return e.Qids })
	num("years of commits", func(e *scale.Estimate) float64 { return e.Gens })
	return w.Flush()
}

// short writes a number with three digits.
func short(v float64) string {
	if v != 0 && (v < 0.01 || v >= 1e6) {
		return strconv.FormatFloat(v, 'e', 1, 64)
	}
	return strconv.FormatFloat(v, 'g', max(3, len(strconv.Itoa(int(v)))), 64)
}

// binary writes bytes.
func binary(v float64) string {
	unit := 0
	for ; v >= 1024 && unit < 6; unit++ {
		v /= 1024
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}[unit]
}

// writeCurves writes what docs/scale.svg shows, in the form of docs/growth.json.
func writeCurves(p scale.Plan, name string) error {
	curves := make(scale.Growth)
	add := func(curve string, x, y float64) { curves[curve] = append(curves[curve], scale.Point{X: x, Y: y}) }
	perCommit := p.Rate * p.Every
	for files := 1e4; files <= 1e12; files *= 10 {
		n := min(perCommit, files/10)
		t := scale.Predict(scale.Copies(p.Name), files, n, p.Seed)
		add("levels", files, float64(t.Height()))
		add("pivots", files, t.Pivots()*16/(1<<20))
		add("inOrder", files, t.Written()/n)
		r := scale.Predict(scale.CreatesAtRandom(p.Name), files, n, p.Seed)
		add("atRandom", files, r.Written()/n)
		o := scale.Predict(scale.Overwrites(p.Name), files, n, p.Seed)
		add("overwrite", files, o.Written()/n)
	}
	for _, arenas := range []int{8, 16, 32, 64, 128, 255} {
		add("commit", float64(arenas), scale.Idle(arenas).Blocks()*16/1024)
	}
	text, err := json.MarshalIndent(curves, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(text, '\n'), 0o666)
}
