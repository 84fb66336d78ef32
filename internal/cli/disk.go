package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
)

// openDisk opens and locks the disk at path. Errors say what to do.
func openDisk(path string, readOnly bool) (*blkdev.File, error) {
	dev, err := blkdev.OpenFile(path, blkdev.FileOptions{ReadOnly: readOnly})
	if err != nil {
		return nil, deviceError(path, err)
	}
	return dev, nil
}

// deviceError says what the matter is with the file at path, which could not be opened or made.
func deviceError(path string, err error) error {
	var op *blkdev.OpError
	var locked *blkdev.LockedError
	switch {
	case errors.As(err, &locked):
		return err // says it all
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w (make a disk with: gefs9p ream --size 4G %s)", path, fs.ErrNotExist, path)
	case errors.As(err, &op):
		return fmt.Errorf("%s: %w", path, op.Err)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// diskError says what the matter is with the disk in dev, which could not be loaded because of err.
func diskError(dev *blkdev.File, err error) error {
	path := dev.Path()
	var version *blkfmt.VersionError
	switch {
	case errors.Is(err, blkfmt.ErrNotGefs):
		size, serr := dev.Size()
		if serr != nil {
			return serr
		}
		what, lerr := looksLike(dev, size)
		if lerr != nil {
			return lerr
		}
		if what == "" {
			what = "an empty disk"
		}
		return fmt.Errorf("%s: %w; it looks like %s (gefs9p ream makes a gefs disk of it and erases what is there)", path, err, what)
	case errors.As(err, &version):
		return fmt.Errorf("%s: %w; serve it with the gefs that made it, and copy the files to a new disk", path, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}
