package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gefs9p/blkfmt"
	"gefs9p/check"
	"gefs9p/client"
	"gefs9p/ninep"
)

// put writes a file on the server.
func put(t *testing.T, root *client.Fid, name, data string) {
	t.Helper()
	f, err := root.Walk()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Create(name, 0o664, ninep.OWRITE); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(data), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Clunk(); err != nil {
		t.Fatal(err)
	}
}

// get reads a file of the server.
func get(t *testing.T, root *client.Fid, name string) string {
	t.Helper()
	f, err := root.Walk(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Open(ninep.OREAD); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	n, err := f.ReadAt(buf, 0)
	if err != io.EOF {
		t.Fatal(err)
	}
	f.Clunk()
	return string(buf[:n])
}

func TestServeKeepsWhatWasWritten(t *testing.T) {
	disk := newDisk(t)
	l := start(t, 1, "serve", "-m", "16M", disk)
	put(t, l.attach(l.addrs[0]), "file", "hello")
	if code := l.stop(); code != 0 { // nobody asked for a commit
		t.Errorf("exit code %d\n%s", code, l.stderr())
	}
	must(t, "check", "--strict", disk)
	l = start(t, 1, "serve", "-m", "16M", disk)
	if got := get(t, l.attach(l.addrs[0]), "file"); got != "hello" {
		t.Errorf("the file holds %q", got)
	}
}

func TestServeSaysWhatItLoads(t *testing.T) {
	disk := newDisk(t)
	l := start(t, 1, "serve", "-m", "16M", disk)
	got := l.stderr()
	at := 0
	for _, want := range []string{
		"load " + disk + ":\n", "\tsnaptree:\t(", "\tnarenas:\t8\n", "\tfeatures:\t0\n", "\tnextqid:\t3\n",
		"\tlastqgen:\t0\n", "\tnextgen:\t", "\tblocksize:\t16384\n", "\tcachesz:\t16 MiB\n",
	} {
		i := strings.Index(got[at:], want)
		if i < 0 {
			t.Fatalf("no %q in order in\n%s", want, got)
		}
		at += i
	}
}

func TestServeMakesAPrivateSocketBesideTheDisk(t *testing.T) {
	disk := newDisk(t)
	l := start(t, 1, "serve", "-m", "16M", disk)
	sock := disk + ".sock"
	if l.addrs[0] != sock {
		t.Errorf("listening %s, want %s", l.addrs[0], sock)
	}
	st, err := os.Stat(sock)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != os.ModeSocket|0o600 {
		t.Errorf("the socket's mode is %v", st.Mode())
	}
	l.attach(sock)
	for _, want := range []string{"mount -t 9p -o trans=unix,version=9p2000.L", "9pfuse unix!" + sock, "9p -a", "srv tcp!"} {
		if !strings.Contains(strings.ReplaceAll(l.stderr(), "'", ""), want) {
			t.Errorf("no %q among the ways to mount it:\n%s", want, l.stderr())
		}
	}
	l.stop()
	if _, err := os.Lstat(sock); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestServeCreatesTheDiskOnce(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	name, err := loginName()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		l := start(t, 1, "serve", "--create", diskSize, "-m", "16M", disk)
		if made := strings.Contains(l.stderr(), "reaming"); made != (i == 0) {
			t.Errorf("start %d:\n%s", i, l.stderr())
		}
		if !strings.Contains(l.stderr(), "uname="+name) {
			t.Errorf("nothing says how %s can mount it:\n%s", name, l.stderr())
		}
		l.stop()
	}
	key := filepath.Join(dir, "key")
	start(t, 1, "serve", "--create", diskSize, "-m", "16M", "--keyfile", key, disk+"2").stop()
	must(t, "check", "--strict", "--keyfile", key, disk+"2")

	refused(t, dir, exitFail, []string{"too small"}, "serve", "--create", "1M", disk+"3")
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, exitFail, []string{text, "not a gefs disk"}, "serve", "--create", diskSize, text)
}

func TestServeListensOnManyAddresses(t *testing.T) {
	disk := newDisk(t)
	sock := filepath.Join(filepath.Dir(disk), "other")
	l := start(t, 3, "serve", "-m", "16M", "-A", "-a", "tcp!127.0.0.1!0", "-a", "localhost:0", "-a", "unix!"+sock, disk)
	put(t, l.attach(l.addrs[0]), "file", "hello")
	for _, addr := range l.addrs[1:] {
		if got := get(t, l.attach(addr), "file"); got != "hello" {
			t.Errorf("on %s the file holds %q", addr, got)
		}
	}
	if _, err := os.Lstat(disk + ".sock"); !os.IsNotExist(err) {
		t.Error("the default socket is there as well")
	}
	if strings.Contains(l.stderr(), "level=WARN") {
		t.Errorf("a warning, though nobody else can connect:\n%s", l.stderr())
	}
}

func TestServeWarnsOfAnOpenDoor(t *testing.T) {
	l := start(t, 1, "serve", "-m", "16M", "-A", "-a", "tcp!*!0", newDisk(t))
	if !strings.Contains(l.stderr(), "level=WARN") || !strings.Contains(l.stderr(), l.addrs[0]) {
		t.Errorf("no warning:\n%s", l.stderr())
	}
}

func TestServeRefusesAnAddressInUse(t *testing.T) {
	disk := newDisk(t)
	dir := filepath.Dir(disk)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	refused(t, dir, exitFail, []string{tcp.Addr().String(), "in use", "-a"}, "serve", "-A", "-a", tcp.Addr().String(), disk)
	// The disk that was to be made is not left behind, nor is the socket.
	refused(t, dir, exitFail, []string{"in use"}, "serve", "-a", disk+".first", "-A", "-a", tcp.Addr().String(), disk)
	out, errs, code := command("serve", "--create", diskSize, "--keyfile", disk+".key", "-A", "-a", tcp.Addr().String(), disk+"2")
	if code != exitFail || out != "" || !strings.Contains(errs, "in use") {
		t.Errorf("exit code %d, %s%s", code, out, errs)
	}
	for _, name := range []string{disk + "2", disk + ".key"} {
		if _, err := os.Lstat(name); !os.IsNotExist(err) {
			t.Errorf("%s was left behind", name)
		}
	}

	sock := filepath.Join(dir, "live")
	unix, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	refused(t, dir, exitFail, []string{sock, "another server"}, "serve", "-a", sock, disk)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("dear"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, exitFail, []string{file, "no socket"}, "serve", "-a", file, disk)
	refused(t, dir, exitFail, []string{"no such file"}, "serve", "-a", filepath.Join(dir, "no", "sock"), disk)
}

// TestServeTakesOverADeadServersSocket: a server that was killed leaves its socket behind.
func TestServeTakesOverADeadServersSocket(t *testing.T) {
	disk := newDisk(t)
	dead, err := net.Listen("unix", disk+".away")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(disk+".away", disk+".sock"); err != nil { // Close removes it where it was made
		t.Fatal(err)
	}
	dead.Close()
	l := start(t, 1, "serve", "-m", "16M", disk)
	l.attach(disk + ".sock")
}

func TestServeRefusesADiskBeingServed(t *testing.T) {
	disk := newDisk(t)
	start(t, 1, "serve", "-m", "16M", disk)
	refused(t, filepath.Dir(disk), exitFail, []string{disk, "already served"}, "serve", disk)
	refused(t, filepath.Dir(disk), exitFail, []string{disk, "already served"}, "serve", "--read-only", "-a", disk+".other", disk)
}

func TestServeRefusesWhatIsNoDisk(t *testing.T) {
	dir := t.TempDir()
	missing, text, old := filepath.Join(dir, "missing"), filepath.Join(dir, "text"), filepath.Join(dir, "old")
	if err := os.WriteFile(text, []byte(strings.Repeat("hello\n", 10000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(old, append([]byte("gefs0001"), make([]byte, 1<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, exitFail, []string{missing, "does not exist", "gefs9p ream"}, "serve", missing)
	refused(t, dir, exitFail, []string{text, "not a gefs disk", `"hello"`, "gefs9p ream"}, "serve", text)
	refused(t, dir, exitFail, []string{old, "gefs0001", "gefs9.00"}, "serve", old)
	refused(t, dir, exitFail, []string{dir, "neither a file nor a disk"}, "serve", dir)
	refused(t, dir, exitFail, []string{missing}, "-f", missing)

	for _, size := range []int64{127 << 20, 64 << 20, 1 << 20, 100} {
		disk := filepath.Join(dir, fmt.Sprint("truncated", size))
		must(t, "ream", "-u", "glenda", "--size", diskSize, disk)
		if err := os.Truncate(disk, size); err != nil {
			t.Fatal(err)
		}
		refused(t, dir, exitFail, []string{disk}, "serve", disk)
	}
}

// TestServeHealsOneSuperblock: either copy can be lost. The server says so, serves, and makes it
// good again with its next commit.
func TestServeHealsOneSuperblock(t *testing.T) {
	size := int64(blkfmt.MinDevice)
	for _, at := range []int64{0, int64(blkfmt.BackupAddr(size))} {
		for _, junk := range []string{"\x00\x00\x00\x00\x00\x00\x00\x00", "gefs9.00 and then nonsense", "something else"} {
			t.Run(fmt.Sprintf("%d %q", at, junk), func(t *testing.T) {
				disk := newDisk(t)
				damage(t, disk, at, []byte(junk))
				damage(t, disk, at+8000, []byte(junk))
				l := start(t, 1, "serve", "-m", "16M", disk)
				if !strings.Contains(l.stderr(), "level=WARN") {
					t.Errorf("no warning:\n%s", l.stderr())
				}
				root := l.attach(l.addrs[0])
				put(t, root, "file", "hello")
				if err := root.Fsync(); err != nil {
					t.Fatal(err)
				}
				if code := l.stop(); code != 0 {
					t.Errorf("exit code %d\n%s", code, l.stderr())
				}
				var rep check.Report
				if err := json.Unmarshal([]byte(must(t, "check", "--strict", "--json", disk)), &rep); err != nil {
					t.Fatal(err)
				}
				if n := rep.ByKind[check.SuperBad] + rep.ByKind[check.SuperStale]; n != 0 {
					t.Errorf("not healed: %v", rep.Problems)
				}
			})
		}
	}
}

func TestServeRefusesADiskWithoutSuperblocks(t *testing.T) {
	disk := newDisk(t)
	for _, at := range []int64{0, int64(blkfmt.BackupAddr(blkfmt.MinDevice))} {
		damage(t, disk, at+8, []byte("nonsense"))
	}
	refused(t, filepath.Dir(disk), exitFail, []string{disk, "superblock"}, "serve", disk)
	if out, errs, code := command("check", disk); code != exitCheckErrors || !strings.Contains(out, "super-bad") {
		t.Errorf("check: exit code %d, %s%s", code, out, errs)
	}
}

func TestServeReadOnlyWritesNothing(t *testing.T) {
	disk := newDisk(t)
	l := start(t, 1, "serve", "-m", "16M", disk)
	put(t, l.attach(l.addrs[0]), "file", "hello")
	l.stop()
	dir := filepath.Dir(disk)
	before := snapshot(t, dir, time.Unix(1e9, 0))
	l = start(t, 1, "serve", "-m", "16M", "--read-only", disk)
	root := l.attach(l.addrs[0])
	if got := get(t, root, "file"); got != "hello" {
		t.Errorf("the file holds %q", got)
	}
	f, err := root.Walk()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Create("other", 0o664, ninep.OWRITE); err == nil {
		t.Error("a read-only server creates files")
	}
	if code := l.stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, l.stderr())
	}
	if after := snapshot(t, dir, time.Time{}); after != before {
		t.Errorf("before\n%safter\n%s", before, after)
	}
}

func TestServeChecksPermissionsUnlessPermissive(t *testing.T) {
	disk := newDisk(t)
	for _, permissive := range []bool{false, true} {
		args := []string{"serve", "-m", "16M", disk}
		if permissive {
			args = append(args, "--permissive")
		}
		l := start(t, 1, args...)
		c, err := client.Dial(t.Context(), l.addrs[0], 8192)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Attach("none", "%main"); (err == nil) != permissive {
			t.Errorf("permissive %v: attach with %% as none: %v", permissive, err)
		}
		c.Close()
		l.stop()
	}
}

func TestServeFinishesWithClientsConnected(t *testing.T) {
	disk := newDisk(t)
	l := start(t, 1, "serve", "-m", "16M", disk)
	for range 5 {
		l.attach(l.addrs[0]) // and stays
	}
	began := time.Now()
	if code := l.stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, l.stderr())
	}
	if d := time.Since(began); d > shutdownTime {
		t.Errorf("idle clients hold the server up for %v", d)
	}
}
