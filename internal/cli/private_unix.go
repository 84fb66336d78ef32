//go:build unix

package cli

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// private calls fn so that what it creates is for its owner only, from the first moment on. The umask
// is the process's: nothing else should create files meanwhile.
func private(fn func()) {
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	fn()
}

// mine reports whether the file belongs to whoever runs this.
func mine(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && int(sys.Uid) == os.Getuid()
}
