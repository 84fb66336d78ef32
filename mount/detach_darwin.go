package mount

import "syscall"

// readOnlyFlags are not used here: the option ro says it.
const readOnlyFlags = 0

// force is MNT_FORCE of unmount(2).
const force = 0x80000

// detach unmounts a directory even if it is in use; its users' requests fail.
func detach(dir string) error { return syscall.Unmount(dir, force) }
