package blkfmt

import (
	"strings"
	"testing"
)

func TestMetroKnownAnswers(t *testing.T) {
	seq := make([]byte, 63)
	for i := range seq {
		seq[i] = byte(i)
	}
	for _, tt := range []struct {
		in   []byte
		want uint64
	}{
		{nil, 0x35d244c2ba0d952f},
		{[]byte("a"), 0xea6a586ea38e2e61},
		{[]byte("ab"), 0x3d64bba71fe7542f},
		{[]byte("abc"), 0x8af9c49d69f1ad94},
		{[]byte("gefs"), 0x6aa61d8c7ba707d5},
		{[]byte("12345678"), 0xbe3e059f9e3d9df0},
		{[]byte("0123456789abcdef"), 0x623b3d33bf7de1d4},
		{[]byte(strings.Repeat("0123456789abcdef", 2)), 0xa8a4500d4462c2da},
		{seq, 0x4ec45dfccc483192},
		{make([]byte, 16384), 0x8d19d8745486446e},
	} {
		if got := (Metro{}).Sum(tt.in); got != tt.want {
			t.Errorf("Metro of %d bytes %.16q: %016x, want %016x", len(tt.in), tt.in, got, tt.want)
		}
	}
}
