package users

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// MaxSize is the size a users file must stay below, in bytes.
const MaxSize = 1 << 20

// MaxName is the longest name of a user, in bytes. It is far above what anyone uses; it is there so
// that a stat message with three such names stays small.
const MaxName = 255

// What can be wrong with a text; every ParseError wraps one of these.
var (
	ErrSyntax    = errors.New("syntax error")        // a field is missing or not what it must be
	ErrNoUser    = errors.New("user does not exist") // a leader or member nobody defines
	ErrDuplicate = errors.New("duplicate user")      // an id or name that an earlier line has
	ErrTooBig    = errors.New("file too big")        // MaxSize bytes or more; belongs to no line
)

// A ParseError says why a text is no table, and where.
type ParseError struct {
	Line   int    // from 1; 0 if it is the text as a whole
	Err    error  // one of the errors above
	Detail string // what exactly
}

// Error returns "LINE: reason: detail", so that a caller only has to put the name of the file and a
// colon in front; without a line, "reason: detail".
func (e *ParseError) Error() string {
	s := e.Err.Error()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Line > 0 {
		s = strconv.Itoa(e.Line) + ": " + s
	}
	return s
}

// Unwrap returns the kind of the error.
func (e *ParseError) Unwrap() error { return e.Err }

// A line is one that counts, cut into its fields.
type line struct {
	num                       int
	id, name, leader, members []byte
}

// Parse makes a table of the text of a users file.
//
// It is stricter than gefs in what cannot have been meant: ids that are not numbers of 32 bits, ids or
// names given twice, names that are empty, longer than MaxName, not UTF-8 or with control characters, a text of MaxSize
// bytes or more. It is as lenient in the rest: empty members and fields after the fourth are
// skipped, and a member listed twice counts once. A last line without a newline counts.
//
// The error is a *ParseError. Of several it is the first of the first pass, which looks at ids, names
// and the number of fields, and only then the first of the second. The text is not kept.
// Source: parseusers.
func Parse(text []byte) (*Table, error) {
	if len(text) >= MaxSize {
		return nil, &ParseError{Err: ErrTooBig, Detail: fmt.Sprintf("%d bytes, the limit is %d", len(text), MaxSize)}
	}
	t := &Table{
		byID:    make(map[int32]int),
		byName:  make(map[string]int),
		none:    DefaultNone,
		adm:     DefaultAdm,
		nogroup: DefaultNogroup,
	}
	var lines []line
	for num := 1; len(text) > 0; num++ {
		var s []byte
		s, text, _ = bytes.Cut(text, []byte{'\n'})
		if len(s) == 0 || s[0] == '#' {
			continue
		}
		l, err := split(num, s)
		if err == nil {
			err = t.define(l)
		}
		if err != nil {
			return nil, err
		}
		lines = append(lines, l)
	}
	t.none = t.idOr("none", t.none)
	t.adm = t.idOr("adm", t.adm)
	t.nogroup = t.idOr("nogroup", t.nogroup)
	for i, l := range lines {
		if err := t.relate(&t.list[i], l); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// split cuts a line at its first three colons; a fourth ends the members.
func split(num int, s []byte) (line, error) {
	l := line{num: num}
	rest := s
	for _, f := range []struct {
		to   *[]byte
		name string
	}{{&l.id, "id"}, {&l.name, "name"}, {&l.leader, "leader"}} {
		var ok bool
		*f.to, rest, ok = bytes.Cut(rest, []byte{':'})
		if !ok {
			return line{}, l.fail(ErrSyntax, "missing ':' after %s", f.name)
		}
	}
	l.members, _, _ = bytes.Cut(rest, []byte{':'})
	return l, nil
}

// define enters the id and the name of a line: the first pass.
func (t *Table) define(l line) error {
	id64, err := strconv.ParseInt(string(l.id), 10, 32)
	if err != nil {
		return l.fail(ErrSyntax, "not an id: %q", clip(l.id))
	}
	id, name := int32(id64), string(l.name)
	if !validName(l.name) {
		return l.fail(ErrSyntax, "not a user name: %q", clip(l.name))
	}
	if i, ok := t.byID[id]; ok {
		return l.fail(ErrDuplicate, "id %d is %s", id, clip([]byte(t.list[i].Name)))
	}
	if i, ok := t.byName[name]; ok {
		return l.fail(ErrDuplicate, "%s has the id %d", clip(l.name), t.list[i].ID)
	}
	t.byID[id] = len(t.list)
	t.byName[name] = len(t.list)
	t.list = append(t.list, record{User: User{ID: id, Name: name}})
	return nil
}

// relate resolves the leader and the members of a line into r: the second pass.
func (t *Table) relate(r *record, l line) error {
	if len(l.leader) > 0 {
		id, ok := t.ID(string(l.leader))
		if !ok {
			return l.fail(ErrNoUser, "leader %q", clip(l.leader))
		}
		if string(l.leader) == "none" || id == t.none {
			return l.fail(ErrSyntax, "none cannot lead a group")
		}
		r.HasLeader, r.LeaderID = true, id
	}
	seen := make(map[int32]bool)
	for name := range bytes.SplitSeq(l.members, []byte{','}) {
		if len(name) == 0 {
			continue
		}
		id, ok := t.ID(string(name))
		if !ok {
			return l.fail(ErrNoUser, "member %q", clip(name))
		}
		if !seen[id] {
			seen[id] = true
			r.Members = append(r.Members, id)
		}
	}
	r.sorted = slices.Clone(r.Members)
	slices.Sort(r.sorted)
	return nil
}

func (t *Table) idOr(name string, id int32) int32 {
	if have, ok := t.ID(name); ok {
		return have
	}
	return id
}

func (l line) fail(kind error, format string, args ...any) error {
	return &ParseError{Line: l.num, Err: kind, Detail: fmt.Sprintf(format, args...)}
}

// validName reports whether a user can be called that: the name goes into stat messages and log
// lines, so it must be text without control characters.
func validName(s []byte) bool {
	if len(s) == 0 || len(s) > MaxName || !utf8.Valid(s) {
		return false
	}
	return !bytes.ContainsFunc(s, unicode.IsControl)
}

// clip shortens what an error message quotes: a line may be a megabyte long.
func clip(s []byte) []byte {
	const most = 40
	if len(s) > most {
		return append(slices.Clone(s[:most]), "..."...)
	}
	return s
}
