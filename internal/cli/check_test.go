package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gefs9p/blkfmt"
	"gefs9p/check"
	"gefs9p/internal/golden"
)

// TestCheckTakesADiskOfTheReference: one of those that package check tests, for what the command makes
// of the report.
func TestCheckTakesADiskOfTheReference(t *testing.T) {
	disk := golden.Image(t, "crash").File(t)
	before := snapshot(t, filepath.Dir(disk), time.Unix(1e9, 0))
	out := must(t, "check", disk)
	if !strings.Contains(out, "0 fatal, 0 errors") {
		t.Errorf("check prints %q", out)
	}
	if after := snapshot(t, filepath.Dir(disk), time.Time{}); after != before {
		t.Error("check has written")
	}
	// The reference leaks, and strictly that is not clean.
	js, _, code := command("check", "--json", "--strict", disk)
	var rep check.Report
	if err := json.Unmarshal([]byte(js), &rep); err != nil {
		t.Fatal(err)
	}
	if rep.Version != "gefs9.00" || rep.Counts.Used == 0 || len(rep.Snaps) == 0 || rep.Found[check.Leak] == 0 {
		t.Errorf("the report says %+v", rep)
	}
	if code != exitCheckErrors {
		t.Errorf("%d leaks and exit code %d", rep.Found[check.Leak], code)
	}
}

func TestCheckSaysWhatIsBroken(t *testing.T) {
	disk := newDisk(t)
	image, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	// The users file is one data block; a letter in it is turned over.
	at := bytes.Index(image, []byte("glenda:glenda"))
	if at < 0 {
		t.Fatal("no users file")
	}
	damage(t, disk, int64(at), []byte("G"))
	out, errs, code := command("check", disk)
	if code != exitCheckErrors || errs != "" || !strings.Contains(out, "adm/users") {
		t.Errorf("exit code %d, %s%s", code, out, errs)
	}
	out, errs, code = command("-c", "-f", disk)
	if code == 0 || errs != "gefs9p: broken fs\n" || !strings.Contains(out, "adm/users") {
		t.Errorf("-c: exit code %d, %s%s", code, out, errs)
	}
}

func TestCheckRefusesWhatIsNoDisk(t *testing.T) {
	dir := t.TempDir()
	missing, text, old := filepath.Join(dir, "missing"), filepath.Join(dir, "text"), filepath.Join(dir, "old")
	if err := os.WriteFile(text, []byte(strings.Repeat("hello\n", 10000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(old, append([]byte("gefs0001"), make([]byte, 1<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, exitCheckFail, []string{missing, "does not exist", "gefs9p ream"}, "check", missing)
	refused(t, dir, exitCheckFail, []string{text, "not a gefs disk", `"hello"`, "gefs9p ream"}, "check", text)
	refused(t, dir, exitCheckFail, []string{old, "gefs0001", "gefs9.00"}, "check", old)
	refused(t, dir, exitCheckFail, []string{empty, "not a gefs disk", "empty"}, "check", empty)
	refused(t, dir, exitCheckFail, []string{dir, "neither a file nor a disk"}, "check", dir)
}

func TestCheckOfATruncatedDiskIsNotClean(t *testing.T) {
	disk := newDisk(t)
	if err := os.Truncate(disk, 64<<20); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := command("check", disk); code != exitCheckErrors {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

func TestCheckRefusesADiskBeingServed(t *testing.T) {
	disk := newDisk(t)
	l := start(t, 1, "serve", "-m", "16M", disk)
	refused(t, filepath.Dir(disk), exitCheckFail, []string{disk, "already served"}, "check", disk)
	l.stop()
	start(t, 1, "serve", "-m", "16M", "--read-only", disk)
	must(t, "check", disk) // nothing changes under its hands
}

func TestProgressShowsRateAndTimeLeft(t *testing.T) {
	const mib = 1 << 20 / blkfmt.BlkSize
	p := check.Progress{Pass: "trees", Read: 100 * mib, Used: 300 * mib}
	for _, tt := range []struct {
		p    check.Progress
		t    time.Duration
		want string
	}{
		{p, 10 * time.Millisecond, "checking trees: 100 of 300 MiB (33%)"},
		{p, 2 * time.Second, "checking trees: 100 of 300 MiB (33%), 50 MiB/s, 4s left"},
		{check.Progress{Pass: "leaks", Read: 310 * mib, Used: 300 * mib}, 10 * time.Second, "checking leaks: 310 of 300 MiB (100%), 31 MiB/s"},
		{check.Progress{Pass: "arenas"}, 10 * time.Second, "checking arenas: 0 MiB"},
	} {
		if got := progressLine(tt.p, tt.t); got != tt.want {
			t.Errorf("%v after %v: %q, want %q", tt.p, tt.t, got, tt.want)
		}
	}
}

func TestMeterWritesOneLineNowAndThen(t *testing.T) {
	var b bytes.Buffer
	now := time.Unix(1e9, 0)
	m := &meter{w: &b, now: func() time.Time { return now }, began: now}
	for range 1000 {
		now = now.Add(time.Millisecond)
		m.show(check.Progress{Pass: "trees"})
	}
	m.clear()
	got := b.String()
	if n := strings.Count(got, "checking"); n != 5 {
		t.Errorf("%d lines in a second: %q", n, got)
	}
	last := got[strings.LastIndex(got, "checking"):]
	if strings.Contains(got, "\n") || !strings.HasSuffix(last, "\r"+strings.Repeat(" ", len("checking trees: 0 MiB"))+"\r") {
		t.Errorf("the line is not taken away: %q", last)
	}
}
