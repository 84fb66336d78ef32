package gefs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/check"
	"gefs9p/kvfmt"
)

// Rates of a scrub, in bytes a second.
const (
	DefaultScrubRate = 20 << 20
	MinScrubRate     = 64 << 10
)

const (
	scrubSave     = time.Minute      // how often the place is written down
	scrubAgain    = 10 * time.Second // after a step that was given up, because the disk was full or for another reason
	scrubDue      = time.Minute      // how often is looked whether a scrub is due
	scrubProblems = 100              // remembered
)

// A ScrubState says what the scrubber does.
type ScrubState string

// The states.
const (
	ScrubIdle    ScrubState = "idle"    // there is none under way
	ScrubRunning ScrubState = "running" //
	ScrubPaused  ScrubState = "paused"  // it was stopped; it can be gone on with
)

// A ScrubStatus says how far a scrub is, and what it has found. Sizes are bytes.
type ScrubStatus struct {
	State    ScrubState      `json:"state"`
	Rate     int64           `json:"rate"`              // a second
	Began    time.Time       `json:"began,omitzero"`    // this one, or the last if there is none
	Ended    time.Time       `json:"ended,omitzero"`    // the last one that came to its end
	Read     int64           `json:"read"`              // of this one, or the last
	Used     int64           `json:"used"`              // on the disk: about what there is to read
	Bad      int64           `json:"bad"`               // blocks that are damaged
	Healed   int64           `json:"healed"`            // of these, those that had a second copy
	Waiting  string          `json:"waiting,omitempty"` // why it does not go on just now
	Problems []check.Problem `json:"problems"`          // the first scrubProblems that were found since the server started
}

// A scrubber reads every block in use, in the background and slowly, and compares it with what points at
// it, on the device and not in the cache. It goes on in steps, each on the state that is committed when it
// begins (blkstore.View), so that it pins no state for long; check.Mark says why it misses nothing.
//
// Its place is kept in memory between steps and written down once a minute, and at its end, in the tree of
// snapshots (kvfmt.Scrub), so that it goes on after a restart or a crash.
type scrubber struct {
	lim   *limiter
	every time.Duration // begin one so long after the last has ended; 0: only when asked
	wake  chan struct{} // a token when there is something to look at
	ctx   context.Context
	end   context.CancelFunc
	done  sync.WaitGroup

	mu     sync.Mutex
	st     ScrubStatus
	mark   check.Mark
	known  map[blkfmt.Addr]bool // blocks that were found bad in this scrub
	halt   context.CancelFunc   // ends the step under way; nil if there is none
	record string               // the value that is written down
	saved  time.Time            // when
}

func (s *scrubber) init(ctx context.Context, every time.Duration) {
	s.lim, s.every, s.wake = newLimiter(), every, make(chan struct{}, 1)
	s.ctx, s.end = context.WithCancel(ctx)
	s.known = make(map[blkfmt.Addr]bool)
	s.st = ScrubStatus{State: ScrubIdle, Rate: DefaultScrubRate}
}

func (s *scrubber) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// StartScrub begins a scrub, or goes on with the one that was stopped. rate is in bytes a second; 0 leaves it
// as it was, DefaultScrubRate at first. It reports whether one was running already; then only the rate
// changes. It does not wait.
func (fs *FS) StartScrub(rate int64) (running bool, err error) {
	if rate != 0 && rate < MinScrubRate {
		return false, fmt.Errorf("scrub: %d bytes a second; it takes at least %d", rate, int64(MinScrubRate))
	}
	s := &fs.scrub
	s.mu.Lock()
	defer s.mu.Unlock()
	if rate != 0 {
		s.st.Rate = rate
	}
	running = s.st.State == ScrubRunning
	if !running {
		s.startLocked(fs.now())
	}
	return running, nil
}

func (s *scrubber) startLocked(now time.Time) {
	if s.st.State == ScrubIdle {
		s.st.Began, s.st.Read, s.st.Bad, s.st.Healed = now, 0, 0, 0
		s.mark = check.Mark{}
		clear(s.known)
	}
	s.st.State = ScrubRunning
	s.poke()
}

// StopScrub stops a scrub in its place. It reports whether one was running.
func (fs *FS) StopScrub() bool {
	s := &fs.scrub
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.st.State != ScrubRunning {
		return false
	}
	s.st.State, s.st.Waiting = ScrubPaused, ""
	if s.halt != nil {
		s.halt()
	}
	s.poke()
	return true
}

// Scrub says what the scrubber does and has found.
func (fs *FS) Scrub() ScrubStatus {
	s := &fs.scrub
	s.mu.Lock()
	st := s.st
	st.Problems = slices.Clone(st.Problems)
	s.mu.Unlock()
	for _, a := range fs.Arenas() {
		st.Used += a.Used - a.Waiting
	}
	return st
}

// scrubLoop scrubs until the file system is closed.
func (fs *FS) scrubLoop() {
	s := &fs.scrub
	fs.loadScrub()
	var checker check.Checker
	for s.ctx.Err() == nil {
		s.mu.Lock()
		if s.every > 0 && s.st.State == ScrubIdle && fs.now().Sub(s.st.Ended) >= s.every {
			s.startLocked(fs.now())
		}
		running := s.st.State == ScrubRunning
		ctx, halt := context.WithCancel(s.ctx)
		s.halt = halt
		s.mu.Unlock()
		var err error
		if running {
			err = fs.scrubStep(ctx, &checker)
		}
		if err != nil && ctx.Err() == nil {
			s.wait(ctx, scrubAgain)
		}
		halt()
		fs.saveScrub(false)
		if !running {
			s.wait(s.ctx, scrubDue)
		}
	}
}

// wait waits for d, or until something has changed.
func (s *scrubber) wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.wake:
	case <-ctx.Done():
	}
}

// endScrub ends the loop and writes down how far it has come.
func (fs *FS) endScrub() {
	fs.scrub.end()
	fs.scrub.done.Wait()
	fs.saveScrub(true)
}

// scrubStep reads for about two seconds. After an error the step is to be done again.
func (fs *FS) scrubStep(ctx context.Context, checker *check.Checker) error {
	s := &fs.scrub
	s.mu.Lock()
	mark, rate := s.mark, s.st.Rate
	s.mu.Unlock()
	blocks := min(max(2*rate/blkfmt.BlkSize, 16), 4096)
	var rep *check.ScanReport
	err := fs.viewed(ctx, func(ctx context.Context, v *blkstore.View) (err error) {
		r := &slowReader{ctx: ctx, r: v, lim: s.lim, rate: rate}
		rep, err = checker.Scan(ctx, r, v.Size(), check.ScanOptions{
			Super: v.Super(), Stop: func(n int64) bool { return n >= blocks },
		}, mark)
		return err
	})
	if err != nil {
		s.mu.Lock()
		if ctx.Err() == nil && s.st.Waiting != err.Error() {
			s.st.Waiting = err.Error()
			fs.log.Warn("the scrub does not go on for the moment", "err", err)
		}
		s.mu.Unlock()
		return err
	}
	fixed := fs.scrubFound(rep)
	var healed []blkfmt.Addr
	if fixed {
		healed = fs.heal()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.st.Waiting = ""
	s.st.Read += rep.Blocks * blkfmt.BlkSize
	for _, a := range healed {
		if s.known[a] {
			s.st.Healed++
		}
	}
	s.mark = rep.Next
	if !rep.Done {
		return nil
	}
	s.st.State, s.st.Ended, s.mark = ScrubIdle, fs.now(), check.Mark{}
	log := fs.log.Info
	if s.st.Bad > s.st.Healed {
		log = fs.log.Error
	}
	log("the scrub has come to its end", "read", s.st.Read, "damaged", s.st.Bad, "healed", s.st.Healed, "took", s.st.Ended.Sub(s.st.Began).Round(time.Second))
	return nil
}

// scrubFound takes in what a step found. It reports whether that concerns something that has a second
// copy.
func (fs *FS) scrubFound(rep *check.ScanReport) (fixed bool) {
	s := &fs.scrub
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range rep.Problems {
		if p.Severity < check.Error || s.known[p.Addr] && p.Addr != blkfmt.NoAddr {
			continue
		}
		s.known[p.Addr] = true
		s.st.Bad++
		if len(s.st.Problems) < scrubProblems {
			s.st.Problems = append(s.st.Problems, p)
		}
		fs.log.Error("scrub: a damaged block", "at", p.Addr, "block", p.Block, "kind", p.Kind, "what", p.Text, "files", strings.Join(p.Paths, ", "), "more", p.MorePaths)
		fixed = fixed || p.Kind == check.SuperBad || p.Kind == check.HeaderStale || p.Kind == check.HeaderBad
	}
	return fixed
}

// heal makes superblocks and arena headers good again from their copies, by a commit. It returns which
// it has healed.
func (fs *FS) heal() (healed []blkfmt.Addr) {
	if fs.Err() != nil {
		return nil
	}
	fs.commitMu.Lock()
	bad := fs.st.Rotten()
	fs.mutMu.Lock()
	err := fs.st.Mend(bad)
	fs.mutMu.Unlock()
	fs.commitMu.Unlock()
	if err == nil && len(bad) > 0 {
		err = fs.Sync(fs.ctx)
	}
	if err != nil {
		fs.log.Error("scrub: copies of superblocks or arena headers cannot be healed", "at", bad, "err", err)
		return nil
	}
	fs.commitMu.Lock()
	left := fs.st.Rotten()
	fs.commitMu.Unlock()
	for _, a := range bad {
		if slices.Contains(left, a) {
			fs.log.Error("scrub: healed, and damaged again: the device does not keep what is written", "at", a)
			continue
		}
		healed = append(healed, a)
		fs.log.Warn("scrub: healed from its other copy", "at", a)
	}
	return healed
}

// loadScrub goes on where the server before has left.
func (fs *FS) loadScrub() {
	c, end := fs.Background()
	defer end()
	val, ok, err := fs.Conf(c, "", string(kvfmt.AppendScrubKey(nil)[1:]))
	if err != nil || !ok {
		if err != nil {
			fs.log.Warn("cannot read how far the last scrub came", "err", err)
		}
		return
	}
	rec, err := kvfmt.GetScrub([]byte(val))
	var mark check.Mark
	if err == nil {
		mark, err = check.ParseMark(rec.Mark)
	}
	if err != nil || rec.Rate < MinScrubRate {
		fs.log.Warn("ignoring a malformed record of the last scrub", "err", err)
		return
	}
	s := &fs.scrub
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.st.State != ScrubIdle { // somebody was faster
		return
	}
	s.record, s.saved = val, fs.now()
	at := func(sec int64) time.Time {
		if sec == 0 {
			return time.Time{}
		}
		return time.Unix(sec, 0)
	}
	s.st.Rate, s.st.Read, s.st.Bad, s.st.Healed = rec.Rate, rec.Read, rec.Bad, rec.Healed
	s.st.Began, s.st.Ended = at(rec.Began), at(rec.Ended)
	s.mark = mark
	switch {
	case rec.Running:
		s.st.State = ScrubRunning
		fs.log.Info("going on with the scrub", "read", rec.Read)
	case mark.String() != (check.Mark{}).String():
		s.st.State = ScrubPaused
	}
}

// saveScrub writes down how far the scrub has come, if that is worth it or asked for.
func (fs *FS) saveScrub(now bool) {
	if fs.Err() != nil {
		return
	}
	s := &fs.scrub
	s.mu.Lock()
	sec := func(t time.Time) int64 {
		if t.IsZero() {
			return 0
		}
		return max(t.Unix(), 0)
	}
	rec := kvfmt.Scrub{
		Running: s.st.State == ScrubRunning, Rate: s.st.Rate, Began: sec(s.st.Began), Ended: sec(s.st.Ended),
		Read: s.st.Read, Bad: s.st.Bad, Healed: s.st.Healed, Mark: s.mark.String(),
	}
	val := string(rec.Append(nil))
	worth := !s.st.Began.IsZero() && val != s.record &&
		(now || !rec.Running || fs.now().Sub(s.saved) >= scrubSave || s.record == "")
	s.mu.Unlock()
	if !worth {
		return
	}
	c, end := fs.Background()
	defer end()
	err := fs.retry(c, func() error {
		return fs.forest.SetConf(guard(c), kvfmt.Msg{Op: kvfmt.Insert, Key: kvfmt.AppendScrubKey(nil), Val: []byte(val)})
	})
	if err != nil {
		if !errors.Is(err, errReadOnly) {
			fs.log.Warn("cannot write down how far the scrub has come", "err", err)
		}
		return
	}
	s.mu.Lock()
	s.record, s.saved = val, fs.now()
	s.mu.Unlock()
}
