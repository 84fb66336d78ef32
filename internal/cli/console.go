package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"gefs9p/cons"
	"gefs9p/gefs"
	"gefs9p/ninep"
)

// consoles are the listeners of a server's console.
type consoles struct {
	line  net.Listener   // nil for none
	ninep []net.Listener // for 9P
}

func (c *consoles) close() {
	if c.line != nil {
		c.line.Close()
	}
	for _, l := range c.ninep {
		l.Close()
	}
}

// listenConsole listens for those who administer the disk, or takes what v's manager listens on. A socket that was
// asked for must be had; DISK.ctl, which was not, only should.
func (s *server) listenConsole(ctx context.Context, ctl9p []address, v *service) (*consoles, error) {
	c := new(consoles)
	var err error
	if c.line, err = s.listenLine(ctx, v); err != nil {
		return nil, err
	}
	if c.ninep, err = listenAll(ctx, ctl9p, v); err != nil {
		c.close()
		return nil, err
	}
	given, err := v.left(forConsole9P, func(a address) error { a.flag = "--ctl9p"; return a.allowed(s.noAuth) })
	if err != nil {
		c.close()
		return nil, err
	}
	c.ninep = append(c.ninep, given...)
	return c, nil
}

// ctlAddr is where the console is, if there is one.
func (s *server) ctlAddr() address {
	path := s.ctl
	if path == "" {
		path = localName(s.disk) + ".ctl"
	}
	return address{given: path, network: "unix", address: path, flag: "--ctl"}
}

// listenLine returns the listener of the console, nil for none.
func (s *server) listenLine(ctx context.Context, v *service) (net.Listener, error) {
	given, err := v.left(forConsole, func(a address) error {
		if a.network != "unix" {
			return usagef("%s: the console asks nobody for a proof, so it is for a Unix socket", a.given)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	switch {
	case len(given) == 1 && (s.ctl == "" || s.ctl != "none" && s.ctlAddr().is(given[0].Addr())):
		return given[0], nil
	case len(given) > 0:
		closeAll(given)
		return nil, usagef("the service manager listens for the console on %s: there is one console, so leave out --ctl and all others", addrName(given[0]))
	case s.ctl == "none":
		return nil, nil
	}
	ls, err := listenAll(ctx, []address{s.ctlAddr()}, v)
	switch {
	case err == nil:
		return ls[0], nil
	case s.ctl != "":
		return nil, err
	}
	s.log.Warn("there is no console; give it a place with --ctl", "err", err)
	return nil, nil
}

// serveConsole starts the consoles. halt is to end the server. end waits until those who were told so
// know it, and closes the consoles.
func (s *server) serveConsole(ctx context.Context, fsys *gefs.FS, srv *ninep.Server, con *consoles, halt func()) (end func()) {
	console := &cons.Console{FS: fsys, Key: s.key, Halt: halt, Level: &s.levelVar, Connections: srv.Connections, Logger: s.log}
	var wg sync.WaitGroup
	if con.line != nil {
		s.log.Info("console", "socket", addrName(con.line))
		wg.Go(func() {
			if err := console.Serve(ctx, con.line); err != nil {
				s.log.Error("the console does not answer any more", "err", err)
			}
		})
	}
	var files *ninep.Server
	if len(con.ninep) > 0 {
		files = &ninep.Server{FS: cons.NewFileSystem(ctx, console), Logger: s.log}
	}
	for _, l := range con.ninep {
		fmt.Fprintf(s.errw, "console on %s\n", addrName(l))
		wg.Go(func() {
			if err := files.Serve(context.WithoutCancel(ctx), l); err != nil && err != ninep.ErrClosed {
				s.log.Error("the console does not answer any more", "addr", addrName(l), "err", err)
			}
		})
	}
	return func() {
		if files != nil {
			deadline, stop := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
			defer stop()
			if err := files.Shutdown(deadline); err != nil {
				s.log.Log(deadline, slog.LevelWarn, "console requests were cut off", "after", shutdownTime)
			}
		}
		wg.Wait()
	}
}
