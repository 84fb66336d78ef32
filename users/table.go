package users

import (
	"slices"
	"strconv"
	"strings"
)

// The ids of the three users that mean something to the file system, for a table that does not
// list them. See Table.None, Table.Adm and Table.Nogroup.
const (
	DefaultNone    int32 = 0
	DefaultAdm     int32 = -1
	DefaultNogroup int32 = 9999
)

// A User is one line of the table, and a copy: changing it changes no table.
type User struct {
	ID   int32
	Name string

	// LeaderID is meaningful only if HasLeader.
	HasLeader bool
	LeaderID  int32

	// Members holds the ids in the order of the line, each once. The user itself belongs to its own
	// group without being listed.
	Members []int32
}

// A Table is an immutable set of users.
//
//   - No two users have the same id or the same name.
//   - Every leader and every member is a user of the table.
//   - No leader is the user called none.
//
// The zero Table has no users; Parse, Default and Ream make others.
type Table struct {
	list    []record // in the order of the text
	byID    map[int32]int
	byName  map[string]int
	none    int32
	adm     int32
	nogroup int32
}

// A record is a line with its names resolved.
type record struct {
	User
	sorted []int32 // Members in ascending order, for the search
}

// Default returns the table of a permissive server whose users file is broken: adm and none, and
// nobody in adm.
func Default() *Table {
	return &Table{
		list: []record{
			{User: User{ID: DefaultAdm, Name: "adm"}},
			{User: User{ID: DefaultNone, Name: "none"}},
		},
		byID:    map[int32]int{DefaultAdm: 0, DefaultNone: 1},
		byName:  map[string]int{"adm": 0, "none": 1},
		none:    DefaultNone,
		adm:     DefaultAdm,
		nogroup: DefaultNogroup,
	}
}

// Len returns the number of users.
func (t *Table) Len() int { return len(t.list) }

// Users returns copies of all users in the order of the text.
func (t *Table) Users() []User {
	us := make([]User, len(t.list))
	for i := range t.list {
		us[i] = t.list[i].copy()
	}
	return us
}

// ByName returns the user called name, and whether there is one.
func (t *Table) ByName(name string) (User, bool) {
	i, ok := t.byName[name]
	if !ok {
		return User{}, false
	}
	return t.list[i].copy(), true
}

// ByID returns the user with this id, and whether there is one.
func (t *Table) ByID(id int32) (User, bool) {
	i, ok := t.byID[id]
	if !ok {
		return User{}, false
	}
	return t.list[i].copy(), true
}

// ID returns the id of the user called name, and whether there is one. It does not allocate.
// Source: name2user.
func (t *Table) ID(name string) (int32, bool) {
	i, ok := t.byName[name]
	if !ok {
		return 0, false
	}
	return t.list[i].ID, true
}

// Name returns the name of the user with this id, and whether there is one. It does not allocate.
// Source: uid2user.
func (t *Table) Name(id int32) (string, bool) {
	i, ok := t.byID[id]
	if !ok {
		return "", false
	}
	return t.list[i].Name, true
}

// InGroup reports whether both u and g are users and u is g itself or one of its members.
// Membership does not pass through groups: a member of a member is no member.
// Source: ingroup.
func (t *Table) InGroup(u, g int32) bool {
	if _, ok := t.byID[u]; !ok {
		return false
	}
	i, ok := t.byID[g]
	if !ok {
		return false
	}
	return u == g || t.list[i].member(u)
}

// Leader reports whether u leads the group g: with a leader set, u must be that user; without one,
// every member leads. A user leads its own group only if its line says so.
// Source: groupleader.
func (t *Table) Leader(u, g int32) bool {
	i, ok := t.byID[g]
	if !ok {
		return false
	}
	r := &t.list[i]
	if r.HasLeader {
		return r.LeaderID == u
	}
	return r.member(u)
}

// None returns the id of the user none, who gets only what others get; DefaultNone if the table
// lists no such user. The same id may then be some other user's: a table without none should not
// give away that number.
func (t *Table) None() int32 { return t.none }

// Adm returns the id of the group adm, whose members administer the file system; DefaultAdm if the
// table lists no such user.
func (t *Table) Adm() int32 { return t.adm }

// Nogroup returns the id of the group nogroup, whose members are barred from what others get;
// DefaultNogroup if the table lists no such user.
func (t *Table) Nogroup() int32 { return t.nogroup }

// Format returns the table as text that Parse reads back into an equal table. Comments and empty
// lines of the text it came from are gone.
func (t *Table) Format() string {
	var b strings.Builder
	for i := range t.list {
		r := &t.list[i]
		b.WriteString(strconv.FormatInt(int64(r.ID), 10))
		b.WriteByte(':')
		b.WriteString(r.Name)
		b.WriteByte(':')
		if r.HasLeader {
			b.WriteString(t.list[t.byID[r.LeaderID]].Name)
		}
		b.WriteByte(':')
		for j, id := range r.Members {
			if j > 0 {
				b.WriteByte(',')
			}
			b.WriteString(t.list[t.byID[id]].Name)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Ream returns the text of a new file system's users file: user, who is made its first user with
// the id 1 and the only member of adm. It fails with a ParseError if user cannot be the name of a
// user, or is adm or none.
func Ream(user string) (string, error) {
	if user == "adm" || user == "none" {
		return "", &ParseError{Line: 3, Err: ErrDuplicate, Detail: "user " + strconv.Quote(user) + " is always there"}
	}
	text := "-1:adm::" + user + "\n0:none::\n1:" + user + ":" + user + ":\n"
	t, err := Parse([]byte(text))
	if err != nil {
		return "", err
	}
	// A name with a colon, a comma or a newline parses as something else than was meant.
	if id, ok := t.ID(user); !ok || t.Len() != 3 || !t.InGroup(id, t.Adm()) {
		return "", &ParseError{Line: 3, Err: ErrSyntax, Detail: "not a user name: " + strconv.Quote(user)}
	}
	return text, nil
}

func (r *record) copy() User {
	u := r.User
	u.Members = slices.Clone(u.Members)
	return u
}

func (r *record) member(id int32) bool {
	_, ok := slices.BinarySearch(r.sorted, id)
	return ok
}
