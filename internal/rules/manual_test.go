package rules_test

import (
	"io"
	"testing"

	"gefs9p/gefs"
	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

// TestTheManualsRules plays the conversations of testdata, each with a disk of its own.
func TestTheManualsRules(t *testing.T) {
	var r *rig
	ninetest.RunFiles(t, "testdata/*.txt", func(t testing.TB) io.ReadWriteCloser {
		if r == nil || r.t != t {
			r = newRig(t.(*testing.T), gefs.Options{})
			r.must(chmod(topRoot, ninep.DMDIR|0777))
		}
		return r.srv.Pipe()
	})
}
