package mount

// forExec would say that a file is opened to be executed; the kernel does not say so.
const forExec = 0
