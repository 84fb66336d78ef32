package cli

import (
	"os"
	"path/filepath"
	"testing"
)

func TestKeyFileIsRawOrHexadecimal(t *testing.T) {
	want := [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, '\n'}
	const hex = "000102030405060708090a0b0c0d0e0a"
	for _, tt := range []struct {
		name, content string
		ok            bool
	}{
		{"raw", string(want[:]), true}, // its last byte is the key's, not a line's end
		{"hex", hex, true},
		{"line", hex + "\n", true},
		{"Windows line", hex + "\r\n", true},
		{"upper case", "000102030405060708090A0B0C0D0E0A", true},
		{"empty", "", false},
		{"short", string(want[:15]), false},
		{"long", string(want[:]) + "x", false},
		{"short hex", hex[:31], false},
		{"long hex", hex + "00", false},
		{"no hex", hex[:31] + "g", false},
		{"two lines", hex + "\n" + hex + "\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			key, err := readKey(path)
			if (err == nil) != tt.ok {
				t.Fatalf("error %v", err)
			}
			if tt.ok && *key != want {
				t.Errorf("key is %x, want %x", *key, want)
			}
		})
	}
}

func TestKeyFileWithoutAnEndIsRefused(t *testing.T) {
	if _, err := os.Stat("/dev/zero"); err != nil {
		t.Skip("no /dev/zero here")
	}
	if _, err := readKey("/dev/zero"); err == nil {
		t.Error("/dev/zero is a key file")
	}
	if _, err := readKey(t.TempDir()); err == nil {
		t.Error("a folder is a key file")
	}
}
