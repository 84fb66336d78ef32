package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"gefs9p/dial"
)

// An address is where a server is to listen.
type address struct {
	given            string // by the user
	network, address string // for package net
	flag             string // with which it is given
}

// parseAddrs reads addresses. One that is not a Unix socket's is refused unless tcp says that it is
// known what clients on it have to prove. flag is that with which they are given.
func parseAddrs(flag string, given []string, tcp bool) ([]address, error) {
	var addrs []address
	for _, s := range given {
		network, addr, err := dial.Parse(s)
		if err != nil {
			return nil, &usageError{err}
		}
		a := address{s, network, addr, flag}
		if err := a.allowed(tcp); err != nil {
			return nil, err
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// allowed returns an error if a is not a Unix socket's, unless tcp says that it is known what clients on it have
// to prove.
func (a address) allowed(tcp bool) error {
	switch {
	case a.network == "unix" || tcp:
		return nil
	case a.flag == "--ctl9p":
		return usagef("%s: the console over 9P asks nobody for a proof, so over TCP it is for everybody who can connect: "+
			"allow that with -A, best on loopback (tcp!127.0.0.1!5641), or listen on a Unix socket", a.given)
	}
	return usagef("%s: who may attach over TCP? Those who prove to be a user, with --auth KEYFILE; "+
		"or everybody as anybody, with -A, best on loopback (tcp!127.0.0.1!564)", a.given)
}

// listenAll listens on all addresses, or on none and fails. Where v's manager listens already, its socket is taken.
func listenAll(ctx context.Context, addrs []address, v *service) ([]net.Listener, error) {
	var ls []net.Listener
	for _, a := range addrs {
		l, err := v.take(a), error(nil)
		if l == nil {
			l, err = a.listen(ctx)
		}
		if err != nil {
			closeAll(ls)
			return nil, fmt.Errorf("listen on %s: %w", a.given, err)
		}
		ls = append(ls, l)
	}
	return ls, nil
}

func closeAll(ls []net.Listener) {
	for _, l := range ls {
		l.Close()
	}
}

func (a address) listen(ctx context.Context) (net.Listener, error) {
	if a.network == "unix" {
		if err := a.removeStale(); err != nil {
			return nil, err
		}
	}
	var cfg net.ListenConfig
	var l net.Listener
	var err error
	listen := func() { l, err = cfg.Listen(ctx, a.network, a.address) }
	if a.network == "unix" {
		private(listen)
	} else {
		listen()
	}
	switch {
	case isInUse(err):
		return nil, fmt.Errorf("the address is in use: another server listens there; stop it, or choose another address with %s", a.flag)
	case errors.Is(err, errors.ErrUnsupported) && a.network == "unix":
		return nil, fmt.Errorf("this system has no Unix sockets: choose an address on TCP with %s, such as tcp!127.0.0.1!5640", a.flag)
	case errors.Is(err, fs.ErrPermission) && a.network != "unix":
		return nil, fmt.Errorf("permission denied: ports below 1024 are for the superuser; choose another with %s, such as tcp!127.0.0.1!5640", a.flag)
	}
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		err = sys.Err // without what was said already
	}
	return l, err
}

// removeStale removes the socket of a server that is dead: one that nobody answers on. Anything
// else that has the name is left alone, and an error.
func (a address) removeStale() error {
	path := a.address
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return pathError(err)
	case st.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("there is a file of that name that is no socket; remove it, or choose another address with %s", a.flag)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
	}
	// Only a refusal says that there is no server; one that is busy may not take us at once.
	if !isRefused(err) {
		return fmt.Errorf("another server listens there; stop it, or choose another address with %s", a.flag)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return pathError(err)
	}
	return nil
}

// addrName is what to tell clients to connect to: something that dial.Parse reads.
func addrName(l net.Listener) string {
	name := l.Addr().String()
	if l.Addr().Network() != "unix" {
		return name
	}
	if abs, err := filepath.Abs(name); err == nil {
		if _, _, err := dial.Parse(abs); err == nil {
			return abs
		}
	}
	if filepath.Base(name) == name {
		return "." + string(filepath.Separator) + name // a name alone is not a path to dial.Parse
	}
	return name
}

// public reports whether others than this machine can reach the listener.
func public(l net.Listener) bool {
	tcp, ok := l.Addr().(*net.TCPAddr)
	return ok && !tcp.IP.IsLoopback()
}
