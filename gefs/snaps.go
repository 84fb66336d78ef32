package gefs

import (
	"errors"

	"gefs9p/ninep"
	"gefs9p/snap"
)

// Label gives the snapshot old a second name, or with mutable makes a fork of it that can be
// written, while others go on working in it. It is durable after the next Sync. Errors: those of
// snap.Forest.Label, errReadOnly. Source: the console's snap.
func (fs *FS) Label(c *ninep.Ctx, old, name string, mutable bool) error {
	if err := fs.begin(c, 1); err != nil {
		return err
	}
	defer fs.end(c)
	return fs.forest.Label(old, name, mutable)
}

// DeleteLabel removes a name, and what only it kept. Errors: those of snap.Forest.Delete,
// errReadOnly.
func (fs *FS) DeleteLabel(c *ninep.Ctx, name string) error {
	if err := fs.begin(c, 0); err != nil {
		return err
	}
	defer fs.end(c)
	err := fs.forest.Delete(guard(c), name)
	var half *snap.HalfError
	if errors.As(err, &half) {
		fs.st.Latch(err)
	}
	return err
}
