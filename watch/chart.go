package watch

import (
	"fmt"
	"math"
	"strings"
	"time"

	"gefs9p/blkfmt"
	"gefs9p/ninep"
)

// The curves cover shown, in steps of one bin.
const (
	shown = 10 * time.Minute
	binOf = 5 * time.Second
	bins  = int(shown / binOf)

	chartWidth, chartHeight                  = 400, 150
	plotLeft, plotRight, plotTop, plotBottom = 54, chartWidth - 14, 8, 128
)

// A chart is a picture of numbers over the last minutes.
type chart struct {
	Title  string
	ID     string // for the page
	Desc   string // in words, for who does not see it
	Width  int
	Height int
	Lines  []chartLine // areas are drawn before lines
	Grid   []tick
	Times  []tick
	Empty  bool
}

type chartLine struct {
	Name, Class string
	Area, Line  string // paths
	Now         string // the last value
}

type tick struct {
	At   float64
	Text string
}

// A bin is what happened in five seconds; rates are a second.
type bin struct {
	known                 bool
	reads, writes, others float64
	received, sent        float64
	p50, p99              time.Duration // 0 if there was no request
	hits                  float64       // share of blocks found in the cache; negative if none was asked for
}

// binned makes bins of the samples, which end at now. The bins' bounds are whole multiples of five seconds, so
// that the picture moves and does not tremble.
func binned(list []sample, now time.Time) []bin {
	out := make([]bin, bins)
	end := now.Truncate(binOf)
	begin := end.Add(-shown)
	j := 0
	for i := range out {
		from, to := begin.Add(time.Duration(i)*binOf), begin.Add(time.Duration(i+1)*binOf)
		for j < len(list) && list[j].at.Before(from) {
			j++
		}
		a := max(j-1, 0) // the last before, so that nothing falls between two bins
		k := j
		for k < len(list) && !list[k].at.After(to) {
			k++
		}
		if k-1 <= a || k-1 >= len(list) {
			continue
		}
		out[i] = between(&list[a], &list[k-1])
	}
	return out
}

// between is what happened between two samples.
func between(a, b *sample) bin {
	d := b.at.Sub(a.at).Seconds()
	if d <= 0 {
		return bin{}
	}
	rate := func(from, to uint64) float64 { return float64(to-from) / d }
	var took [ninep.TimeBuckets]uint64
	for i := range took {
		took[i] = b.took[i] - a.took[i]
	}
	x := bin{
		known: true,
		reads: rate(a.reads, b.reads), writes: rate(a.writes, b.writes), others: rate(a.others, b.others),
		received: rate(a.received, b.received), sent: rate(a.sent, b.sent),
		p50: quantile(&took, 0.5), p99: quantile(&took, 0.99), hits: -1,
	}
	hits, misses := b.store.Hits-a.store.Hits, b.store.Misses-a.store.Misses
	if hits+misses > 0 {
		x.hits = float64(hits) / float64(hits+misses)
	}
	return x
}

// quantile is the time that a share q of the requests did not exceed, to the precision of the classes; 0 if there
// are none.
func quantile(took *[ninep.TimeBuckets]uint64, q float64) time.Duration {
	total := uint64(0)
	for _, n := range took {
		total += n
	}
	if total == 0 {
		return 0
	}
	rest := q * float64(total)
	for i, n := range took {
		if rest <= float64(n) && n > 0 {
			hi := float64(ninep.TimeBound(i))
			if i == 0 {
				return time.Duration(hi * max(rest/float64(n), 0.01))
			}
			lo := float64(ninep.TimeBound(i - 1))
			if i == ninep.TimeBuckets-1 {
				return time.Duration(lo)
			}
			return time.Duration(lo * math.Pow(hi/lo, rest/float64(n)))
		}
		rest -= float64(n)
	}
	return ninep.TimeBound(ninep.TimeBuckets - 1)
}

// A series is one curve.
type series struct {
	name, class string
	of          func(b *bin) float64 // negative for nothing
}

// scale says where a value is drawn: 0 is the bottom, 1 the top.
type scale struct {
	at   func(v float64) float64
	grid []tick // At is a value
}

// linear is a scale from 0 to something round that is not less than most. unit is 1000, or 1024 for bytes.
func linear(most, unit float64, text func(float64) string) scale {
	u := 1.0
	for most/u >= unit {
		u *= unit
	}
	top := u
	for _, m := range []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, unit} {
		if top = m * u; top >= most {
			break
		}
	}
	s := scale{at: func(v float64) float64 { return v / top }}
	for _, v := range []float64{0, top / 2, top} {
		s.grid = append(s.grid, tick{v, text(v)})
	}
	return s
}

// decades is a logarithmic scale of seconds.
func decades(least, most float64) scale {
	lo, hi := math.Floor(math.Log10(least)), math.Ceil(math.Log10(most))
	lo, hi = max(lo, -6), min(max(hi, lo+2), 3)
	lo = min(lo, hi-2)
	s := scale{at: func(v float64) float64 { return (math.Log10(max(v, 1e-9)) - lo) / (hi - lo) }}
	step := max(1, math.Ceil((hi-lo)/4))
	for e := lo; e <= hi+1e-9; e += step {
		v := math.Pow(10, e)
		s.grid = append(s.grid, tick{v, short(time.Duration(math.Round(v * 1e9)))})
	}
	return s
}

func plotX(i float64) float64 {
	return plotLeft + (plotRight-plotLeft)*i/float64(bins)
}

func plotY(share float64) float64 {
	return plotBottom - (plotBottom-plotTop)*min(max(share, 0), 1)
}

// draw makes a chart. With stacked the curves are put on top of each other, as areas.
func draw(id, title string, list []bin, curves []series, sc scale, stacked bool, text func(float64) string) chart {
	c := chart{Title: title, ID: id, Width: chartWidth, Height: chartHeight, Empty: true}
	for _, g := range sc.grid {
		c.Grid = append(c.Grid, tick{plotY(sc.at(g.At)), g.Text})
	}
	for m := int(shown / time.Minute); m >= 0; m -= 2 {
		t := fmt.Sprintf("−%d min", m)
		if m == 0 {
			t = "now"
		}
		c.Times = append(c.Times, tick{plotX(float64(bins) * (1 - float64(m)*float64(time.Minute)/float64(shown))), t})
	}
	base := make([]float64, len(list))
	var words []string
	for _, s := range curves {
		l := chartLine{Name: s.name, Class: s.class}
		var area, line, back strings.Builder
		open := false
		flush := func(end int) {
			if open && stacked {
				for i := end - 1; i >= 0 && list[i].known; i-- {
					fmt.Fprintf(&back, "L%.4g %.4g", plotX(float64(i)+.5), plotY(sc.at(base[i])))
				}
				area.WriteString(back.String() + "Z")
			}
			open = false
			back.Reset()
		}
		last := -1.0
		tops := make([]float64, len(list))
		for i := range list {
			v := -1.0
			if list[i].known {
				v = s.of(&list[i])
			}
			if v < 0 {
				flush(i)
				continue
			}
			c.Empty = false
			last = v
			tops[i] = v
			if stacked {
				tops[i] += base[i]
			}
			op := "L"
			if !open {
				op, open = "M", true
			}
			x, y := plotX(float64(i)+.5), plotY(sc.at(tops[i]))
			fmt.Fprintf(&line, "%s%.4g %.4g", op, x, y)
			if stacked {
				fmt.Fprintf(&area, "%s%.4g %.4g", op, x, y)
			}
		}
		flush(len(list))
		if stacked {
			base = tops
		}
		l.Line, l.Area, l.Now = line.String(), area.String(), "–"
		if last >= 0 {
			l.Now = text(last)
		}
		words = append(words, s.name+" "+l.Now)
		c.Lines = append(c.Lines, l)
	}
	c.Desc = fmt.Sprintf("%s over the last ten minutes; at the end: %s.", title, strings.Join(words, ", "))
	return c
}

// charts are those of the page.
func charts(list []bin) []chart {
	var requests, bytes float64
	least, most := math.Inf(+1), 0.0
	for _, b := range list {
		requests = max(requests, b.reads+b.writes+b.others)
		bytes = max(bytes, b.received, b.sent)
		if b.p99 > 0 {
			least, most = min(least, b.p50.Seconds()), max(most, b.p99.Seconds())
		}
	}
	if most == 0 {
		least, most = 1e-5, 1e-2
	}
	persec := func(v float64) string { return count(v) + "/s" }
	bytesec := func(v float64) string { return size(int64(v)) + "/s" }
	seconds := func(v float64) string { return short(time.Duration(v * 1e9)) }
	taken := func(d func(b *bin) time.Duration) func(b *bin) float64 {
		return func(b *bin) float64 {
			if t := d(b); t > 0 {
				return t.Seconds()
			}
			return -1
		}
	}
	return []chart{
		draw("requests", "Requests", list, []series{
			{"reads", "c1", func(b *bin) float64 { return b.reads }},
			{"writes", "c2", func(b *bin) float64 { return b.writes }},
			{"others", "c3", func(b *bin) float64 { return b.others }},
		}, linear(max(requests, 10), 1000, count), true, persec),
		draw("bytes", "Throughput", list, []series{
			{"sent", "c1", func(b *bin) float64 { return b.sent }},
			{"received", "c2", func(b *bin) float64 { return b.received }},
		}, linear(max(bytes, blkfmt.BlkSize), 1024, func(v float64) string { return size(int64(v)) }), false, bytesec),
		draw("latency", "Latency", list, []series{
			{"half below", "c1", taken(func(b *bin) time.Duration { return b.p50 })},
			{"99 % below", "c4", taken(func(b *bin) time.Duration { return b.p99 })},
		}, decades(least, most), false, seconds),
	}
}
