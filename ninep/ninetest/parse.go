package ninetest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/knusbaum/go9p/proto"

	"gefs9p/ninep"
)

// pairs is a parsed line: a verb, then names and values.
type pairs struct {
	verb   string
	fields []field
}

type field struct {
	name  string
	value value
	used  bool
}

// A value is a word, a list or a group of pairs.
type value struct {
	word   string
	quoted bool
	list   bool
	elems  []value
	group  []field // nil for the others
}

func (p *pairs) get(name string) *value {
	for i := range p.fields {
		if p.fields[i].name == name {
			p.fields[i].used = true
			return &p.fields[i].value
		}
	}
	return nil
}

func parsePairs(line string) (pairs, error) {
	s := scanner{s: line}
	v, err := s.value()
	if err != nil {
		return pairs{}, err
	}
	p := pairs{verb: v.word}
	p.fields, err = s.fields(0)
	if err != nil {
		return pairs{}, fmt.Errorf("%s: %w", line, err)
	}
	return p, nil
}

type scanner struct{ s string }

// fields reads pairs up to a closing byte, or the end of the line for 0.
func (s *scanner) fields(end byte) ([]field, error) {
	fields := []field{}
	for {
		s.s = strings.TrimLeft(s.s, " \t")
		switch {
		case s.s == "" && end == 0:
			return fields, nil
		case s.s == "":
			return nil, fmt.Errorf("missing %c", end)
		case s.s[0] == end:
			s.s = s.s[1:]
			return fields, nil
		}
		name, err := s.value()
		if err != nil {
			return nil, err
		}
		v, err := s.value()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name.word, err)
		}
		fields = append(fields, field{name: name.word, value: v})
	}
}

func (s *scanner) value() (v value, err error) {
	s.s = strings.TrimLeft(s.s, " \t")
	if s.s == "" {
		return v, errors.New("value missing")
	}
	switch s.s[0] {
	case '(':
		s.s = s.s[1:]
		v.group, err = s.fields(')')
		return v, err
	case '[':
		s.s = s.s[1:]
		v.list = true
		for {
			s.s = strings.TrimLeft(s.s, " \t")
			if s.s == "" {
				return v, errors.New("missing ]")
			}
			if s.s[0] == ']' {
				s.s = s.s[1:]
				return v, nil
			}
			e, err := s.value()
			if err != nil {
				return v, err
			}
			v.elems = append(v.elems, e)
		}
	}
	// A word, with quoted parts anywhere in it.
	var b strings.Builder
	for s.s != "" && !strings.ContainsRune(" \t()[]", rune(s.s[0])) {
		if s.s[0] != '\'' {
			b.WriteByte(s.s[0])
			s.s = s.s[1:]
			continue
		}
		v.quoted = true
		for s.s = s.s[1:]; ; {
			i := strings.IndexByte(s.s, '\'')
			if i < 0 {
				return v, errors.New("missing quote")
			}
			b.WriteString(s.s[:i])
			s.s = s.s[i+1:]
			if !strings.HasPrefix(s.s, "'") {
				break
			}
			b.WriteByte('\'')
			s.s = s.s[1:]
		}
	}
	if b.Len() == 0 && !v.quoted {
		return v, fmt.Errorf("unexpected %q", s.s)
	}
	v.word = b.String()
	return v, nil
}

func (v *value) isWild() bool { return v.word == "*" && !v.quoted }

// bytes is the value as a string, with repetition and hexadecimal expanded.
func (v *value) bytes() ([]byte, error) {
	if v.list || v.group != nil {
		return nil, errors.New("a list is no string")
	}
	if n, s, ok := strings.Cut(v.word, "*"); ok {
		if n, err := strconv.Atoi(n); err == nil && n >= 0 && n <= 1<<20 {
			return []byte(strings.Repeat(s, n)), nil
		}
	}
	if h, ok := strings.CutPrefix(v.word, "0x"); ok && !v.quoted {
		if b, err := hex.DecodeString(h); err == nil {
			return b, nil
		}
	}
	return []byte(v.word), nil
}

// num is the value as a number of so many bits.
func (v *value) num(bits int) (uint64, error) {
	switch v.word {
	case "~0":
		return ^uint64(0) >> (64 - bits), nil
	case "NOTAG":
		return uint64(ninep.NOTAG), nil
	case "NOFID":
		return uint64(ninep.NOFID), nil
	case "NOUID":
		return uint64(ninep.NOUID), nil
	}
	return strconv.ParseUint(v.word, 0, bits)
}

// perm is a mode as letters and octal digits, or a number with 0x or ~.
func (v *value) perm() (uint32, error) {
	if strings.HasPrefix(v.word, "0x") || v.word == "~0" {
		n, err := v.num(32)
		return uint32(n), err
	}
	digits := strings.TrimLeft(v.word, "dalmAt")
	n, err := strconv.ParseUint(digits, 8, 32)
	for _, c := range v.word[:len(v.word)-len(digits)] {
		n |= map[rune]uint64{'d': ninep.DMDIR, 'a': ninep.DMAPPEND, 'l': ninep.DMEXCL,
			'm': ninep.DMMOUNT, 'A': ninep.DMAUTH, 't': ninep.DMTMP}[c]
	}
	return uint32(n), err
}

// openMode is names joined by bars, or a number.
func (v *value) openMode() (uint8, error) {
	names := map[string]uint8{"OREAD": ninep.OREAD, "OWRITE": ninep.OWRITE, "ORDWR": ninep.ORDWR, "OEXEC": ninep.OEXEC,
		"OTRUNC": ninep.OTRUNC, "OCEXEC": ninep.OCEXEC, "ORCLOSE": ninep.ORCLOSE}
	var mode uint8
	for s := range strings.SplitSeq(v.word, "|") {
		if m, ok := names[s]; ok {
			mode |= m
			continue
		}
		n, err := strconv.ParseUint(s, 0, 8)
		if err != nil {
			return 0, fmt.Errorf("open mode %q", v.word)
		}
		mode |= uint8(n)
	}
	return mode, nil
}

// qid is path.vers.letters.
func (v *value) qid() (q ninep.Qid, err error) {
	path, rest, _ := strings.Cut(v.word, ".")
	vers, letters, _ := strings.Cut(rest, ".")
	if q.Uid, err = strconv.ParseUint(path, 0, 64); err != nil {
		return q, err
	}
	n, err := (&value{word: vers}).num(32)
	if err != nil {
		return q, err
	}
	q.Vers = uint32(n)
	if strings.HasPrefix(letters, "0x") {
		n, err := strconv.ParseUint(letters, 0, 8)
		q.Qtype = uint8(n)
		return q, err
	}
	perm, err := (&value{word: letters + "0"}).perm()
	q.Qtype = uint8(perm >> 24)
	return q, err
}

// A reader takes fields out of pairs and keeps the first error.
type reader struct {
	p   *pairs
	err error
}

func (r *reader) num(name string, def uint64, bits int) uint64 {
	v := r.p.get(name)
	if v == nil {
		return def
	}
	n, err := v.num(bits)
	r.check(name, err)
	return n
}

// uid is the number of a user, NOUID if it is not there.
func (r *reader) uid(name string) uint32 { return uint32(r.num(name, uint64(ninep.NOUID), 32)) }

func (r *reader) u32(name string) uint32 { return uint32(r.num(name, 0, 32)) }

func (r *reader) str(name, def string) string {
	v := r.p.get(name)
	if v == nil {
		return def
	}
	b, err := v.bytes()
	r.check(name, err)
	return string(b)
}

func (r *reader) perm(name string, def uint32) uint32 {
	v := r.p.get(name)
	if v == nil {
		return def
	}
	n, err := v.perm()
	r.check(name, err)
	return n
}

func (r *reader) openMode() uint8 {
	v := r.p.get("mode")
	if v == nil {
		return 0
	}
	m, err := v.openMode()
	r.check("mode", err)
	return m
}

func (r *reader) strs(name string) []string {
	v := r.p.get(name)
	if v == nil {
		return nil
	}
	elems := v.elems
	if !v.list {
		elems = []value{*v}
	}
	var s []string
	for _, e := range elems {
		b, err := e.bytes()
		r.check(name, err)
		s = append(s, string(b))
	}
	return s
}

// stat reads a stat record, in 9P2000.u with its second part, which u has.
func (r *reader) stat(dialect ninep.Dialect, u *ninep.UnixStat) proto.Stat {
	d := ninep.NullDir()
	v := r.p.get("stat")
	if v == nil {
		return proto.Stat(d)
	}
	in := &reader{p: &pairs{fields: v.group}}
	if dialect == ninep.Unix {
		u.Extension = in.str("extension", u.Extension)
		u.Nuid, u.Ngid, u.Nmuid = in.uid("n_uid"), in.uid("n_gid"), in.uid("n_muid")
	}
	d.Name, d.Uid, d.Gid, d.Muid = in.str("name", ""), in.str("uid", ""), in.str("gid", ""), in.str("muid", "")
	d.Mode = in.perm("mode", d.Mode)
	d.Atime = uint32(in.num("atime", uint64(d.Atime), 32))
	d.Mtime = uint32(in.num("mtime", uint64(d.Mtime), 32))
	d.Length = in.num("length", d.Length, 64)
	d.Type = uint16(in.num("type", uint64(d.Type), 16))
	d.Dev = uint32(in.num("dev", uint64(d.Dev), 32))
	if q := in.p.get("qid"); q != nil {
		var err error
		d.Qid, err = q.qid()
		in.check("qid", err)
	}
	for _, f := range v.group {
		if !f.used {
			in.check(f.name, errors.New("unknown field"))
		}
	}
	r.check("stat", in.err)
	return proto.Stat(d)
}

func (r *reader) check(name string, err error) {
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s: %w", name, err)
	}
}

// message makes the T-message that p describes in the dialect d, with what belongs to it in 9P2000.u.
func (p *pairs) message(d ninep.Dialect) (m proto.FCall, u ninep.UnixPart, err error) {
	r := &reader{p: p}
	u = ninep.NullUnixPart()
	if d != ninep.Plan9 && (p.verb == "Tauth" || p.verb == "Tattach") {
		u.NUname = r.uid("n_uname")
	}
	tag := uint64(0)
	if p.verb == "Tversion" {
		tag = uint64(ninep.NOTAG)
	}
	h := proto.Header{Tag: uint16(r.num("tag", tag, 16))}
	afid := func() uint32 { return uint32(r.num("afid", uint64(ninep.NOFID), 32)) }
	switch p.verb {
	case "Tversion":
		h.Type = ninep.Tversion
		m = &proto.TRVersion{Header: h, Msize: uint32(r.num("msize", 8192, 32)), Version: r.str("version", ninep.Version)}
	case "Tauth":
		m = &proto.TAuth{Header: h, Afid: afid(), Uname: r.str("uname", ""), Aname: r.str("aname", "")}
	case "Tattach":
		m = &proto.TAttach{Header: h, Fid: r.u32("fid"), Afid: afid(), Uname: r.str("uname", ""), Aname: r.str("aname", "")}
	case "Tflush":
		m = &proto.TFlush{Header: h, Oldtag: uint16(r.num("oldtag", 0, 16))}
	case "Twalk":
		m = &proto.TWalk{Header: h, Fid: r.u32("fid"), Newfid: r.u32("newfid"), Wname: r.strs("wname")}
	case "Topen":
		m = &proto.TOpen{Header: h, Fid: r.u32("fid"), Mode: proto.Mode(r.openMode())}
	case "Tcreate":
		if d == ninep.Unix {
			u.Extension = r.str("extension", "")
		}
		m = &proto.TCreate{Header: h, Fid: r.u32("fid"), Name: r.str("name", ""), Perm: r.perm("perm", 0), Mode: r.openMode()}
	case "Tread":
		m = &proto.TRead{Header: h, Fid: r.u32("fid"), Offset: r.num("offset", 0, 64), Count: r.u32("count")}
	case "Twrite":
		m = &proto.TWrite{Header: h, Fid: r.u32("fid"), Offset: r.num("offset", 0, 64), Data: []byte(r.str("data", ""))}
		p.get("count") // Format prints it; the data says it
	case "Tclunk":
		m = &proto.TClunk{Header: h, Fid: r.u32("fid")}
	case "Tremove":
		m = &proto.TRemove{Header: h, Fid: r.u32("fid")}
	case "Tstat":
		m = &proto.TStat{Header: h, Fid: r.u32("fid")}
	case "Twstat":
		m = &proto.TWstat{Header: h, Fid: r.u32("fid"), Stat: r.stat(d, &u.UnixStat)}
	default:
		return nil, u, fmt.Errorf("unknown message %q", p.verb)
	}
	return m, u, r.err
}
