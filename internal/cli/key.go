package cli

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"gefs9p/blkfmt"
)

const keyHelp = `A key file holds the 16 secret bytes of a disk hashed with siphash: as they are, or as
32 hexadecimal digits and perhaps the end of a line.`

// readKey reads a key file. "" names none, and gives nil.
func readKey(path string) (*[blkfmt.KeySize]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("key file %w", pathError(err))
	}
	defer f.Close()
	p, err := io.ReadAll(io.LimitReader(f, 1024)) // what was named by mistake may have no end
	if err != nil {
		return nil, fmt.Errorf("key file %w", pathError(err))
	}
	key := parseKey(p)
	if key == nil {
		return nil, fmt.Errorf("key file %s: not a key: %d raw bytes or %d hexadecimal digits are wanted", path, blkfmt.KeySize, 2*blkfmt.KeySize)
	}
	return key, nil
}

// parseKey returns nil if p is not the content of a key file.
func parseKey(p []byte) *[blkfmt.KeySize]byte {
	var key [blkfmt.KeySize]byte
	if len(p) == len(key) {
		copy(key[:], p)
		return &key
	}
	p = bytes.TrimRight(p, "\r\n")
	if len(p) != 2*len(key) {
		return nil
	}
	if _, err := hex.Decode(key[:], p); err != nil {
		return nil
	}
	return &key
}

// makeKey reads the key file path, or, if there is none, makes one that only its owner can
// read. undo removes what was made.
func makeKey(path string) (key *[blkfmt.KeySize]byte, undo func(), err error) {
	key, err = readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, func() {}, err
	}
	key = new([blkfmt.KeySize]byte)
	rand.Read(key[:])
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("key file %w", pathError(err))
	}
	undo = func() { os.Remove(path) }
	_, err = f.WriteString(hex.EncodeToString(key[:]) + "\n")
	// A disk without its key is lost, so the key is durable before the disk is made.
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		undo()
		return nil, nil, fmt.Errorf("key file %w", pathError(err))
	}
	if dir, err := os.Open(filepath.Dir(path)); err == nil {
		dir.Sync() // as far as the system can sync a folder
		dir.Close()
	}
	return key, undo, nil
}

// pathError leaves out of a file's error which system call it was.
func pathError(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", pe.Path, pe.Err)
	}
	return err
}
