package watch

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"gefs9p/blkfmt"
	"gefs9p/gefs"
	"gefs9p/users"
)

//go:embed page.html
var pageText string

// How much of a list the page shows.
const (
	clientsShown = 50
	usersShown   = 50
	eventsShown  = 40
	labelsShown  = 40
	barsShown    = 120
)

// A page is what page.html shows.
type page struct {
	Disk, Version string
	Now, Began    time.Time
	Up            string
	Refresh       int // seconds; 0 for never

	Alerts []string
	Tiles  []tile
	Charts []chart
	Map    *mapView
	Line   timeLine
	Labels []labelRow
	More   struct{ Labels, Clients, Users, Events int }

	Clients []clientRow
	Users   []userRow
	Events  []eventRow
}

// A tile is one number that people look for.
type tile struct {
	Name, Value, Note string
	Bad               bool
	Share             float64 // 0 to 1: how full a bar below is; negative for none
}

type clientRow struct {
	Who, Users, Dialect, Since string
	Requests                   string
	Received, Sent             string
	Fids, Waiting              int
}

type userRow struct {
	ID            int32
	Name, Members string
	Here          bool
}

type eventRow struct {
	Time, Level, Class, Message, Attrs string
}

// A labelRow is a label that people gave, or work in.
type labelRow struct {
	Name, Kind, Made, Holds string
	Gen                     int64
	Open                    bool
}

// A timeLine shows snapshots beside each other, the oldest first, each as high as what it holds.
type timeLine struct {
	Width, Height, Base float64
	Bars                []bar
	Ticks               []tick
	Grid                []tick // At is a height
	Holds               string // all that were counted
	Uncounted           int
	More                int
	Desc                string
}

type bar struct {
	X, Y, W, H float64
	Class      string
	Title      string
}

// A renderer makes pages.
type renderer struct{ tmpl *template.Template }

func newRenderer() *renderer {
	return &renderer{template.Must(template.New("page").Funcs(template.FuncMap{
		"size": size, "plain": plain, "percent": func(part, all int64) string { return percent(float64(part), float64(all)) },
	}).Parse(pageText))}
}

// WritePage writes the status page to out. refresh is after how many seconds a browser is to ask again; 0 for
// never.
func (w *Watcher) WritePage(out io.Writer, refresh int) error {
	w.init()
	w.look()
	p := w.page(time.Now())
	p.Refresh = refresh
	return newRenderer().tmpl.Execute(out, p)
}

func (w *Watcher) page(now time.Time) *page {
	p := &page{Disk: w.Disk, Version: w.Version, Now: now, Began: w.began, Up: long(now.Sub(w.began))}
	l := w.load()
	bs := binned(w.history(), now)
	p.Charts = charts(bs)
	p.Map = w.blockMap()
	p.alerts(w)
	p.tiles(w, l, bs)
	snaps, more := w.snapshots()
	p.Line = newTimeLine(snaps, more)
	p.labels(snaps)
	p.clients(l, now)
	p.users(w.FS.Users(), l)
	p.events(w.Events.Last())
	return p
}

// alerts are what somebody should do something about.
func (p *page) alerts(w *Watcher) {
	if err := w.FS.Store().Err(); err != nil {
		p.Alerts = append(p.Alerts, "Nothing can be changed any more: "+err.Error())
	} else if !w.FS.Store().CanWrite() {
		p.Alerts = append(p.Alerts, "The disk is served read-only.")
	}
	if d := w.stuck(); d > 0 {
		p.Alerts = append(p.Alerts, "Nothing could be changed for "+long(d)+": a request, a commit or the device is stuck.")
	}
	s := w.FS.Scrub()
	if n := s.Bad - s.Healed; n > 0 {
		p.Alerts = append(p.Alerts, fmt.Sprintf("The scrub has found %d damaged blocks that have no other copy; scrub on the console says which files have them.", n))
	}
	if n := w.FS.Store().Stats().Corrupt; n > 0 {
		p.Alerts = append(p.Alerts, fmt.Sprintf("%d times a block was read that was not what it should be; the log says which.", n))
	}
	for i, a := range w.FS.Arenas() {
		if a.Suspect != "" {
			p.Alerts = append(p.Alerts, fmt.Sprintf("The allocation log of arena %d is not to be believed: %s", i, a.Suspect))
		}
	}
}

func (p *page) tiles(w *Watcher, l load, bs []bin) {
	st := w.FS.Store().Stats()
	total, used, waiting := space(p.Map.Arenas)
	room := w.FS.Store().Arenas().Room() * blkfmt.BlkSize
	add := func(name, value, note string) *tile {
		p.Tiles = append(p.Tiles, tile{Name: name, Value: value, Note: note, Share: -1})
		return &p.Tiles[len(p.Tiles)-1]
	}
	t := add("Space", percent(float64(used), float64(total)), size(used)+" of "+size(total)+", "+size(room)+" left")
	t.Share, t.Bad = float64(used)/float64(max(total, 1)), room < total/50
	var last bin
	for _, b := range bs {
		if b.known {
			last = b
		}
	}
	add("Requests", count(last.reads+last.writes+last.others)+"/s",
		fmt.Sprintf("%s read, %s written", count(last.reads), count(last.writes)))
	if last.p99 > 0 {
		add("Latency", short(last.p50), "99 % below "+short(last.p99))
	} else {
		add("Latency", "–", "no requests")
	}
	unsynced := w.FS.Unsynced()
	note := "all changes are on the disk"
	if unsynced > 0 {
		note = "age of the oldest unsaved change"
	}
	t = add("Unsynced", short(unsynced.Round(100*time.Millisecond)), note)
	t.Bad = unsynced > 30*time.Second
	t = add("Write queue", count(float64(st.Queued)), "blocks; "+size(waiting)+" wait to be free")
	t.Share = float64(st.Dirty) / float64(max(st.CacheMax, 1))
	hits := float64(st.Hits)
	add("Cache", percent(hits, hits+float64(st.Misses)), "found; "+size(int64(st.Cache)*blkfmt.BlkSize)+" of "+size(int64(st.CacheMax)*blkfmt.BlkSize)+" in use")
	add("Clients", count(float64(len(l.clients))), fmt.Sprintf("%s fids, %d requests wait", count(float64(l.fids)), l.outstanding))
	s := w.FS.Scrub()
	switch {
	case s.State == gefs.ScrubRunning:
		t = add("Scrub", percent(float64(s.Read), float64(max(s.Used, s.Read, 1))), "under way; "+damaged(s.Bad))
		t.Share = float64(s.Read) / float64(max(s.Used, s.Read, 1))
	case s.Ended.IsZero():
		t = add("Scrub", "never", "scrub start on the console begins it")
	default:
		t = add("Scrub", long(p.Now.Sub(s.Ended))+" ago", damaged(s.Bad))
	}
	t.Bad = s.Bad > s.Healed
}

func damaged(n int64) string {
	switch n {
	case 0:
		return "nothing damaged"
	case 1:
		return "1 block damaged"
	}
	return fmt.Sprintf("%d blocks damaged", n)
}

// holds is what a snapshot holds, for people.
func (s *snapshot) holds() string {
	switch {
	case s.Mutable:
		return ""
	case s.holding.at.IsZero():
		return "not counted yet"
	case s.holding.unknown:
		return "too much to count"
	}
	return size(s.holding.bytes)
}

// made is when a snapshot was made, for people.
func (s *snapshot) made() string {
	if s.Made.IsZero() {
		return ""
	}
	return s.Made.UTC().Format("2006-01-02 15:04")
}

func newTimeLine(list []snapshot, more int) timeLine {
	list = slices.DeleteFunc(slices.Clone(list), func(s snapshot) bool { return s.Mutable })
	if n := len(list) - barsShown; n > 0 {
		list, more = list[n:], more+n
	}
	t := timeLine{Width: mapLeft + mapColumns*cellWidth, Height: 132, Base: 106, More: more}
	most, sum := int64(0), int64(0)
	for _, s := range list {
		if s.holding.at.IsZero() || s.holding.unknown {
			t.Uncounted++
			continue
		}
		most = max(most, s.holding.bytes)
		sum += s.holding.bytes
	}
	t.Holds = size(sum)
	t.Desc = fmt.Sprintf("%d snapshots, the oldest first; each alone holds up to %s.", len(list), size(most))
	if len(list) == 0 {
		return t
	}
	high := t.grid(most)
	left := 58.0
	step := min((t.Width-left)/float64(len(list)), 26)
	next := left
	for i := range list {
		s := &list[i]
		x := left + float64(i)*step
		b := bar{X: x, W: max(step-max(step*.2, 1), 1), H: 2, Class: "k-" + strings.ReplaceAll(s.Kind, " ", "")}
		if s.holding.at.IsZero() || s.holding.unknown {
			b.Class += " unknown"
		} else {
			b.H = max(2, high(s.holding.bytes))
		}
		b.Y = t.Base - b.H
		b.Title = plain(s.Name) + ": " + s.holds()
		t.Bars = append(t.Bars, b)
		if !s.Made.IsZero() && x >= next && x < t.Width-60 {
			t.Ticks = append(t.Ticks, tick{x, s.Made.UTC().Format("2 Jan 15:04")})
			next = x + 110
		}
	}
	return t
}

// grid makes a logarithmic scale from half a block to most, in steps of 16 times as much, or more of them. It
// returns how high a bar for so many bytes is.
func (t *timeLine) grid(most int64) (high func(bytes int64) float64) {
	const top, least = 12, blkfmt.BlkSize / 2
	steps := math.Ceil(math.Log2(float64(max(most, 16*blkfmt.BlkSize))/blkfmt.BlkSize)/4 + 1e-9)
	scale := (t.Base - top) / math.Log2(math.Pow(16, steps)*blkfmt.BlkSize/least)
	high = func(bytes int64) float64 {
		if bytes < least {
			return 0
		}
		return math.Log2(float64(bytes)/least) * scale
	}
	t.Grid = append(t.Grid, tick{t.Base, "0"})
	for k, step := 0.0, math.Ceil(steps/4); k <= steps; k += step {
		if v := int64(math.Pow(16, k)) * blkfmt.BlkSize; k > 0 || step == 1 {
			t.Grid = append(t.Grid, tick{t.Base - high(v), size(v)})
		}
	}
	return high
}

// labels are the labels that no schedule has made.
func (p *page) labels(list []snapshot) {
	for i := len(list) - 1; i >= 0; i-- {
		s := &list[i]
		if s.Kind == "minute" || s.Kind == "hour" || s.Kind == "day" {
			continue
		}
		if len(p.Labels) == labelsShown {
			p.More.Labels++
			continue
		}
		p.Labels = append(p.Labels, labelRow{plain(s.Name), s.Kind, s.made(), s.holds(), int64(s.Gen), s.Open})
	}
}

func (p *page) clients(l load, now time.Time) {
	list := slices.Clone(l.clients)
	slices.Reverse(list) // the newest first
	if p.More.Clients = len(list) - clientsShown; p.More.Clients > 0 {
		list = list[:clientsShown]
	}
	p.More.Clients = max(p.More.Clients, 0)
	for _, c := range list {
		row := clientRow{
			Who: "a pipe", Dialect: c.Dialect.String(), Since: long(now.Sub(c.Since)), Requests: count(float64(c.Requests)),
			Received: size(int64(c.Received)), Sent: size(int64(c.Sent)), Fids: c.Fids, Waiting: c.Outstanding,
		}
		if c.Remote != nil {
			row.Who = c.Remote.Network() + " " + c.Remote.String()
			if c.Remote.Network() == "unix" {
				row.Who = "Unix socket"
			}
		}
		names := make([]string, len(c.Users))
		for i, u := range c.Users {
			names[i] = plain(u)
		}
		row.Users = strings.Join(names, ", ")
		p.Clients = append(p.Clients, row)
	}
}

func (p *page) users(t *users.Table, l load) {
	here := map[string]bool{}
	for _, c := range l.clients {
		for _, u := range c.Users {
			here[u] = true
		}
	}
	for _, u := range t.Users() {
		if len(p.Users) == usersShown {
			p.More.Users++
			continue
		}
		row := userRow{ID: u.ID, Name: plain(u.Name), Here: here[u.Name]}
		var members []string
		for _, m := range u.Members {
			if name, ok := t.Name(m); ok {
				members = append(members, plain(name))
			}
		}
		row.Members = strings.Join(members, ", ")
		p.Users = append(p.Users, row)
	}
}

func (p *page) events(list []Event) {
	for _, e := range list {
		if len(p.Events) == eventsShown {
			p.More.Events++
			continue
		}
		row := eventRow{Time: e.Time.Format("01-02 15:04:05"), Message: plain(e.Message), Attrs: plain(e.Attrs), Level: "info"}
		switch {
		case e.Level >= slog.LevelError:
			row.Level = "error"
		case e.Level >= slog.LevelWarn:
			row.Level = "warning"
		case e.Level < slog.LevelInfo:
			row.Level = "debug"
		}
		row.Class = row.Level
		p.Events = append(p.Events, row)
	}
}
