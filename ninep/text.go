package ninep

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/knusbaum/go9p/proto"
)

// typeName is a message type in the manual's spelling.
func typeName(t uint8) string {
	names := [...]string{"version", "auth", "attach", "error", "flush", "walk", "open", "create",
		"read", "write", "clunk", "remove", "stat", "wstat"}
	if int(t) < 2*len(linuxNames) && linuxNames[t/2] != "" {
		return "TR"[t&1:][:1] + linuxNames[t/2]
	}
	if t < Tversion || t > Rwstat {
		return fmt.Sprintf("message type %d", t)
	}
	return "TR"[(t-Tversion)&1:][:1] + names[(t-Tversion)/2]
}

// linuxNames are the names of the types that only 9P2000.L has, by half of them.
var linuxNames = [...]string{
	Rlerror / 2: "lerror", Tstatfs / 2: "statfs", Tlopen / 2: "lopen", Tlcreate / 2: "lcreate",
	Tsymlink / 2: "symlink", Tmknod / 2: "mknod", Trename / 2: "rename", Treadlink / 2: "readlink",
	Tgetattr / 2: "getattr", Tsetattr / 2: "setattr", Txattrwalk / 2: "xattrwalk",
	Txattrcreate / 2: "xattrcreate", Treaddir / 2: "readdir", Tfsync / 2: "fsync", Tlock / 2: "lock",
	Tgetlock / 2: "getlock", Tlink / 2: "link", Tmkdir / 2: "mkdir", Trenameat / 2: "renameat",
	Tunlinkat / 2: "unlinkat",
}

// dataShown is how many bytes of a Twrite or Rread Format shows.
const dataShown = 256

// Format prints a message as one line: its type, then pairs of a field's name and its value.
//
//	Twalk tag 1 fid 3 newfid 4 wname [usr glenda]
//	Rstat tag 1 stat (name lib uid glenda gid glenda muid '' qid 0x1f.3.d mode d755 …)
//
// A string stands in single quotes, doubled inside, if it is empty or could be misread; a list in
// brackets; a qid is path.vers.type; of data at most 256 bytes are shown, as a string if they are
// text, else in hexadecimal, and dots after it say that there are more.
func Format(m proto.FCall) string {
	var w textWriter
	tag := m.GetTag()
	head := func(t uint8) { w.head(t, tag) }
	switch m := m.(type) {
	case *proto.TRVersion:
		head(m.Type)
		w.num("msize", uint64(m.Msize))
		w.str("version", m.Version)
	case *proto.TAuth:
		head(Tauth)
		w.fid("afid", m.Afid)
		w.str("uname", m.Uname)
		w.str("aname", m.Aname)
	case *proto.RAuth:
		head(Rauth)
		w.qid("aqid", m.Aqid)
	case *proto.TAttach:
		head(Tattach)
		w.fid("fid", m.Fid)
		w.fid("afid", m.Afid)
		w.str("uname", m.Uname)
		w.str("aname", m.Aname)
	case *proto.RAttach:
		head(Rattach)
		w.qid("qid", m.Qid)
	case *proto.RError:
		head(Rerror)
		w.str("ename", m.Ename)
	case *proto.TFlush:
		head(Tflush)
		w.num("oldtag", uint64(m.Oldtag))
	case *proto.RFlush:
		head(Rflush)
	case *proto.TWalk:
		head(Twalk)
		w.fid("fid", m.Fid)
		w.fid("newfid", m.Newfid)
		list(&w, "wname", m.Wname, quote)
	case *proto.RWalk:
		head(Rwalk)
		list(&w, "wqid", m.Wqid, formatQid)
	case *proto.TOpen:
		head(Topen)
		w.fid("fid", m.Fid)
		w.word("mode", formatOpenMode(uint8(m.Mode)))
	case *proto.ROpen:
		head(Ropen)
		w.qid("qid", m.Qid)
		w.num("iounit", uint64(m.Iounit))
	case *proto.TCreate:
		head(Tcreate)
		w.fid("fid", m.Fid)
		w.str("name", m.Name)
		w.word("perm", formatPerm(m.Perm))
		w.word("mode", formatOpenMode(m.Mode))
	case *proto.RCreate:
		head(Rcreate)
		w.qid("qid", m.Qid)
		w.num("iounit", uint64(m.Iounit))
	case *proto.TRead:
		head(Tread)
		w.fid("fid", m.Fid)
		w.num("offset", m.Offset)
		w.num("count", uint64(m.Count))
	case *proto.RRead:
		head(Rread)
		w.data(m.Data)
	case *proto.TWrite:
		head(Twrite)
		w.fid("fid", m.Fid)
		w.num("offset", m.Offset)
		w.data(m.Data)
	case *proto.RWrite:
		head(Rwrite)
		w.num("count", uint64(m.Count))
	case *proto.TClunk:
		head(Tclunk)
		w.fid("fid", m.Fid)
	case *proto.RClunk:
		head(Rclunk)
	case *proto.TRemove:
		head(Tremove)
		w.fid("fid", m.Fid)
	case *proto.RRemove:
		head(Rremove)
	case *proto.TStat:
		head(Tstat)
		w.fid("fid", m.Fid)
	case *proto.RStat:
		head(Rstat)
		w.word("stat", (*Dir)(&m.Stat).String())
	case *proto.TWstat:
		head(Twstat)
		w.fid("fid", m.Fid)
		w.word("stat", (*Dir)(&m.Stat).String())
	case *proto.RWstat:
		head(Rwstat)
	default:
		return fmt.Sprintf("unknown message %T", m)
	}
	return w.b.String()
}

// String prints d as Format does: pairs of name and value in parentheses.
func (d *Dir) String() string {
	var w textWriter
	w.dir(d)
	return w.group()
}

// dir adds the fields of a stat record.
func (w *textWriter) dir(d *Dir) {
	w.str("name", d.Name)
	w.str("uid", d.Uid)
	w.str("gid", d.Gid)
	w.str("muid", d.Muid)
	w.qid("qid", d.Qid)
	w.word("mode", formatPerm(d.Mode))
	w.num("atime", uint64(d.Atime))
	w.num("mtime", uint64(d.Mtime))
	w.num("length", d.Length)
	w.num("type", uint64(d.Type))
	w.num("dev", uint64(d.Dev))
}

// A textWriter builds a line of pairs.
type textWriter struct{ b strings.Builder }

// head begins a line with the message's type and tag.
func (w *textWriter) head(t uint8, tag uint16) {
	w.b.WriteString(typeName(t))
	w.name("tag")
	if tag == NOTAG {
		w.b.WriteString("NOTAG")
	} else {
		fmt.Fprint(&w.b, tag)
	}
}

func (w *textWriter) name(name string)          { w.b.WriteString(" " + name + " ") }
func (w *textWriter) word(name, v string)       { w.name(name); w.b.WriteString(v) }
func (w *textWriter) str(name, v string)        { w.word(name, quote(v)) }
func (w *textWriter) num(name string, v uint64) { w.word(name, strconv.FormatUint(v, 10)) }
func (w *textWriter) qid(name string, q Qid)    { w.word(name, formatQid(q)) }

// group is the pairs so far, in parentheses.
func (w *textWriter) group() string { return "(" + strings.TrimPrefix(w.b.String(), " ") + ")" }

// uid prints the number of a user, of which one is nobody's.
func (w *textWriter) uid(name string, uid uint32) {
	if uid == NOUID {
		w.word(name, "NOUID")
		return
	}
	w.num(name, uint64(uid))
}

func (w *textWriter) fid(name string, fid uint32) {
	if fid == NOFID {
		w.word(name, "NOFID")
		return
	}
	w.num(name, uint64(fid))
}

func (w *textWriter) data(p []byte) {
	w.num("count", uint64(len(p)))
	w.name("data")
	more := ""
	if len(p) > dataShown {
		p, more = p[:dataShown], "..."
	}
	if isText(p) {
		w.b.WriteString("'" + strings.ReplaceAll(string(p), "'", "''") + "'" + more)
		return
	}
	fmt.Fprintf(&w.b, "0x%x%s", p, more)
}

func list[T any](w *textWriter, name string, l []T, f func(T) string) {
	s := make([]string, len(l))
	for i, v := range l {
		s[i] = f(v)
	}
	w.word(name, "["+strings.Join(s, " ")+"]")
}

// isText says whether p can be shown on a line as it is.
func isText(p []byte) bool {
	for i := 0; i < len(p); {
		r, n := utf8.DecodeRune(p[i:])
		if r == utf8.RuneError && n <= 1 || !unicode.IsPrint(r) {
			return false
		}
		i += n
	}
	return true
}

func quote(s string) string {
	if s != "" && isText([]byte(s)) && !strings.ContainsAny(s, " '()[]*") && !strings.HasPrefix(s, "0x") {
		return s
	}
	if !isText([]byte(s)) {
		return fmt.Sprintf("0x%x", s)
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// formatQid prints path.vers.type, the type as letters: d directory, a append only, l exclusive
// use, m mounted, A authentication, t temporary.
func formatQid(q Qid) string {
	s := fmt.Sprintf("%#x.%d", q.Uid, q.Vers)
	if q.Qtype == 0 {
		return s
	}
	if l, ok := letters(uint32(q.Qtype) << 24); ok {
		return s + "." + l
	}
	return fmt.Sprintf("%s.%#x", s, q.Qtype)
}

// formatPerm prints the letters of formatQid and the permissions in octal; a mode with other bits,
// in hexadecimal.
func formatPerm(m uint32) string {
	l, ok := letters(m &^ 0777)
	if !ok {
		return fmt.Sprintf("%#x", m)
	}
	return fmt.Sprintf("%s%o", l, m&0777)
}

func letters(m uint32) (string, bool) {
	var s []byte
	for i, c := range "dalmA" {
		if m&(DMDIR>>i) != 0 {
			s = append(s, byte(c))
			m &^= DMDIR >> i
		}
	}
	if m&DMTMP != 0 {
		s = append(s, 't')
		m &^= DMTMP
	}
	return string(s), m == 0
}

func formatOpenMode(m uint8) string {
	if m&^(3|OTRUNC|OCEXEC|ORCLOSE) != 0 {
		return fmt.Sprintf("%#x", m)
	}
	s := [...]string{"OREAD", "OWRITE", "ORDWR", "OEXEC"}[m&3]
	if m&OTRUNC != 0 {
		s += "|OTRUNC"
	}
	if m&OCEXEC != 0 {
		s += "|OCEXEC"
	}
	if m&ORCLOSE != 0 {
		s += "|ORCLOSE"
	}
	return s
}
