package cli

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gefs9p/blkdev"
	"gefs9p/nbd"
)

// An export is a disk at an address, locked as far as this machine goes.
type remoteDisk struct {
	*nbd.Disk
	lock *addressLock
}

// openExport opens the disk at the address. NBD has no lock, so two servers are kept apart only if they run on
// one machine as one user; docs/storage.md says what to do about others.
func openExport(ctx context.Context, address string, opt nbd.Options) (disk, error) {
	a, err := nbd.Parse(address)
	if err != nil {
		return nil, &usageError{err}
	}
	lock, err := lockAddress(a, opt.ReadOnly)
	if err != nil {
		return nil, err
	}
	d, err := nbd.Open(ctx, a, opt)
	if err != nil {
		lock.close()
		return nil, deviceError(address, err)
	}
	return &remoteDisk{d, lock}, nil
}

// Close gives the disk and the lock back.
func (e *remoteDisk) Close() error {
	err := e.Disk.Close()
	if err == nil {
		e.lock.close()
	}
	return err
}

// An addressLock is a lock on a file that stands for an address.
type addressLock struct {
	f    *blkdev.File
	name string
	only bool // nobody else has it
}

// lockAddress takes the lock, shared with other readers or alone. The error is a LockedError if others have it.
func lockAddress(a nbd.Address, shared bool) (*addressLock, error) {
	sum := sha256.Sum256([]byte(a.Network + "\x00" + a.Host + "\x00" + a.Export))
	name := filepath.Join(os.TempDir(), fmt.Sprintf("gefs9p-%d-%x.lock", os.Getuid(), sum[:8]))
	for range 100 {
		made, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock for %s: %w", a, pathError(err))
		}
		made.Close()
		f, err := blkdev.OpenFile(name, blkdev.FileOptions{ReadOnly: shared})
		var locked *blkdev.LockedError
		switch {
		case errors.As(err, &locked):
			return nil, &blkdev.LockedError{Path: a.String(), ReadOnly: shared, Err: locked.Err}
		case errors.Is(err, os.ErrNotExist):
			continue
		case err != nil:
			return nil, fmt.Errorf("lock for %s: %w", a, err)
		}
		// Whoever had the lock before may have removed the file after we had opened it.
		if f.Is(name) {
			return &addressLock{f, name, !shared}, nil
		}
		f.Close()
	}
	return nil, fmt.Errorf("lock for %s: %s is made and removed all the time", a, name)
}

// close gives the lock back. A reader leaves the file, which others may have locked too.
func (l *addressLock) close() {
	if l.only {
		os.Remove(l.name) // where an open file cannot be removed it stays, and does no harm
	}
	l.f.Close()
}

// localName is the beginning of the names of a disk's sockets: its own, or, for an address, one in this folder
// that is made of it.
func localName(disk string) string {
	if !nbd.IsAddress(disk) {
		return disk
	}
	a, err := nbd.Parse(disk)
	if err != nil {
		return "nbd" // which opening the disk will say
	}
	name := strings.TrimSuffix(a.Host, ":"+nbd.Port)
	if a.Network == "unix" {
		name = filepath.Base(name)
	}
	if a.Export != "" {
		name += "-" + a.Export
	}
	name = strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '.' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z') {
			return r
		}
		return '-'
	}, name)
	name = strings.TrimLeft(name[:min(len(name), 60)], "-.")
	if name == "" {
		name = "nbd"
	}
	return name
}
