package mount

// forExec is set in the flags of an open for execve(2): FMODE_EXEC of the kernel.
const forExec = 0x20
