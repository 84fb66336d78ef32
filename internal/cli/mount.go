package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gefs9p/auth"
	"gefs9p/client"
	"gefs9p/dial"
	"gefs9p/mount"
	"gefs9p/ninep"
)

// mounter mounts a server's tree.
type mounter struct {
	addr     string
	msize    uint32
	aname    string
	keyFile  string
	as       string
	password bool
	sk1      bool // prove with p9sk1
	authdom  string
	level    slog.Level
	o        mount.Options
}

// mountTime is how long connecting, proving and attaching may take.
const mountTime = time.Minute

func newMount() *cobra.Command {
	var m mounter
	cmd := &cobra.Command{
		Use:   "mount [-u USER] [--auth KEYFILE [--as ADDR]] ADDR DIR",
		Short: "mount a server's tree on a directory, with FUSE",
		Long: `Mount makes the tree that a 9P2000 server shows on ADDR a file system on DIR. It stays until
it is unmounted (umount DIR, fusermount3 -u DIR) or a signal ends it; if the file system is in use then,
it is taken away from DIR at once, and mount ends when the last program has left. A second signal
does not wait.

Everything is done as one user of the server, --user, and the server decides what that user may do. Other
users of this machine are kept out, without --allow-other. If the server wants a proof, --auth names
a file with the user's key, and --as the authentication server; with --password the key is made
of the password, which is asked for or is the first line of standard input. With the server's own key
one can be anybody, without an authentication server.

An acknowledged write is at the server, and fsync makes everything durable. Moving files between
directories copies them, there are no links, and a removed file is gone even for those who have it open.
When the connection is lost everything fails with an input/output error until DIR is unmounted: nothing
is connected anew.

Linux, with fusermount3 for those who are not root, and macOS, with macFUSE.`,
		Example: `  gefs9p mount ./disk.img.sock /mnt
  gefs9p mount --aname dump --read-only ./disk.img.sock /mnt/dump
  gefs9p mount -u glenda --auth glenda.key --as 'tcp!auth.example.com!567' 'tcp!fs.example.com!564' /mnt
  gefs9p mount -u glenda --password --authdom example.com --as 'tcp!auth.example.com!567' fs.example.com:564 /mnt`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 || args[0] == "" || args[1] == "" {
				return fmt.Errorf("the address of a server and a directory are wanted, not %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			m.addr, m.o.Dir = args[0], args[1]
			return m.run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&m.o.User, "user", "u", "", "be `USER` on the server (default: whose key it is, or your login name)")
	f.StringVar(&m.aname, "aname", "", "mount this `TREE`: a snapshot, or dump for all of them (default: the server's own)")
	f.StringVar(&m.keyFile, "auth", "", "prove to be USER with the key in `KEYFILE`")
	f.StringVar(&m.as, "as", "", "`ADDR` of the authentication server; without, KEYFILE is the file server's own")
	f.BoolVar(&m.password, "password", false, "instead of --auth: ask for the password")
	f.StringVar(&m.authdom, "authdom", "", "with --password: the authentication `DOMAIN`")
	f.BoolVar(&m.sk1, "p9sk1", false, "prove it with p9sk1 instead of dp9ik, to a server that speaks nothing else; see docs/security.md")
	f.Uint32Var(&m.msize, "msize", 1<<20, "ask for frames of this many `BYTES`")
	f.DurationVar(&m.o.Cache, "cache", time.Second, "how long the kernel may believe names and attributes; 0 is not at all")
	f.BoolVar(&m.o.AllowOther, "allow-other", false, "let all users of this machine in, as USER")
	f.BoolVar(&m.o.ReadOnly, "read-only", false, "mount it read-only")
	f.TextVar(&m.level, "log", slog.LevelInfo, "log what is at least a `LEVEL`: debug, info, warn or error")
	return cmd
}

func (m *mounter) run(ctx context.Context, in io.Reader, out, errw io.Writer) error {
	m.o.Log = slog.New(slog.NewTextHandler(errw, &slog.HandlerOptions{Level: m.level}))
	m.o.Source, m.o.Dump = m.addr, strings.TrimPrefix(m.aname, "%") == "dump"
	switch {
	case m.password && m.keyFile != "":
		return usagef("--password and --auth: one of them is enough")
	case m.password && (m.as == "" || m.authdom == ""):
		return usagef("--password is for an authentication server: --as says where it is, --authdom which domain is its")
	case m.authdom != "" && !m.password:
		return usagef("--authdom goes with --password")
	case m.as != "" && !m.password && m.keyFile == "":
		return usagef("--as needs a key: --auth or --password")
	case m.sk1 && !m.password && m.keyFile == "":
		return usagef("--p9sk1 needs a key: --auth or --password")
	case m.msize < ninep.MinMsize:
		return usagef("--msize %d: the least is %d", m.msize, ninep.MinMsize)
	case m.o.Cache < 0:
		return usagef("--cache %v is negative", m.o.Cache)
	}
	if _, _, err := dial.Parse(m.addr); err != nil {
		return &usageError{err}
	}
	if st, err := os.Stat(m.o.Dir); err != nil {
		return pathError(err)
	} else if !st.IsDir() {
		return fmt.Errorf("%s: not a directory", m.o.Dir)
	}
	ctx, stop := untilAsked(ctx, m.o.Log)
	defer stop()
	prove, err := m.proving(in, errw)
	if err != nil {
		return err
	}
	conn, root, err := m.attach(ctx, prove)
	if err != nil {
		return err
	}
	defer conn.Close()
	s, err := mount.New(conn, root, m.o)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "mounted %s on %s\n", m.addr, m.o.Dir)
	return s.Run(ctx)
}

// proving returns what proves who the user is, nil if nothing is to be proved, and sets the user if no flag
// has.
func (m *mounter) proving(in io.Reader, errw io.Writer) (proving, error) {
	if m.keyFile == "" && m.o.User == "" {
		name, err := loginName()
		if err != nil {
			return nil, err
		}
		m.o.User = name
	}
	switch {
	case m.password:
		// before anybody is asked for anything
		if _, err := auth.NewKey(m.o.User, m.authdom); err != nil {
			return nil, &usageError{err}
		}
		p, err := askPassword(in, errw, "password of "+m.o.User+"@"+m.authdom)
		if err != nil {
			return nil, err
		}
		if m.sk1 {
			k, err := auth.PasswordDESKey(m.o.User, m.authdom, p)
			if err != nil {
				return nil, err
			}
			return provingDES(k, m.as)
		}
		k, err := auth.PasswordKey(m.o.User, m.authdom, p)
		if err != nil {
			return nil, err
		}
		return provingKey(k, m.as)
	case m.keyFile != "":
		prove, owner, err := provingWith(m.keyFile, m.as, m.sk1)
		if m.o.User == "" {
			m.o.User = owner
		}
		return prove, err
	}
	return nil, nil
}

// attach connects to the server and returns the root of the tree.
func (m *mounter) attach(ctx context.Context, prove proving) (_ *client.Conn, _ *client.Fid, err error) {
	ctx, cancel := context.WithTimeout(ctx, mountTime)
	defer cancel()
	conn, err := client.Dial(ctx, m.addr, m.msize)
	if err != nil {
		return nil, nil, err
	}
	hangUp := context.AfterFunc(ctx, func() { conn.Close() })
	var root *client.Fid
	if prove == nil {
		root, err = conn.Attach(m.o.User, m.aname)
	} else {
		root, err = conn.AttachAs(m.o.User, m.aname, func(rw io.ReadWriter) error {
			return prove(ctx, rw, m.o.User)
		})
	}
	if !hangUp() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("%s: attaching as %s: %w", m.addr, m.o.User, err)
	}
	return conn, root, nil
}

// askPassword asks for a password that exists: once, unlike readPassword.
func askPassword(in io.Reader, errw io.Writer, what string) (string, error) {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			if err == nil || err == io.EOF {
				err = errors.New("no password on standard input")
			}
			return "", err
		}
		return line, nil
	}
	fmt.Fprint(errw, what+": ")
	b, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(errw)
	if err != nil {
		return "", err
	}
	defer clear(b)
	if len(b) == 0 {
		return "", errors.New("no password")
	}
	return string(b), nil
}

// untilAsked returns a context that ends with the first signal. The second ends the process.
func untilAsked(ctx context.Context, log *slog.Logger) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			select {
			case sig := <-signals:
				if n > 0 {
					log.Error("ending although the file system is in use", "signal", sig)
					os.Exit(exitFail)
				}
				log.Info("unmounting; a second signal does not wait", "signal", sig)
				cancel()
			case <-quit:
				return
			}
		}
	})
	return ctx, func() {
		signal.Stop(signals)
		close(quit)
		wg.Wait()
		cancel()
	}
}
