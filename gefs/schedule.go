package gefs

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"gefs9p/ninep"
	"gefs9p/snap"
)

// DefaultSchedule is what retain says when it is not set. Source: gefs(8).
const DefaultSchedule = "60@m 24@h @d"

// A Retain is one line of a schedule: a snapshot every Period, of which the Count newest are kept,
// or all if Count is 0.
type Retain struct {
	Tag    string // minute, hour or day
	Period time.Duration
	Count  int
}

// A Schedule says which automatic snapshots of a label are made and kept, at most one Retain for
// each tag.
type Schedule []Retain

// maxCount bounds what a schedule may ask to be kept.
const maxCount = 1_000_000

var scales = []struct {
	letter byte
	tag    string
	unit   time.Duration
}{{'m', "minute", time.Minute}, {'h', "hour", time.Hour}, {'d', "day", 24 * time.Hour}}

// ParseSchedule reads a schedule: items "[count]@[interval]scale" between blanks, where scale is m,
// h or d. Without a count all are kept, without an interval it is 1. A later item of a scale
// replaces an earlier one; an empty text means no automatic snapshots.
func ParseSchedule(text string) (Schedule, error) {
	var s Schedule
	for _, item := range strings.Fields(text) {
		bad := func(why string) error {
			return fmt.Errorf("invalid time spec '%s': %s; an item is [count]@[interval]m, h or d, like 60@m or 7@2d", item, why)
		}
		count, rest, ok := strings.Cut(item, "@")
		if !ok || rest == "" {
			return nil, bad("it has no '@' with a scale behind it")
		}
		i := slices.IndexFunc(scales, func(x struct {
			letter byte
			tag    string
			unit   time.Duration
		}) bool {
			return x.letter == rest[len(rest)-1]
		})
		if i < 0 {
			return nil, bad("unknown scale")
		}
		r := Retain{Tag: scales[i].tag, Period: scales[i].unit}
		if count != "" {
			n, err := strconv.ParseUint(count, 10, 32)
			if err != nil || n > maxCount {
				return nil, bad(fmt.Sprintf("the count must be 0 to %d", maxCount))
			}
			r.Count = int(n)
		}
		if every := rest[:len(rest)-1]; every != "" {
			n, err := strconv.ParseUint(every, 10, 31)
			if err != nil || n == 0 || n > uint64(math.MaxInt64/r.Period) {
				return nil, bad("the interval must be a positive number")
			}
			r.Period *= time.Duration(n)
		}
		s = slices.DeleteFunc(s, func(o Retain) bool { return o.Tag == r.Tag })
		s = append(s, r)
	}
	return s, nil
}

// stamp is the form of the time in the name of an automatic snapshot, in UTC: all digits have a
// fixed width, so that names sort as times do.
const stamp = "2006.01.02_15:04:05"

// autoName returns the name of the automatic snapshot of label made at t.
func autoName(label, tag string, t time.Time) string {
	return label + "@" + tag + "." + t.UTC().Format(stamp)
}

// A scheduler makes automatic snapshots. last is when one was made, by label and tag; it is found
// from the labels there are, so that a restart neither loses nor doubles one.
type scheduler struct {
	last map[string]time.Time
}

// scheduleLoop looks every few seconds whether a snapshot is due.
func (fs *FS) scheduleLoop() {
	s := &scheduler{last: make(map[string]time.Time)}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fs.runSchedules(s, fs.now())
		case <-fs.ctx.Done():
			return
		}
	}
}

// runSchedules makes what is due at now, and removes what is no longer to be kept. What cannot be
// done is logged and left for the next time. Labels that nobody has mounted get one only if they
// changed since the last.
func (fs *FS) runSchedules(s *scheduler, now time.Time) {
	c, end := fs.Background()
	defer end()
	global, err := fs.schedule(c, "", nil)
	if err != nil {
		fs.log.Warn("no automatic snapshots", "err", err)
	}
	for _, l := range fs.forest.Labels() {
		if !l.Mutable || isReceiving(l.Name) || fs.ctx.Err() != nil {
			continue
		}
		plan, err := fs.schedule(c, l.Name, global)
		if err != nil {
			fs.log.Warn("no automatic snapshots", "of", l.Name, "err", err)
			continue
		}
		for _, r := range plan {
			if err := fs.runRetain(c, s, l, r, now); err != nil {
				fs.log.Warn("automatic snapshot", "of", l.Name, "every", r.Period, "err", err)
			}
		}
	}
}

// schedule returns what retain says for the label, or for the whole disk if it is empty; other is
// in force where it says nothing.
func (fs *FS) schedule(c *ninep.Ctx, label string, other Schedule) (Schedule, error) {
	text, ok, err := fs.Conf(c, label, RetainKey)
	if err != nil {
		return nil, err
	}
	if !ok {
		if label != "" {
			return other, nil
		}
		text = DefaultSchedule
	}
	return ParseSchedule(text)
}

// runRetain does what one line of a schedule asks for. A snapshot is due in each period that has
// none yet. Time that goes back makes none due until it has come to the next period.
func (fs *FS) runRetain(c *ninep.Ctx, s *scheduler, l snap.LabelInfo, r Retain, now time.Time) error {
	prefix := l.Name + "@" + r.Tag + "."
	var old []snap.LabelInfo
	for _, o := range fs.forest.Labels() {
		if t, ok := strings.CutPrefix(o.Name, prefix); ok && !o.Mutable {
			if _, err := time.Parse(stamp, t); err == nil {
				old = append(old, o)
			}
		}
	}
	key := l.Name + "@" + r.Tag
	last, known := s.last[key]
	if !known && len(old) > 0 {
		last, _ = time.Parse(stamp, old[len(old)-1].Name[len(prefix):])
	}
	period := func(t time.Time) int64 { return floorDiv(t.Unix(), int64(r.Period/time.Second)) }
	due := period(now) != period(last)
	switch {
	case now.Before(last):
		due = false
		s.last[key] = now
	case !due:
		s.last[key] = last
	}

	if !l.Open {
		// Nobody writes to it now. Had anybody since the last one, it would have moved on from
		// the snapshot that one names.
		if n := len(old); n > 0 && old[n-1].Gen == l.Gen || n == 0 && l.Name == snap.Adm {
			due = false
		}
	}

	keep := r.Count
	if due && keep > 0 {
		keep--
	}
	if r.Count > 0 && len(old) > keep {
		for _, o := range old[:len(old)-keep] {
			if err := fs.DeleteLabel(c, o.Name); err != nil && !errors.Is(err, snap.ErrMounted) {
				return err
			}
		}
	}
	if !due {
		return nil
	}
	err := fs.Label(c, l.Name, autoName(l.Name, r.Tag, now), false)
	if err == nil || errors.Is(err, snap.ErrExists) {
		s.last[key] = now
		return nil
	}
	return err
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
