package gefstest

import (
	"bytes"
	"context"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/check"
	"gefs9p/gefs"
	"gefs9p/internal/golden"
)

// SmallDisk is the size of the smallest disk that can be reamed: 128 MiB and a block.
const SmallDisk = 128<<20 + 16<<10

// User is the user for whom Ream makes a disk.
const User = "glenda"

// Ream returns a new disk of SmallDisk bytes, for User.
func Ream(t testing.TB) *blkdev.Mem {
	t.Helper()
	dev := blkdev.NewMem(SmallDisk)
	if err := gefs.Ream(dev, gefs.ReamOptions{User: User}); err != nil {
		t.Fatalf("ream: %v", err)
	}
	return dev
}

// Golden returns a copy of the golden disk, or skips the test if there are none.
func Golden(t testing.TB, name string) *blkdev.Mem {
	t.Helper()
	disk := golden.Image(t, name)
	dev := blkdev.NewMem(disk.Size())
	if err := disk.CopyTo(dev); err != nil {
		t.Fatalf("copy golden disk %s: %v", name, err)
	}
	return dev
}

// Open serves the disk; the test closes it at its end, if it has not done so itself.
func Open(t testing.TB, dev blkdev.Device, opt gefs.Options) *gefs.FS {
	t.Helper()
	fs, err := gefs.Open(dev, opt)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { fs.Close() })
	return fs
}

// Check checks a disk that nobody serves, and fails the test if anything is wrong with it. Leaks and
// notes are for the caller to judge.
func Check(t testing.TB, dev blkdev.Device) *check.Report {
	t.Helper()
	size, err := dev.Size()
	if err != nil {
		t.Fatal(err)
	}
	rep, err := check.Run(context.Background(), dev, size, check.Options{})
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	if !rep.Clean(false) {
		t.Errorf("the disk is not sound:\n%s", Text(rep))
	}
	return rep
}

// CheckStrict is Check for disks that nobody but us has written to: nothing may be leaked either.
func CheckStrict(t testing.TB, dev blkdev.Device) *check.Report {
	t.Helper()
	rep := Check(t, dev)
	if rep.Clean(false) && rep.Found[check.Leak] > 0 {
		t.Errorf("the disk has leaks:\n%s", Text(rep))
	}
	return rep
}

// Text is the report for a test's log.
func Text(rep *check.Report) string {
	var b bytes.Buffer
	rep.WriteText(&b) // a buffer takes everything
	return b.String()
}
