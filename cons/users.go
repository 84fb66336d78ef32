package cons

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gefs9p/ninep"
	"gefs9p/users"
)

func userCommands() []Command {
	return []Command{
		{Name: "users", run: (*call).users,
			Help: "read /adm/users again; if it is broken the users stay as they are"},
		{Name: "user", Args: "add name [id] | del name | group add|del group name... | group leader group [name]",
			min: 2, max: -1, run: (*call).user,
			Help: "change /adm/users, and put it in force",
			Long: "user add name [id]          a new user, who leads a group of the same name; without an id the one\n" +
				"                            after the highest\n" +
				"user del name               remove a user, also from all groups; files keep the id, so it should\n" +
				"                            not be given to another\n" +
				"user group add group name...  make users members of a group\n" +
				"user group del group name...\n" +
				"user group leader group [name]  say who leads a group: nobody named, every member does\n" +
				"The file is read, changed and written in one step. Lines that are not concerned stay as they are."},
	}
}

func (k *call) users() error {
	if err := k.FS.ReloadUsers(); err != nil {
		return fmt.Errorf("users: %w", err)
	}
	k.did = true
	return k.answer(map[string]bool{"refreshed": true}, "refreshed users\n")
}

func (k *call) user() error {
	var edit func(f *usersFile) error
	said := ""
	switch a := k.args; {
	case a[0] == "add" && (len(a) == 2 || len(a) == 3):
		id := ""
		if len(a) == 3 {
			id = a[2]
		}
		edit = func(f *usersFile) (err error) {
			n, err := f.add(a[1], id)
			said = fmt.Sprintf("added: %s (%d)", a[1], n)
			return err
		}
	case a[0] == "del" && len(a) == 2:
		edit = func(f *usersFile) error { return f.del(a[1]) }
		said = "deleted: " + a[1]
	case a[0] == "group" && len(a) >= 4 && a[1] == "add":
		edit = func(f *usersFile) error { return f.join(a[2], a[3:]) }
		said = fmt.Sprintf("added to %s: %s", a[2], strings.Join(a[3:], " "))
	case a[0] == "group" && len(a) >= 4 && a[1] == "del":
		edit = func(f *usersFile) error { return f.leave(a[2], a[3:]) }
		said = fmt.Sprintf("deleted from %s: %s", a[2], strings.Join(a[3:], " "))
	case a[0] == "group" && (len(a) == 3 || len(a) == 4) && a[1] == "leader":
		leader := ""
		if len(a) == 4 {
			leader = a[3]
		}
		edit = func(f *usersFile) error { return f.lead(a[2], leader) }
		said = fmt.Sprintf("leader of %s: %s", a[2], leader)
	default:
		return k.misuse()
	}
	err := k.inside(func(c *ninep.Ctx) error {
		return k.FS.EditUsers(c, func(text []byte) ([]byte, error) { return editUsers(text, edit) })
	})
	if err != nil {
		return err
	}
	if err := k.commit(said); err != nil {
		return err
	}
	return k.answer(map[string]string{"changed": said}, "%s\n", said)
}

// editUsers makes one change to the text of a users file, which must be a good one before and after.
func editUsers(text []byte, edit func(*usersFile) error) ([]byte, error) {
	t, err := users.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("/adm/users:%w; mend that first", err)
	}
	f := &usersFile{table: t, lines: strings.SplitAfter(string(text), "\n")}
	if err := edit(f); err != nil {
		return nil, err
	}
	return []byte(strings.Join(f.lines, "")), nil
}

// A usersFile is the text of a users file while it is being changed. table is what it said before.
type usersFile struct {
	table *users.Table
	lines []string
}

// Fields of a line.
const (
	fieldID = iota
	fieldName
	fieldLeader
	fieldMembers
)

// fields cuts a line; nil if it says nothing.
func fields(line string) []string {
	line = strings.TrimSuffix(line, "\n")
	if line == "" || line[0] == '#' {
		return nil
	}
	return strings.Split(line, ":") // at least four: it has been parsed
}

// find returns the index of the line that defines name.
func (f *usersFile) find(name string) (int, error) {
	for i, line := range f.lines {
		if p := fields(line); p != nil && p[fieldName] == name {
			return i, nil
		}
	}
	return 0, fmt.Errorf("user '%s': %w", name, users.ErrNoUser)
}

// update replaces one field of line i.
func (f *usersFile) update(i, field int, value string) {
	p := fields(f.lines[i])
	p[field] = value
	end := f.lines[i][len(strings.TrimSuffix(f.lines[i], "\n")):]
	f.lines[i] = strings.Join(p, ":") + end
}

// members returns the names in the last field of line i.
func (f *usersFile) members(i int) []string {
	return slices.DeleteFunc(strings.Split(fields(f.lines[i])[fieldMembers], ","), func(s string) bool { return s == "" })
}

// add appends a user.
func (f *usersFile) add(name, id string) (int32, error) {
	if name == "" || strings.ContainsAny(name, ":,\n") {
		return 0, fmt.Errorf("user '%s': a name has no colon, comma or newline", oneLine(name))
	}
	var n int32
	if id != "" {
		v, err := strconv.ParseInt(id, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("user '%s': '%s' is not an id", name, id)
		}
		n = int32(v)
	} else {
		n = f.nextID()
	}
	switch u, ok := f.table.ByID(n); {
	case ok:
		return 0, fmt.Errorf("user '%s': the id %d is %s's", name, n, u.Name)
	case n == f.table.None() || n == f.table.Adm() || n == f.table.Nogroup():
		return 0, fmt.Errorf("user '%s': the id %d means something", name, n)
	}
	if _, ok := f.table.ID(name); ok {
		return 0, fmt.Errorf("user '%s': there is one", name)
	}
	if last := len(f.lines) - 1; f.lines[last] != "" {
		f.lines[last] += "\n" // SplitAfter leaves a last line without one
	}
	f.lines = append(f.lines, fmt.Sprintf("%d:%s:%s:\n", n, name, name))
	return n, nil
}

// nextID returns the id after the highest of ordinary users, so that those of deleted users are left
// alone if possible. The id of nogroup, and what lies above it, are not ordinary.
func (f *usersFile) nextID() int32 {
	high := int32(0)
	for _, u := range f.table.Users() {
		if u.ID < users.DefaultNogroup {
			high = max(high, u.ID)
		}
	}
	for n := high + 1; ; n++ {
		if _, taken := f.table.ByID(n); !taken && n != f.table.Nogroup() {
			return n
		}
	}
}

// del removes a user, and the user's name from all groups.
func (f *usersFile) del(name string) error {
	if name == "adm" || name == "none" {
		return fmt.Errorf("user '%s': the file system needs it", name)
	}
	at, err := f.find(name)
	if err != nil {
		return err
	}
	for i, line := range f.lines {
		if p := fields(line); p != nil && i != at && p[fieldLeader] == name {
			// Without a leader, all members would lead.
			return fmt.Errorf("user '%s' leads %s: say who is to, with user group leader %s name", name, p[fieldName], p[fieldName])
		}
	}
	for i := range f.lines {
		if fields(f.lines[i]) != nil && i != at {
			f.drop(i, name)
		}
	}
	f.lines = slices.Delete(f.lines, at, at+1)
	return nil
}

// drop takes a name out of the members of line i, and says whether it was there.
func (f *usersFile) drop(i int, name string) bool {
	all := f.members(i)
	rest := slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == name })
	if len(rest) == len(all) {
		return false
	}
	f.update(i, fieldMembers, strings.Join(rest, ","))
	return true
}

// join makes users members of a group.
func (f *usersFile) join(group string, names []string) error {
	i, err := f.find(group)
	if err != nil {
		return err
	}
	list := f.members(i)
	for _, name := range names {
		if _, ok := f.table.ID(name); !ok {
			return fmt.Errorf("user '%s': %w", name, users.ErrNoUser)
		}
		if slices.Contains(list, name) {
			return fmt.Errorf("user '%s' is in the group %s", name, group)
		}
		list = append(list, name)
	}
	f.update(i, fieldMembers, strings.Join(list, ","))
	return nil
}

// leave ends the membership of users in a group.
func (f *usersFile) leave(group string, names []string) error {
	i, err := f.find(group)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !f.drop(i, name) {
			return fmt.Errorf("user '%s' is not in the group %s", name, group)
		}
	}
	return nil
}

// lead says who leads a group, nobody if leader is empty.
func (f *usersFile) lead(group, leader string) error {
	i, err := f.find(group)
	if err != nil {
		return err
	}
	if leader != "" {
		if _, ok := f.table.ID(leader); !ok {
			return fmt.Errorf("user '%s': %w", leader, users.ErrNoUser)
		}
	}
	f.update(i, fieldLeader, leader)
	return nil
}
