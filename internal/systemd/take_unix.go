//go:build unix

package systemd

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// take makes a listener of the open file fd, which it closes; the listener has one of its own.
func take(fd uintptr, name string) (net.Listener, error) {
	f := os.NewFile(fd, name)
	if f == nil {
		return nil, errors.New("there is no such file")
	}
	defer f.Close()
	typ, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	if typ != syscall.SOCK_STREAM {
		return nil, errors.New("it is no stream socket: ListenStream= makes one")
	}
	// One that is connected would show only when nobody can ever be accepted.
	listens, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	if listens == 0 {
		return nil, errors.New("it does not listen: Accept=no is wanted")
	}
	return net.FileListener(f)
}
