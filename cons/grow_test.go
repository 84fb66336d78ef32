package cons_test

import (
	"encoding/json"
	"strings"
	"testing"

	"gefs9p/internal/gefstest"
)

// TestGrow grows a disk into what its device has gained, and makes a file larger itself.
func TestGrow(t *testing.T) {
	c, dev, _ := newConsole(t)
	write(t, c.FS, "", "f", []byte("text"))
	before := dev.Clone()
	for line, says := range map[string]string{
		"grow":       "grow: new arenas too small",
		"grow 130M":  "must have at least",
		"grow 64M":   "cannot shrink",
		"grow 0":     "unknown command 'grow 0' (usage: grow [size])",
		"grow 4GB":   "usage",
		"grow -1":    "usage",
		"shrink":     "shrink: a gefs disk does not shrink",
		"shrink 64M": "copy the files",
	} {
		if out, err := exec(t, c, line); err == nil || !strings.Contains(err.Error(), says) || out != "" {
			t.Errorf("%s: %q, %v; want %q", line, out, err, says)
		}
	}
	if same, at := before.Equal(dev); !same {
		t.Errorf("refused commands have written at %#x", at)
	}
	if err := dev.Enlarge(gefstest.SmallDisk + 80<<20); err != nil {
		t.Fatal(err)
	}
	out := must(t, c, "grow")
	if strings.Count(out, "new arena ") != 4 || !strings.HasPrefix(out, "new arena 8: adding ") {
		t.Errorf("grow: %q", out)
	}
	var said struct {
		Bytes  int64
		Arenas []struct{ Arena, Blocks, Addr int64 }
	}
	if err := json.Unmarshal([]byte(must(t, c, "--json grow 300m")), &said); err != nil {
		t.Fatal(err)
	}
	if said.Bytes != 300<<20 || len(said.Arenas) != 4 || said.Arenas[3].Arena != 15 || said.Arenas[0].Blocks < 1000 {
		t.Errorf("grow 300m: %+v", said)
	}
	if size, _ := dev.Size(); size != 300<<20 {
		t.Errorf("the device has %d bytes", size)
	}
	if df := must(t, c, "df"); !strings.Contains(df, "arena 15: ") {
		t.Errorf("df: %q", df)
	}
	if out := must(t, c, "check"); !strings.HasSuffix(out, "ok\n") {
		t.Errorf("check: %q", out)
	}
	if got := read(t, c.FS, "", "f"); string(got) != "text" {
		t.Errorf("the file has %q", got)
	}
	if err := c.FS.Close(); err != nil {
		t.Fatal(err)
	}
	gefstest.CheckStrict(t, dev)
}
