package watch

import (
	"bytes"
	"io"
	"math"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"gefs9p/blkfmt"
	"gefs9p/gefs"
	"gefs9p/ninep"
)

// contentType is that of the metrics.
const contentType = "application/openmetrics-text; version=1.0.0; charset=utf-8"

// An exposition is written in the text form of OpenMetrics 1.0: for each family of metrics its type, its unit
// and its help, and then its samples. Every family of ours begins with gefs9p_.
type exposition struct {
	b    bytes.Buffer
	name string // of the family
	kind string
}

// family begins a family. The unit is how the name must end, if there is one.
func (e *exposition) family(name, kind, help string) {
	e.name, e.kind = "gefs9p_"+name, kind
	e.b.WriteString("# TYPE " + e.name + " " + kind + "\n")
	for _, unit := range []string{"seconds", "bytes"} {
		if strings.HasSuffix(name, "_"+unit) {
			e.b.WriteString("# UNIT " + e.name + " " + unit + "\n")
		}
	}
	e.b.WriteString("# HELP " + e.name + " " + escape(help) + "\n")
}

// sample writes a sample of the family; labels are names and values in turn.
func (e *exposition) sample(v float64, labels ...string) {
	suffix := ""
	switch e.kind {
	case "counter":
		suffix = "_total"
	case "info":
		suffix = "_info"
	}
	e.line(suffix, v, labels...)
}

func (e *exposition) line(suffix string, v float64, labels ...string) {
	e.b.WriteString(e.name + suffix)
	sep := byte('{')
	for i := 0; i+1 < len(labels); i += 2 {
		e.b.WriteByte(sep)
		sep = ','
		e.b.WriteString(labels[i] + `="` + escape(labels[i+1]) + `"`)
	}
	if len(labels) > 1 {
		e.b.WriteByte('}')
	}
	e.b.WriteByte(' ')
	e.b.WriteString(number(v))
	e.b.WriteByte('\n')
}

// gauge writes a family with one sample.
func (e *exposition) gauge(name, help string, v float64) {
	e.family(name, "gauge", help)
	e.sample(v)
}

func (e *exposition) counter(name, help string, v uint64) {
	e.family(name, "counter", help)
	e.sample(float64(v))
}

// histogram writes the samples of a type's times.
func (e *exposition) histogram(t *ninep.TypeCount) {
	sum := uint64(0)
	for i, n := range t.Took {
		sum += n
		le := "+Inf"
		if i < ninep.TimeBuckets-1 {
			le = number(ninep.TimeBound(i).Seconds())
		}
		e.line("_bucket", float64(sum), "type", t.Name, "le", le)
	}
	e.line("_sum", t.Total.Seconds(), "type", t.Name)
	e.line("_count", float64(sum), "type", t.Name)
}

// number is a number as OpenMetrics has it.
func number(v float64) string {
	if math.IsInf(v, +1) {
		return "+Inf"
	}
	if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// escape writes what may be anything, as a help or the value of a label.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(strings.ToValidUTF8(s, "\uFFFD"))
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// WriteMetrics writes all metrics to out. It takes no lock that can be held for long.
func (w *Watcher) WriteMetrics(out io.Writer) error {
	w.init()
	var e exposition
	w.requests(&e)
	w.memory(&e)
	w.disk(&e)
	w.quotas(&e)
	w.scrub(&e)
	w.program(&e)
	e.b.WriteString("# EOF\n")
	_, err := out.Write(e.b.Bytes())
	return err
}

// requests writes what the 9P server has counted.
func (w *Watcher) requests(e *exposition) {
	if w.Meter != nil {
		c := w.Meter.Counts()
		e.family("requests", "counter", "Requests answered, by type of message.")
		for _, t := range c.Types {
			e.sample(float64(t.Requests()), "type", t.Name)
		}
		e.family("request_errors", "counter", "Requests answered with an error, by type of message.")
		for _, t := range c.Types {
			e.sample(float64(t.Errors), "type", t.Name)
		}
		e.family("request_duration_seconds", "histogram", "Time from taking a request out of what was read until its answer is made. Types that have come at all.")
		for _, t := range c.Types {
			if t.Requests() > 0 {
				e.histogram(&t)
			}
		}
		e.counter("received_bytes", "Bytes read from clients.", c.Received)
		e.counter("sent_bytes", "Bytes written to clients.", c.Sent)
		e.counter("connections_accepted", "Connections accepted.", c.Accepted)
		e.counter("connections_refused", "Connections refused because there were too many.", c.Refused)
		e.counter("connections_hung_up", "Connections ended by the server, for what the client did or did not.", c.HungUp)
	}
	if w.Clients != nil {
		l := w.load()
		e.gauge("connections", "Connections now.", float64(len(l.clients)))
		e.gauge("fids", "Fids now.", float64(l.fids))
		e.gauge("requests_waiting", "Requests that wait for the disk, for a commit or for each other.", float64(l.outstanding))
	}
}

// memory writes what the store has in memory, and how it comes to the disk.
func (w *Watcher) memory(e *exposition) {
	st := w.FS.Store().Stats()
	e.counter("cache_hits", "Blocks found in the cache.", st.Hits)
	e.counter("cache_misses", "Blocks read from the disk.", st.Misses)
	e.gauge("cache_bytes", "Memory that the cache has taken.", float64(st.Cache)*blkfmt.BlkSize)
	e.gauge("cache_max_bytes", "Memory that the cache may take.", float64(st.CacheMax)*blkfmt.BlkSize)
	e.counter("written_blocks", "Blocks written to the disk, logs and headers included.", st.Written)
	e.counter("cancelled_blocks", "Blocks that died before they were written.", st.Cancelled)
	e.gauge("write_queue_blocks", "Blocks in the write queues.", float64(st.Queued))
	e.gauge("unevictable_blocks", "Blocks that must stay in memory, as they are not written, or dead and not yet reclaimed.", float64(st.Dirty))
	e.counter("epochs", "Epochs that have ended. It grows while something is changed, unless a reader holds it up.", st.Epoch)
	e.gauge("limbo_blocks", "Blocks that wait for readers to leave.", float64(st.Limbo))
	e.counter("commits", "Commits.", st.Commits)
	e.gauge("unsynced_seconds", "Age of the oldest change that is not on stable storage; 0 if there is none.", w.FS.Unsynced().Seconds())
	e.counter("hash_errors", "Blocks read that were not what the pointer to them, or their own hash, says.", st.Corrupt)
	e.counter("read_errors", "Reads that the device refused.", st.Unreadable)
}

// disk writes what is on the disk.
func (w *Watcher) disk(e *exposition) {
	stats := w.FS.Arenas()
	for _, f := range []struct {
		name, help string
		of         func(i int) float64
	}{
		{"arena_size_bytes", "Size of an arena.", func(i int) float64 { return float64(stats[i].Size) }},
		{"arena_used_bytes", "What cannot be handed out: blocks in use, and those that wait to be free.", func(i int) float64 { return float64(stats[i].Used) }},
		{"arena_waiting_bytes", "Of what is used, blocks that were given back and are free after the next commits.", func(i int) float64 { return float64(stats[i].Waiting) }},
		{"arena_log_blocks", "Blocks of the allocation log.", func(i int) float64 { return float64(stats[i].Log) }},
		{"arena_suspect", "1 if the allocation log is not to be believed.", func(i int) float64 { return one(stats[i].Suspect != "") }},
	} {
		e.family(f.name, "gauge", f.help)
		for i := range stats {
			e.sample(f.of(i), "arena", strconv.Itoa(i))
		}
	}
	e.gauge("room_bytes", "What ordinary requests may still take.", float64(w.FS.Store().Arenas().Room())*blkfmt.BlkSize)

	mutable, fixed := 0, 0
	for _, l := range w.FS.Labels() {
		if l.Mutable {
			mutable++
		} else {
			fixed++
		}
	}
	e.family("snapshots", "gauge", "Labels, by whether what they name can be written.")
	e.sample(float64(mutable), "kind", "mutable")
	e.sample(float64(fixed), "kind", "fixed")
	last := w.last()
	e.gauge("deleted_snapshots", "Snapshots that nobody needs any more and that are not taken apart yet.", float64(last.deleted))
	e.gauge("reclaim_deadlists", "Deadlists with blocks of deleted snapshots that are not given back yet.", float64(last.lists))
	w.survey.mu.Lock()
	held := w.survey.held
	w.survey.mu.Unlock()
	if !held.at.IsZero() {
		e.gauge("deadlist_bytes", "What is kept for snapshots only, as it was counted last, which is while somebody looks at the status page.", float64(held.blocks)*blkfmt.BlkSize)
		e.gauge("deadlist_age_seconds", "When that was.", time.Since(held.at).Seconds())
	}

	why := w.readOnly()
	e.gauge("read_only", "1 if nothing can be changed, because of a failure or on purpose.", one(why != ""))
	e.family("read_only_reason", "gauge", "Why nothing can be changed; no sample if something can.")
	if why != "" {
		e.sample(1, "reason", clip(why))
	}
}

// quotas writes what the files of labels that have quotas use.
func (w *Watcher) quotas(e *exposition) {
	list := w.last().quotas
	if len(list) == 0 {
		return
	}
	for _, f := range []struct {
		name, help string
		of         func(q *gefs.Quota) float64
	}{
		{"quota_used_bytes", "Lengths of the files of a label that has quotas, in whole blocks.", func(q *gefs.Quota) float64 { return float64(q.Used.Bytes + q.Removed) }},
		{"quota_limit_bytes", "What they may be; 0 is no limit.", func(q *gefs.Quota) float64 { return float64(q.Limit.Bytes) }},
		{"quota_used_files", "Number of files and directories of a label that has quotas.", func(q *gefs.Quota) float64 { return float64(q.Used.Files) }},
		{"quota_limit_files", "What it may be; 0 is no limit.", func(q *gefs.Quota) float64 { return float64(q.Limit.Files) }},
		{"quota_in_force", "0 while the files of the label are being counted, and no limit is looked at.", func(q *gefs.Quota) float64 { return one(q.State == gefs.QuotaCounted) }},
	} {
		e.family(f.name, "gauge", f.help)
		for i := range list {
			e.sample(f.of(&list[i]), "label", list[i].Label)
		}
	}
}

// readOnly says why nothing can be changed, "" if something can.
func (w *Watcher) readOnly() string {
	if err := w.FS.Store().Err(); err != nil {
		return err.Error()
	}
	if !w.FS.Store().CanWrite() {
		return "opened read-only"
	}
	return ""
}

// scrub writes how far the scrub is.
func (w *Watcher) scrub(e *exposition) {
	s := w.FS.Scrub()
	e.gauge("scrub_running", "1 if a scrub is under way.", one(s.State == gefs.ScrubRunning))
	e.gauge("scrub_read_bytes", "What this scrub has read, or the last one.", float64(s.Read))
	e.gauge("scrub_used_bytes", "What there is to read, about.", float64(s.Used))
	e.gauge("scrub_rate_bytes", "What a scrub reads in a second at most.", float64(s.Rate))
	e.gauge("scrub_bad_blocks", "Damaged blocks that this scrub has found, or the last one.", float64(s.Bad))
	e.gauge("scrub_healed_blocks", "Of these, those that were made good.", float64(s.Healed))
	if !s.Ended.IsZero() {
		e.gauge("scrub_age_seconds", "Time since the last scrub came to its end; no sample if none has.", time.Since(s.Ended).Seconds())
	}
}

// program writes what the process is and takes.
func (w *Watcher) program(e *exposition) {
	e.family("build", "info", "The program.")
	e.sample(1, "version", w.Version, "go", runtime.Version())
	e.gauge("uptime_seconds", "Time since the disk is served.", time.Since(w.began).Seconds())
	at := w.last().at
	if at.IsZero() {
		at = w.began
	}
	e.gauge("sample_age_seconds", "Time since somebody could last change something: more than some seconds mean that a request, a commit or the device is stuck.", time.Since(at).Seconds())
	read := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(read)
	for i, name := range []string{"memory_bytes", "heap_bytes"} {
		if v := read[i].Value; v.Kind() == metrics.KindUint64 {
			e.gauge(name, [...]string{"Memory that the program has from the system.", "Of it, what is in use by objects, the cache included."}[i], float64(v.Uint64()))
		}
	}
	e.gauge("goroutines", "Goroutines.", float64(runtime.NumGoroutine()))
}
