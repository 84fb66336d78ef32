package bench

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// A meter shows on a terminal how far a run is: one line, written over again and again. Where there is
// no terminal it does nothing, and so does a nil one. It belongs to one goroutine, and has one of its
// own between start and stop.
type meter struct {
	w     io.Writer // nil if there is nobody to see it
	what  string
	width int // of what the line shows

	quit chan struct{}
	wg   sync.WaitGroup
}

// meterPeriod is how often the line changes.
const meterPeriod = 200 * time.Millisecond

// open shows the meter on w if that is a terminal.
func (m *meter) open(w io.Writer) {
	if f, ok := w.(*os.File); ok && f != nil && term.IsTerminal(int(f.Fd())) {
		m.w = w
	}
}

// close takes the line away.
func (m *meter) close() { m.clear() }

// load names the workload that start is about, and returns m.
func (m *meter) load(what string) *meter {
	m.what = what
	m.say(what)
	return m
}

// start shows how many of total operations are done, until stop. The total may be too high.
func (m *meter) start(done *atomic.Int64, total int) {
	if m == nil || m.w == nil {
		return
	}
	quit := make(chan struct{})
	m.quit = quit
	m.wg.Go(func() {
		tick := time.NewTicker(meterPeriod)
		defer tick.Stop()
		began := time.Now()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				m.say(progressText(m.what, done.Load(), total, time.Since(began)))
			}
		}
	})
}

// stop ends what start began.
func (m *meter) stop() {
	if m == nil || m.quit == nil {
		return
	}
	close(m.quit)
	m.wg.Wait()
	m.quit = nil
}

func progressText(what string, done int64, total int, d time.Duration) string {
	s := fmt.Sprintf("%s: %d", what, done)
	if total > 0 && total < 1<<31 {
		s += fmt.Sprintf(" of %d, %d%%", total, 100*done/int64(total))
	}
	return s + fmt.Sprintf(", %.0f ops/s", float64(done)/max(d, 1).Seconds())
}

// say replaces the line.
func (m *meter) say(s string) {
	if m == nil || m.w == nil {
		return
	}
	n := utf8.RuneCountInString(s)
	fmt.Fprintf(m.w, "\r%s%s", s, strings.Repeat(" ", max(0, m.width-n)))
	m.width = n
}

// clear empties the line, for other output to come.
func (m *meter) clear() {
	if m == nil || m.w == nil || m.width == 0 {
		return
	}
	fmt.Fprintf(m.w, "\r%s\r", strings.Repeat(" ", m.width))
	m.width = 0
}
