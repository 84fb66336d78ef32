package blkdev_test

import (
	"bytes"
	"errors"
	"io"
	"syscall"
	"testing"

	"gefs9p/blkdev"
)

// try does one operation of a kind on the first 1024 bytes.
func try(d blkdev.Device, op blkdev.Op) error {
	p := make([]byte, 1024)
	var err error
	switch op {
	case blkdev.OpRead:
		_, err = d.ReadAt(p, 0)
	case blkdev.OpWrite:
		_, err = d.WriteAt(p, 0)
	case blkdev.OpSync:
		err = d.Sync()
	case blkdev.OpDiscard:
		err = d.Discard(0, 1024)
	}
	return err
}

func TestRuleFailsTheNthOfItsKind(t *testing.T) {
	kinds := []blkdev.Op{blkdev.OpRead, blkdev.OpWrite, blkdev.OpSync, blkdev.OpDiscard}
	for _, op := range kinds {
		for _, c := range []struct {
			name string
			rule blkdev.Rule
			want string // x fails
		}{
			{"next", blkdev.Rule{Op: op}, "x....."},
			{"third", blkdev.Rule{Op: op, Nth: 3}, "..x..."},
			{"from the third", blkdev.Rule{Op: op, Nth: 3, Forever: true}, "..xxxx"},
			{"all", blkdev.Rule{Op: op, Forever: true}, "xxxxxx"},
		} {
			f := blkdev.NewFault(blkdev.NewMem(1 << 16))
			c.rule.Err = syscall.EIO
			if err := try(f, op); err != nil {
				t.Fatalf("%v without a rule: %v", op, err)
			}
			f.Fail(c.rule)
			got := ""
			for range 6 {
				for _, other := range kinds {
					err := try(f, other)
					switch {
					case other != op && err != nil:
						t.Errorf("%v %s: %v failed too: %v", op, c.name, other, err)
					case other == op && err == nil:
						got += "."
					case other == op && errors.Is(err, syscall.EIO):
						got += "x"
					}
				}
			}
			if got != c.want {
				t.Errorf("%v %s: %s, want %s", op, c.name, got, c.want)
			}
			if n := f.Count(op); n != 7 {
				t.Errorf("%v: counted %d, want 7", op, n)
			}
		}
	}
}

func TestRuleOfARangeLetsOthersPass(t *testing.T) {
	f := blkdev.NewFault(blkdev.NewMem(1 << 16))
	f.Fail(blkdev.Rule{Op: blkdev.OpRead | blkdev.OpWrite, Off: 4096, Len: 512, Forever: true})
	p := make([]byte, 512)
	for off, bad := range map[int64]bool{4096: true, 3585: true, 3584: false, 4607: true, 4608: false, 0: false} {
		_, rerr := f.ReadAt(p, off)
		_, werr := f.WriteAt(p, off)
		verr := f.WriteVec([][]byte{p[:200], p[200:]}, off)
		for op, err := range map[string]error{"read": rerr, "write": werr, "vector": verr} {
			if errors.Is(err, blkdev.ErrInjected) != bad || (err != nil) != bad {
				t.Errorf("%s at %d: %v, want failure: %v", op, off, err, bad)
			}
		}
	}
	f.Heal()
	if _, err := f.ReadAt(p, 4096); err != nil {
		t.Errorf("after Heal: %v", err)
	}
}

func TestShortWriteReachesTheDeviceInPart(t *testing.T) {
	for _, vec := range []bool{false, true} {
		m := blkdev.NewMem(4096)
		f := blkdev.NewFault(m)
		f.Fail(blkdev.Rule{Op: blkdev.OpWrite, Short: 700})
		p := bytes.Repeat([]byte{9}, 1024)
		var err error
		if vec {
			err = f.WriteVec([][]byte{p[:300], nil, p[300:600], p[600:]}, 100)
		} else {
			var n int
			if n, err = f.WriteAt(p, 100); n != 700 {
				t.Errorf("wrote %d", n)
			}
		}
		if !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("vector %v: %v", vec, err)
		}
		want := make([]byte, 4096)
		copy(want[100:], p[:700])
		got := make([]byte, 4096)
		if _, err := m.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("vector %v: the device holds something else than the first 700 bytes", vec)
		}
	}
}

func TestFailedOperationDoesNotReachTheDevice(t *testing.T) {
	m := blkdev.NewMem(4096)
	before := m.Clone()
	crash := blkdev.NewCrash(m)
	f := blkdev.NewFault(crash)
	f.Fail(blkdev.Rule{Op: blkdev.OpWrite | blkdev.OpSync | blkdev.OpDiscard, Forever: true})
	p := bytes.Repeat([]byte{9}, 1024)
	if _, err := f.WriteAt(p, 0); err == nil {
		t.Error("the write did not fail")
	}
	if err := f.WriteVec([][]byte{p}, 0); err == nil {
		t.Error("the vector did not fail")
	}
	if f.Sync() == nil || f.Discard(0, 512) == nil {
		t.Error("Sync or Discard did not fail")
	}
	if same, _ := crash.Image().Equal(before); !same || crash.Len() != 0 {
		t.Errorf("%d events reached the device", crash.Len())
	}
}

func TestShortReadIsNotTheWholeRead(t *testing.T) {
	f := blkdev.NewFault(blkdev.NewMem(4096))
	f.Fail(blkdev.Rule{Op: blkdev.OpRead, Short: 1 << 20, Nth: 2})
	p := make([]byte, 1024)
	if _, err := f.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	if n, err := f.ReadAt(p, 0); n != 1023 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ReadAt = %d, %v; want 1023, ErrUnexpectedEOF", n, err)
	}
}

func TestCorruptionIsSeenByReadersOnly(t *testing.T) {
	m := blkdev.NewMem(8192)
	f := blkdev.NewFault(m)
	f.Corrupt(1000, 3, 0x81)
	want := bytes.Repeat([]byte{0x10}, 8192)
	for range 2 { // writing does not help
		if _, err := f.WriteAt(want, 0); err != nil {
			t.Fatal(err)
		}
		for _, r := range [][2]int{{0, 8192}, {999, 2}, {1001, 1}, {1002, 100}, {1003, 5}, {0, 1000}} {
			got := make([]byte, r[1])
			if _, err := f.ReadAt(got, int64(r[0])); err != nil {
				t.Fatal(err)
			}
			for i, b := range got {
				at := r[0] + i
				if bad := at >= 1000 && at < 1003; (b == 0x91) != bad || (b == 0x10) == bad {
					t.Fatalf("read of %d at %d: byte %d is %#x", r[1], r[0], at, b)
				}
			}
		}
	}
	got := make([]byte, 8192)
	if _, err := m.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Error("the device itself was changed")
	}
	f.Heal()
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Error("still corrupt after Heal")
	}
}

func TestHookSeesEveryOperationAndMayFailIt(t *testing.T) {
	f := blkdev.NewFault(blkdev.NewMem(1 << 16))
	var seen []blkdev.Op
	stop := errors.New("stop")
	f.Hook(func(op blkdev.Op, off, n int64) error {
		seen = append(seen, op)
		if op == blkdev.OpSync {
			return stop
		}
		if off != 0 || n != 1024 {
			t.Errorf("%v of %d bytes at %d", op, n, off)
		}
		return nil
	})
	for _, op := range []blkdev.Op{blkdev.OpRead, blkdev.OpWrite, blkdev.OpDiscard} {
		if err := try(f, op); err != nil {
			t.Errorf("%v: %v", op, err)
		}
	}
	if err := f.Sync(); !errors.Is(err, stop) {
		t.Errorf("Sync: %v", err)
	}
	if len(seen) != 4 || f.Count(blkdev.OpRead|blkdev.OpWrite|blkdev.OpSync|blkdev.OpDiscard) != 4 {
		t.Errorf("hook saw %v", seen)
	}
	f.Hook(nil)
	if err := f.Sync(); err != nil {
		t.Errorf("without the hook: %v", err)
	}
}
