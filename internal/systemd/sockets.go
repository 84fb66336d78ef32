package systemd

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// A Socket is one that the manager listens on and has passed to this service.
type Socket struct {
	// Name is that of FileDescriptorName= in the manager's unit, or else of the unit ("gefs9p@home.socket").
	Name string
	net.Listener
}

// firstSocket is the number of the first file that is passed. Source: SD_LISTEN_FDS_START.
const firstSocket = 3

// socketsMost is how many may be passed: more is a mistake, or somebody else's variable.
const socketsMost = 1024

// Sockets returns the sockets that env (os.Getenv) announces to this process in LISTEN_PID, LISTEN_FDS and
// LISTEN_FDNAMES; none if these are not set or are for another process. It is called once, at the beginning: the
// files change hands. Each must be a stream socket that listens, otherwise all are closed again and the error names
// it. Closing a Socket leaves its name in the file system: the manager goes on listening.
func Sockets(env func(string) string) ([]Socket, error) { return sockets(env, firstSocket) }

func sockets(env func(string) string, first uintptr) (all []Socket, err error) {
	mine, err := isMine(env, "LISTEN_PID")
	if err != nil || !mine || env("LISTEN_FDS") == "" {
		return nil, err
	}
	n, err := strconv.Atoi(env("LISTEN_FDS"))
	if err != nil || n < 0 || n > socketsMost {
		return nil, fmt.Errorf("LISTEN_FDS=%q is no number of sockets", env("LISTEN_FDS"))
	}
	names := make([]string, n)
	if s := env("LISTEN_FDNAMES"); s != "" {
		given := strings.Split(s, ":")
		if len(given) != n {
			return nil, fmt.Errorf("LISTEN_FDNAMES=%q names %d sockets, and LISTEN_FDS says %d", s, len(given), n)
		}
		copy(names, given)
	}
	var errs []error
	for i, name := range names {
		if name == "" {
			name = "unknown" // as sd_listen_fds_with_names says it
		}
		l, err := take(first+uintptr(i), name)
		if err != nil {
			errs = append(errs, fmt.Errorf("socket %d (%s) from the service manager: %w", i, name, err))
			continue
		}
		all = append(all, Socket{name, l})
	}
	if len(errs) > 0 {
		for _, s := range all {
			s.Close()
		}
		return nil, errors.Join(errs...)
	}
	return all, nil
}
