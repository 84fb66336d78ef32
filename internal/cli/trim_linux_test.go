package cli

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestTrim fills what is free with rubbish, which then takes room on the host, and gives it back.
func TestTrim(t *testing.T) {
	disk := newDisk(t)
	took := func() int64 {
		st, err := os.Stat(disk)
		if err != nil {
			t.Fatal(err)
		}
		return st.Sys().(*syscall.Stat_t).Blocks * 512
	}
	damage(t, disk, 20<<20+1<<19, []byte(strings.Repeat("rubbish", 1<<20))) // in the second arena, far from its ends
	if took() < 7<<20 {
		t.Fatalf("the file takes %d bytes: the test sees nothing", took())
	}
	out, errs, code := command("trim", disk)
	if strings.Contains(errs, "cannot discard") {
		t.Skip(errs)
	}
	if code != 0 || !strings.HasPrefix(out, "trimmed 1") {
		t.Errorf("trim: %d, %q, %q", code, out, errs)
	}
	if took() > 2<<20 {
		t.Errorf("the file takes %d bytes", took())
	}
	if out := must(t, "check", disk); !strings.Contains(out, "0 fatal, 0 errors, 0 leaks, 0 notes") {
		t.Errorf("check: %s", out)
	}
	l := start(t, 1, "serve", "-m", "16M", "--discard", disk)
	refused(t, filepath.Dir(disk), exitFail, []string{"already served", "ctl -s " + disk + " trim"}, "trim", disk)
	if out := must(t, "ctl", "-s", disk, "trim"); !strings.HasPrefix(out, "trimmed:\t1") {
		t.Errorf("ctl trim: %q", out)
	}
	if l.stop() != 0 {
		t.Error(l.stderr())
	}
	must(t, "check", disk)
}
