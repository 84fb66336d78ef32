package cons

import (
	"errors"
	"fmt"
	"strings"

	"gefs9p/blkfmt"
	"gefs9p/ninep"
)

// dumpMax bounds what show tree says, in bytes.
const dumpMax = 8 << 20

func showCommands() []Command {
	return []Command{
		{Name: "show", Args: "fid | tree [name] | users | bstate | free", min: 1, max: 2, run: (*call).show,
			Help: "look inside: fids, a tree, the users, the block cache, the free ranges",
			Long: "For people who debug; the form of these lists may change. tree snap is the tree of snapshots, tree\n" +
				"alone that of main."},
		{Name: "save", Args: "trace", min: 1, max: 1, run: (*call).save,
			Help: "say what happened to blocks last, oldest first",
			Long: "A line for each event: [number@commit] what (block,birth) value. gefs9p ctl save trace > FILE keeps it."},
	}
}

func (k *call) show() error {
	rest := k.args[1:]
	switch what := k.args[0]; {
	case what == "tree":
		name := "main"
		if len(rest) == 1 {
			name = rest[0]
		}
		return k.showTree(name)
	case len(rest) > 0:
	case what == "fid":
		return k.showFid()
	case what == "users":
		return k.showUsers()
	case what == "bstate":
		return k.showBstate()
	case what == "free":
		return k.showFree()
	}
	return k.misuse()
}

func (k *call) showTree(name string) error {
	if err := k.noJSON(); err != nil {
		return err
	}
	var text []byte
	err := k.inside(func(c *ninep.Ctx) (err error) {
		text, err = k.FS.DumpTree(k.ctx, c, name, dumpMax)
		return err
	})
	if _, werr := k.out.Write(text); err == nil {
		err = werr
	}
	return err
}

type showConn struct {
	Conn        string    `json:"conn"`
	Outstanding int       `json:"outstanding"`
	Fids        []showFid `json:"fids"`
}

type showFid struct {
	Fid  uint32 `json:"fid"`
	File string `json:"file"`
}

func (k *call) showFid() error {
	conns := []showConn{}
	var b strings.Builder
	var all []ninep.ConnInfo
	if k.Connections != nil {
		all = k.Connections()
	}
	for _, c := range all {
		s := showConn{c.Conn.String(), c.Outstanding, []showFid{}}
		fmt.Fprintf(&b, "-- conn %s: fids --\n", s.Conn)
		for _, f := range c.Fids {
			what := "auth"
			if d, ok := f.File.(interface{ Describe() string }); ok {
				what = d.Describe()
			}
			s.Fids = append(s.Fids, showFid{f.Num, what})
			fmt.Fprintf(&b, "\tfid %d [%s]\n", f.Num, what)
		}
		conns = append(conns, s)
	}
	mounts := k.FS.Mounts()
	for _, m := range mounts {
		fmt.Fprintf(&b, "-- mount %s: refs=%d mutable=%t --\n", m.Name, m.Refs, m.Mutable)
		for _, f := range m.Files {
			fmt.Fprintf(&b, "\tfile dir=%d %q qid=%d mode=%o length=%d refs=%d opens=%d removed=%t\n",
				int64(f.Parent), f.Name, f.Qid, f.Mode, f.Length, f.Refs, f.Opens, f.Gone)
		}
	}
	return k.answer(map[string]any{"connections": conns, "mounts": mounts}, "%s", b.String())
}

type showUser struct {
	ID      int32    `json:"id"`
	Name    string   `json:"name"`
	Leader  string   `json:"leader"`
	Members []string `json:"members"`
}

func (k *call) showUsers() error {
	t := k.FS.Users()
	list := []showUser{}
	name := func(id int32) string {
		n, _ := t.Name(id) // a Table names nobody whom it does not have
		return n
	}
	for _, u := range t.Users() {
		s := showUser{ID: u.ID, Name: u.Name, Members: []string{}}
		if u.HasLeader {
			s.Leader = name(u.LeaderID)
		}
		for _, id := range u.Members {
			s.Members = append(s.Members, name(id))
		}
		list = append(list, s)
	}
	return k.answer(map[string]any{"users": list}, "%s", t.Format())
}

type showStats struct {
	Hits      uint64 `json:"hits"`
	Misses    uint64 `json:"misses"`
	Written   uint64 `json:"written"`
	Cancelled uint64 `json:"cancelled"`
	Commits   uint64 `json:"commits"`
	Cache     int    `json:"cache"`
	CacheMax  int    `json:"cacheMax"`
	Dirty     int    `json:"dirty"`
	Limbo     int    `json:"limbo"`
	Failure   string `json:"failure,omitempty"`
}

func (k *call) showBstate() error {
	st := k.FS.Store().Stats()
	s := showStats{st.Hits, st.Misses, st.Written, st.Cancelled, st.Commits, st.Cache, st.CacheMax, st.Dirty, st.Limbo, ""}
	failure := ""
	if err := k.FS.Store().Err(); err != nil {
		s.Failure = err.Error()
		failure = fmt.Sprintf("failure:\t%s\n", oneLine(s.Failure))
	}
	return k.answer(s, "cache:\t%d of %d blocks\ndirty:\t%d\nlimbo:\t%d\nhits:\t%d\nmisses:\t%d\nwritten:\t%d\ncancelled:\t%d\ncommits:\t%d\n%s",
		s.Cache, s.CacheMax, s.Dirty, s.Limbo, s.Hits, s.Misses, s.Written, s.Cancelled, s.Commits, failure)
}

type showRange struct {
	Addr blkfmt.Addr `json:"addr"`
	Len  int64       `json:"len"`
}

type showArena struct {
	Arena int         `json:"arena"`
	Addr  blkfmt.Addr `json:"addr"`
	Size  int64       `json:"size"`
	Free  []showRange `json:"free"`
}

func (k *call) showFree() error {
	list := []showArena{}
	var b strings.Builder
	for i, a := range k.FS.Arenas() {
		if err := k.ctx.Err(); err != nil {
			return err
		}
		s := showArena{i, a.Addr, a.Size, []showRange{}}
		fmt.Fprintf(&b, "arena %d %x+%x{\n", i, int64(a.Addr), a.Size)
		for addr, n := range k.FS.Store().Arenas().Ranges(i) {
			s.Free = append(s.Free, showRange{addr, n})
			fmt.Fprintf(&b, "\t%x..%x (%x)\n", int64(addr), int64(addr)+n, n)
		}
		b.WriteString("}\n")
		list = append(list, s)
	}
	return k.answer(map[string]any{"arenas": list}, "%s", b.String())
}

type saveRecord struct {
	Seq  uint64      `json:"seq"`
	Qgen int64       `json:"qgen"`
	Tag  string      `json:"tag"`
	Addr blkfmt.Addr `json:"addr"`
	Gen  blkfmt.Gen  `json:"gen"`
	V    int64       `json:"v"`
}

// save shows the trace. Unlike the reference it writes no file: the console is for administrators of the
// disk, over 9P also for those on other machines, and not for writing where the server may.
func (k *call) save() error {
	if k.args[0] != "trace" {
		return k.misuse()
	}
	ring := k.FS.Store().Trace()
	if ring == nil {
		return errors.New("there is no trace: the server was started without one")
	}
	if !k.json {
		return ring.Write(k.out)
	}
	list := []saveRecord{}
	for _, r := range ring.Records(blkfmt.NoAddr) {
		list = append(list, saveRecord(r))
	}
	return k.answer(map[string]any{"trace": list}, "")
}
