package cli

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
)

// howTo says with which commands the disk is mounted, for those who see an address for the first time.
func howTo(w io.Writer, l net.Listener, user string) {
	name := addrName(l)
	opts := fmt.Sprintf("version=9p2000.L,uname=%s,access=any,msize=131072", user)
	if l.Addr().Network() == "unix" {
		if abs, err := filepath.Abs(name); err == nil {
			name = abs
		}
		q := shellQuote
		fmt.Fprintf(w, "to mount it:\n"+
			"\tLinux      sudo mount -t 9p -o trans=unix,%s %s /mnt\n"+
			"\tFUSE       gefs9p mount -u %s %s /mnt\n"+
			"\tplan9port  9pfuse %s /mnt    or without mounting: 9p -a %s ls /\n"+
			"\tPlan 9     needs the network: serve with --auth KEYFILE -a 'tcp!*!564', there: srv tcp!HOST!564 gefs /n/gefs\n",
			opts, q(name), q(user), q(name), q("unix!"+name), q("unix!"+name))
	}
}

// shellQuote quotes s for a shell if that is needed.
func shellQuote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("%+,-./:=@_", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
