package gefs

import (
	"context"
	"io"
	"sync"
	"time"
)

// limiterGrain is the shortest sleep that is worth it. A limiter is ahead of its rate by no more.
const limiterGrain = 10 * time.Millisecond

// A limiter spreads work over time. What was not used of the rate is gone. It is safe for concurrent
// use.
type limiter struct {
	now   func() time.Time
	sleep func(ctx context.Context, d time.Duration) error

	mu  sync.Mutex
	due time.Time // when all that was taken has had its time
}

func newLimiter() *limiter { return &limiter{now: time.Now, sleep: sleep} }

// sleep waits for d, or until ctx ends, and returns ctx's error then.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take returns when n bytes may be read at rate bytes a second, or with ctx's error.
func (l *limiter) take(ctx context.Context, n int, rate int64) error {
	l.mu.Lock()
	now := l.now()
	if l.due.Before(now) {
		l.due = now
	}
	wait := l.due.Sub(now)
	l.due = l.due.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	sleep := l.sleep
	l.mu.Unlock()
	if wait < limiterGrain {
		return ctx.Err()
	}
	return sleep(ctx, wait)
}

// A slowReader reads no faster than its limiter allows.
type slowReader struct {
	ctx  context.Context
	r    io.ReaderAt
	lim  *limiter
	rate int64
}

func (s *slowReader) ReadAt(p []byte, off int64) (int, error) {
	if err := s.lim.take(s.ctx, len(p), s.rate); err != nil {
		return 0, err
	}
	return s.r.ReadAt(p, off)
}
