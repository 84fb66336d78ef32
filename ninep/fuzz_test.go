package ninep

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

// FuzzDecode: no bytes make Decode panic, what it refuses it refuses with a DecodeError inside the
// frame, and what it accepts encodes to the same bytes.
func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 2 {
		for _, m := range randMessages(r) {
			b, err := Append(nil, m)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, Twrite, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.Clone(b)
		var fc Fcall
		err := fc.Decode(b)
		if !bytes.Equal(in, b) {
			t.Fatal("Decode changed the frame")
		}
		if err != nil {
			var de *DecodeError
			if !errors.As(err, &de) || de.Off > len(b) || de.Err == nil {
				t.Fatalf("error %#v for %d bytes", err, len(b))
			}
			return
		}
		again, err := Append(nil, fc.Msg())
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("%s\nwas   %x\nagain %x, %v", Format(fc.Msg()), b, again, err)
		}
	})
}

// FuzzDecodeDirs: the same for the records of a directory.
func FuzzDecodeDirs(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	var b []byte
	for range 3 {
		d := randDir(r)
		b, _ = d.Append(b)
		f.Add(b)
	}
	f.Add([]byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		dirs, err := DecodeDirs(b)
		var again []byte
		for i := range dirs {
			a, aerr := dirs[i].Append(again)
			if errors.Is(aerr, ErrTooLong) && dirs[i].Size() > 0xffff {
				return // can stand in a directory, not in an Rstat
			}
			if aerr != nil {
				t.Fatal(aerr)
			}
			again = a
		}
		if !bytes.HasPrefix(b, again) || err == nil && len(again) != len(b) {
			t.Fatalf("was   %x\nagain %x, %v", b, again, err)
		}
	})
}
