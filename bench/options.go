package bench

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Options says what Run measures. The zero value with an Addr is a full run on a server without
// authentication.
type Options struct {
	Addr  string // of the server: whatever dial.Parse reads
	Uname string // user to attach as; "glenda" if empty
	Aname string // tree to attach to; the server's default if empty
	Msize uint32 // to ask for; DefaultMsize if 0. The server may give less
	Path  string // directory below the root that the run makes and works in; DefaultPath if empty

	// Workloads lists the workloads to run by their ids ("W1", in any case), in the order of IDs; all if
	// empty, or for a cold run all that only read. What a workload needs and finds neither made by an
	// earlier one nor on the server is made before its clock starts.
	Workloads []string

	Scale float64 // of every size that is left 0; 1 if 0
	Sizes Sizes   // sizes that are not to be scaled
	Conns int     // connections of every workload, if not 0, except those whose number is their point (W10 to W12)
	Depth int     // requests or operations outstanding on every connection, if not 0, except in W8 and W10 to W12
	Seed  uint64  // of the random order of W5, W6 and W7; 0 chooses one

	NoVerify  bool   // do not compare what is read with what was written; for servers that keep nothing
	Keep      bool   // leave the files for a later run
	Cold      bool   // the caller has emptied the caches: rows say so, nothing is made, all is kept
	Wire      bool   // also run every workload against a Null on this machine
	DeviceDir string // also do W1, W10, W11, and a cold W6, in a file of this directory, without 9P
	JSON      bool   // write the report as JSON instead of a table

	// Console is the server's, if it has one that we can talk to. With it rows say how much the server
	// wrote to its disk, and W10 can be run.
	Console Console

	// WireCommand starts the Null of Wire as a process of its own, which compares better with a
	// server that is one: a program and arguments, to which an address is added, that does what
	// ServeNull does, with its standard output, until SIGTERM. If empty, the Null runs in this process.
	WireCommand []string
}

// DefaultMsize is asked for where Options name no msize: 128 KiB of data and the head of a message.
const DefaultMsize = 128<<10 + 24

// DefaultPath is the directory of a run where Options name none.
const DefaultPath = "gefs9p-bench"

// Sizes are the amounts of work, for a Scale of 1 in parentheses. A 0 takes that amount times the
// scale, and at least enough for every connection to do something.
type Sizes struct {
	FileSize   int64 // bytes of the big file of W1, W2, W6, W7 (1 GiB)
	Files      int   // empty files in one directory of W3, W8, W9 (100,000)
	SmallFiles int   // files of 4 KiB of W4, W5 (50,000)
	Dirs       int   // directories that the small files are spread over (100)
	Stats      int   // walks of W5 (100,000)
	Reads      int   // random reads of W6 (131,072: 1 GiB)
	Writes     int   // random overwrites of W7 (65,536: 512 MiB)
	Syncs      int   // writes with fsync of W11 with one client, and of all clients together with many (2,000)
	Clients    int   // the many clients of W11 (64; not scaled)
	Snapshots  int   // that there are before W10 takes its own (10,000)
}

// ErrUsage is wrapped by errors of Run that say that its Options make no sense.
var ErrUsage = errors.New("bad benchmark options")

// ensureDefaults fills in what was left zero, except the seed.
func (o *Options) ensureDefaults() {
	setDefault(&o.Uname, "glenda")
	setDefault(&o.Msize, DefaultMsize)
	setDefault(&o.Path, DefaultPath)
	setDefault(&o.Scale, 1)
	s := &o.Sizes
	setDefault(&s.FileSize, int64(scaled(o.Scale, 1<<10, 1))<<20) // whole MiB
	setDefault(&s.Files, scaled(o.Scale, 100_000, 64))
	setDefault(&s.SmallFiles, scaled(o.Scale, 50_000, 64))
	setDefault(&s.Dirs, scaled(o.Scale, 100, 2))
	setDefault(&s.Stats, scaled(o.Scale, 100_000, 64))
	setDefault(&s.Reads, scaled(o.Scale, 131_072, 64))
	setDefault(&s.Writes, scaled(o.Scale, 65_536, 64))
	setDefault(&s.Syncs, scaled(o.Scale, 2_000, 64))
	setDefault(&s.Clients, 64)
	setDefault(&s.Snapshots, scaled(o.Scale, 10_000, 64))
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func scaled(scale float64, full, least int) int {
	return max(least, int(min(scale*float64(full), math.MaxInt32)))
}

// validate reports options that cannot work. It wants the defaults filled in.
func (o *Options) validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", ErrUsage, fmt.Errorf(format, args...))
	}
	if o.Addr == "" {
		return bad("no address of a server")
	}
	if !(o.Scale > 0) || math.IsInf(o.Scale, 0) {
		return bad("scale %v is not above 0", o.Scale)
	}
	if o.Msize < minMsize {
		return bad("msize %d is below %d", o.Msize, minMsize)
	}
	if o.Path == "." || o.Path == ".." || strings.Contains(o.Path, "/") {
		return bad("path %q is not the name of a file in the root", o.Path)
	}
	s := &o.Sizes
	for _, n := range []struct {
		what    string
		n, most int64
	}{
		{"file size", s.FileSize, math.MaxInt64 / 2},
		{"files", int64(s.Files), maxNumber},
		{"small files", int64(s.SmallFiles), maxNumber},
		{"directories", int64(s.Dirs), maxNumber},
		{"stats", int64(s.Stats), math.MaxInt64},
		{"reads", int64(s.Reads), math.MaxInt64},
		{"writes", int64(s.Writes), math.MaxInt64},
		{"syncs", int64(s.Syncs), math.MaxInt64},
		{"clients", int64(s.Clients), maxConns},
		{"snapshots", int64(s.Snapshots), maxNumber},
	} {
		if n.n < 1 || n.n > n.most {
			return bad("%s: %d is not between 1 and %d", n.what, n.n, n.most)
		}
	}
	if s.FileSize < blockSize {
		return bad("file size %d is less than one block of %d", s.FileSize, blockSize)
	}
	if o.Conns < 0 || o.Conns > maxConns || o.Depth < 0 || o.Depth > maxDepth {
		return bad("%d connections of %d requests; at most %d and %d", o.Conns, o.Depth, maxConns, maxDepth)
	}
	if o.Cold && o.Wire {
		return bad("a cold run has no wire to compare with: a Null has no caches")
	}
	for _, id := range o.Workloads {
		id = strings.ToUpper(id)
		if !slices.Contains(IDs(), id) {
			return bad("unknown workload %q (known: %s)", id, strings.Join(IDs(), " "))
		}
		if o.Cold && slices.Contains([]string{"W1", "W3", "W4", "W10", "W11", "W12"}, id) {
			return bad("%s makes the files it works on, and cannot be cold", id)
		}
		if id == "W10" && o.Console == nil {
			return bad("W10 takes snapshots, for which it needs the server's console")
		}
	}
	return nil
}

// chosen returns the ids of the workloads to run, in their order.
func (o *Options) chosen() []string {
	if o.Cold && len(o.Workloads) == 0 {
		return []string{"W2", "W5", "W6", "W8"}
	}
	var ids []string
	for _, id := range IDs() {
		same := func(s string) bool { return strings.EqualFold(s, id) }
		if len(o.Workloads) == 0 && (id != "W10" || o.Console != nil) || slices.ContainsFunc(o.Workloads, same) {
			ids = append(ids, id)
		}
	}
	return ids
}

const (
	minMsize  = 4 << 10   // enough for a stat with the longest names
	maxNumber = 9_999_999 // of a file; names have seven digits
	maxConns  = 1024
	maxDepth  = 1024
)
