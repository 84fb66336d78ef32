//go:build unix

package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// interruptible returns f in a form whose Read and Write end when it is closed: the process's
// standard files do not, because they are opened for calls that wait in the kernel. Where that is
// impossible it returns f.
func interruptible(f *os.File) *os.File {
	rc, err := f.SyscallConn()
	if err != nil {
		return f
	}
	g := f
	rc.Control(func(fd uintptr) {
		n, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return
		}
		if unix.SetNonblock(n, true) != nil {
			unix.Close(n)
			return
		}
		g = os.NewFile(uintptr(n), f.Name()) // non-blocking: the runtime waits for it
	})
	if g != f {
		f.Close() // or the client would not see the end of it
	}
	return g
}
