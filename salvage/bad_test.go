package salvage_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/salvage"
)

func salvageErr(dev io.ReaderAt, size int64, opt salvage.Options) error {
	_, err := salvage.Run(context.Background(), dev, size, opt)
	return err
}

func TestWhatIsNoGefsDiskIsRefused(t *testing.T) {
	noise := make([]byte, 3<<20+77)
	rnd := rand.NewChaCha8([32]byte{1})
	rnd.Read(noise)
	for name, p := range map[string][]byte{
		"empty":        nil,
		"one byte":     {0},
		"zeros":        make([]byte, 2<<20),
		"random bytes": noise,
		"text":         []byte(strings.Repeat("gefs is no gefs disk\n", 10000)),
	} {
		err := salvageErr(bytes.NewReader(p), int64(len(p)), salvage.Options{})
		var ve *blkfmt.VersionError
		if !errors.Is(err, salvage.ErrNothing) && !(name == "text" && errors.As(err, &ve)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASecretKeyIsAskedForAndTriedBeforeAnythingIsSaid(t *testing.T) {
	key, other := [blkfmt.KeySize]byte{1, 2, 3}, [blkfmt.KeySize]byte{4}
	dev := blkdev.NewMem(gefstest.SmallDisk)
	if err := gefs.Ream(dev, gefs.ReamOptions{User: "glenda", Sip: true, Key: &key}); err != nil {
		t.Fatal(err)
	}
	for _, lost := range []bool{false, true} {
		if lost {
			for _, a := range []blkfmt.Addr{0, blkfmt.BackupAddr(gefstest.SmallDisk)} {
				destroy(dev, rand.New(rand.NewPCG(1, 1)), a)
			}
		}
		if err := salvageErr(dev, gefstest.SmallDisk, salvage.Options{}); !errors.Is(err, blkfmt.ErrNoKey) {
			t.Errorf("superblocks lost %v, without a key: %v", lost, err)
		}
		r, _ := run(t, dev, gefstest.SmallDisk, salvage.Options{Key: &key})
		if len(r.Files) > 0 || len(r.Labels) != 2 || r.Whole() == lost {
			t.Errorf("superblocks lost %v: %s", lost, text(r))
		}
		err := salvageErr(dev, gefstest.SmallDisk, salvage.Options{Key: &other})
		var ce *blkfmt.CorruptError
		if lost && !errors.Is(err, blkfmt.ErrForeignKey) || !lost && !errors.As(err, &ce) && !errors.Is(err, blkfmt.ErrForeignKey) {
			t.Errorf("superblocks lost %v, with another key: %v", lost, err)
		}
	}
}

func TestALabelThatIsNotThereIsRefused(t *testing.T) {
	dev := gefstest.Ream(t)
	if err := salvageErr(dev, gefstest.SmallDisk, salvage.Options{Label: "nothing"}); !errors.Is(err, salvage.ErrNoLabel) {
		t.Error(err)
	}
	r, _ := run(t, dev, gefstest.SmallDisk, salvage.Options{Label: "empty"})
	if len(r.Labels) != 1 || r.Labels[0].Name != "empty" || !r.Whole() {
		t.Error(text(r))
	}
}

func TestATruncatedImageGivesWhatIsInIt(t *testing.T) {
	dev, all := smallDisk(t, 200)
	size, _ := dev.Size()
	for _, part := range []int64{2, 3, 8} {
		cut := dev.Clone()
		cut.Resize(size - size/part + 7)
		r, m := run(t, cut, size-size/part+7, salvage.Options{})
		honest(t, m, all)
		if r.Whole() || len(r.Labels) == 0 || len(right(m, all)) == 0 {
			t.Errorf("without its last %d bytes: %s", size/part, text(r))
		}
	}
}

func TestBlocksThatCannotBeReadAreLost(t *testing.T) {
	r := newRig(t, random(t), gefstest.SmallDisk)
	r.put("a", r.bytes(blkfmt.BlkSize*2))
	r.put("b", r.bytes(blkfmt.BlkSize))
	dev := r.end()
	for _, b := range live(t, dev, false) {
		if b.what != "data" {
			continue
		}
		f := blkdev.NewFault(dev)
		f.Fail(blkdev.Rule{Op: blkdev.OpRead, Forever: true, Off: int64(b.addr), Len: blkfmt.BlkSize})
		rep, m := run(t, f, gefstest.SmallDisk, salvage.Options{})
		honest(t, m, r.all)
		if rep.ReadErrors == 0 || len(rep.Files) != 1 {
			t.Errorf("%s", text(rep))
		}
	}
}

func TestACancelledRunEnds(t *testing.T) {
	dev, _ := smallDisk(t, 60)
	size, _ := dev.Size()
	for _, at := range []string{"trees", "copy"} {
		ctx, cancel := context.WithCancel(context.Background())
		_, err := salvage.Run(ctx, dev, size, salvage.Options{Progress: func(p salvage.Progress) {
			if p.Pass == at {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at %s: %v", at, err)
		}
	}
}

// A file that is the image of a disk has blocks that look like nodes. They are data.
func TestImagesOfDisksInsideAreData(t *testing.T) {
	inner := newRig(t, random(t), gefstest.SmallDisk)
	inner.put("inner-secret", inner.bytes(100))
	in := inner.end()
	r := newRig(t, random(t), gefstest.SmallDisk)
	for i := range 50 {
		r.put("outer"+string(rune('A'+i)), r.bytes(30))
	}
	var image []byte
	for _, b := range live(t, in, true) {
		p := make([]byte, blkfmt.BlkSize)
		if _, err := in.ReadAt(p, int64(b.addr)); err != nil {
			t.Fatal(err)
		}
		image = append(image, p...)
	}
	r.put("disk.img", image)
	dev := r.end()
	for _, b := range live(t, dev, false) {
		if b.what == "data" || b.what == "log" || b.what == "header" {
			continue
		}
		d := dev.Clone()
		destroy(d, r.rnd, b.addr)
		_, m := run(t, d, gefstest.SmallDisk, salvage.Options{})
		honest(t, m, r.all)
		for p := range m.files {
			if strings.Contains(p, "inner-secret") {
				t.Errorf("%s block at %v lost: a file of the inner disk was found: %s", b.what, b.addr, p)
			}
		}
	}
}
