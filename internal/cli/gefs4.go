package cli

import (
	"errors"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
)

// gefs4 is the command behind the flags of gefs(4).
const gefs4 = "gefs4"

// plan9Args puts that command before arguments that begin with a flag, except those that ask for
// help and the version.
func plan9Args(args []string) []string {
	if len(args) == 0 || len(args[0]) < 2 || args[0][0] != '-' {
		return args
	}
	switch a := args[0]; {
	case a == "-h", a == "-v", strings.HasPrefix(a, "--"):
		return args
	}
	return append([]string{gefs4}, args...)
}

func newGefs4() *cobra.Command {
	s := server{mem: memFlag{percent: 25}, trace: 16, peers: peersSelf}
	var (
		disk, ream, name   string
		grow, check, debug bool
	)
	cmd := &cobra.Command{
		Use:   gefs4 + " [-r USER | -c | -g | [-ARSds] [-m MEM] [-t MIB] [-n NAME] [-a ADDR]...] -f DISK",
		Short: "the flags of gefs(4), which also work without a command",
		Long: `The flags of Plan 9's gefs(4), for its scripts and for hands that know them. The name of
the command can be left out: gefs9p -f DISK.

As there, -r erases what is on the disk without asking. The service name of -n is a Unix socket
in plan9port's name space ($NAMESPACE, or /tmp/ns.$USER.$DISPLAY), and NAME.cmd is that of the console;
without -n and -a the disk is served on the Unix socket DISK.sock, with the console on DISK.ctl.`,
		Example: `  gefs9p -r glenda -f disk.img
  gefs9p -A -a 'tcp!*!564' -f disk.img
  gefs9p -c -f disk.img`,
		DisableFlagsInUseLine: true,
		Args:                  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if disk == "" {
				return usagef("no disk named: give it with -f")
			}
			if debug {
				s.level = slog.LevelDebug
			}
			switch {
			case ream != "" && (check || grow) || check && grow:
				return usagef("only one of -r, -c and -g can be done")
			case ream != "":
				r := reamer{disk: disk, user: ream, force: true, out: cmd.ErrOrStderr()}
				return r.run(ctx)
			case check:
				c := checker{disk: disk, out: cmd.OutOrStdout(), errw: cmd.ErrOrStderr()}
				err := c.run(ctx)
				var exit *exitError
				if errors.As(err, &exit) && exit.code == exitCheckErrors && exit.err == nil {
					return &exitError{exitCheckErrors, errors.New("broken fs")}
				}
				return err
			case grow:
				g := grower{disk: disk, out: cmd.ErrOrStderr()}
				return g.run(ctx)
			}
			if name != "" {
				addr, err := serviceAddr(name)
				if err != nil {
					return err
				}
				s.addrs = append(s.addrs, addr)
				s.ctl = strings.TrimPrefix(addr, "unix!") + ".cmd"
			}
			s.disk = disk
			s.in, s.out, s.errw = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			return s.run(ctx)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&disk, "file", "f", "", "the `DISK`")
	f.StringVarP(&ream, "ream", "r", "", "erase the disk, make it empty with this `USER` in adm, and exit")
	f.BoolVarP(&check, "check", "c", false, "check the disk and exit")
	f.BoolVarP(&grow, "grow", "g", false, "grow to the size of the disk and exit")
	f.StringArrayVarP(&s.addrs, "addr", "a", nil, "listen on `ADDR`; may be given many times")
	f.BoolVarP(&s.noAuth, "no-auth", "A", false, "no authentication: whoever connects may attach as anybody")
	f.BoolVarP(&s.permissive, "permissive", "S", false, "everybody may attach with % before the name")
	f.BoolVarP(&s.readOnly, "read-only", "R", false, "write nothing to the disk")
	f.BoolVarP(&s.stdio, "stdio", "s", false, "also serve standard input and output")
	f.VarP(&s.mem, "memory", "m", "memory for cached blocks: a number with M, G or %; M alone can be left out")
	f.StringVarP(&name, "name", "n", "", "service `NAME`")
	f.VarP(&s.trace, "trace", "t", "memory in MiB for what happened to blocks last; 0 for none")
	f.BoolVarP(&debug, "debug", "d", false, "log more")
	return cmd
}
