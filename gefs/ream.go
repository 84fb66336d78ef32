package gefs

import (
	"crypto/rand"
	"fmt"
	"log/slog"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/snap"
	"gefs9p/users"
)

// ReamOptions says what a new disk is to be.
type ReamOptions struct {
	User   string                // gets an account and is in the group adm
	Sip    bool                  // hash blocks with SipHash under a secret key instead of MetroHash
	Key    *[blkfmt.KeySize]byte // of the hash; nil makes a random one, kept in the superblock
	Logger *slog.Logger
}

// Ream makes an empty file system on dev, whose content is given up, and commits it. Errors wrap
// blkfmt.ErrTooSmall; a user name that cannot be one; those of the device. Source: ream.
func Ream(dev blkdev.Device, opt ReamOptions) error {
	text, err := users.Ream(opt.User)
	if err != nil {
		return fmt.Errorf("ream: %w", err)
	}
	keyInside := opt.Sip && opt.Key == nil
	if keyInside {
		opt.Key = new([blkfmt.KeySize]byte)
		rand.Read(opt.Key[:])
	}
	st, err := blkstore.Format(dev, blkstore.Options{Cache: blkstore.MinCache, Key: opt.Key, Logger: opt.Logger}, opt.Sip, keyInside)
	if err != nil {
		return err
	}
	defer st.Close()
	g := st.Guard()
	g.Enter()
	forest, err := snap.Format(g, st, []byte(text))
	var com *blkstore.Commit
	if err == nil {
		var root blkstore.Root
		if root, err = forest.Seal(g); err == nil {
			com, err = st.Seal(root)
		}
	}
	g.Leave()
	if err != nil {
		return fmt.Errorf("ream: %w", err)
	}
	if err := com.Run(nil); err != nil {
		return fmt.Errorf("ream: %w", err)
	}
	return nil
}
