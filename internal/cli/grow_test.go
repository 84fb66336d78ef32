package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestGrow(t *testing.T) {
	disk := newDisk(t)
	dir := filepath.Dir(disk)
	refused(t, dir, exitFail, []string{"new arenas too small (", "gefs9p grow " + disk + " 192M"}, "grow", disk)
	refused(t, dir, exitFail, []string{"not growing"}, "grow", disk, "140M")
	refused(t, dir, exitFail, []string{"cannot shrink"}, "grow", disk, "100M")
	refused(t, dir, exitUsage, []string{"not a size"}, "grow", disk, "many")
	refused(t, dir, exitUsage, []string{"one disk"}, "grow", disk, "1G", "2G")
	refused(t, dir, exitFail, []string{"does not exist", "ream"}, "grow", disk+".not", "1G")
	refused(t, dir, exitFail, []string{"does not shrink", "copy the files"}, "shrink", disk, "1M")

	_, said, code := command("grow", disk, "193M")
	if code != 0 || strings.Count(said, "\nnew arena ") != 4 || !strings.Contains(said, "new arena 11: adding ") {
		t.Errorf("grow: %d, %q", code, said)
	}
	if st, err := os.Stat(disk); err != nil || st.Size() != 193<<20 {
		t.Errorf("the file: %v, %v", st, err)
	}
	// By hand, and with the reference's flag.
	if err := os.Truncate(disk, 300<<20); err != nil {
		t.Fatal(err)
	}
	must(t, "-g", "-f", disk)
	if out := must(t, "check", disk); !strings.Contains(out, "0 fatal, 0 errors, 0 leaks, 0 notes") {
		t.Errorf("check: %s", out)
	}

	l := start(t, 1, "-A", "-m", "16", "-f", disk)
	if !strings.Contains(l.stderr(), "narenas:\t16\n") {
		t.Errorf("loading says %s", l.stderr())
	}
	refused(t, dir, exitFail, []string{"already served", "ctl -s " + disk + " grow"}, "grow", disk, "1G")
	root := l.attach(l.addrs[0])
	put(t, root, "before", "text")
	if out := must(t, "ctl", "-s", disk, "grow", "1G"); !strings.Contains(out, "new arena 19: ") {
		t.Errorf("ctl grow: %q", out)
	}
	put(t, root, "after", "more")
	if st, err := os.Stat(disk); err != nil || st.Size() != 1<<30 {
		t.Errorf("the file: %v, %v", st, err)
	}
	if l.stop() != 0 {
		t.Error(l.stderr())
	}
	if out := must(t, "check", disk); !strings.Contains(out, "0 fatal, 0 errors, 0 leaks, 0 notes") {
		t.Errorf("check: %s", out)
	}
}
