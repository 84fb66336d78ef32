//go:build !linux

package cli

// memory returns how many bytes of memory this process can hope for; 0, as here, if that is
// unknown.
func memory() int64 { return 0 }
