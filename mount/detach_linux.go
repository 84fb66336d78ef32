package mount

import (
	"os"
	"os/exec"
	"syscall"
)

// readOnlyFlags are those of mount(2).
const readOnlyFlags = syscall.MS_RDONLY | syscall.MS_NOSUID | syscall.MS_NODEV

// detach takes a mounted directory out of the tree of names even if it is in use.
func detach(dir string) error {
	if os.Getuid() == 0 {
		return syscall.Unmount(dir, syscall.MNT_DETACH)
	}
	bin, err := exec.LookPath("fusermount3")
	if err != nil {
		bin = "fusermount"
	}
	return exec.Command(bin, "-u", "-z", dir).Run()
}
