package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gefs9p/client"
)

// TestKernelSaysWhoConnects has another user connect, in a process of theirs.
func TestKernelSaysWhoConnects(t *testing.T) {
	const other = 65534
	if sock := os.Getenv("GEFS9P_TEST_SOCKET"); sock != "" {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		c, err := client.Dial(ctx, "unix!"+sock, 8192)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, uname := range []string{"nobody", "glenda", "none"} {
			_, err := c.Attach(uname, "")
			fmt.Printf("%s: %v\n", uname, err)
		}
		return
	}
	if os.Getuid() != 0 {
		t.Skip("only root can have somebody else connect")
	}
	name, err := newTrust(peersSelf).name(other)
	if err != nil || name != "nobody" {
		t.Skipf("user %d is %q here: %v", other, name, err)
	}
	// Not in t.TempDir, where only we get.
	dir, err := os.MkdirTemp("", "gefs9p-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	disk := filepath.Join(dir, "disk")
	must(t, "ream", "-u", "glenda", "--size", diskSize, disk)
	l := start(t, 1, "serve", "-m", "16M", disk)
	if _, err := dialAddr(t, l.addrs[0]).Attach("glenda", ""); err != nil {
		t.Fatalf("our own process as glenda: %v", err)
	}
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	test := filepath.Join(dir, "test")
	if err := errors.Join(os.WriteFile(test, exe, 0o755), os.Chmod(dir, 0o755), os.Chmod(l.addrs[0], 0o666)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(test, "-test.run=^TestKernelSaysWhoConnects$")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GEFS9P_TEST_SOCKET="+l.addrs[0])
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: other, Gid: other}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const refusal = "attach -- unknown user or failed authentication"
	for _, want := range []string{"nobody: user does not exist\n", "glenda: " + refusal + "\n", "none: " + refusal + "\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("not %q in\n%s", want, out)
		}
	}
}
