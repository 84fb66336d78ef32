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

// A grower makes disks larger that nobody serves.
type grower struct {
	disk    string
	size    int64 // of the file; 0: as large as it is
	keyFile string
	out     io.Writer // what is being done
}

func newGrow() *cobra.Command {
	var g grower
	cmd := &cobra.Command{
		Use:   "grow DISK [SIZE]",
		Short: "make a disk as large as its device has become",
		Long: `Grow adds what DISK has gained since it was made, or grown last, to the file system: four more
arenas behind those there are, as 9front's gefs does. That has to be 64 MiB at least. With SIZE
(suffixes K M G T) the file is first made that large; a partition or volume is made larger with
its own tools before.

A power cut in the middle leaves the disk as it was, or grown. Disks do not shrink.

A disk that is served grows on its console: gefs9p ctl -s DISK grow [SIZE].`,
		Example: `  gefs9p grow disk.img 100G
  lvextend -L +50G /dev/vg/gefs && gefs9p grow /dev/vg/gefs
  gefs9p ctl -s disk.img grow 100G`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				args = args[:1]
			}
			return oneDisk(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			g.disk, g.out = args[0], cmd.ErrOrStderr()
			if len(args) == 2 {
				var size sizeFlag
				if err := size.Set(args[1]); err != nil {
					return usagef("%w", err)
				}
				g.size = int64(size)
			}
			return g.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&g.keyFile, "keyfile", "", "the disk's key file")
	return cmd
}

// newShrink is there for those who look for it.
func newShrink() *cobra.Command {
	return &cobra.Command{
		Use:    "shrink DISK",
		Short:  "disks do not shrink",
		Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("a gefs disk does not shrink: blocks stay where they are, and the format has no arena that ends; " +
				"ream a smaller disk, serve both and copy the files; gefs9p trim gives the host back what is free")
		},
	}
}

// run grows the disk. A refusal has written nothing, and left the file as long as it was.
func (g *grower) run(ctx context.Context) (err error) {
	key, err := readKey(g.keyFile)
	if err != nil {
		return err
	}
	dev, err := openDisk(g.disk, false)
	var locked *blkdev.LockedError
	switch {
	case errors.As(err, &locked):
		return fmt.Errorf("%w, or grow it there: gefs9p ctl -s %s grow", err, g.disk)
	case err != nil:
		return err
	}
	defer func() {
		if cerr := dev.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("%s: %w", g.disk, cerr)
		}
	}()
	if err := g.plan(dev, key); err != nil {
		return err
	}
	fs, err := gefs.Open(dev, gefs.Options{Cache: blkstore.MinCache, Key: key, Permissive: true, CommitEvery: 24 * time.Hour})
	if err != nil {
		return diskError(dev, err)
	}
	done, err := fs.Grow(ctx, g.size)
	if cerr := fs.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("%s: %w", g.disk, err)
	}
	fmt.Fprintf(g.out, "growing %s\n", g.disk)
	for i := range done.Arenas.Count {
		fmt.Fprintf(g.out, "new arena %d: adding %d blocks at %x\n", done.First+i, done.Arenas.Size/blkfmt.BlkSize, int64(done.Arenas.Header(i)))
	}
	return nil
}

// plan says why the disk cannot grow. It writes nothing, not even what opening a disk to serve it may go on with.
func (g *grower) plan(dev disk, key *[blkfmt.KeySize]byte) error {
	st, err := blkstore.Open(dev, blkstore.Options{Cache: blkstore.MinCache, Key: key, ReadOnly: true})
	if err != nil {
		return diskError(dev, err)
	}
	defer st.Close()
	_, err = st.PlanGrow(g.size)
	var short *blkfmt.GrowthError
	switch {
	case errors.As(err, &short):
		return fmt.Errorf("%s: %w; a file is made larger with: gefs9p grow %s %dM", g.disk, err, g.disk, (short.Least+1<<20-1)>>20)
	case err != nil:
		return fmt.Errorf("%s: %w", g.disk, err)
	}
	return nil
}
