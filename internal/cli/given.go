package cli

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"gefs9p/internal/systemd"
)

// A given is a socket that the manager listens on for the server.
type given struct {
	systemd.Socket
	taken bool
}

// take returns the given socket that listens on a, nil if none does. A nil service has none.
func (v *service) take(a address) net.Listener {
	if v == nil {
		return nil
	}
	for _, g := range v.given {
		if !g.taken && a.is(g.Addr()) {
			g.taken = true
			return g.Listener
		}
	}
	return nil
}

// is reports whether the address is that of a socket.
func (a address) is(at net.Addr) bool {
	if a.network == "unix" {
		if at.Network() != "unix" {
			return false
		}
		mine, err := filepath.Abs(a.address)
		return err == nil && mine == filepath.Clean(at.String())
	}
	theirs, ok := at.(*net.TCPAddr)
	if !ok {
		return false
	}
	mine, err := net.ResolveTCPAddr(a.network, a.address)
	if err != nil || mine.Port != theirs.Port || mine.Port == 0 {
		return false
	}
	all := func(ip net.IP) bool { return len(ip) == 0 || ip.IsUnspecified() }
	return mine.IP.Equal(theirs.IP) || all(mine.IP) && all(theirs.IP)
}

// What a given socket is for, if no flag has its address, is said by its name.
const (
	forFiles      = "9p"
	forConsole    = "ctl"
	forConsole9P  = "ctl9p"
	forStatusPage = "http"
)

// purpose is what a socket's name says it is for. systemd calls one as its unit if nobody has given it a name; that
// is for the files.
func (g *given) purpose() (string, error) {
	switch {
	case g.Name == forFiles || g.Name == forConsole || g.Name == forConsole9P || g.Name == forStatusPage:
		return g.Name, nil
	case g.Name == "unknown" || strings.HasSuffix(g.Name, ".socket"):
		return forFiles, nil
	}
	return "", fmt.Errorf("socket %s from the service manager: %q says not what it is for: FileDescriptorName= is to be %s, %s, %s or %s, or a flag to have its address",
		addrName(g), g.Name, forFiles, forConsole, forConsole9P, forStatusPage)
}

// left returns the sockets for a purpose that nobody has taken, which takes them. Each must be allowed to be used
// so; allowed is told the address. Those for files are asked for last: then a name that says nothing is an error.
func (v *service) left(purpose string, allowed func(address) error) (ls []net.Listener, err error) {
	defer func() {
		if err != nil {
			closeAll(ls)
			ls = nil
		}
	}()
	for _, g := range v.given {
		if g.taken {
			continue
		}
		p, err := g.purpose()
		switch {
		case err != nil && purpose == forFiles:
			return ls, err
		case err != nil || p != purpose:
			continue
		}
		if err := allowed(address{given: addrName(g), network: g.Addr().Network(), address: g.Addr().String()}); err != nil {
			return ls, fmt.Errorf("from the service manager, %w", err)
		}
		g.taken = true
		ls = append(ls, g.Listener)
	}
	return ls, nil
}

// gives reports whether there is a socket for the purpose by its name, and none of these addresses is its own.
func (v *service) gives(purpose string, but ...address) bool {
	for _, g := range v.given {
		p, err := g.purpose()
		if err == nil && p == purpose && !g.taken && !slices.ContainsFunc(but, func(a address) bool { return a.is(g.Addr()) }) {
			return true
		}
	}
	return false
}
