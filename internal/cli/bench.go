package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"gefs9p/bench"
	"gefs9p/blkfmt"
	"gefs9p/cons"
)

func newBench() *cobra.Command {
	var o bench.Options
	var null bool
	var fileSize sizeFlag
	var wireProgram, ctl string
	cmd := &cobra.Command{
		Use:   "bench [ADDR]",
		Short: "load a 9P2000 server and say how fast it answers",
		Long: `Bench runs workloads on any 9P2000 server that needs no authentication, in a directory
that it makes and removes again, and prints a row for each: rate, latencies, errors. Everything
that is read is compared with what was written.

With --null it is itself a server instead, on ADDR: one that answers at once and does nothing.

The workloads are ` + strings.Join(bench.IDs(), " ") + `; the table says what each does.`,
		Example: `  gefs9p bench ./disk.img.sock
  gefs9p bench --scale 0.1 -w W1,W6 --wire 'tcp!127.0.0.1!564'
  gefs9p bench --null /tmp/null.sock`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return errors.New("no address of a server")
			case 1:
				return nil
			}
			return fmt.Errorf("one address is wanted, not %d", len(args))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if null {
				return bench.ServeNull(cmd.Context(), args[0], cmd.OutOrStdout())
			}
			o.Addr, o.Sizes.FileSize = args[0], int64(fileSize)
			if wireProgram != "" {
				o.Wire, o.WireCommand = true, []string{wireProgram, "bench", "--null"}
			}
			if ctl != "" {
				console, err := dialConsole(cmd.Context(), ctl)
				if err != nil {
					return err
				}
				defer console.Close()
				o.Console = &benchConsole{console, cmp.Or(o.Aname, "main")}
			}
			rep, err := bench.Run(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
			if errors.Is(err, bench.ErrUsage) {
				return &usageError{err}
			}
			if n := rep.Errors(); err == nil && n > 0 {
				return fmt.Errorf("%d operations failed or gave wrong data", n)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringSliceVarP(&o.Workloads, "workload", "w", nil, "run only these, as `W1,W2`")
	f.Float64Var(&o.Scale, "scale", 1, "make all sizes `FACTOR` times as large")
	f.IntVarP(&o.Conns, "conns", "c", 0, "`NUMBER` of connections (default: what the workload is about)")
	f.IntVarP(&o.Depth, "depth", "d", 0, "`NUMBER` of requests under way on each connection (default: what the workload is about)")
	f.StringVarP(&o.Uname, "user", "u", "glenda", "attach as this user")
	f.StringVar(&o.Aname, "aname", "", "attach to this tree")
	f.Uint32Var(&o.Msize, "msize", bench.DefaultMsize, "ask for frames of this many `BYTES`")
	f.StringVar(&o.Path, "path", bench.DefaultPath, "work in this directory below the root")
	f.Uint64Var(&o.Seed, "seed", 0, "of the random order (default: another each time)")
	f.BoolVar(&o.Keep, "keep", false, "leave the files for a later run")
	f.BoolVar(&o.Cold, "cold", false, "the server's caches are empty: say so, and make nothing that is not there")
	f.BoolVar(&o.NoVerify, "no-verify", false, "do not compare what is read")
	f.BoolVar(&o.Wire, "wire", false, "run everything on a null server too, for the ceiling of the sockets")
	f.StringVar(&wireProgram, "wire-program", "", "with --wire: the null server is `PROGRAM`, a gefs9p, as a process of its own, which compares better")
	f.StringVar(&o.DeviceDir, "device", "", "do the same in a file in `DIR` too, for the ceiling of the device")
	f.StringVar(&ctl, "ctl", "", "ask the server's console, this `SOCKET`, how much was written to the disk; W10 needs it")
	f.BoolVar(&o.JSON, "json", false, "write a report as JSON instead of a table")
	f.Var(&fileSize, "file-size", "of the big file (suffixes K M G T)")
	f.IntVar(&o.Sizes.Files, "files", 0, "empty files in one directory")
	f.IntVar(&o.Sizes.SmallFiles, "small-files", 0, "files of 4 KiB")
	f.IntVar(&o.Sizes.Dirs, "dirs", 0, "directories of small files")
	f.IntVar(&o.Sizes.Stats, "stats", 0, "walks with a stat")
	f.IntVar(&o.Sizes.Reads, "reads", 0, "random reads")
	f.IntVar(&o.Sizes.Writes, "writes", 0, "random overwrites")
	f.IntVar(&o.Sizes.Syncs, "syncs", 0, "writes with fsync")
	f.IntVar(&o.Sizes.Clients, "clients", 0, "of the workload about many clients")
	f.IntVar(&o.Sizes.Snapshots, "snapshots", 0, "that there are before W10 takes its own")
	f.BoolVar(&null, "null", false, "be a server that does nothing, on ADDR")
	return cmd
}

// A benchConsole is the console of a gefs9p as benchmarks use it.
type benchConsole struct {
	*cons.Client
	tree string // the label whose snapshots are taken
}

func (b *benchConsole) Written(ctx context.Context) (int64, error) {
	var out bytes.Buffer
	if err := b.Run(ctx, []string{"--json", "show", "bstate"}, &out); err != nil {
		return 0, err
	}
	var state struct{ Written int64 }
	if err := json.Unmarshal(out.Bytes(), &state); err != nil {
		return 0, fmt.Errorf("show bstate: %w", err)
	}
	return state.Written * blkfmt.BlkSize, nil
}

func (b *benchConsole) Snapshot(ctx context.Context, name string) error {
	return b.Run(ctx, []string{"snap", b.tree, name}, new(bytes.Buffer))
}

func (b *benchConsole) Forget(ctx context.Context, names []string) error {
	return b.Run(ctx, append([]string{"snap", "-d"}, names...), new(bytes.Buffer))
}
