package cons_test

import (
	"encoding/json"
	"strings"
	"testing"

	"gefs9p/internal/gefstest"
)

func TestTrim(t *testing.T) {
	c, dev, _ := newConsole(t)
	write(t, c.FS, "", "f", []byte("text"))
	for range 2 {
		var said struct{ Trimmed int64 }
		if err := json.Unmarshal([]byte(must(t, c, "--json trim")), &said); err != nil {
			t.Fatal(err)
		}
		if said.Trimmed < gefstest.SmallDisk*9/10 || said.Trimmed > gefstest.SmallDisk {
			t.Errorf("%d bytes were discarded", said.Trimmed)
		}
	}
	if out := must(t, c, "trim"); !strings.HasPrefix(out, "trimmed:\t1") || !strings.HasSuffix(out, " MiB)\n") {
		t.Errorf("trim: %q", out)
	}
	if got := read(t, c.FS, "", "f"); string(got) != "text" {
		t.Errorf("the file has %q", got)
	}
	if err := c.FS.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := exec(t, c, "trim"); err == nil {
		t.Error("a closed disk is trimmed")
	}
	gefstest.CheckStrict(t, dev)
}
