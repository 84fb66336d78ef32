package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
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
// /proc/self/cgroup) names up to the one mounted at root; total if there is none. In version 1 of control
// groups, those of memory are a hierarchy of their own, at memory below root.
func groupLimit(root string, self []byte, total int64) int64 {
	for line := range bytes.Lines(self) {
		fields := strings.SplitN(strings.TrimSpace(string(line)), ":", 3) // number, controllers, group
		if len(fields) != 3 {
			continue
		}
		mount, file := root, "memory.max"
		switch {
		case fields[0] == "0" && fields[1] == "":
		case slices.Contains(strings.Split(fields[1], ","), "memory"):
			mount, file = filepath.Join(root, "memory"), "memory.limit_in_bytes"
		default:
			continue
		}
		for dir := filepath.Join("/", fields[2]); ; dir = filepath.Dir(dir) {
			if text, err := os.ReadFile(filepath.Join(mount, dir, file)); err == nil {
				if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
					total = min(total, n) // where there is no limit, version 1 has one beyond all memory
				} // otherwise it is "max"
			}
			if dir == "/" {
				break
			}
		}
	}
	return total
}
