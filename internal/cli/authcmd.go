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
	var password, add bool
	cmd := &cobra.Command{
		Use:   "newkey --authid USER --authdom DOMAIN [--password] [--add] FILE",
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
			make := func() (*auth.Key, error) { return auth.NewKey(user, dom) }
			if password {
				make = func() (*auth.Key, error) {
					p, err := readPassword(cmd.InOrStdin(), cmd.ErrOrStderr(), "password for "+user+"@"+dom)
					if err != nil {
						return nil, err
					}
					return auth.PasswordKey(user, dom, p)
				}
			}
			if _, err := auth.NewKey(user, dom); err != nil { // before anybody is asked for anything
				return &usageError{err}
			}
			k, err := make()
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
	f.BoolVar(&add, "add", false, "add the key to FILE, if there is one")
	return cmd
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
	level slog.Level
}

func newAuthServe() *cobra.Command {
	var s ticketServer
	cmd := &cobra.Command{
		Use:   "serve [-a ADDR]... KEYFILE",
		Short: "an authentication server for a site without Plan 9",
		Long: `Serve hands out tickets to the users in KEYFILE, for the servers in it: users have a key there
each, and so have servers. Users speak for themselves only. It does what dp9ik needs of
9front's auth/authsrv, and nothing else: no passwords are changed over the network, and no other
protocols are spoken.

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

// keyTable finds keys by user.
type keyTable struct {
	mu   sync.Mutex
	keys map[string]*auth.Key
}

func (t *keyTable) load(path string) error {
	keys, err := readAuthKeys(path)
	if err != nil {
		return err
	}
	m := make(map[string]*auth.Key, len(keys))
	for _, k := range keys {
		if o := m[k.User]; o != nil {
			return fmt.Errorf("%s: %s has keys in two domains; serve one of them", path, k.User)
		}
		m[k.User] = k
	}
	t.mu.Lock()
	t.keys = m
	t.mu.Unlock()
	return nil
}

func (t *keyTable) key(user string) *auth.Key {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.keys[user]
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
	var table keyTable
	if err := table.load(path); err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx, log)
	defer stop()
	ls, err := listenAll(ctx, addrs)
	if err != nil {
		return err
	}
	ts := &auth.TicketServer{Key: table.key}
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
	cmd := &cobra.Command{
		Use:   "try --key KEYFILE [--as ADDR] [-u USER] ADDR",
		Short: "prove to a file server who you are, to see whether that works",
		Long: `Try attaches to the file server on ADDR, as a client with the key in KEYFILE does, and says whether
it was let in. With --as it asks that authentication server for tickets; KEYFILE has the user's
key. Without, KEYFILE is the server's own, with which one can be anybody.`,
		Example: `  gefs9p auth try --key my.key --as tcp!auth.example.com!567 tcp!fs.example.com!564
  gefs9p auth try --key server.key -u glenda tcp!127.0.0.1!564`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := readOneKey(keyFile)
			if err != nil {
				return err
			}
			if user == "" {
				user = key.User
			}
			from, err := ticketsFrom(key, as)
			if err != nil {
				return err
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
				return auth.Prove(ctx, rw, user, from)
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
	cmd.MarkFlagRequired("key")
	return cmd
}
