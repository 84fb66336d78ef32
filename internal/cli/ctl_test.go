package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gefs9p/client"
	"gefs9p/ninep"
)

func TestCtl(t *testing.T) {
	disk := newDisk(t)
	l := start(t, 1, "serve", "-m", "16M", disk)
	st, err := os.Stat(disk + ".ctl")
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != os.ModeSocket|0o600 {
		t.Errorf("the console's mode is %v", st.Mode())
	}
	for _, sock := range []string{disk, disk + ".ctl"} {
		if out := must(t, "ctl", "-s", sock, "snap", "-l"); !strings.Contains(out, "snap main [mutable]\n") {
			t.Errorf("snap -l says %q", out)
		}
	}
	must(t, "ctl", "-s", disk, "snap", "main", "a day")
	if out := must(t, "ctl", "-s", disk, "set", "main", "retain", "12@5m 48@2h @d"); out != "" {
		t.Errorf("set says %q", out)
	}
	var list struct{ Snapshots []struct{ Name string } }
	if err := json.Unmarshal([]byte(must(t, "ctl", "--json", "-s", disk, "snap", "-l")), &list); err != nil || len(list.Snapshots) != 4 {
		t.Errorf("%v, %v", list, err)
	}
	if out := must(t, "ctl", "-s", disk, "check"); !strings.HasSuffix(out, "\nok\n") {
		t.Errorf("check says %q", out)
	}
	for _, tt := range []struct{ want, command string }{
		{"snap: open 'nosuch': does not exist", "snap -d nosuch"},
		{"unknown command 'bogus'", "bogus"},
		{"set retain: invalid time spec", "set retain x"},
	} {
		refused(t, filepath.Dir(disk), exitFail, []string{tt.want}, append([]string{"ctl", "-s", disk}, strings.Fields(tt.command)...)...)
	}

	// Without a command, those of standard input; without -s, the console there is.
	t.Chdir(filepath.Dir(disk))
	var out, errs bytes.Buffer
	code := Main(t.Context(), []string{"ctl"}, strings.NewReader("snap -d 'a day'\n\nbogus\nit's\nsync\n"), &out, &errs)
	if code != exitFail || out.String() != "deleted: a day\nsynced\n" || strings.Count(errs.String(), "\n") != 2 {
		t.Errorf("exit code %d, %q, %q", code, out.String(), errs.String())
	}
	out.Reset()
	if code := Main(t.Context(), []string{"ctl"}, strings.NewReader("sync\n"), &out, &errs); code != 0 || out.String() != "synced\n" {
		t.Errorf("exit code %d, %q, %q", code, out.String(), errs.String())
	}

	l.stop()
	if _, err := os.Lstat(disk + ".ctl"); !os.IsNotExist(err) {
		t.Errorf("the console's socket is still there: %v", err)
	}
	refused(t, filepath.Dir(disk), exitFail, []string{"no console"}, "ctl", "-s", disk, "df")
	silent, err := net.Listen("unix", disk+".sock")
	if err != nil {
		t.Fatal(err)
	}
	refused(t, filepath.Dir(disk), exitFail, []string{"no console", "socket of the files"}, "ctl", "-s", disk+".sock", "df")
	silent.Close()
	refused(t, filepath.Dir(disk), exitUsage, []string{"-s"}, "ctl", "df")
	t.Setenv("GEFS9P_CTL", disk+".ctl")
	refused(t, filepath.Dir(disk), exitFail, []string{disk + ".ctl", "no console"}, "ctl", "df")
}

// TestCtlHalt ends the server, which loses nothing and exits with 0, from each kind of console.
func TestCtlHalt(t *testing.T) {
	for _, how := range []string{"ctl", "cmd file"} {
		disk := newDisk(t)
		sock := disk + ".cons"
		l := start(t, 1, "serve", "-m", "16M", "--ctl9p", sock, disk)
		put(t, l.attach(l.addrs[0]), "file", "hello")
		if how == "ctl" {
			if out := must(t, "ctl", "-s", disk, "halt"); out != "gefs: ending...\n" {
				t.Errorf("halt says %q", out)
			}
		} else {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			conn, err := client.Dial(ctx, sock, 64<<10)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			root, err := conn.Attach("glenda", "")
			if err != nil {
				t.Fatal(err)
			}
			f, err := root.Walk("cmd")
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Open(ninep.ORDWR); err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte("halt\n"), 0); err != nil {
				t.Errorf("halt: %v", err)
			}
		}
		select {
		case code := <-l.code:
			l.code <- code
			if code != 0 {
				t.Errorf("%s: exit code %d\n%s", how, code, l.stderr())
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: the server does not end\n%s", how, l.stderr())
		}
		must(t, "check", "--strict", disk)
		l = start(t, 1, "serve", "-m", "16M", "--read-only", disk)
		if got := get(t, l.attach(l.addrs[0]), "file"); got != "hello" {
			t.Errorf("%s: the file holds %q", how, got)
		}
		refused(t, filepath.Dir(disk), exitFail, []string{"read only"}, "ctl", "-s", disk, "snap", "main", "x")
		l.stop()
	}
}

// TestCtlCheckOfABrokenDisk exits with 1, having said why on standard output.
func TestCtlCheckOfABrokenDisk(t *testing.T) {
	disk := newDisk(t)
	l := start(t, 1, "serve", "-m", "16M", disk)
	put(t, l.attach(l.addrs[0]), "file", strings.Repeat("precious", 1000))
	must(t, "ctl", "-s", disk, "sync")
	image, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(image, []byte("preciousprecious"))
	if i < 0 {
		t.Fatal("the file is not on the disk")
	}
	damage(t, disk, int64(i), []byte("gone"))
	out, errs, code := command("ctl", "-s", disk, "check")
	if code != exitFail || errs != "" || !strings.HasSuffix(out, "\nbroken\n") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

func TestServeWithAndWithoutConsole(t *testing.T) {
	disk := newDisk(t)
	dir := filepath.Dir(disk)
	l := start(t, 1, "serve", "-m", "16M", "--ctl", "none", disk)
	if _, err := os.Lstat(disk + ".ctl"); !os.IsNotExist(err) {
		t.Errorf("there is a console: %v", err)
	}
	l.stop()
	other := filepath.Join(dir, "other")
	l = start(t, 1, "serve", "-m", "16M", "--ctl", other, disk)
	must(t, "ctl", "-s", other, "sync")
	l.stop()

	if err := os.WriteFile(other, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, exitFail, []string{other, "no socket", "--ctl"}, "serve", "-m", "16M", "--ctl", other, disk)
	refused(t, dir, exitUsage, []string{"tcp!*!5640", "-A"}, "serve", "-m", "16M", "--ctl9p", "tcp!*!5640", disk)
	refused(t, dir, exitFail, []string{other, "--ctl9p"}, "serve", "-m", "16M", "--ctl9p", other, disk)

	// One that nobody asked for may be missing.
	if err := os.WriteFile(disk+".ctl", []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	l = start(t, 1, "serve", "-m", "16M", disk)
	if !strings.Contains(l.stderr(), "there is no console") {
		t.Errorf("nothing says that there is no console:\n%s", l.stderr())
	}
	l.stop()
	if text, err := os.ReadFile(disk + ".ctl"); err != nil || string(text) != "precious" {
		t.Errorf("%s holds %q, %v", disk+".ctl", text, err)
	}
}

// TestServeMakesAutomaticSnapshots unless it is told not to.
func TestServeMakesAutomaticSnapshots(t *testing.T) {
	with, without := newDisk(t), newDisk(t)
	a := start(t, 1, "serve", "-m", "16M", with)
	b := start(t, 1, "serve", "-m", "16M", "--no-snapshots", without)
	put(t, a.attach(a.addrs[0]), "file", "hello")
	put(t, b.attach(b.addrs[0]), "file", "hello")
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(must(t, "ctl", "-s", with, "snap", "-l"), "snap main@minute.") {
		if time.Now().After(deadline) {
			t.Fatal("no automatic snapshot is made")
		}
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(time.Second) // the other server began at the same time, and would have had its turn
	if out := must(t, "ctl", "-s", without, "snap", "-l"); strings.Contains(out, "@") {
		t.Errorf("with --no-snapshots there are\n%s", out)
	}
}

// TestServiceNameHasAConsole beside it, as in the reference.
func TestServiceNameHasAConsole(t *testing.T) {
	disk := newDisk(t)
	ns := t.TempDir()
	t.Setenv("NAMESPACE", ns)
	start(t, 1, "-m", "16", "-n", "gefs", "-f", disk)
	if out := must(t, "ctl", "-s", filepath.Join(ns, "gefs.cmd"), "sync"); out != "synced\n" {
		t.Errorf("sync says %q", out)
	}
}
