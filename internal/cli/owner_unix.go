//go:build unix

package cli

import (
	"io/fs"
	"syscall"
)

// owner returns the names of a file's user and group, numbers where the host knows none.
func (n *names) owner(info fs.FileInfo) (uid, gid string) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", ""
	}
	return n.user(int(st.Uid)), n.group(int(st.Gid))
}
