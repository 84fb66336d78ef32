// Package dial reads the addresses people give to file servers and their clients, and says them in the
// words of package net. It opens nothing.
//
// Three spellings are understood:
//
//	tcp!host!service   Plan 9: dial(2). tcp!*!564 is every interface, tcp!host the service 9fs
//	unix!path          likewise; the path may hold anything but a NUL byte
//	host:service       the rest of the world; [::1]:564 for IPv6, *:564 or :564 for every interface
//	path/with/a/slash  a Unix socket: a slash somewhere, no exclamation mark
//
// A service is a port number (0 lets the kernel choose one to listen on) or the name 9fs or 9pfs,
// which is port 564.
package dial

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Port is the TCP port of 9P file service, the one called 9fs on Plan 9 and 9pfs by IANA.
const Port = 564

// maxPath is the longest path of a Unix socket, in bytes: one less than the smallest field the
// systems we run on have for it.
const maxPath = 103

// ErrAddr is what every error of Parse wraps.
var ErrAddr = errors.New("bad address")

// Parse returns the network ("tcp", "tcp4", "tcp6" or "unix") and the address for net.Dial and
// net.Listen that addr stands for. Names of hosts are not looked up. An address of every interface
// has an empty host (":564"), which net.Dial takes for this machine.
func Parse(addr string) (network, address string, err error) {
	network, address, err = parse(addr)
	if err != nil {
		return "", "", fmt.Errorf("%w %q: %w", ErrAddr, addr, err)
	}
	return network, address, nil
}

func parse(addr string) (network, address string, err error) {
	if addr == "" {
		return "", "", errors.New("empty")
	}
	if i := strings.IndexFunc(addr, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return "", "", fmt.Errorf("control character at byte %d", i)
	}
	if kind, rest, ok := strings.Cut(addr, "!"); ok {
		return parsePlan9(kind, rest)
	}
	if strings.Contains(addr, "/") {
		return parsePath(addr)
	}
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		var ae *net.AddrError
		if errors.As(err, &ae) && !strings.Contains(addr, ":") {
			return "", "", errors.New("neither host:port nor tcp!host!port, nor a path with a slash")
		} else if errors.As(err, &ae) {
			return "", "", errors.New(ae.Err)
		}
		return "", "", err
	}
	return joinTCP("tcp", host, service)
}

// parsePlan9 reads what follows the network and its exclamation mark.
func parsePlan9(kind, rest string) (network, address string, err error) {
	switch kind {
	case "unix":
		return parsePath(rest)
	case "tcp", "tcp4", "tcp6":
	case "net": // any network that gets there
		kind = "tcp"
	case "":
		return "", "", errors.New("no network before the first '!'")
	default:
		return "", "", fmt.Errorf("unknown network %q (tcp, net and unix are known)", kind)
	}
	host, service, ok := strings.Cut(rest, "!")
	if !ok {
		service = "9fs"
	}
	if host == "" {
		return "", "", errors.New("no host; * is every interface")
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	return joinTCP(kind, host, service)
}

func parsePath(path string) (network, address string, err error) {
	switch {
	case path == "":
		return "", "", errors.New("no path")
	case strings.HasSuffix(path, "/"):
		return "", "", errors.New("the path of a socket cannot end in a slash")
	case len(path) > maxPath:
		return "", "", fmt.Errorf("path of %d bytes; a Unix socket's can have %d", len(path), maxPath)
	}
	return "unix", path, nil
}

func joinTCP(network, host, service string) (string, string, error) {
	if host == "*" {
		host = ""
	}
	if strings.ContainsAny(host, "*![]/ ") {
		return "", "", fmt.Errorf("%q is no host", host)
	}
	port, err := parseService(service)
	if err != nil {
		return "", "", err
	}
	return network, net.JoinHostPort(host, strconv.Itoa(port)), nil
}

func parseService(s string) (int, error) {
	switch s {
	case "9fs", "9pfs":
		return Port, nil
	case "":
		return 0, errors.New("no port")
	}
	// Digits only: Atoi would also take a sign.
	if strings.Trim(s, "0123456789") != "" {
		return 0, fmt.Errorf("unknown service %q (a port number, 9fs and 9pfs are known)", s)
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("port %s is above 65535", s)
	}
	return int(n), nil
}
