package blkdev_test

import (
	"path/filepath"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkdev/blkdevtest"
)

func TestFileIsADevice(t *testing.T) {
	blkdevtest.TestDevice(t, func(t testing.TB, size int64) blkdev.Device {
		f, err := blkdev.CreateFile(filepath.Join(t.TempDir(), "disk"), size)
		if err != nil {
			t.Fatal(err)
		}
		return f
	})
}

func TestMemIsADevice(t *testing.T) {
	blkdevtest.TestDevice(t, func(t testing.TB, size int64) blkdev.Device { return blkdev.NewMem(size) })
}

// A clone shares everything with its origin and must not show it.
func TestCloneIsADevice(t *testing.T) {
	blkdevtest.TestDevice(t, func(t testing.TB, size int64) blkdev.Device {
		origin := blkdev.NewMem(size)
		p := make([]byte, size)
		for i := range p {
			p[i] = 0x5a
		}
		if _, err := origin.WriteAt(p, 0); err != nil {
			t.Fatal(err)
		}
		before := origin.Clone()
		t.Cleanup(func() {
			if same, off := origin.Equal(before); !same {
				t.Errorf("the origin changed at byte %d", off)
			}
		})
		return origin.Clone()
	})
}

func TestCrashIsADevice(t *testing.T) {
	blkdevtest.TestDevice(t, func(t testing.TB, size int64) blkdev.Device {
		c := blkdev.NewCrash(blkdev.NewMem(size))
		t.Cleanup(func() {
			tr := c.Trace()
			m, err := tr.State(tr.All(tr.Len()))
			if err != nil {
				t.Fatal(err)
			}
			if same, off := m.Equal(c.Image()); !same {
				t.Errorf("trace and device differ at byte %d", off)
			}
		})
		return c
	})
}

func TestFaultIsADevice(t *testing.T) {
	blkdevtest.TestDevice(t, func(t testing.TB, size int64) blkdev.Device { return blkdev.NewFault(blkdev.NewMem(size)) })
}
