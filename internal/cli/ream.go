package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"strings"

	"github.com/spf13/cobra"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/gefs"
	"gefs9p/nbd"
	"gefs9p/users"
)

// A reamer makes disks.
type reamer struct {
	disk    string
	size    int64 // of a disk that is not there; 0: it has to be
	user    string
	sip     bool
	keyFile string
	force   bool
	out     io.Writer // what is being done
}

func newReam() *cobra.Command {
	var r reamer
	var size sizeFlag
	hash := "metro"
	cmd := &cobra.Command{
		Use:   "ream DISK",
		Short: "make an empty gefs disk",
		Long: `Ream makes an empty gefs disk in DISK: a file, a partition or a whole disk. What was
there is lost, so anything but an empty file or disk is refused without --force.

With --hash siphash the blocks are hashed under a secret key. If that is in a key file, who
stores the disk but has not got the file cannot forge it unnoticed; without the file it
cannot be read again. 9front's gefs cannot serve such a disk.

` + keyHelp + `
Ream makes the key file if there is none.`,
		Example: `  gefs9p ream --size 4G disk.img
  gefs9p ream -u glenda /dev/sdb1
  gefs9p ream --size 100G --hash siphash --keyfile disk.key disk.img`,
		Args: oneDisk,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.disk, r.size, r.out = args[0], int64(size), cmd.ErrOrStderr()
			switch hash {
			case "metro":
				if r.keyFile != "" {
					return usagef("--keyfile is for --hash siphash: metro has no key")
				}
			case "siphash":
				r.sip = true
			default:
				return usagef("unknown hash %q: metro and siphash are known", hash)
			}
			return r.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVarP(&r.user, "user", "u", "", "the first user, a member of adm (default: who you are)")
	f.Var(&size, "size", "make the file, of SIZE bytes (suffixes K M G T), if there is none")
	f.StringVar(&hash, "hash", hash, "checksum of the blocks: `metro|siphash`; metro is 9front's")
	f.StringVar(&r.keyFile, "keyfile", "", "keep the key of siphash in `FILE` and not on the disk")
	f.BoolVar(&r.force, "force", false, "erase what is there")
	return cmd
}

// run makes the disk and lets go of it.
func (r *reamer) run(ctx context.Context) error {
	dev, _, err := r.ream(ctx)
	if err != nil {
		return err
	}
	if err := dev.Close(); err != nil {
		return fmt.Errorf("%s: %w", r.disk, err)
	}
	return nil
}

// ream makes the disk and returns it open and locked; undo removes the files it made. After an error
// nothing that was there has changed and nothing new is left, unless the device failed in the middle.
func (r *reamer) ream(ctx context.Context) (dev disk, undo func(), err error) {
	if r.user == "" {
		if r.user, err = loginName(); err != nil {
			return nil, nil, err
		}
	}
	if _, err := users.Ream(r.user); err != nil {
		return nil, nil, fmt.Errorf("user %q: %w (choose another with -u)", r.user, err)
	}
	dev, undoDisk, err := r.open()
	if err != nil {
		return nil, nil, err
	}
	undoKey, err := r.write(ctx, dev)
	if err != nil {
		undoDisk()
		dev.Close()
		return nil, nil, err
	}
	return dev, func() { undoDisk(); undoKey() }, nil
}

// open opens the disk, or makes it, and refuses what should not or cannot be reamed.
func (r *reamer) open() (dev disk, undo func(), err error) {
	err = statDisk(r.disk)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r.create()
	case err != nil:
		return nil, nil, pathError(err)
	}
	if dev, err = openDisk(r.disk, false); err != nil {
		return nil, nil, err
	}
	if err := r.consider(dev); err != nil {
		dev.Close()
		return nil, nil, err
	}
	return dev, func() {}, nil
}

// consider says why a disk that is there should not or cannot be reamed.
func (r *reamer) consider(dev disk) error {
	size, err := dev.Size()
	if err != nil {
		return err
	}
	if r.size != 0 && r.size != size {
		return fmt.Errorf("%s: is there already, and has %d bytes and not %d: %s", r.disk, size, r.size, r.resize())
	}
	if !r.force {
		what, err := looksLike(dev, size)
		if err != nil {
			return fmt.Errorf("%s: %w", r.disk, err)
		}
		if what != "" {
			return fmt.Errorf("%s: not empty: it looks like %s (--force erases it)", r.disk, what)
		}
	}
	if _, err := blkfmt.ReamGeometry(size); err != nil {
		return fmt.Errorf("%s: %w", r.disk, err)
	}
	return nil
}

// resize says what to do about a disk of another size than was asked for.
func (r *reamer) resize() string {
	if nbd.IsAddress(r.disk) {
		return "name this size, or none; it is decided where the storage is"
	}
	return "leave --size out, or remove the file"
}

// create makes the file. It is locked before anybody can find it empty and ream it as well: of two
// servers that start at once, one makes the disk and the other is refused.
func (r *reamer) create() (disk, func(), error) {
	if r.size == 0 {
		return nil, nil, fmt.Errorf("%s: %w (--size makes the file)", r.disk, fs.ErrNotExist)
	}
	if _, err := blkfmt.ReamGeometry(r.size); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", r.disk, err)
	}
	dev, err := blkdev.CreateFile(r.disk, r.size)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("%s: no such folder", r.disk)
		}
		return nil, nil, deviceError(r.disk, err)
	}
	return dev, func() { os.Remove(r.disk) }, nil
}

// write makes the open disk a gefs disk. undo removes the key file if there was none.
func (r *reamer) write(ctx context.Context, dev disk) (undo func(), err error) {
	size, err := dev.Size()
	if err != nil {
		return nil, err
	}
	geom, err := blkfmt.ReamGeometry(size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.disk, err)
	}
	opt := gefs.ReamOptions{User: r.user, Sip: r.sip}
	undo = func() {}
	if r.keyFile != "" {
		if opt.Key, undo, err = makeKey(r.keyFile); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		undo()
		return nil, err
	}
	fmt.Fprintf(r.out, "reaming %s\n", r.disk)
	for i := range geom.Count {
		fmt.Fprintf(r.out, "arena %d: %d blocks at %x\n", i, geom.Size/blkfmt.BlkSize, int64(geom.Header(i)))
	}
	if err := gefs.Ream(dev, opt); err != nil {
		undo()
		return nil, fmt.Errorf("%s: %w", r.disk, err)
	}
	return undo, nil
}

// loginName is the name of whoever runs this.
func loginName() (string, error) {
	u, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("cannot tell who you are (name the user with -u): %w", err)
	}
	name := u.Username
	if i := strings.LastIndexByte(name, '\\'); i >= 0 { // DOMAIN\name
		name = name[i+1:]
	}
	return name, nil
}
