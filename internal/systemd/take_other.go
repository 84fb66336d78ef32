//go:build !unix

package systemd

import (
	"errors"
	"net"
)

// take fails: no manager of this system passes sockets as open files.
func take(uintptr, string) (net.Listener, error) {
	return nil, errors.New("sockets can be passed on Unix systems only")
}
