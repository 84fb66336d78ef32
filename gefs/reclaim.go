package gefs

import (
	"context"
	"errors"
	"sync"
	"time"

	"gefs9p/arena"
	"gefs9p/snap"
)

const (
	// reclaimShare is the part of the time for which Reclaim may hold the mutation lock while others
	// want it: one in so many.
	reclaimShare = 8
	// reclaimRest bounds the rest after a piece.
	reclaimRest = 100 * time.Millisecond
	// closingReclaim is for how long Close goes on with what deletions have left to do.
	closingReclaim = 5 * time.Second
)

// A reclaimer gives back, in the background, what only deleted snapshots had. What it has to do stands in
// the forest, and on the disk.
type reclaimer struct {
	mu    sync.Mutex
	token bool          // somebody has left something to do since the loop looked last
	hurry int           // those who wait for space, or for the end: no rest between pieces
	idle  bool          // nothing is to be done, or nothing can be
	moved chan struct{} // closed, and replaced, after each piece and when idle changes
	kick  chan struct{} // one token when token or hurry is set
}

func (r *reclaimer) init() {
	r.moved = make(chan struct{})
	r.kick = make(chan struct{}, 1)
}

// wake has the loop look whether there is something to do. The caller may have the mutation lock.
func (r *reclaimer) wake() {
	r.mu.Lock()
	r.token, r.idle = true, false
	r.mu.Unlock()
	r.poke()
}

func (r *reclaimer) poke() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// looks notes that the loop is about to look: what is left from here on may escape it.
func (r *reclaimer) looks() {
	r.mu.Lock()
	r.token = false
	r.mu.Unlock()
}

// moves tells those who wait that a piece was done, or none as there is nothing more that can be done. It
// reports whether somebody waits.
func (r *reclaimer) moves(idle bool) (hurry bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idle = idle && !r.token
	close(r.moved)
	r.moved = make(chan struct{})
	return r.hurry > 0
}

// busy reports whether there is something to do that can be done.
func (r *reclaimer) busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.idle
}

// wait returns after the next piece, at once if there is none, and else when done is closed.
func (r *reclaimer) wait(done <-chan struct{}) {
	r.mu.Lock()
	idle, moved := r.idle, r.moved
	r.hurry++
	r.mu.Unlock()
	if !idle {
		r.poke()
		select {
		case <-moved:
		case <-done:
		}
	}
	r.mu.Lock()
	r.hurry--
	r.mu.Unlock()
}

// finish waits until nothing is left to do, for at most d.
func (r *reclaimer) finish(d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	for r.busy() && ctx.Err() == nil {
		r.wait(ctx.Done())
	}
}

// reclaimLoop does one piece after the other until the file system is closed. What is left then goes on
// when it is opened next.
func (fs *FS) reclaimLoop() {
	r := &fs.reclaimer
	for fs.ctx.Err() == nil {
		r.looks()
		did, held, err := fs.reclaimPiece()
		full := errors.Is(err, arena.ErrFull)
		if full {
			// The next commit gives back what the pieces before have freed. If that is nothing,
			// somebody else has to make room first.
			err = fs.release()
		}
		if err != nil && !errors.Is(err, errReadOnly) && fs.ctx.Err() == nil {
			fs.log.Error("the space of a deleted snapshot cannot be given back; it will be tried again at the next start", "err", err)
		}
		stop := !did || errors.Is(err, errReadOnly)
		hurry := r.moves(stop || full)
		var timer <-chan time.Time
		switch {
		case stop:
		case full:
			timer = time.After(reclaimRest)
		case hurry:
			continue
		default:
			timer = time.After(min(reclaimShare*held, reclaimRest))
		}
		select {
		case <-r.kick:
		case <-timer:
		case <-fs.ctx.Done():
		}
	}
}

// reclaimPiece does a piece, if there is any, and says for how long others had to wait.
func (fs *FS) reclaimPiece() (did bool, held time.Duration, err error) {
	c, end := fs.Background()
	defer end()
	if err := fs.begin(c, 0); err != nil {
		return false, 0, err
	}
	g := guard(c)
	p := fs.forest.Reclaim(g)
	fs.mutMu.Unlock()
	if p == nil {
		return false, 0, nil
	}
	unread := p.Read(fs.ctx, g)
	if err := fs.begin(c, 0); err != nil {
		fs.lockMut(c)
		p.GiveUp(nil)
		fs.mutMu.Unlock()
		return true, 0, err
	}
	defer fs.end(c)
	switch {
	case fs.ctx.Err() != nil:
		p.GiveUp(nil)
		return true, 0, fs.ctx.Err()
	case unread != nil:
		p.GiveUp(unread)
		return true, 0, unread
	}
	start := time.Now()
	err = p.Apply(g)
	var half *snap.HalfError
	if errors.As(err, &half) {
		fs.st.Latch(err)
	}
	return true, time.Since(start), err
}
