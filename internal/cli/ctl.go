package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gefs9p/cons"
	"gefs9p/nbd"
)

// promptTime is how long a console may take to say that it is one.
const promptTime = 3 * time.Second

// A controller gives commands to the console of a server.
type controller struct {
	path string // of the console's socket, or of its disk
	json bool
	in   io.Reader
	out  io.Writer
	errw io.Writer
}

func newCtl() *cobra.Command {
	var c controller
	cmd := &cobra.Command{
		Use:   "ctl [-s PATH] [--json] [COMMAND...]",
		Short: "give a command to a server's console",
		Long: `Ctl runs one command on the console of a running server, prints what it says, and exits
with 1 if it failed. Without a command it reads commands from standard input, one a line, and
exits with 1 if one of them failed.

'gefs9p ctl help' lists the commands of the server, 'gefs9p ctl help snap' says all about one.
Arguments reach the console as they are: what has blanks in it needs the shell's quotes only.

PATH is the console's socket, as serve --ctl names it, or the disk, which means DISK.ctl. Without
-s it is the environment's GEFS9P_CTL, or else the only console in the current folder (*.ctl).

With --json the answer of df, check, snap -l, show users and most others is one JSON object.`,
		Example: `  gefs9p ctl -s disk.img df
  gefs9p ctl -s disk.img snap main yesterday
  gefs9p ctl -s disk.img set main retain '12@5m 48@2h @d'
  gefs9p ctl -s disk.img --json snap -l | jq -r '.snapshots[].name'
  gefs9p ctl -s disk.img halt`,
		ValidArgsFunction: completeConsole,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.in, c.out, c.errw = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			return c.run(cmd.Context(), args)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what comes behind the command's name is the command's
	f.StringVarP(&c.path, "socket", "s", "", "the console's socket, or its disk")
	f.BoolVar(&c.json, "json", false, "ask for JSON")
	return cmd
}

// run gives the command, or those that standard input has.
func (c *controller) run(ctx context.Context, args []string) error {
	path, err := c.find()
	if err != nil {
		return err
	}
	console, err := dialConsole(ctx, path)
	if err != nil {
		return err
	}
	defer console.Close()
	if len(args) > 0 {
		return c.one(ctx, console, args)
	}
	return c.all(ctx, console)
}

// dialConsole connects to the console whose socket path is.
func dialConsole(ctx context.Context, path string) (*cons.Client, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: there is no console: is the disk served, and is this its socket?", path)
	case isRefused(err):
		return nil, fmt.Errorf("%s: nobody answers: the server has ended without cleaning up", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: permission denied: the console is for whoever runs the server", path)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	waiting, cancel := context.WithTimeout(ctx, promptTime)
	defer cancel()
	console, err := cons.NewClient(waiting, nc)
	switch {
	case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("%s: nobody says anything: that is no console, but perhaps the socket of the files", path)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return console, nil
}

// find returns the path of the console's socket.
func (c *controller) find() (string, error) {
	path := c.path
	if path == "" {
		path = os.Getenv("GEFS9P_CTL")
	}
	if path == "" {
		all, err := filepath.Glob("*.ctl")
		if err != nil {
			return "", err
		}
		var sockets []string
		for _, p := range all {
			if st, err := os.Stat(p); err == nil && st.Mode()&fs.ModeSocket != 0 {
				sockets = append(sockets, p)
			}
		}
		switch len(sockets) {
		case 0:
			return "", usagef("there is no console in this folder: say which with -s DISK or -s SOCKET")
		case 1:
			return sockets[0], nil
		}
		return "", usagef("there are several consoles here (%s): say which with -s", strings.Join(sockets, ", "))
	}
	if nbd.IsAddress(path) {
		return localName(path) + ".ctl", nil
	}
	if st, err := os.Stat(path); err == nil && st.Mode()&fs.ModeSocket == 0 {
		path += ".ctl"
	}
	return path, nil
}

// one gives one command.
func (c *controller) one(ctx context.Context, console *cons.Client, words []string) error {
	if c.json {
		words = append([]string{"--json"}, words...)
	}
	err := console.Run(ctx, words, c.out)
	if err == cons.ErrReported {
		return &exitError{exitFail, nil}
	}
	return err
}

// all gives the commands of standard input. After one that the console refuses the next is tried.
func (c *controller) all(ctx context.Context, console *cons.Client) error {
	prompt := func() {}
	if f, ok := c.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		prompt = func() { fmt.Fprint(c.errw, "gefs# ") }
	}
	failed := false
	lines := bufio.NewScanner(c.in)
	for prompt(); lines.Scan(); prompt() {
		words, err := cons.Split(lines.Text())
		if err == nil {
			if len(words) == 0 {
				continue
			}
			err = c.one(ctx, console, words)
		}
		var exit *exitError
		var failure cons.Failure
		switch {
		case err == nil:
		case errors.As(err, &exit):
			failed = true
		case errors.As(err, &failure) || errors.Is(err, cons.ErrQuote):
			failed = true
			fmt.Fprintf(c.errw, "gefs9p: %s\n", oneLine(err.Error()))
		default:
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if failed {
		return &exitError{exitFail, nil}
	}
	return nil
}
