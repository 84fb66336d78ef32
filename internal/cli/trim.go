package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/gefs"
)

// A trimmer discards what is free on disks that nobody serves.
type trimmer struct {
	disk    string
	keyFile string
	out     io.Writer
}

func newTrim() *cobra.Command {
	var r trimmer
	cmd := &cobra.Command{
		Use:   "trim DISK",
		Short: "give back to the device what is free on a disk",
		Long: `Trim tells the device of DISK which blocks nobody needs: it punches holes into a file, which gives the
room back to the file system it lies on, and discards on a partition or volume. Nothing that is in
use, in a snapshot or in an allocation log is touched. Only Linux can; elsewhere, and where the file
system or the device cannot, it says so.

A disk that is served is trimmed on its console, gefs9p ctl -s DISK trim, or all the time, with
serve --discard.`,
		Example: `  gefs9p trim disk.img
  gefs9p ctl -s disk.img trim`,
		Args: oneDisk,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.disk, r.out = args[0], cmd.OutOrStdout()
			return r.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&r.keyFile, "keyfile", "", "the disk's key file")
	return cmd
}

func (r *trimmer) run(ctx context.Context) (err error) {
	key, err := readKey(r.keyFile)
	if err != nil {
		return err
	}
	dev, err := openDisk(r.disk, false)
	var locked *blkdev.LockedError
	switch {
	case errors.As(err, &locked):
		return fmt.Errorf("%w, or trim it there: gefs9p ctl -s %s trim", err, r.disk)
	case err != nil:
		return err
	}
	defer func() {
		if cerr := dev.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("%s: %w", r.disk, cerr)
		}
	}()
	if d, ok := dev.(interface{ Discards() bool }); ok && !d.Discards() {
		return fmt.Errorf("%s: %w", r.disk, blkstore.ErrNoDiscard)
	}
	fs, err := gefs.Open(dev, gefs.Options{Cache: blkstore.MinCache, Key: key, Permissive: true, CommitEvery: 24 * time.Hour})
	if err != nil {
		return diskError(dev, err)
	}
	n, err := fs.Trim(ctx)
	if cerr := fs.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = dev.Sync()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.disk, err)
	}
	_, err = fmt.Fprintf(r.out, "trimmed %d bytes (%d blocks)\n", n, n/blkfmt.BlkSize)
	return err
}
