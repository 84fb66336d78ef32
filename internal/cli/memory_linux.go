package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// memory returns how many bytes of memory this process can hope for: the machine's, or less if a
// control group it is in (a container, a service) has a limit. It is 0 if that is unknown.
func memory() int64 {
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) != nil {
		return 0
	}
	total := int64(si.Totalram) * int64(si.Unit)
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return total
	}
	return min(total, groupLimit("/sys/fs/cgroup", self, total))
}

// groupLimit returns the lowest memory limit of the control groups from the one that self (the content of
// /proc/self/cgroup, version 2) names up to the one mounted at root; total if there is none.
func groupLimit(root string, self []byte, total int64) int64 {
	for line := range bytes.Lines(self) {
		group, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "0::")
		if !ok {
			continue
		}
		for dir := filepath.Join("/", group); ; dir = filepath.Dir(dir) {
			if text, err := os.ReadFile(filepath.Join(root, dir, "memory.max")); err == nil {
				if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
					total = min(total, n)
				} // otherwise it is "max"
			}
			if dir == "/" {
				break
			}
		}
	}
	return total
}
