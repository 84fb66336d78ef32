package cons_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/cons"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/internal/trace"
	"gefs9p/ninep"
)

// clock is what consoles in tests take for now.
func clock() time.Time { return time.Date(2022, 2, 21, 13, 0, 0, 0, time.UTC) }

// newConsole serves a new disk. halted is closed by halt.
func newConsole(t *testing.T) (c *cons.Console, dev *blkdev.Mem, halted chan struct{}) {
	t.Helper()
	dev = gefstest.Ream(t)
	fs := gefstest.Open(t, dev, gefs.Options{Cache: 512})
	halted = make(chan struct{})
	var once sync.Once
	return &cons.Console{
		FS: fs, Now: clock, Level: new(slog.LevelVar),
		Halt: func() { once.Do(func() { close(halted) }) },
	}, dev, halted
}

// exec runs a line.
func exec(t *testing.T, c *cons.Console, line string) (string, error) {
	t.Helper()
	words, err := cons.Split(line)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	err = c.Exec(ctx, words, &out)
	return out.String(), err
}

// must runs a line that is to succeed.
func must(t *testing.T, c *cons.Console, line string) string {
	t.Helper()
	out, err := exec(t, c, line)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return out
}

// attach returns the root of a label, for glenda; end gives everything back.
func attach(t *testing.T, fs *gefs.FS, label string) (c *ninep.Ctx, root ninep.File, end func()) {
	t.Helper()
	c, leave := fs.Background()
	root, err := gefstest.Attach(fs, c, "glenda", label)
	if err != nil {
		t.Fatal(err)
	}
	return c, root, func() {
		root.Clunk(c)
		leave()
	}
}

// write makes label's file name hold data.
func write(t *testing.T, fs *gefs.FS, label, name string, data []byte) {
	t.Helper()
	c, root, end := attach(t, fs, label)
	defer end()
	f, err := gefstest.Walk(c, root, name)
	if err == nil {
		_, _, err = f.Open(c, ninep.OWRITE|ninep.OTRUNC)
	} else {
		if f, _, err = root.Walk(c, nil, nil); err != nil {
			t.Fatal(err)
		}
		_, _, err = f.Create(c, name, 0o644, ninep.OWRITE)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Clunk(c)
	for off := 0; off < len(data); off += 1 << 20 {
		if _, err := f.Write(c, data[off:min(off+1<<20, len(data))], uint64(off)); err != nil {
			t.Fatal(err)
		}
	}
}

// read returns what label's file name holds.
func read(t *testing.T, fs *gefs.FS, label, name string) []byte {
	t.Helper()
	c, root, end := attach(t, fs, label)
	defer end()
	f, err := gefstest.Walk(c, root, name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Clunk(c)
	data, err := gefstest.ReadAll(c, f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// serve starts a console on a socket and returns its path.
func serve(t *testing.T, c *cons.Console) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ctl")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, c, l)
	return path
}

func serveOn(t *testing.T, c *cons.Console, l net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- c.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(time.Minute))
	t.Cleanup(func() { nc.Close() })
	return nc
}

// A step of a session: a line and the answer to it.
type step struct {
	line   int
	typed  string
	answer []string
}

func readSession(t *testing.T, file string) []step {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var steps []step
	for i, line := range strings.Split(string(text), "\n") {
		typed, isPrompt := strings.CutPrefix(line, "gefs#")
		switch {
		case isPrompt:
			steps = append(steps, step{line: i + 1, typed: strings.TrimPrefix(typed, " ")})
		case line == "" || line[0] == '#':
		case len(steps) == 0:
			t.Fatalf("%s:%d: an answer to nothing", file, i+1)
		default:
			s := &steps[len(steps)-1]
			s.answer = append(s.answer, line)
		}
	}
	return steps
}

// matches reports whether got is the wanted lines, of which "..." stands for any.
func matches(got, want []string) bool {
	for i, w := range want {
		if w == "..." {
			for j := i; j <= len(got); j++ {
				if matches(got[j:], want[i+1:]) {
					return true
				}
			}
			return false
		}
		if i >= len(got) || got[i] != w {
			return false
		}
	}
	return len(got) == len(want)
}

// TestSession types what is in testdata/session.txt at a socket, line by line.
func TestSession(t *testing.T) {
	c, dev, halted := newConsole(t)
	nc := dial(t, serve(t, c))
	r := bufio.NewReader(nc)
	answer := func() string {
		t.Helper()
		var b strings.Builder
		for !strings.HasSuffix("\n"+b.String(), "\ngefs# ") {
			ch, err := r.ReadByte()
			if err != nil {
				t.Fatalf("%v after %q", err, b.String())
			}
			b.WriteByte(ch)
		}
		return strings.TrimSuffix(b.String(), "gefs# ")
	}
	answer()
	for _, s := range readSession(t, "testdata/session.txt") {
		fmt.Fprintf(nc, "%s\n", s.typed)
		got := answer()
		lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
		if got == "" {
			lines = nil
		}
		if !matches(lines, s.answer) {
			t.Errorf("session.txt:%d: %s\ngot\n%s\nwant\n%s", s.line, s.typed, got, strings.Join(s.answer, "\n"))
		}
	}
	<-halted
	if err := c.FS.Close(); err != nil {
		t.Fatal(err)
	}
	gefstest.CheckStrict(t, dev)
}

// TestRefusalsChangeNothing gives commands that are refused: each says why, and neither labels, users,
// configuration nor the disk change.
func TestRefusalsChangeNothing(t *testing.T) {
	c, _, _ := newConsole(t)
	must(t, c, "snap main first")
	must(t, c, "snap -m main busy")
	must(t, c, "set main retain ''")
	x, _, end := attach(t, c.FS, "busy")
	defer end()
	x.Worker.Leave() // outside of the epoch, commands may wait for commits
	defer x.Worker.Enter()
	must(t, c, "sync")
	state := func() string {
		labels := must(t, c, "--json snap -l")
		return fmt.Sprint(labels, c.FS.Users().Format(), must(t, c, "show tree adm"), must(t, c, "show tree snap"),
			must(t, c, "show tree main"), c.FS.Err(), c.FS.Store().Stats().Commits)
	}
	for commits := ^uint64(0); ; time.Sleep(100 * time.Millisecond) { // the last commit is durable before it is over
		now := uint64(c.FS.Store().Stats().Commits)
		if now == commits {
			break
		}
		commits = now
	}
	before := state()
	long := strings.Repeat("x", 128)
	for _, tt := range []struct{ line, want string }{
		{"snap main first", "snap: already exists 'first'"},
		{"snap -m main busy", "snap: already exists 'busy'"},
		{"snap nosuch new", "snap: open 'nosuch': does not exist"},
		{"snap main adm", "snap: taking snap: 'adm': name is reserved"},
		{"snap main empty", "snap: taking snap: 'empty': name is reserved"},
		{"snap -m main dump", "snap: taking snap: 'dump': name is reserved"},
		{"snap main ''", "snap: taking snap: '': bad snapshot name"},
		{"snap main a/b", "snap: taking snap: 'a/b': bad snapshot name"},
		{"snap main %a", "snap: taking snap: '%a': bad snapshot name"},
		{"snap main " + long, "bad snapshot name"},
		{"snap -d nosuch", "snap: open 'nosuch': does not exist"},
		{"snap -d busy", "snap: snap is mounted: 'busy'"},
		{"snap -d adm", "snap: 'adm': name is reserved"},
		{"snap -d empty", "snap: 'empty': name is reserved"},
		{"snap -d first nosuch", "snap: open 'nosuch': does not exist"},
		{"snap -d first first", "snap: open 'first': does not exist"},
		{"snap -d first busy", "snap: snap is mounted: 'busy'"},
		{"snap -n -d nosuch", "snap: open 'nosuch': does not exist"},
		{"snap -n -d first busy", "snap: snap is mounted: 'busy'"},
		{"snap -x main new", "unknown command 'snap -x main new'"},
		{"snap -l main", "unknown command 'snap -l main'"},
		{"snap -lm", "unknown command"},
		{"snap -d", "unknown command"},
		{"snap -dm first", "unknown command"},
		{"snap -n first", "unknown command"},
		{"snap one two three", "unknown command"},
		{"snap rollback main nosuch", "snap: open 'nosuch': does not exist"},
		{"snap rollback nosuch main", "snap: open 'nosuch': does not exist"},
		{"snap rollback first busy", "snap: 'first': does not change"},
		{"snap rollback main first first", "snap: already exists 'first'"},
		{"snap rollback main empty dump", "snap: 'dump': name is reserved"},
		{"snap rollback -x main empty", "unknown command"},
		{"set nosuch retain @d", "set: snap: open 'nosuch': does not exist"},
		{"set first retain @d", "set: snap: 'first': does not change"},
		{"set main retain 5", "set retain: invalid time spec '5'"},
		{"set main retain 5@0m", "must be a positive number"},
		{"set '' x", "set: key '': 1 to 31 bytes"},
		{"set " + strings.Repeat("k", 32) + " x", "1 to 31 bytes"},
		{"set k " + long, "value of 128 bytes"},
		{"set retain", "unknown command 'set retain'"},
		{"clear main nosuch", "clear: 'nosuch': not set"},
		{"clear nosuch", "clear: 'nosuch': not set"},
		{"clear nosuch key", "does not exist"},
		{"user add glenda", "user 'glenda': there is one"},
		{"user add new 1", "user 'new': the id 1 is glenda's"},
		{"user add new 9999", "user 'new': the id 9999 means something"},
		{"user add new 99999999999", "is not an id"},
		{"user add new x", "'x' is not an id"},
		{"user add a:b", "a name has no colon"},
		{"user add a,b", "a name has no colon"},
		{"user add ''", "a name has no colon"},
		{"user add 'a\tb'", "/adm/users:4: syntax error: not a user name"},
		{"user add " + strings.Repeat("n", 256), "not a user name"},
		{"user del adm", "user 'adm': the file system needs it"},
		{"user del none", "the file system needs it"},
		{"user del nobody", "user 'nobody': user does not exist"},
		{"user group add nogroup glenda", "user 'nogroup': user does not exist"},
		{"user group add adm nobody", "user 'nobody': user does not exist"},
		{"user group add adm glenda", "user 'glenda' is in the group adm"},
		{"user group del adm none", "user 'none' is not in the group adm"},
		{"user group leader adm none", "none cannot lead a group"},
		{"user group leader adm nobody", "user 'nobody': user does not exist"},
		{"user group leader nobody", "user 'nobody': user does not exist"},
		{"user group", "unknown command"},
		{"user give glenda", "unknown command"},
		{"users now", "unknown command"},
		{"check it", "unknown command"},
		{"halt now", "unknown command"},
		{"--json show tree", "there is no JSON form"},
		{"fork nosuch new", "does not exist"},
		{"delsnap busy", "delsnap: snap: snap is mounted: 'busy'"},
		{"retain first @d", "does not change"},
		{"HELP", "unknown command 'HELP'"},
	} {
		out, err := exec(t, c, tt.line)
		if err == nil {
			t.Errorf("%s: not refused, says %q", tt.line, out)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q, want %q", tt.line, err, tt.want)
		}
		if out != "" {
			t.Errorf("%s: refused, but says %q", tt.line, out)
		}
	}
	if after := state(); after != before {
		t.Errorf("something changed:\nbefore %s\nafter %s", before, after)
	}
	must(t, c, "snap main second") // not latched either
}

// TestJSON asks every command that has an object for it.
func TestJSON(t *testing.T) {
	c, _, halted := newConsole(t)
	for _, tt := range []struct{ line, key string }{
		{"help", "commands"}, {"help df", "help"}, {"df", "arenas"}, {"check", "clean"}, {"sync", "synced"},
		{"permit on", "permissive"}, {"reserve off", "reserve"}, {"reserve", "reserve"}, {"debug 1", "debug"},
		{"snap main first", "labeled"}, {"snap -m main second", "forked"}, {"snap -l", "snapshots"}, {"snap -l -s", "snapshots"},
		{"snap -n -d first second", "bytes"}, {"snap rollback main empty", "keep"}, {"snap -d first second", "deleted"},
		{"set k v", "key"}, {"clear k", "key"}, {"retain - default", "key"}, {"users", "refreshed"}, {"user add moody", "changed"},
		{"show users", "users"}, {"show bstate", "commits"}, {"show free", "arenas"}, {"show fid", "mounts"},
		{"fork main f", "forked"}, {"delsnap f", "deleted"}, {"usereserve 0", "reserve"}, {"halt", "ending"},
	} {
		out := must(t, c, "--json "+tt.line)
		dec := json.NewDecoder(strings.NewReader(out))
		var v map[string]any
		if err := dec.Decode(&v); err != nil {
			t.Errorf("%s: %v in %q", tt.line, err, out)
			continue
		}
		if _, err := dec.Token(); err != io.EOF {
			t.Errorf("%s: something behind the object: %q", tt.line, out)
		}
		if _, ok := v[tt.key]; !ok {
			t.Errorf("%s: no %q in %s", tt.line, tt.key, out)
		}
	}
	<-halted

	var df struct {
		Arenas           []struct{ Used, Size int64 }
		Used, Size, Free int64
	}
	if err := json.Unmarshal([]byte(must(t, c, "--json df")), &df); err != nil {
		t.Fatal(err)
	}
	var used, size int64
	for _, a := range df.Arenas {
		used, size = used+a.Used, size+a.Size
	}
	if used != df.Used || size != df.Size || used+df.Free != size || used <= 0 || size < gefstest.SmallDisk*9/10 {
		t.Errorf("df does not add up: %+v", df)
	}
}

// TestHaltLosesNothing pulls the plug right after halt has answered. Source: pitfall of the
// reference, which becomes read-only first and then has nothing to commit.
func TestHaltLosesNothing(t *testing.T) {
	c, dev, halted := newConsole(t)
	write(t, c.FS, "main", "file", []byte("hello"))
	if out := must(t, c, "halt"); out != "gefs: ending...\n" {
		t.Errorf("halt says %q", out)
	}
	<-halted
	copied := dev.Clone() // the disk as the power cut leaves it
	gefstest.CheckStrict(t, copied)
	fs := gefstest.Open(t, copied, gefs.Options{})
	if got := read(t, fs, "main", "file"); string(got) != "hello" {
		t.Errorf("the file holds %q", got)
	}
}

// TestCommandsReturnWhenTheirEffectIsOnTheDisk pulls the plug after each of some.
func TestCommandsReturnWhenTheirEffectIsOnTheDisk(t *testing.T) {
	c, dev, _ := newConsole(t)
	for _, tt := range []struct{ line, ask, want string }{
		{"snap main first", "snap -l", "snap first\n"},
		{"snap -m main second", "snap -l", "snap second [mutable]\n"},
		{"user add moody", "show users", "2:moody:moody:\n"},
		{"set main retain 5@h", "show tree main", `conf "retain" = "5@h"`},
		{"set retain 5@d", "show tree snap", `conf "retain" = "5@d"`},
		{"snap rollback main empty kept", "snap -l", "snap kept\n"},
	} {
		must(t, c, tt.line)
		fs := gefstest.Open(t, dev.Clone(), gefs.Options{})
		if got := must(t, &cons.Console{FS: fs}, tt.ask); !strings.Contains(got, tt.want) {
			t.Errorf("after %s, %s says %q", tt.line, tt.ask, got)
		}
		fs.Close()
	}
}

// TestBrokenUsersFile reloads files that are broken: the error names the line, and the table stays.
func TestBrokenUsersFile(t *testing.T) {
	c, _, _ := newConsole(t)
	good := read(t, c.FS, "%adm", "users")
	table := c.FS.Users()
	for _, tt := range []struct{ text, want string }{
		{"-1:adm::glenda\n0:none::\nfool\n", "users: /adm/users:3: syntax error: missing ':' after id"},
		{"-1:adm::glenda\n0:none::\n\n1:glenda:moody:\n", `users: /adm/users:4: user does not exist: leader "moody"`},
		{"1:a::\n1:b::\n", "users: /adm/users:2: duplicate user: id 1 is a"},
	} {
		write(t, c.FS, "%adm", "users", []byte(tt.text))
		out, err := exec(t, c, "users")
		if err == nil || err.Error() != tt.want || out != "" {
			t.Errorf("users says %q and %v, want %q", out, err, tt.want)
		}
		// Nothing is changed in a file that is broken already.
		if out, err := exec(t, c, "user add new"); err == nil || !strings.Contains(err.Error(), "mend that first") {
			t.Errorf("user add says %q and %v", out, err)
		}
		if got := read(t, c.FS, "%adm", "users"); string(got) != tt.text {
			t.Errorf("the file now holds %q", got)
		}
		if c.FS.Users() != table {
			t.Error("the users in force have changed")
		}
	}
	write(t, c.FS, "%adm", "users", append(good, "7:moody:moody:\n"...))
	must(t, c, "users")
	if _, ok := c.FS.Users().ID("moody"); !ok {
		t.Error("moody is not there after a reload")
	}
}

// TestUserKeepsWhatItDoesNotConcern changes a file with comments, odd fields and no last newline.
func TestUserKeepsWhatItDoesNotConcern(t *testing.T) {
	c, _, _ := newConsole(t)
	write(t, c.FS, "%adm", "users", []byte("# people\n-1:adm:adm:glenda,moody:extra\n0:none::\n\n3:moody:moody:glenda\n9999:nogroup::\n#last\n5:glenda:glenda:moody,,moody"))
	must(t, c, "users")
	must(t, c, "user add new")
	must(t, c, "user del moody")
	must(t, c, "user group leader adm glenda")
	want := "# people\n-1:adm:glenda:glenda:extra\n0:none::\n\n9999:nogroup::\n#last\n5:glenda:glenda:\n6:new:new:\n"
	if got := read(t, c.FS, "%adm", "users"); string(got) != want {
		t.Errorf("the file holds\n%s\nwant\n%s", got, want)
	}
	if u, ok := c.FS.Users().ByName("new"); !ok || u.ID != 6 {
		t.Errorf("new is %+v", u)
	}
}

// TestSpaceIsWhatDeletingFrees compares what snap -n -d says with df before and after.
func TestSpaceIsWhatDeletingFrees(t *testing.T) {
	c, _, _ := newConsole(t)
	write(t, c.FS, "main", "big", bytes.Repeat([]byte("gefs"), 1<<20))
	must(t, c, "snap main first")
	write(t, c.FS, "main", "big", []byte("small"))
	must(t, c, "snap main second")
	used := func() int64 {
		// What is free comes back with the next commit or two.
		for range 3 {
			write(t, c.FS, "main", "tick", []byte("tock"))
			must(t, c, "sync")
		}
		var df struct{ Used int64 }
		if err := json.Unmarshal([]byte(must(t, c, "--json df")), &df); err != nil {
			t.Fatal(err)
		}
		return df.Used
	}
	var space struct{ Bytes int64 }
	if err := json.Unmarshal([]byte(must(t, c, "--json snap -n -d first second")), &space); err != nil {
		t.Fatal(err)
	}
	before := used()
	must(t, c, "snap -d first second")
	// The command answers at once; the space comes back in the background.
	got := before - used()
	for end := time.Now().Add(time.Minute); got < space.Bytes-1<<20 && time.Now().Before(end); got = before - used() {
	}
	if space.Bytes < 4<<20 || got < space.Bytes-1<<20 || got > space.Bytes+1<<20 {
		t.Errorf("%d bytes came back, snap -n -d said %d", got, space.Bytes)
	}
}

// TestRollbackUnderOpenFiles needs -f.
func TestRollbackUnderOpenFiles(t *testing.T) {
	c, _, _ := newConsole(t)
	write(t, c.FS, "main", "file", []byte("old"))
	must(t, c, "snap main first")
	write(t, c.FS, "main", "file", []byte("new"))
	x, root, end := attach(t, c.FS, "main")
	defer end()
	f, err := gefstest.Walk(x, root, "file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Clunk(x)
	if _, _, err := f.Open(x, ninep.OREAD); err != nil {
		t.Fatal(err)
	}
	x.Worker.Leave() // outside of the epoch, commands may wait for commits
	defer x.Worker.Enter()
	_, err = exec(t, c, "snap rollback main first")
	if !errors.Is(err, gefs.ErrOpenFiles) || !strings.Contains(err.Error(), "file") {
		t.Errorf("rollback under an open file: %v", err)
	}
	if got := read(t, c.FS, "main", "file"); string(got) != "new" {
		t.Errorf("the file holds %q", got)
	}
	must(t, c, "snap rollback -f main first undo")
	if got := read(t, c.FS, "main", "file"); string(got) != "old" {
		t.Errorf("the file holds %q", got)
	}
}

// TestShow looks at a disk that is in use.
func TestShow(t *testing.T) {
	c, _, _ := newConsole(t)
	srv := &ninep.Server{FS: c.FS, NewWorker: c.FS.NewWorker, FreeWorker: c.FS.FreeWorker}
	c.Connections = srv.Connections
	root := dial9P(t, srv, "glenda")
	if err := root.Create("file", 0o644, ninep.ORDWR); err != nil {
		t.Fatal(err)
	}
	if _, err := root.WriteAt(make([]byte, 20000), 0); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ line, want string }{
		{"show fid", "main: dir=0 \"file\" qid=3 open 0x2 uid=1"},
		{"show fid", "-- mount main: refs=1 mutable=true --"},
		{"show fid", "length=20000 refs=1 opens=1"},
		{"show tree", "=== [main] ("},
		{"show tree", "ent dir=0 \"file\" = qid=(3,1,0) mode=644 length=20000 uid=1"},
		{"show tree main", "dat qid=3 off=16384 = (0x"},
		{"show tree snap", "label \"main\" = gen=2"},
		{"show tree snap", "snap gen=2 = gen=2 pred=0"},
		{"show tree adm", "ent dir=1 \"users\""},
		{"show free", "}\narena 7 "},
		{"show bstate", "commits:\t"},
	} {
		if got := must(t, c, tt.line); !strings.Contains(got, tt.want) {
			t.Errorf("%s: no %q in\n%s", tt.line, tt.want, got)
		}
	}
	var fids struct {
		Connections []struct{ Fids []struct{ File string } }
	}
	if err := json.Unmarshal([]byte(must(t, c, "--json show fid")), &fids); err != nil {
		t.Fatal(err)
	}
	if len(fids.Connections) != 1 || len(fids.Connections[0].Fids) != 1 {
		t.Errorf("show fid: %+v", fids)
	}
}

// TestSaveTrace follows a block of data from its allocation to the disk, and to its end.
func TestSaveTrace(t *testing.T) {
	fs := gefstest.Open(t, gefstest.Ream(t), gefs.Options{Trace: trace.New(1 << 20)})
	c := &cons.Console{FS: fs}
	write(t, fs, "main", "file", make([]byte, 10))
	must(t, c, "sync")
	_, rest, ok := strings.Cut(must(t, c, "show tree"), "dat qid=3 off=0 = (")
	if !ok {
		t.Fatal("there is no data")
	}
	addr, _, _ := strings.Cut(rest, ",")
	write(t, fs, "main", "file", nil)
	must(t, c, "sync")
	const want = "blkalloc queueb writeb freeb released"
	var tags string
	for deadline := time.Now().Add(10 * time.Second); tags != want && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		var list []string // a commit is durable before it has released what it freed
		for line := range strings.Lines(must(t, c, "save trace")) {
			if f := strings.Fields(line); strings.Contains(line, "("+addr+",") || strings.Contains(line, "("+addr+")") {
				list = append(list, f[1])
			}
		}
		tags = strings.Join(list, " ")
	}
	if tags != want {
		t.Errorf("the block at %s: %s", addr, tags)
	}
	if out := must(t, c, "--json save trace"); !json.Valid([]byte(out)) || !strings.Contains(out, `"tag": "supers"`) {
		t.Errorf("save trace says %.200s", out)
	}
	c, _, _ = newConsole(t)
	for line, want := range map[string]string{"save trace": "there is no trace", "save it": "unknown command"} {
		if _, err := exec(t, c, line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// TestDebugSwitchesTheLog and goes back to what the server began with.
func TestDebugSwitchesTheLog(t *testing.T) {
	c, _, _ := newConsole(t)
	c.Level.Set(slog.LevelWarn)
	for _, tt := range []struct {
		line string
		want slog.Level
	}{{"debug 1", slog.LevelDebug}, {"debug 0", slog.LevelWarn}, {"debug", slog.LevelDebug}, {"debug", slog.LevelWarn}} {
		must(t, c, tt.line)
		if c.Level.Level() != tt.want {
			t.Errorf("after %s the level is %v", tt.line, c.Level.Level())
		}
	}
}

// TestCheckSaysWhatIsBroken damages a block of data under a disk that is served.
func TestCheckSaysWhatIsBroken(t *testing.T) {
	dev := gefstest.Ream(t)
	fs := gefstest.Open(t, dev, gefs.Options{})
	write(t, fs, "main", "file", bytes.Repeat([]byte("precious"), 1000))
	c := &cons.Console{FS: fs}
	must(t, c, "sync")
	tree := must(t, c, "show tree")
	var addr int64
	i := strings.Index(tree, "dat qid=3 off=0 = (")
	if i < 0 {
		t.Fatalf("no data in\n%s", tree)
	}
	if _, err := fmt.Sscanf(tree[i:], "dat qid=3 off=0 = (0x%x", &addr); err != nil {
		t.Fatal(err)
	}
	if _, err := dev.WriteAt([]byte("gone"), addr+100); err != nil {
		t.Fatal(err)
	}
	out, err := exec(t, c, "check")
	if err != cons.ErrReported || !strings.HasSuffix(out, "\nbroken\n") || !strings.Contains(out, "main/file") {
		t.Errorf("check: %v\n%s", err, out)
	}
	out, err = exec(t, c, "--json check")
	if err != cons.ErrReported || !json.Valid([]byte(out)) || !strings.Contains(out, `"clean": false`) {
		t.Errorf("check: %v\n%s", err, out)
	}
}

// TestHaltStaysWhenTheDiskFails and says so; so do the others that wait for the disk.
func TestHaltStaysWhenTheDiskFails(t *testing.T) {
	dev := blkdev.NewFault(gefstest.Ream(t))
	fs := gefstest.Open(t, dev, gefs.Options{CommitEvery: time.Hour})
	c := &cons.Console{FS: fs, Halt: func() { t.Error("the server is ended") }}
	write(t, fs, "main", "file", []byte("hello"))
	dev.Hook(func(op blkdev.Op, off, n int64) error {
		if op == blkdev.OpSync {
			return errors.New("pulled out")
		}
		return nil
	})
	for _, tt := range []struct{ line, want string }{
		{"halt", "halt: the server goes on, because what was written could not be committed: "},
		{"sync", "sync: "},
		{"check", "check: "},
		{"snap main first", "snap: file system read only"},
		{"user add moody", "user: file system read only"},
		{"snap -d main", "snap: "},
	} {
		out, err := exec(t, c, tt.line)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Count(err.Error(), "pulled out") != 1 {
			t.Errorf("%s: %q, %v, want %s", tt.line, out, err, tt.want)
		}
	}
	if got := must(t, c, "show bstate"); !strings.Contains(got, "\nfailure:\t") || !strings.Contains(got, "pulled out") {
		t.Errorf("show bstate says\n%s", got)
	}
	if got := read(t, fs, "main", "file"); string(got) != "hello" {
		t.Errorf("the file holds %q", got)
	}
}

// TestEveryCommandIsDocumented where users look, and on the console.
func TestEveryCommandIsDocumented(t *testing.T) {
	c, _, _ := newConsole(t)
	doc, err := os.ReadFile("../docs/console.md")
	if err != nil {
		t.Fatal(err)
	}
	all := must(t, c, "help")
	for _, cmd := range cons.Commands() {
		if !bytes.Contains(doc, []byte("`"+cmd.Name)) && cmd.Name != "help" {
			t.Errorf("docs/console.md does not tell of %s", cmd.Name)
		}
		one := must(t, c, "help "+cmd.Name)
		if !strings.HasPrefix(one, strings.TrimSpace(cmd.Name+" "+cmd.Args)+"\n\t"+cmd.Help+"\n") || !strings.Contains(all, one[:len(cmd.Name)+len(cmd.Args)]) {
			t.Errorf("help %s says %q", cmd.Name, one)
		}
	}
}

// TestLogHasWhatWasChanged and, for those who debug, the rest.
func TestLogHasWhatWasChanged(t *testing.T) {
	c, _, _ := newConsole(t)
	var b bytes.Buffer
	c.Logger = slog.New(slog.NewTextHandler(&b, nil))
	must(t, c, "df")
	exec(t, c, "snap main adm")
	if b.Len() > 0 {
		t.Errorf("the log has %q", b.String())
	}
	must(t, c, "snap main 'a day'")
	if !strings.Contains(b.String(), `command="snap main 'a day'"`) {
		t.Errorf("the log has %q", b.String())
	}
}
