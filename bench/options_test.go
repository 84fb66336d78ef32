package bench

import (
	"bytes"
	"errors"
	"testing"
)

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Options){
		"no address":       func(o *Options) { o.Addr = "" },
		"scale":            func(o *Options) { o.Scale = -1 },
		"msize":            func(o *Options) { o.Msize = 100 },
		"path with slash":  func(o *Options) { o.Path = "a/b" },
		"path up":          func(o *Options) { o.Path = ".." },
		"workload":         func(o *Options) { o.Workloads = []string{"W13"} },
		"no console":       func(o *Options) { o.Workloads, o.Console = []string{"W10"}, nil },
		"tiny file":        func(o *Options) { o.Sizes.FileSize = 100 },
		"negative":         func(o *Options) { o.Sizes.Files = -1 },
		"too many files":   func(o *Options) { o.Sizes.Files = 10_000_000 },
		"connections":      func(o *Options) { o.Conns = -1 },
		"depth":            func(o *Options) { o.Depth = maxDepth + 1 },
		"cold and wire":    func(o *Options) { o.Cold, o.Wire = true, true },
		"cold create":      func(o *Options) { o.Cold, o.Workloads = true, []string{"w3"} },
		"too many clients": func(o *Options) { o.Sizes.Clients = maxConns + 1 },
	} {
		o := tiny("127.0.0.1:1")
		spoil(&o)
		if _, err := Run(t.Context(), o, new(bytes.Buffer), nil); !errors.Is(err, ErrUsage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	o := tiny("no address at all")
	if _, err := Run(t.Context(), o, new(bytes.Buffer), nil); err == nil || errors.Is(err, ErrUsage) {
		t.Errorf("bad address: %v", err)
	}
}

func TestDefaultsAreTheSizesOfTheDocs(t *testing.T) {
	var o Options
	o.ensureDefaults()
	want := Sizes{FileSize: 1 << 30, Files: 100_000, SmallFiles: 50_000, Dirs: 100, Stats: 100_000, Reads: 131_072, Writes: 65_536, Syncs: 2_000, Clients: 64, Snapshots: 10_000}
	if o.Sizes != want {
		t.Errorf("sizes %+v", o.Sizes)
	}
	o = Options{Scale: 0.01, Sizes: Sizes{Files: 5}}
	o.ensureDefaults()
	if o.Sizes.FileSize != 10<<20 || o.Sizes.Files != 5 || o.Sizes.SmallFiles != 500 || o.Sizes.Clients != 64 {
		t.Errorf("sizes %+v", o.Sizes)
	}
	o = Options{Addr: "x:1", Scale: 1e-9}
	o.ensureDefaults()
	if err := o.validate(); err != nil {
		t.Errorf("smallest scale: %v", err)
	}
}
