// Package cli is the command line of gefs9p: flags, wiring, signals, exit codes. One file a
// subcommand; each turns its flags into the options of the package that does the work.
//
// Sizes are bytes. What a command has to say goes to standard output; what it is doing, and
// why it will not, to standard error. A failure is one line: what, where, what to do.
//
// The hard rule: a command that refuses has written nothing. All that can be refused by looking (flags,
// sizes, keys, what the disk holds, who has it open, whether an address can be had) is refused
// before the first byte is written, and what a failing command has created it removes.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes. Those of check and salvage are fsck(8)'s; everything else uses the first three.
const (
	exitOK    = 0
	exitFail  = 1
	exitUsage = 2

	exitCheckRepaired = 1  // there were errors or leaks, and they are repaired
	exitCheckErrors   = 4  // errors are left on the disk
	exitCheckFail     = 8  // the check could not be done
	exitCheckUsage    = 16 // wrong use of the command
)

// An exitError carries an exit code. Its err may be nil: then all has been said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// A usageError says that the command was asked for something that makes no sense.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// Main runs the command that args name and returns the process's exit code. When ctx ends, a server
// shuts down as it does for SIGTERM, and everything else gives up.
//
// Where in, out and errw are files (standard input, output and error) some commands ask whether they
// are terminals.
func Main(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	root := newRoot()
	root.SetArgs(plan9Args(args))
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	running := false
	root.PersistentPreRun = func(*cobra.Command, []string) { running = true }
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var exit *exitError
	var usage *usageError
	code := exitFail
	switch {
	case !running || errors.As(err, &usage):
		code = exitUsage
		if cmd.Name() == "check" || cmd.Name() == "salvage" {
			code = exitCheckUsage
		}
		err = fmt.Errorf("%w (see '%s --help')", err, cmd.CommandPath())
	case errors.As(err, &exit):
		code = exit.code
		err = exit.err
	}
	if err != nil {
		fmt.Fprintf(errw, "gefs9p: %s\n", oneLine(err.Error()))
	}
	return code
}

// oneLine makes sure that a failure is one line.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "gefs9p",
		Short: "A 9P2000 file server for disks of Plan 9's gefs",
		Long: `Gefs9p serves disks of Plan 9's gefs over 9P2000: copy-on-write trees, snapshots,
checksums, crash safety. It makes such disks and checks them.

The flags of gefs(4) work as well, without a command: gefs9p -f DISK; see
'gefs9p help gefs4'.`,
		Example: `  gefs9p serve --create 4G disk.img          make a disk and serve it on disk.img.sock
  gefs9p ream -u glenda --size 4G disk.img   only make it
  gefs9p serve -A -a 'tcp!*!564' disk.img    serve it on the network to everybody
  gefs9p mount ./disk.img.sock /mnt          mount what is served, with FUSE
  gefs9p grow disk.img 100G                  make it larger
  gefs9p send disk.img monday | gefs9p recv copy.img   copy a snapshot to another disk
  gefs9p check disk.img                      is it sound?
  gefs9p salvage disk.img saved              it is not, and cannot be served: copy what is left`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("gefs9p {{.Version}}\n")
	root.CompletionOptions.DisableDefaultCmd = true // for ours
	root.AddCommand(newReam(), newServe(), newGrow(), newTrim(), newShrink(), newCheck(), newSalvage(), newSend(), newRecv(), newDigest(), newPromote(), newImport(), newExport(),
		newCtl(), newMount(), newAuth(), newBench(), newGefs4(), newCompletion(), newMan())
	if err := addCompletions(root); err != nil {
		panic(err) // two values for one flag: the tables are wrong
	}
	return root
}

// buildSetting is what the build has noted under key, "" if nothing.
func buildSetting(key string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// version says which gefs9p this is: the module's version, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown version)"
	}
	v, dirty := info.Main.Version, ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && (v == "" || v == "(devel)"):
			v = s.Value
		case s.Key == "vcs.modified" && s.Value == "true" && !strings.HasSuffix(v, "+dirty"):
			dirty = "+dirty"
		}
	}
	return v + dirty + " " + info.GoVersion
}

// oneDisk is what a command's Args are if it takes one disk.
func oneDisk(cmd *cobra.Command, args []string) error {
	switch len(args) {
	case 1:
		if args[0] == "" {
			return errors.New("the name of the disk is empty")
		}
		return nil
	case 0:
		return errors.New("no disk named")
	}
	return fmt.Errorf("one disk is wanted, not %d arguments: %q is too many", len(args), args[1])
}
