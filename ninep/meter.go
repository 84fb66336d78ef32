package ninep

import (
	"cmp"
	"maps"
	"math/bits"
	"net"
	"slices"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// A Meter counts what a Server does: requests with how long they took, errors, bytes, connections. The
// zero value is ready. It is for one Server, whose field Meter it is set as. Its methods are safe for
// concurrent use.
//
// To count takes no lock and allocates nothing: a request costs a look at the clock and two additions to
// counters that its connection shares with few others.
type Meter struct {
	shards [meterShards]meterShard

	accepted, refused, hangups atomic.Uint64
}

// meterShards is how many sets of counters there are; connections go round them.
const meterShards = 16

type meterShard struct {
	types          [messageTypes / 2]typeMeter // by T-message, of which every second number is one
	received, sent atomic.Uint64
	_              [48]byte
}

const messageTypes = 128

type typeMeter struct {
	took   [TimeBuckets]atomic.Uint64
	nanos  atomic.Uint64
	errors atomic.Uint64
}

// TimeBuckets is the number of classes into which the times of requests are sorted.
const TimeBuckets = 26

// TimeBound is the upper bound of the times in class i: 1,024 ns for the first, then twice the one before.
// The last class, TimeBuckets-1, has none; what is returned for it is that of the one before.
func TimeBound(i int) time.Duration { return 1024 << min(i, TimeBuckets-2) }

// timeBucket is the class of a time. A time that is a bound belongs below it.
func timeBucket(d time.Duration) int {
	if d <= 1024 {
		return 0
	}
	return min(bits.Len64(uint64(d-1)>>10), TimeBuckets-1)
}

// shard returns the counters for connection number id; nil if nobody counts.
func (m *Meter) shard(id uint64) *meterShard {
	if m == nil {
		return nil
	}
	return &m.shards[id%meterShards]
}

func (s *meterShard) request(typ uint8, took time.Duration, failed bool) {
	t := &s.types[typ%messageTypes/2]
	t.took[timeBucket(took)].Add(1)
	t.nanos.Add(uint64(max(took, 0)))
	if failed {
		t.errors.Add(1)
	}
}

// A TypeCount is what a Meter knows of the requests of one type.
type TypeCount struct {
	Type   uint8               // the T-message's
	Name   string              // in the manual's spelling: Tread
	Took   [TimeBuckets]uint64 // how many took how long: see TimeBound
	Total  time.Duration       // all of them together
	Errors uint64              // answered with an error
}

// Requests is how many requests there were.
func (t *TypeCount) Requests() uint64 {
	n := uint64(0)
	for _, k := range t.Took {
		n += k
	}
	return n
}

// Counts is what a Meter has counted. A request is counted when its answer is made, which is not yet sent
// then; its time begins when its frame is taken from what was read, or with the end of the request before.
type Counts struct {
	Types          []TypeCount // every type that a server understands, also if there was none; by number
	Received, Sent uint64      // bytes
	Accepted       uint64      // connections
	Refused        uint64      // connections, because there were too many
	HungUp         uint64      // connections, by the server
}

// Counts returns what was counted. It does not stop those who count, so numbers of different things may
// be of slightly different moments.
func (m *Meter) Counts() Counts {
	c := Counts{Accepted: m.accepted.Load(), Refused: m.refused.Load(), HungUp: m.hangups.Load()}
	for typ := uint8(0); typ < messageTypes; typ += 2 {
		if !isRequest(typ) {
			continue
		}
		t := TypeCount{Type: typ, Name: typeName(typ)}
		for i := range m.shards {
			s := &m.shards[i].types[typ/2]
			for k := range t.Took {
				t.Took[k] += s.took[k].Load()
			}
			t.Total += time.Duration(s.nanos.Load())
			t.Errors += s.errors.Load()
		}
		c.Types = append(c.Types, t)
	}
	for i := range m.shards {
		c.Received += m.shards[i].received.Load()
		c.Sent += m.shards[i].sent.Load()
	}
	return c
}

// isRequest reports whether a client may send messages of the type.
func isRequest(typ uint8) bool {
	if typ&1 != 0 || typ == Rlerror-1 || typ == Rerror-1 {
		return false
	}
	return typ >= Tversion && typ <= Twstat || int(typ/2) < len(linuxNames) && linuxNames[typ/2] != ""
}

// start returns when the request at hand begins, as time since the connection began: now, or where the
// last request ended if the leader did nothing but this since.
func (l *leader) start(c *Conn) time.Duration {
	if l.clock == 0 {
		l.clock = time.Since(c.born)
	}
	return l.clock
}

// again lets the time of the request begin now, as it had to wait for its own client.
func (c *Conn) again(r *request) {
	if c.meter != nil {
		c.lead.clock = 0
		r.began = c.lead.start(c)
	}
}

// count counts the leader's request, which has ended.
func (c *Conn) count(r *request) {
	c.lead.served++
	if c.meter != nil {
		now := time.Since(c.born)
		c.meter.request(r.fc.Type, now-r.began, r.failed)
		c.lead.clock = now
	}
}

// pause is called before the leader does something else than requests.
func (c *Conn) pause() {
	c.lead.clock = 0
	if n := c.lead.served; n > 0 {
		c.requests.Add(n)
		c.lead.served = 0
	}
}

// Bounds of what is remembered of a connection's users.
const (
	usersKept   = 8
	userNameMax = 64 // bytes
)

// attached remembers who has attached.
func (c *Conn) attached(name string) {
	if len(name) > userNameMax {
		n := userNameMax
		for n > 0 && !utf8.RuneStart(name[n]) {
			n--
		}
		name = name[:n]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.users) < usersKept && !slices.Contains(c.users, name) {
		c.users = append(c.users, name)
	}
}

// A ClientInfo says who is at the other end of a connection, and what it has done.
type ClientInfo struct {
	Conn           *Conn
	Remote         net.Addr // nil if the connection has none
	Since          time.Time
	Dialect        Dialect  // in which it speaks
	Users          []string // who has attached since the session began, as the client named them: the first 8
	Fids           int
	Outstanding    int    // requests that wait for something
	Requests       uint64 // answered
	Received, Sent uint64 // bytes
}

// Clients describes all connections, in the order in which they came. It costs little, whatever the number
// of fids; Connections lists them. Safe for concurrent use.
func (s *Server) Clients() []ClientInfo {
	s.init()
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	slices.SortFunc(conns, func(a, b *Conn) int { return cmp.Compare(a.id, b.id) })
	list := make([]ClientInfo, len(conns))
	for i, c := range conns {
		c.mu.Lock()
		list[i] = ClientInfo{
			Conn: c, Remote: c.remote, Since: c.born, Dialect: c.speaks(), Users: slices.Clone(c.users),
			Fids: len(c.fids), Outstanding: len(c.tags),
			Requests: c.requests.Load(), Received: c.received.Load(), Sent: c.sent.Load(),
		}
		c.mu.Unlock()
	}
	return list
}
