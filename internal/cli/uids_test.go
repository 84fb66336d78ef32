package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUidsAreReadAsPasswdHasThem(t *testing.T) {
	m, err := parseUids([]byte("# comment\nroot:x:0:0:root:/root:/bin/sh\n\nglenda:x:1000:1000::/usr/glenda:/bin/rc\nsame::1000\n+::::::\nglenda:x:7"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint32{"root": 0, "glenda": 1000, "same": 1000} {
		if n, ok := m.Number(name); !ok || n != want {
			t.Errorf("%s: %d %t", name, n, ok)
		}
	}
	for id, want := range map[uint32]string{0: "root", 1000: "glenda", 7: "glenda", 8: ""} {
		if name, ok := m.Name(id); name != want || ok != (want != "") {
			t.Errorf("%d: %q %t", id, name, ok)
		}
	}
	for text, want := range map[string]string{
		"a:b":                      "line 1: want name",
		"\n:x:1":                   "line 2: want name",
		"a:x:-1":                   "no number",
		"a:x:4294967295":           "no number",
		"a:x:4294967296":           "no number",
		"a:x:":                     "no number",
		strings.Repeat("x", 70000): "too long",
	} {
		if _, err := parseUids([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %s", text, err, want)
		}
	}
}

func TestNoUidsIsNoMap(t *testing.T) {
	for _, name := range []string{"", "none"} {
		if m, err := readUids(name); m != nil || err != nil {
			t.Errorf("%q: %v, %v", name, m, err)
		}
	}
	if _, err := readUids(filepath.Join(t.TempDir(), "nothing")); err == nil || !strings.Contains(err.Error(), "--uids") {
		t.Errorf("a file that is not there: %v", err)
	}
	file := filepath.Join(t.TempDir(), "uids")
	if err := os.WriteFile(file, []byte("glenda::1234\n"), 0600); err != nil {
		t.Fatal(err)
	}
	m, err := readUids(file)
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := m.Number("glenda"); !ok || n != 1234 {
		t.Errorf("glenda: %d %t", n, ok)
	}
}
