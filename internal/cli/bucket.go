package cli

import (
	"sync"
	"time"
)

// A bucket says how often each host may do something: burst times at once, and then once each time
// that every has passed.
type bucket struct {
	burst int
	every time.Duration

	mu    sync.Mutex
	hosts map[string]time.Time // when the host's last turn is paid for
}

// take reports whether the host may now.
func (b *bucket) take(host string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	paid := b.hosts[host]
	if paid.Before(now) {
		paid = now
	}
	paid = paid.Add(b.every)
	if paid.Sub(now) > time.Duration(b.burst)*b.every {
		return false
	}
	if b.hosts == nil {
		b.hosts = make(map[string]time.Time)
	}
	if len(b.hosts) >= maxVisitors {
		for h, t := range b.hosts {
			if !t.After(now) {
				delete(b.hosts, h)
			}
		}
		if len(b.hosts) >= maxVisitors {
			clear(b.hosts)
		}
	}
	b.hosts[host] = paid
	return true
}
