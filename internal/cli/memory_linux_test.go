package cli

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMemoryIsThatOfTheControlGroup(t *testing.T) {
	root := t.TempDir()
	for dir, limit := range map[string]string{
		"":              "",
		"system":        "max\n",
		"system/a":      "1073741824\n",
		"system/a/b":    "max\n",
		"system/a/c":    "2147483648\n",
		"system/broken": "lots\n",
	} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		if limit != "" {
			if err := os.WriteFile(filepath.Join(root, dir, "memory.max"), []byte(limit), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	old := filepath.Join(root, "memory", "old") // of version 1
	if err := os.MkdirAll(old, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(old, "memory.limit_in_bytes"), []byte("67108864\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const total = 8 << 30
	for self, want := range map[string]int64{
		"0::/\n":                                 total,
		"0::/system\n":                           total,
		"0::/system/a\n":                         1 << 30,
		"0::/system/a/b\n":                       1 << 30,
		"0::/system/a/c\n":                       1 << 30,
		"0::/system/broken\n":                    total,
		"0::/../../system/a\n":                   1 << 30, // as seen from another name space
		"0::/gone\n":                             total,
		"4:memory:/system/a\n1:name=systemd:/\n": total, // version 1, not mounted where we look
		"4:memory:/old\n0::/\n":                  64 << 20,
		"4:cpu,memory:/old/gone\n":               64 << 20,
		"4:memoryless:/old\n":                    total,
		"":                                       total,
		"1:name=systemd:/x\n0::/system/a\nrubbish": 1 << 30,
	} {
		if got := groupLimit(root, []byte(self), total); got != want {
			t.Errorf("%q: %d, want %d", self, got, want)
		}
	}
	if memory() < 16<<20 {
		t.Errorf("this machine has %d bytes of memory", memory())
	}
}
