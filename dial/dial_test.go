package dial

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ addr, network, address string }{
		{"tcp!*!564", "tcp", ":564"},
		{"tcp!localhost!9fs", "tcp", "localhost:564"},
		{"tcp!localhost!9pfs", "tcp", "localhost:564"},
		{"tcp!localhost", "tcp", "localhost:564"},
		{"tcp!*", "tcp", ":564"},
		{"tcp!127.0.0.1!0", "tcp", "127.0.0.1:0"},
		{"tcp!::1!564", "tcp", "[::1]:564"},
		{"tcp![::1]!564", "tcp", "[::1]:564"},
		{"tcp!fe80::1%eth0!564", "tcp", "[fe80::1%eth0]:564"},
		{"tcp4!*!564", "tcp4", ":564"},
		{"tcp6!*!65535", "tcp6", ":65535"},
		{"net!plan9.example!9fs", "tcp", "plan9.example:564"},
		{"unix!/run/gefs", "unix", "/run/gefs"},
		{"unix!gefs.sock", "unix", "gefs.sock"},
		{"unix!/run/a!b", "unix", "/run/a!b"},
		{"unix!@abstract", "unix", "@abstract"},
		{"localhost:564", "tcp", "localhost:564"},
		{"localhost:9fs", "tcp", "localhost:564"},
		{":564", "tcp", ":564"},
		{"*:564", "tcp", ":564"},
		{"[::1]:9pfs", "tcp", "[::1]:564"},
		{"[::]:0564", "tcp", "[::]:564"},
		{"/run/gefs.sock", "unix", "/run/gefs.sock"},
		{"./gefs.sock", "unix", "./gefs.sock"},
		{"dir/a:b", "unix", "dir/a:b"},
		{"/tmp/with blank", "unix", "/tmp/with blank"},
		{"/" + strings.Repeat("p", maxPath-1), "unix", "/" + strings.Repeat("p", maxPath-1)},
	} {
		network, address, err := Parse(c.addr)
		if err != nil || network != c.network || address != c.address {
			t.Errorf("Parse(%q) = %q, %q, %v; want %q, %q", c.addr, network, address, err, c.network, c.address)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ addr, want string }{
		{"", "empty"},
		{"disk.sock", "neither host:port"},
		{"localhost", "neither host:port"},
		{"localhost:", "no port"},
		{"localhost:http", `unknown service "http"`},
		{"localhost:65536", "above 65535"},
		{"localhost:99999999999999999999", "above 65535"},
		{"localhost:-1", `unknown service "-1"`},
		{"localhost:+1", `unknown service "+1"`},
		{"::1:564", "too many colons"},
		{"[::1]", "missing port"},
		{"a b:1", "is no host"},
		{"a*:1", "is no host"},
		{"tcp!", "no host"},
		{"tcp!!564", "no host"},
		{"tcp!host!", "no port"},
		{"tcp!host!564!", `unknown service "564!"`},
		{"tcp!host/x!564", "is no host"},
		{"tcp!ho[st!564", "is no host"},
		{"!host!564", "no network"},
		{"il!host!564", `unknown network "il"`},
		{"/net/tcp!*!564", `unknown network "/net/tcp"`},
		{"udp!host!564", `unknown network "udp"`},
		{"unix!", "no path"},
		{"/run/", "cannot end in a slash"},
		{"unix!/", "cannot end in a slash"},
		{"/" + strings.Repeat("p", maxPath), "path of 104 bytes"},
		{"/run/\x00x", "control character at byte 5"},
		{"host\n:1", "control character at byte 4"},
	} {
		network, address, err := Parse(c.addr)
		if err == nil || network != "" || address != "" {
			t.Errorf("Parse(%q) = %q, %q, %v", c.addr, network, address, err)
			continue
		}
		if !errors.Is(err, ErrAddr) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Parse(%q): %q does not say %q", c.addr, err, c.want)
		}
	}
}

// What Parse returns must be what package net takes.
func TestParsedAddressesCanBeListenedOn(t *testing.T) {
	dir, err := os.MkdirTemp("", "dial") // t.TempDir is too long for a socket on some systems
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, addr := range []string{"tcp!127.0.0.1!0", "127.0.0.1:0", "unix!" + dir + "/s"} {
		network, address, err := Parse(addr)
		if err != nil {
			t.Error(err)
			continue
		}
		l, err := net.Listen(network, address)
		if err != nil {
			t.Errorf("%s: %v", addr, err)
			continue
		}
		c, err := net.Dial(network, l.Addr().String())
		if err != nil {
			t.Errorf("%s: %v", addr, err)
		} else {
			c.Close()
		}
		l.Close()
	}
}

// An address that parses has one of the known networks, and its canonical form parses to itself.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"tcp!*!564", "unix!/x", "[::1]:9fs", "a/b", "tcp!::1!0", "*:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, addr string) {
		network, address, err := Parse(addr)
		if err != nil {
			return
		}
		again := network + "!" + address
		if network != "unix" {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				t.Fatalf("Parse(%q) = %q: %v", addr, address, err)
			}
			if host == "" {
				host = "*"
			}
			again = network + "!" + host + "!" + port
		}
		n2, a2, err := Parse(again)
		if err != nil || n2 != network || a2 != address {
			t.Fatalf("Parse(%q) = %q, %q; Parse(%q) = %q, %q, %v", addr, network, address, again, n2, a2, err)
		}
	})
}
