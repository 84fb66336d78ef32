package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestPlan9FlagsNeedNoCommand(t *testing.T) {
	for _, tt := range []struct {
		args string
		want string
	}{
		{"-f disk", "gefs4 -f disk"},
		{"-Af disk", "gefs4 -Af disk"},
		{"-r glenda -f disk", "gefs4 -r glenda -f disk"},
		{"--help", "--help"},
		{"-h", "-h"},
		{"-v", "-v"},
		{"--version", "--version"},
		{"serve -A disk", "serve -A disk"},
		{"-", "-"},
		{"", ""},
	} {
		args := strings.Fields(tt.args)
		if got := plan9Args(args); !slices.Equal(got, strings.Fields(tt.want)) {
			t.Errorf("%q becomes %q", tt.args, got)
		}
	}
}

func TestPlan9FlagsReamServeAndCheck(t *testing.T) {
	disk := newDisk(t)
	// As gefs(4) does, -r erases what is there.
	if out := must(t, "-r", "rob", "-f", disk); out != "" {
		t.Errorf("-r prints %q", out)
	}
	l := start(t, 2, "-A", "-a", "tcp!127.0.0.1!0", "-a", "unix!"+disk+".s", "-m", "16", "-S", "-d", "-f", disk)
	if !strings.Contains(l.stderr(), "\tcachesz:\t16 MiB\n") {
		t.Errorf("-m 16 is not 16 MiB:\n%s", l.stderr())
	}
	if l.stop() != 0 {
		t.Error(l.stderr())
	}
	if out := must(t, "-c", "-f", disk); !strings.Contains(out, "0 fatal, 0 errors") {
		t.Errorf("-c prints %q", out)
	}
	refused(t, filepath.Dir(disk), exitFail, []string{"new arenas too small", "must have at least"}, "-g", "-f", disk)
	refused(t, filepath.Dir(disk), exitUsage, []string{"-A"}, "-a", "tcp!*!0", "-f", disk)
}

func TestServiceNameIsASocketInTheNameSpace(t *testing.T) {
	disk := newDisk(t)
	t.Setenv("NAMESPACE", t.TempDir())
	l := start(t, 1, "-n", "gefs", "-m", "16", "-f", disk)
	want := filepath.Join(os.Getenv("NAMESPACE"), "gefs")
	if l.addrs[0] != want {
		t.Errorf("listening %s, want %s", l.addrs[0], want)
	}
}

func TestNameSpaceIsPlan9portsAndPrivate(t *testing.T) {
	t.Setenv("NAMESPACE", "")
	user, err := loginName()
	if err != nil {
		t.Fatal(err)
	}
	for display, want := range map[string]string{
		"gefs9p-test:7":     "gefs9p-test:7",
		"gefs9p-test:7.0":   "gefs9p-test:7",
		"/gefs9p.test/x:12": "_gefs9p.test_x:12",
	} {
		t.Setenv("DISPLAY", display)
		want = "/tmp/ns." + user + "." + want
		t.Cleanup(func() { os.RemoveAll(want) })
		for range 2 {
			if got, err := namespace(); err != nil || got != want {
				t.Errorf("DISPLAY=%s: %s, %v; want %s", display, got, err, want)
			}
		}
		if err := os.Chmod(want, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := namespace(); err == nil {
			t.Errorf("%s: a folder that others can read", display)
		}
		os.RemoveAll(want)
	}
}
