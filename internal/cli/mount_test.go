package cli

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestMountRefusesWhatCannotBeMeant: nothing of this gets as far as a server.
func TestMountRefusesWhatCannotBeMeant(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{}, exitUsage, "address"},
		{[]string{"./sock"}, exitUsage, "directory"},
		{[]string{"./sock", dir, "more"}, exitUsage, "3 arguments"},
		{[]string{"tcp!!", dir}, exitUsage, "no host"},
		{[]string{"--password", "./sock", dir}, exitUsage, "--as"},
		{[]string{"--password", "--as", "tcp!h!567", "./sock", dir}, exitUsage, "--authdom"},
		{[]string{"--password", "--auth", file, "./sock", dir}, exitUsage, "enough"},
		{[]string{"--authdom", "d", "./sock", dir}, exitUsage, "--password"},
		{[]string{"--as", "tcp!h!567", "./sock", dir}, exitUsage, "needs a key"},
		{[]string{"--auth", file, "--as", "tcp!h", "--msize", "17", "./sock", dir}, exitUsage, "least"},
		{[]string{"--cache", "-1s", "./sock", dir}, exitUsage, "negative"},
		{[]string{"./sock", filepath.Join(dir, "none")}, exitFail, "no such file"},
		{[]string{"./sock", file}, exitFail, "not a directory"},
		{[]string{"--auth", file, "./sock", dir}, exitFail, "no key"},
		{[]string{"-u", "glenda", filepath.Join(dir, "sock"), dir}, exitFail, "no such file"},
	} {
		if runtime.GOOS == "windows" && c.code == exitFail {
			continue // says it in other words
		}
		out, errs, code := command(append([]string{"mount"}, c.args...)...)
		if code != c.code || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, c.says) {
			t.Errorf("mount %v: exit code %d, want %d, and %q; it says %s%s", c.args, code, c.code, c.says, out, errs)
		}
	}
}

func TestServeSaysHowToMountWithFUSE(t *testing.T) {
	disk := newDisk(t)
	l := start(t, 1, "serve", "-m", "16M", disk)
	l.stop()
	if want := "gefs9p mount -u "; !strings.Contains(l.stderr(), want) {
		t.Errorf("it does not say %q:\n%s", want, l.stderr())
	}
}
