package cli

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"gefs9p/dial"
	"gefs9p/gefs"
	"gefs9p/ninep"
	"gefs9p/watch"
)

// eventsKept is how many lines of the log the status page can show.
const eventsKept = 200

// parseHTTP reads the addresses of --http. One that other machines can reach is refused unless open says that
// everybody may be anybody anyway.
func parseHTTP(given []string, open bool) ([]address, error) {
	var addrs []address
	for _, s := range given {
		network, addr, err := dial.Parse(s)
		if err != nil {
			return nil, &usageError{err}
		}
		a := address{s, network, addr, "--http"}
		if err := a.allowedHTTP(open); err != nil {
			return nil, err
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// allowedHTTP returns an error if other machines can reach a, unless open.
func (a address) allowedHTTP(open bool) error {
	if a.network != "unix" && !open && !loopbackAddr(a.address) {
		return usagef("%s: the status page names users, clients and snapshots to everybody who can connect: allow that with -A, "+
			"or choose loopback (127.0.0.1:8564) and reach it through ssh -L 8564:127.0.0.1:8564", a.given)
	}
	return nil
}

// listenPages listens for those who look at how the server is doing: on addrs, and what the manager listens on for it.
func (s *server) listenPages(ctx context.Context, addrs []address, v *service) ([]net.Listener, error) {
	ls, err := listenAll(ctx, addrs, v)
	if err != nil {
		return nil, err
	}
	given, err := v.left(forStatusPage, func(a address) error { return a.allowedHTTP(s.noAuth) })
	if err != nil {
		closeAll(ls)
		return nil, err
	}
	return append(ls, given...), nil
}

// loopbackAddr reports whether only this machine can reach an address of package net.
func loopbackAddr(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// serveWatch starts what shows how the server is doing. end waits until it has ended, after ctx has.
func (s *server) serveWatch(ctx context.Context, fsys *gefs.FS, srv *ninep.Server, pages []net.Listener, events *watch.Events) (end func()) {
	if len(pages) == 0 {
		return func() {}
	}
	w := &watch.Watcher{
		FS: fsys, Meter: srv.Meter, Clients: srv.Clients, Events: events,
		Disk: s.disk, Version: version(), Pprof: s.pprof, Logger: s.log,
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { w.Run(ctx) })
	for _, l := range pages {
		if public(l) {
			s.log.Warn("everybody who can reach this machine can see its status page", "addr", addrName(l))
		}
		if l.Addr().Network() == "unix" {
			fmt.Fprintf(s.errw, "status page on %s\n", addrName(l))
		} else {
			fmt.Fprintf(s.errw, "status page http://%s/\n", addrName(l))
		}
		wg.Go(func() {
			if err := w.Serve(ctx, l); err != nil {
				s.log.Error("the status page does not answer any more", "addr", addrName(l), "err", err)
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}
