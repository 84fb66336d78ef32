package cli

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"gefs9p/auth"
	"gefs9p/gefs"
	"gefs9p/ninep"
)

// A gate begins conversations in which clients prove who they are, and makes failures cost time: the
// host that a client is on waits longer for each further answer, and only so many of its
// conversations may wait. What fails is logged.
type gate struct {
	key  *auth.Key
	des  *auth.DESKey // nil if p9sk1 is not offered
	log  *slog.Logger
	unit time.Duration // the first delay; 0 means failUnit

	mu    sync.Mutex
	hosts map[string]*visitor
	open  map[string]int // conversations of each host
}

const (
	failUnit    = 500 * time.Millisecond
	failMost    = 8 * time.Second
	failForget  = 10 * time.Minute // without a failure, until a host begins anew
	failWaiting = 16               // conversations of a host that wait for bad news
	maxVisitors = 4096
	maxOpen     = 1024 // auth fids of a host
)

// A visitor is a host from which somebody could not prove who they are.
type visitor struct {
	fails int
	last  time.Time
	until []time.Time // when the delays end that still go on
}

// begin is gefs.Options.Auth.
func (g *gate) begin(c *ninep.Ctx, uname string) (gefs.Proof, error) {
	host := hostOf(c.Conn)
	if g.full(host) {
		return nil, fmt.Errorf("%s has too many failures waiting: %w", host, ninep.ErrNoAuth)
	}
	if !g.count(host, 1) {
		return nil, fmt.Errorf("%s has too many auth fids: %w", host, ninep.ErrNoAuth)
	}
	conv := auth.NewConv(g.key, uname)
	if g.des != nil {
		conv = auth.NewDESConv(g.key, g.des, uname)
	}
	return &proof{gate: g, conv: conv, uname: uname, host: host}, nil
}

// count adds n to the host's conversations, if there may be as many.
func (g *gate) count(host string, n int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[host]+n > maxOpen {
		return false
	}
	if g.open == nil {
		g.open = make(map[string]int)
	}
	if g.open[host] += n; g.open[host] == 0 {
		delete(g.open, host)
	}
	return true
}

// full reports whether as many answers for the host are delayed as may be. Hanging up does not end a
// delay.
func (g *gate) full(host string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.hosts[host]
	return v != nil && v.waiting(time.Now()) >= failWaiting
}

func (v *visitor) waiting(now time.Time) int {
	rest := v.until[:0]
	for _, t := range v.until {
		if t.After(now) {
			rest = append(rest, t)
		}
	}
	v.until = rest
	return len(rest)
}

// failed counts a failure and returns how long the answer is to take.
func (g *gate) failed(host string) time.Duration {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.hosts[host]
	if v == nil {
		if len(g.hosts) >= maxVisitors {
			g.forget(now)
		}
		if g.hosts == nil {
			g.hosts = make(map[string]*visitor)
		}
		v = new(visitor)
		g.hosts[host] = v
	}
	if now.Sub(v.last) > failForget {
		v.fails = 0
	}
	unit := g.unit
	if unit == 0 {
		unit = failUnit
	}
	d := min(unit<<min(v.fails, 10), failMost)
	v.fails++
	v.last = now
	v.until = append(v.until, now.Add(d))
	return d
}

// forget makes room: first those who have not failed for long, or else all that wait for nothing.
func (g *gate) forget(now time.Time) {
	for _, age := range []time.Duration{failForget, 0} {
		for host, v := range g.hosts {
			if now.Sub(v.last) >= age && v.waiting(now) == 0 {
				delete(g.hosts, host)
			}
		}
		if len(g.hosts) < maxVisitors {
			return
		}
	}
	clear(g.hosts) // thousands of hosts at once: whoever can do that does not wait for delays
}

// hostOf names the host at the other end of a connection: an address of IPv4, a network of IPv6, as
// each host there has many addresses, or "this machine".
func hostOf(c *ninep.Conn) string {
	if c == nil {
		return hostOfAddr(nil)
	}
	return hostOfAddr(c.RemoteAddr())
}

func hostOfAddr(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return "this machine"
	}
	ip, _ := netip.AddrFromSlice(tcp.IP)
	if ip = ip.Unmap(); ip.Is6() {
		if p, err := ip.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}

// A proof is a conversation at a gate. It is a gefs.Proof.
type proof struct {
	gate  *gate
	conv  *auth.Conv
	uname string
	host  string

	mu     sync.Mutex
	failed bool
}

func (p *proof) User() string { return p.conv.Proved() }

func (p *proof) Read(c *ninep.Ctx, b []byte, _ uint64) (int, error) {
	n, err := p.conv.Read(b)
	if err != nil {
		return 0, p.fail(c, err)
	}
	if n > 0 && p.conv.Proved() != "" {
		p.gate.log.Info("authenticated", "user", p.uname, "proto", p.conv.Protocol(), "conn", c.Conn)
	}
	return n, nil
}

func (p *proof) Write(c *ninep.Ctx, b []byte, _ uint64) (int, error) {
	if p.gate.full(p.host) {
		// Conversations that were begun before are not answered either, right or wrong.
		return 0, fmt.Errorf("%s has too many failures waiting: %w", p.host, ninep.ErrNoAuth)
	}
	n, err := p.conv.Write(b)
	if err != nil {
		return 0, p.fail(c, err)
	}
	return n, nil
}

// fail logs and delays the first failure of a conversation. It tells the client nothing but that.
func (p *proof) fail(c *ninep.Ctx, err error) error {
	p.mu.Lock()
	first := !p.failed
	p.failed = true
	p.mu.Unlock()
	if first {
		d := p.gate.failed(p.host)
		p.gate.log.Warn("authentication failed", "user", p.uname, "conn", c.Conn, "err", err, "delay", d)
		c.Sleep(func() {
			t := time.NewTimer(d)
			defer t.Stop()
			select {
			case <-t.C:
			case <-c.Cancelled():
			}
		})
	}
	return ninep.ErrNoAuth
}

func (p *proof) Clunk(*ninep.Ctx) { p.gate.count(p.host, -1) }
