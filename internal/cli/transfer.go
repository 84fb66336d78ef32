package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gefs9p/blkfmt"
	"gefs9p/gefs"
	"gefs9p/nbd"
	"gefs9p/ninep"
	"gefs9p/salvage"
	"gefs9p/snap"
	"gefs9p/stream"
)

// A transfer is what import and export have in common: files on their way between a snapshot and something
// else, as salvage.Files.
type transfer struct {
	disk    string
	label   string
	keyFile string
	json    bool
	in      io.Reader
	out     io.Writer
	errw    io.Writer

	w     diskWriter
	meter *meter
	sum   transferred
}

// A transferred is what came of it.
type transferred struct {
	Files   int64    `json:"files"` // written
	Dirs    int64    `json:"directories"`
	Same    int64    `json:"same"` // files that were there already
	Bytes   int64    `json:"bytes"`
	Skipped []string `json:"skipped"` // what could not be written, and why
	Notes   []string `json:"notes"`   // what was written otherwise than it is
	skipped int64
}

// skippedMax is how many of the files that could not be written are named.
const skippedMax = 20

// skip notes that a file could not be written.
func (t *transferred) skip(path []string, format string, arg ...any) {
	t.skipped++
	if len(t.Skipped) < skippedMax {
		t.Skipped = append(t.Skipped, fmt.Sprintf("%s: ", strings.Join(path, "/"))+fmt.Sprintf(format, arg...))
	}
}

func (t *transfer) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&t.json, "json", false, "write the summary as JSON")
	f.StringVar(&t.keyFile, "keyfile", "", "the disk's key `FILE`")
}

// take takes the command's streams, and DISK[:LABEL]. A colon is part of the disk's name if there is a file
// of that name. At an address, which has colons of its own, the label stands behind a number sign.
func (t *transfer) take(cmd *cobra.Command, arg string) error {
	t.in, t.out, t.errw = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	t.disk, t.label = arg, snap.Main
	sep := ":"
	if nbd.IsAddress(arg) {
		sep = "#"
	} else if _, err := os.Stat(arg); err == nil {
		return nil
	}
	if i := strings.LastIndex(arg, sep); i > 0 {
		if t.disk, t.label = arg[:i], arg[i+1:]; t.label == "" {
			return usagef("%s: no snapshot is named behind the %q", arg, sep)
		}
	}
	return nil
}

// with serves the label of the disk to ourselves for as long as f runs.
func (t *transfer) with(ctx context.Context, readOnly bool, f func() error) (err error) {
	key, err := readKey(t.keyFile)
	if err != nil {
		return err
	}
	dev, err := openDisk(t.disk, readOnly)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := dev.Close(); err == nil {
			err = cerr
		}
	}()
	t.w = newDiskWriter(ctx, t.disk)
	if t.w.fs, err = gefs.Open(dev, gefs.Options{Key: key, ReadOnly: readOnly, Permissive: true}); err != nil {
		return diskError(dev, err)
	}
	t.w.aname = t.label
	err = t.known(dev)
	if err == nil {
		t.w.user, err = firstUser(t.w.fs.Users())
	}
	if err == nil {
		err = t.w.serve()
	}
	if err == nil {
		t.meter = newMeter(t.errw)
		err = f()
		t.meter.clear()
	}
	t.w.release()
	t.w.hangUp()
	if cerr := t.w.fs.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("%s: %w", t.disk, cerr)
	}
	return err
}

// known refuses a label that is not there.
func (t *transfer) known(dev disk) error {
	for _, l := range t.w.fs.Labels() {
		if l.Name == t.label {
			return nil
		}
	}
	return fmt.Errorf("%s: snap: open '%s': %w", dev.Path(), t.label, snap.ErrNoLabel)
}

// mutable reports whether the label can be written.
func (t *transfer) mutable() bool {
	for _, l := range t.w.fs.Labels() {
		if l.Name == t.label {
			return l.Mutable
		}
	}
	return false
}

// report writes the summary to w. The error is an exitError if something is missing.
func (t *transfer) report(w io.Writer, what string) error {
	s := &t.sum
	var err error
	if t.json {
		if s.Skipped == nil {
			s.Skipped = []string{}
		}
		if s.Notes == nil {
			s.Notes = []string{}
		}
		enc := json.NewEncoder(w)
		enc.SetIndent("", "\t")
		err = enc.Encode(s)
	} else {
		_, err = fmt.Fprintf(w, "%s: %d files and %d directories, %d bytes; %d files were there already\n", what, s.Files, s.Dirs, s.Bytes, s.Same)
		for _, n := range s.Notes {
			fmt.Fprintf(w, "note: %s\n", n)
		}
		for _, n := range s.Skipped {
			fmt.Fprintf(w, "not %s: %s\n", what, n)
		}
		if more := s.skipped - int64(len(s.Skipped)); more > 0 {
			fmt.Fprintf(w, "not %s: %d more\n", what, more)
		}
	}
	if err == nil && s.skipped > 0 {
		err = &exitError{exitFail, nil}
	}
	return err
}

// oneFile makes of an error about a single file a note, and returns the others.
func (t *transfer) oneFile(path []string, err error) error {
	var file *salvage.FileError
	if errors.As(err, &file) {
		t.sum.skip(path, "%v", file.Err)
		return nil
	}
	return err
}

// show shows how far it is.
func (t *transfer) show(what string) {
	m := t.meter
	now := m.now()
	if m.w == nil || now.Sub(m.last) < meterPeriod {
		return
	}
	m.last = now
	line := fmt.Sprintf("%s: %d files, %d MiB", what, t.sum.Files+t.sum.Same, t.sum.Bytes>>20)
	if d := now.Sub(m.began); d >= time.Second {
		line += fmt.Sprintf(", %.0f MiB/s", float64(t.sum.Bytes)/(1<<20)/d.Seconds())
	}
	m.write(line)
}

// transferChunk is how many bytes of a file are on their way at once, a multiple of the block size.
const transferChunk = 1 << 20

// copyHoles copies r to w and returns the number of bytes. Blocks that are nothing but zeros are not written.
// t.show is called with what.
func (t *transfer) copyHoles(what string, w io.WriterAt, r io.Reader) (n int64, err error) {
	buf := make([]byte, transferChunk)
	for {
		if err := t.w.ctx.Err(); err != nil {
			return n, err
		}
		k, rerr := io.ReadFull(r, buf)
		for at := 0; at < k; {
			// A run of blocks that are not zeros.
			end := at
			for end < k && !hole(buf[end:min(k, end+blkfmt.BlkSize)]) {
				end = min(k, end+blkfmt.BlkSize)
			}
			if end > at {
				if _, err := w.WriteAt(buf[at:end], n+int64(at)); err != nil {
					return n, err
				}
				at = end
			} else {
				at = min(k, at+blkfmt.BlkSize)
			}
		}
		n += int64(k)
		t.sum.Bytes += int64(k)
		t.show(what)
		if rerr == io.EOF || rerr == io.ErrUnexpectedEOF {
			return n, nil
		}
		if rerr != nil {
			return n, &readError{rerr}
		}
	}
}

// A readError is a failure of where a file comes from.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// hole reports whether p is nothing but zeros.
func hole(p []byte) bool { return len(stream.Trim(p)) == 0 }

// specialBits are the bits of a mode that a host does not have.
const specialBits = ninep.DMAPPEND | ninep.DMEXCL | ninep.DMTMP
