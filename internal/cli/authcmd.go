package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gefs9p/auth"
	"gefs9p/client"
)

func newAuth() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "auth",
		Short: "keys and tickets for clients that prove who they are",
		Long: `A server that is started with --auth lets in over TCP who proves to be a user, with Plan 9's
protocol dp9ik. Server and users each share a key with an authentication server, which hands out
tickets: 9front's auth/authsrv, or gefs9p auth serve where there is no Plan 9.`,
		Example: `  gefs9p auth newkey --authid bootes --authdom example.com server.key
  gefs9p serve --auth server.key -a 'tcp!*!564' disk.img`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAuthNewkey(), newAuthServe(), newAuthTry())
	return cmd
}

func newAuthNewkey() *cobra.Command {
	var user, dom string
	var password, add, sk1 bool
	cmd := &cobra.Command{
		Use:   "newkey --authid USER --authdom DOMAIN [--password] [--p9sk1] [--add] FILE",
		Short: "make a key",
		Long: `Newkey makes a key, random or of a password, and a file of it that only you can read. It
never shows the key. The authentication server must have the same one for that user: 9front's makes
it of the password (auth/changeuser), gefs9p auth serve reads it from a key file.

` + auth.KeyFileHelp,
		Example: `  gefs9p auth newkey --authid bootes --authdom example.com server.key
  gefs9p auth newkey --authid bootes --authdom example.com --password server.key
  gefs9p auth newkey --authid glenda --authdom example.com --password --add users.keys`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			if user == "" || dom == "" {
				return usagef("whose key it is to be is said with --authid and --authdom")
			}
			if _, err := auth.NewKey(user, dom); err != nil { // before anybody is asked for anything
				return &usageError{err}
			}
			var p string
			if password {
				var err error
				if p, err = readPassword(cmd.InOrStdin(), cmd.ErrOrStderr(), "password for "+user+"@"+dom); err != nil {
					return err
				}
			}
			if sk1 {
				k, err := newDESKey(user, dom, p)
				if err != nil {
					return err
				}
				return writeDESKey(args[0], k, add)
			}
			k, err := newAuthKey(user, dom, p)
			if err != nil {
				return err
			}
			return writeAuthKey(args[0], k, add)
		},
	}
	f := cmd.Flags()
	f.StringVar(&user, "authid", "", "`USER` whose key it is: on a server, who owns it")
	f.StringVar(&dom, "authdom", "", "authentication `DOMAIN` in which the name is good")
	f.BoolVar(&password, "password", false, "make the key of a password, which is asked for or is the first line of standard input")
	f.BoolVar(&sk1, "p9sk1", false, "make a key for p9sk1 instead of dp9ik; see docs/security.md for what that is worth")
	f.BoolVar(&add, "add", false, "add the key to FILE, if there is one")
	return cmd
}

// newAuthKey makes a key of a password, or without one at random.
func newAuthKey(user, dom, password string) (*auth.Key, error) {
	if password == "" {
		return auth.NewKey(user, dom)
	}
	return auth.PasswordKey(user, dom, password)
}

// newDESKey is newAuthKey for p9sk1.
func newDESKey(user, dom, password string) (*auth.DESKey, error) {
	if password == "" {
		return auth.NewDESKey(user, dom)
	}
	return auth.PasswordDESKey(user, dom, password)
}

// oneFile is what a command's Args are if it takes one file.
func oneFile(_ *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return fmt.Errorf("one file is wanted, not %d arguments", len(args))
	}
	return nil
}

// readPassword asks for a password, twice on a terminal.
func readPassword(in io.Reader, errw io.Writer, what string) (string, error) {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		if err != nil && err != io.EOF {
			return "", err
		}
		if line == "" {
			return "", errors.New("no password on standard input")
		}
		return line, nil
	}
	var p [2]string
	for i, prompt := range []string{what + ": ", "again: "} {
		fmt.Fprint(errw, prompt)
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(errw)
		if err != nil {
			return "", err
		}
		p[i] = string(b)
		clear(b)
	}
	switch {
	case p[0] != p[1]:
		return "", errors.New("the passwords differ")
	case p[0] == "":
		return "", errors.New("no password")
	}
	return p[0], nil
}

// authPort is that of authentication servers.
const authPort = "567"

// ticketServer serves tickets.
type ticketServer struct {
	addrs []string
	sk1   bool // also for p9sk1
	level slog.Level
}

func newAuthServe() *cobra.Command {
	var s ticketServer
	cmd := &cobra.Command{
		Use:   "serve [-a ADDR]... KEYFILE",
		Short: "an authentication server for a site without Plan 9",
		Long: `Serve hands out tickets to the users in KEYFILE, for the servers in it: users have a key there
each, and so have servers. Users speak for themselves only. It does what dp9ik needs of
9front's auth/authsrv, and nothing else: no passwords are changed over the network. With --p9sk1
it also hands out tickets for p9sk1, and so to everybody who asks, for any user, something to try
passwords on.

` + auth.KeyFileHelp,
		Example: `  gefs9p auth newkey --authid bootes --authdom example.com --add keys
  gefs9p auth newkey --authid glenda --authdom example.com --password --add keys
  gefs9p auth serve -a 'tcp!*!567' keys`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.run(cmd.Context(), args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&s.addrs, "addr", "a", nil, "listen on `ADDR`; may be given many times (default tcp!127.0.0.1!567)")
	f.BoolVar(&s.sk1, "p9sk1", false, "also hand out tickets for p9sk1, to the users with keys for it in KEYFILE")
	f.TextVar(&s.level, "log", slog.LevelInfo, "log what is at least a `LEVEL`: debug, info, warn or error")
	return cmd
}

// maxTicketConns bounds the connections of a ticket server; more wait to be accepted.
const maxTicketConns = 256

// With each connection one can ask for one ticket, and test one guess of one password: a host can
// have ticketBurst of them at once, and then one every ticketEvery.
const (
	ticketBurst = 60
	ticketEvery = 500 * time.Millisecond
)

// keyTable makes a function of keys that finds one by its user. path is where they are from.
func keyTable[K any](path string, keys []K, user func(K) string) (func(user string) K, error) {
	m := make(map[string]K, len(keys))
	for _, k := range keys {
		if _, ok := m[user(k)]; ok {
			return nil, fmt.Errorf("%s: %s has keys in two domains; serve one of them", path, user(k))
		}
		m[user(k)] = k
	}
	return func(user string) K { return m[user] }, nil
}

// tables reads the keys that tickets are made with.
func (s *ticketServer) tables(path string) (*auth.TicketServer, error) {
	ts := new(auth.TicketServer)
	keys, err := readAuthKeys(path)
	if err == nil {
		ts.Key, err = keyTable(path, keys, func(k *auth.Key) string { return k.User })
	}
	if err != nil || !s.sk1 {
		return ts, err
	}
	old, err := readDESKeys(path)
	if err == nil {
		ts.DESKey, err = keyTable(path, old, func(k *auth.DESKey) string { return k.User })
	}
	return ts, err
}

func (s *ticketServer) run(ctx context.Context, path string, out, errw io.Writer) error {
	log := slog.New(slog.NewTextHandler(errw, &slog.HandlerOptions{Level: s.level}))
	if len(s.addrs) == 0 {
		s.addrs = []string{"tcp!127.0.0.1!" + authPort}
	}
	addrs, err := parseAddrs("-a", s.addrs, true)
	if err != nil {
		return err
	}
	ts, err := s.tables(path)
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx, log)
	defer stop()
	ls, err := listenAll(ctx, addrs, nil)
	if err != nil {
		return err
	}
	places := make(chan struct{}, maxTicketConns)
	turns := &bucket{burst: ticketBurst, every: ticketEvery}
	var wg sync.WaitGroup
	for _, l := range ls {
		fmt.Fprintf(out, "listening %s\n", addrName(l))
		wg.Go(func() {
			for {
				conn, err := l.Accept()
				if ctx.Err() != nil {
					if err == nil {
						conn.Close()
					}
					return
				}
				if err != nil {
					log.Warn("accept failed, trying again", "addr", l.Addr(), "err", err)
					select {
					case <-time.After(100 * time.Millisecond):
					case <-ctx.Done():
					}
					continue
				}
				if !turns.take(hostOfAddr(conn.RemoteAddr()), time.Now()) {
					log.Debug("too many connections from one host", "remote", conn.RemoteAddr())
					conn.Close()
					continue
				}
				select {
				case places <- struct{}{}:
				case <-ctx.Done():
					conn.Close()
					return
				}
				wg.Go(func() {
					defer func() { <-places }()
					defer context.AfterFunc(ctx, func() { conn.Close() })()
					if err := ts.ServeConn(conn); err != nil && ctx.Err() == nil {
						log.Info("no tickets", "remote", conn.RemoteAddr(), "err", err)
					}
				})
			}
		})
	}
	<-ctx.Done()
	for _, l := range ls {
		l.Close()
	}
	wg.Wait()
	return nil
}

func newAuthTry() *cobra.Command {
	var keyFile, user, as string
	var sk1 bool
	cmd := &cobra.Command{
		Use:   "try --key KEYFILE [--as ADDR] [-u USER] [--p9sk1] ADDR",
		Short: "prove to a file server who you are, to see whether that works",
		Long: `Try attaches to the file server on ADDR, as a client with the key in KEYFILE does, and says whether
it was let in. With --as it asks that authentication server for tickets; KEYFILE has the user's
key. Without, KEYFILE is the server's own, with which one can be anybody.`,
		Example: `  gefs9p auth try --key my.key --as tcp!auth.example.com!567 tcp!fs.example.com!564
  gefs9p auth try --key server.key -u glenda tcp!127.0.0.1!564`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			prove, owner, err := provingWith(keyFile, as, sk1)
			if err != nil {
				return err
			}
			if user == "" {
				user = owner
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
			defer cancel()
			c, err := client.Dial(ctx, args[0], 8192)
			if err != nil {
				return err
			}
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			proved := false
			root, err := c.AttachAs(user, "", func(rw io.ReadWriter) error {
				proved = true
				return prove(ctx, rw, user)
			})
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			root.Clunk()
			if !proved {
				fmt.Fprintf(cmd.OutOrStdout(), "%s is let in without proof\n", user)
				return nil
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is let in\n", user)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&keyFile, "key", "", "`KEYFILE` of the user, or without --as of the server")
	f.StringVar(&as, "as", "", "`ADDR` of the authentication server")
	f.StringVarP(&user, "user", "u", "", "be `USER` (default: whose key it is)")
	f.BoolVar(&sk1, "p9sk1", false, "prove it with p9sk1 instead of dp9ik")
	cmd.MarkFlagRequired("key")
	return cmd
}
