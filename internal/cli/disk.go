package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/nbd"
)

// A disk is what a command is given as DISK, opened.
type disk interface {
	blkdev.Device
	Path() string // as it was given
}

// commandPatience is how long commands that end wait for a storage that has gone away. A server waits for ever.
const commandPatience = time.Minute

// openDisk opens and locks the disk at path, for a command that ends. Errors say what to do.
func openDisk(path string, readOnly bool) (disk, error) {
	return openDiskFor(context.Background(), path, nbd.Options{ReadOnly: readOnly, Patience: commandPatience})
}

// openDiskFor opens and locks the disk at path, a file or, with the options, an address. ctx is for the opening.
func openDiskFor(ctx context.Context, path string, opt nbd.Options) (disk, error) {
	if nbd.IsAddress(path) {
		return openExport(ctx, path, opt)
	}
	dev, err := blkdev.OpenFile(path, blkdev.FileOptions{ReadOnly: opt.ReadOnly})
	if err != nil {
		return nil, deviceError(path, err)
	}
	return dev, nil
}

// statDisk is os.Stat for a disk, of which one at an address is always there as far as that can be told.
func statDisk(path string) error {
	if nbd.IsAddress(path) {
		return nil
	}
	_, err := os.Stat(path)
	return err
}

// deviceError says what the matter is with the disk at path, which could not be opened or made.
func deviceError(path string, err error) error {
	var op *blkdev.OpError
	var locked *blkdev.LockedError
	switch {
	case errors.As(err, &locked):
		return err // says it all
	case errors.Is(err, fs.ErrNotExist) && !nbd.IsAddress(path):
		return fmt.Errorf("%s: %w (make a disk with: gefs9p ream --size 4G %s)", path, fs.ErrNotExist, path)
	case errors.As(err, &op):
		return fmt.Errorf("%s: %w", path, op.Err)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// diskError says what the matter is with the disk in dev, which could not be loaded because of err.
func diskError(dev disk, err error) error {
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
