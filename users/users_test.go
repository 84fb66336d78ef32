package users

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// town is the users file of the golden disks: members and leaders that stand further down, a group
// without a leader, ids out of order, and nogroup with a member.
const town = `-1:adm::glenda
0:none::
1:glenda:glenda:
2:alice:alice:
3:bob:bob:alice
4:sys::glenda,alice
5:staff:alice:alice,bob,carol
6:carol:carol:
7:dave::
9999:nogroup::mallory
8:mallory:mallory:
`

func parse(t *testing.T, text string) *Table {
	t.Helper()
	tab, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return tab
}

func TestParseReadsEveryField(t *testing.T) {
	got := parse(t, "# a comment\n\n"+town).Users()
	want := []User{
		{ID: -1, Name: "adm", Members: []int32{1}},
		{ID: 0, Name: "none"},
		{ID: 1, Name: "glenda", HasLeader: true, LeaderID: 1},
		{ID: 2, Name: "alice", HasLeader: true, LeaderID: 2},
		{ID: 3, Name: "bob", HasLeader: true, LeaderID: 3, Members: []int32{2}},
		{ID: 4, Name: "sys", Members: []int32{1, 2}},
		{ID: 5, Name: "staff", HasLeader: true, LeaderID: 2, Members: []int32{2, 3, 6}},
		{ID: 6, Name: "carol", HasLeader: true, LeaderID: 6},
		{ID: 7, Name: "dave"},
		{ID: 9999, Name: "nogroup", Members: []int32{8}},
		{ID: 8, Name: "mallory", HasLeader: true, LeaderID: 8},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("users (-want +got):\n%s", d)
	}
}

// Pitfall 122: a parser that resolves names with the index it walks the lines with loses the members
// of later groups, or never ends. So: groups that name users before, after and at their own line.
func TestEveryGroupKeepsItsMembers(t *testing.T) {
	tab := parse(t, "10:z::a,b,c,z\n1:a::c,z\n2:b::a\n3:c::z,b,a\n")
	want := map[string][]int32{"z": {1, 2, 3, 10}, "a": {3, 10}, "b": {1}, "c": {10, 2, 1}}
	for name, ids := range want {
		u, ok := tab.ByName(name)
		if !ok || !slices.Equal(u.Members, ids) {
			t.Errorf("members of %s: %v %v, want %v", name, u.Members, ok, ids)
		}
		for _, id := range ids {
			if !tab.InGroup(id, u.ID) {
				t.Errorf("%d is not in group %s", id, name)
			}
		}
	}
	if tab.InGroup(2, 1) {
		t.Error("b is in group a")
	}
}

// Pitfall 121: a record in use must survive the replacement of its table, and a table must not be
// reachable through the records it gave out.
func TestRecordsOutliveAndCannotChangeTheirTable(t *testing.T) {
	old := parse(t, town)
	staff, _ := old.ByName("staff")
	all := old.Users()
	tab := parse(t, "5:other::\n")

	if staff.Name != "staff" || !slices.Equal(staff.Members, []int32{2, 3, 6}) {
		t.Errorf("the old record became %+v", staff)
	}
	if n, _ := tab.Name(5); n != "other" || tab.Len() != 1 {
		t.Errorf("new table: 5 is %q, %d users", n, tab.Len())
	}
	staff.Members[0] = 7
	all[6].Members[1] = 7
	all[0].Name = "root"
	if got := old.Format(); got != town {
		t.Errorf("the table changed under a copy:\n%s", got)
	}
	if old.InGroup(7, 5) || !old.InGroup(2, 5) {
		t.Error("membership changed under a copy")
	}
}

func TestParseDoesNotKeepTheText(t *testing.T) {
	text := []byte(town)
	tab, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	clear(text)
	if got := tab.Format(); got != town {
		t.Errorf("the table changed with the text:\n%q", got)
	}
}

func TestParseRefuses(t *testing.T) {
	long := strings.Repeat("x", MaxName+1)
	for _, c := range []struct {
		name, text string
		kind       error
		want       string
	}{
		{"no colon", "1", ErrSyntax, "1: syntax error: missing ':' after id"},
		{"one colon", "0:none::\n1:a\n", ErrSyntax, "2: syntax error: missing ':' after name"},
		{"two colons", "\n# c\n1:a:\n", ErrSyntax, "3: syntax error: missing ':' after leader"},
		{"blanks only", "  \n", ErrSyntax, "1: syntax error: missing ':' after id"},
		{"id no number", "1:a::\nx:b::\n", ErrSyntax, `2: syntax error: not an id: "x"`},
		{"id empty", ":b::\n", ErrSyntax, `1: syntax error: not an id: ""`},
		{"id with blank", " 1:b::\n", ErrSyntax, `1: syntax error: not an id: " 1"`},
		{"id too big", "2147483648:b::\n", ErrSyntax, `1: syntax error: not an id: "2147483648"`},
		{"id too small", "-2147483649:b::\n", ErrSyntax, `1: syntax error: not an id: "-2147483649"`},
		{"name empty", "1:::\n", ErrSyntax, `1: syntax error: not a user name: ""`},
		{"name with control", "1:a\tb::\n", ErrSyntax, `1: syntax error: not a user name: "a\tb"`},
		{"name not UTF-8", "1:a\xff::\n", ErrSyntax, `1: syntax error: not a user name: "a\xff"`},
		{"name too long", "1:" + long + "::\n", ErrSyntax, `1: syntax error: not a user name: "` + long[:40] + `..."`},
		{"id twice", "1:a::\n2:b::\n1:c::\n", ErrDuplicate, "3: duplicate user: id 1 is a"},
		{"name twice", "1:a::\n2:b::\n\n3:a::\n", ErrDuplicate, "4: duplicate user: a has the id 1"},
		{"leader unknown", "1:a:b:\n", ErrNoUser, `1: user does not exist: leader "b"`},
		{"member unknown", "1:a::a,b\n", ErrNoUser, `1: user does not exist: member "b"`},
		{"member by id", "1:a::1\n", ErrNoUser, `1: user does not exist: member "1"`},
		{"leader none", "0:none::\n1:a:none:\n", ErrSyntax, "2: syntax error: none cannot lead a group"},
		{"leader none with another id", "5:none::\n1:a:none:\n", ErrSyntax, "2: syntax error: none cannot lead a group"},
		{"leader has the id of none", "0:z::\n1:a:z:\n", ErrSyntax, "2: syntax error: none cannot lead a group"},
		{"carriage return", "1:a::a\r\n", ErrNoUser, `1: user does not exist: member "a\r"`},
		{"first pass first", "1:a:nobody:\n2:b\n", ErrSyntax, "2: syntax error: missing ':' after name"},
		{"too big", strings.Repeat("#\n", MaxSize/2), ErrTooBig, "file too big: 1048576 bytes, the limit is 1048576"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tab, err := Parse([]byte(c.text))
			if tab != nil || err == nil {
				t.Fatalf("accepted as %v", tab)
			}
			if !errors.Is(err, c.kind) || err.Error() != c.want {
				t.Errorf("got %q, want %q", err, c.want)
			}
			if pe := (*ParseError)(nil); !errors.As(err, &pe) {
				t.Errorf("%T is no *ParseError", err)
			}
		})
	}
}

func TestParseIsLenientWhereGefsIs(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"only comments", "# a\n\n#b", ""},
		{"no last newline", "1:a::", "1:a::\n"},
		{"empty members", "1:a::,a,,\n", "1:a::a\n"},
		{"member twice", "1:a::b,a,b\n2:b::\n", "1:a::b,a\n2:b::\n"},
		{"more fields", "1:a:a:a:x:y\n", "1:a:a:a\n"},
		{"blanks in a name", "1:a b::\n", "1:a b::\n"},
		{"not ASCII", "1:böb:böb:\n", "1:böb:böb:\n"},
		{"extreme ids", "2147483647:a::\n-2147483648:b::\n", "2147483647:a::\n-2147483648:b::\n"},
		{"one byte below the limit", strings.Repeat("#", MaxSize-1), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := parse(t, c.text).Format(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestInGroup(t *testing.T) {
	tab := parse(t, town)
	for _, c := range []struct {
		u, g int32
		want bool
	}{
		{1, -1, true},    // member
		{2, -1, false},   // not a member
		{1, 1, true},     // own group
		{7, 7, true},     // own group, nobody listed
		{2, 3, true},     // alice in bob
		{3, 2, false},    // not the other way round
		{6, 5, true},     // last member
		{7, 5, false},    //
		{3, 4, false},    // bob is not in sys though alice is, who is in bob
		{8, 9999, true},  // mallory
		{77, 77, false},  // nobody's group
		{1, 77, false},   // no such group
		{77, 1, false},   // no such user
		{0, 0, true},     // none
		{-1, 1, false},   // a group is no member of its members
		{9999, 8, false}, //
	} {
		if got := tab.InGroup(c.u, c.g); got != c.want {
			t.Errorf("InGroup(%d, %d) = %v", c.u, c.g, got)
		}
	}
}

func TestLeader(t *testing.T) {
	tab := parse(t, town)
	for _, c := range []struct {
		u, g int32
		want bool
	}{
		{2, 5, true},   // alice leads staff
		{3, 5, false},  // bob is only a member
		{1, 4, true},   // sys has no leader: members lead
		{2, 4, true},   //
		{3, 4, false},  //
		{4, 4, false},  // sys itself is not its own member
		{7, 7, false},  // dave has no leader and no members
		{3, 3, true},   // bob leads bob
		{2, 3, false},  // alice is a member, bob leads
		{1, -1, true},  // adm
		{0, 77, false}, // no such group
	} {
		if got := tab.Leader(c.u, c.g); got != c.want {
			t.Errorf("Leader(%d, %d) = %v", c.u, c.g, got)
		}
	}
}

func TestSpecialIDs(t *testing.T) {
	for _, c := range []struct {
		name, text         string
		none, adm, nogroup int32
	}{
		{"by default", "1:a::\n", 0, -1, 9999},
		{"as listed", "5:none::\n6:adm::\n7:nogroup::\n", 5, 6, 7},
		{"some listed", "-1:adm::\n-2:none::\n", -2, -1, 9999},
	} {
		tab := parse(t, c.text)
		if tab.None() != c.none || tab.Adm() != c.adm || tab.Nogroup() != c.nogroup {
			t.Errorf("%s: none %d, adm %d, nogroup %d", c.name, tab.None(), tab.Adm(), tab.Nogroup())
		}
	}
}

func TestLookups(t *testing.T) {
	tab := parse(t, town)
	if id, ok := tab.ID("staff"); id != 5 || !ok {
		t.Errorf(`ID("staff") = %d, %v`, id, ok)
	}
	if name, ok := tab.Name(-1); name != "adm" || !ok {
		t.Errorf("Name(-1) = %q, %v", name, ok)
	}
	if u, ok := tab.ByID(3); u.Name != "bob" || !ok {
		t.Errorf("ByID(3) = %+v, %v", u, ok)
	}
	for _, name := range []string{"", "nobody", "Staff", "5"} {
		if id, ok := tab.ID(name); ok || id != 0 {
			t.Errorf("ID(%q) = %d, %v", name, id, ok)
		}
		if u, ok := tab.ByName(name); ok || u.Name != "" {
			t.Errorf("ByName(%q) = %+v, %v", name, u, ok)
		}
	}
	if name, ok := tab.Name(10); ok || name != "" {
		t.Errorf("Name(10) = %q, %v", name, ok)
	}
	if u, ok := tab.ByID(10); ok || u.Name != "" {
		t.Errorf("ByID(10) = %+v, %v", u, ok)
	}
	if n := testing.AllocsPerRun(10, func() { tab.ID("staff"); tab.Name(5); tab.InGroup(3, 5); tab.Leader(3, 4) }); n != 0 {
		t.Errorf("lookups allocate %v times", n)
	}
}

func TestDefaultIsWhatItsTextSays(t *testing.T) {
	const text = "-1:adm::\n0:none::\n"
	if got := Default().Format(); got != text {
		t.Errorf("Default is %q", got)
	}
	if d := cmp.Diff(parse(t, text), Default(), tables...); d != "" {
		t.Errorf("parsed and built table differ:\n%s", d)
	}
}

func TestZeroTableHasNobody(t *testing.T) {
	var tab Table
	if _, ok := tab.ID("none"); ok || tab.Len() != 0 || tab.InGroup(0, 0) || tab.Leader(0, 0) || tab.Format() != "" {
		t.Error("the zero table has somebody")
	}
}

func TestReamMakesUserAdministrator(t *testing.T) {
	text, err := Ream("glenda")
	if err != nil {
		t.Fatal(err)
	}
	if text != "-1:adm::glenda\n0:none::\n1:glenda:glenda:\n" || len(text) != 41 {
		t.Errorf("text %q", text)
	}
	tab := parse(t, text)
	if !tab.InGroup(1, tab.Adm()) || !tab.Leader(1, 1) || tab.InGroup(tab.None(), tab.Adm()) {
		t.Error("glenda is not the administrator")
	}
	for _, bad := range []string{"", "a:b", "a,b", "a\nb", "\xff", "adm", "none", ",", "x:x:\n9:y", strings.Repeat("u", MaxName+1)} {
		if text, err := Ream(bad); err == nil {
			t.Errorf("Ream(%q) = %q", bad, text)
		}
	}
}

// tables makes cmp look into tables; a nil and an empty slice are the same there.
var tables = []cmp.Option{
	cmp.AllowUnexported(Table{}, record{}),
	cmp.Comparer(func(a, b []int32) bool { return slices.Equal(a, b) }),
}

// A table that was read prints a text that reads back as the same table and prints the same; an
// error has a place in the text.
func FuzzParse(f *testing.F) {
	f.Add([]byte(town))
	f.Add([]byte("# x\n\n1:a:b:,a,,b:z\n2:b:a"))
	f.Add([]byte("1:a:nobody:\n"))
	f.Add([]byte("0:none::\n-5:none:none:none"))
	f.Add([]byte("+7:#::#\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		tab, err := Parse(text)
		if err != nil {
			var pe *ParseError
			if !errors.As(err, &pe) || pe.Line < 0 || pe.Line > bytes.Count(text, []byte("\n"))+1 {
				t.Fatalf("error %#v", err)
			}
			if (pe.Line == 0) != errors.Is(err, ErrTooBig) {
				t.Fatalf("error %v", err)
			}
			return
		}
		out := tab.Format()
		again, err := Parse([]byte(out))
		if err != nil {
			t.Fatalf("%q does not parse back: %v", out, err)
		}
		if d := cmp.Diff(tab, again, tables...); d != "" {
			t.Fatalf("tables differ:\n%s", d)
		}
		for _, u := range tab.Users() {
			if id, ok := tab.ID(u.Name); !ok || id != u.ID {
				t.Fatalf("%q has the id %d, found %d", u.Name, u.ID, id)
			}
			for _, m := range u.Members {
				if !tab.InGroup(m, u.ID) {
					t.Fatalf("%d is listed in %d but not in the group", m, u.ID)
				}
			}
		}
	})
}
