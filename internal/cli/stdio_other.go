//go:build !unix

package cli

import "os"

// interruptible returns f: here a Read that waits ends with the process at the latest.
func interruptible(f *os.File) *os.File { return f }
