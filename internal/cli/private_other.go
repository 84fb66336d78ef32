//go:build !unix

package cli

import "io/fs"

// private calls fn. Where there is no umask, access to a socket is that of its folder.
func private(fn func()) { fn() }

// mine reports whether the file belongs to whoever runs this, as far as can be told.
func mine(fs.FileInfo) bool { return true }
