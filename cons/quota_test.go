package cons_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"gefs9p/cons"
	"gefs9p/gefs"
)

// counted waits until the files of all labels with quotas are counted.
func counted(t *testing.T, c *cons.Console) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); strings.Contains(must(t, c, "quota"), "being counted"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(must(t, c, "quota"))
		}
	}
}

func TestQuotaSetsShowsAndClears(t *testing.T) {
	c, dev, _ := newConsole(t)
	if out := must(t, c, "quota"); out != "" {
		t.Errorf("a new disk has %q", out)
	}
	write(t, c.FS, "main", "f", make([]byte, 100<<10))
	out := must(t, c, "quota set main 10M 100")
	if want := "limited: main to 10485760 (10.00 MiB), 100 files"; !strings.HasPrefix(out, want) {
		t.Errorf("%q, want %q", out, want)
	}
	counted(t, c)
	if out := must(t, c, "quota set main/* 1M"); out != "limited: main/* to 1048576 (1.00 MiB), no limit of files\n" {
		t.Errorf("%q", out)
	}
	must(t, c, "quota set main/none 2M none")
	must(t, c, "quota set main/glenda none 20")
	want := "quota main 114688 (112.00 KiB) of 10485760 (10.00 MiB) 1.09%, 1 files of 100\n" +
		"quota main/* 1048576 (1.00 MiB), no limit of files\n" +
		"quota main/none 0 (0.00 B) of 2097152 (2.00 MiB) 0.00%, 0 files\n" +
		"quota main/glenda 114688 (112.00 KiB), 1 files of 20\n"
	for _, line := range []string{"quota", "quota main"} {
		if out := must(t, c, line); out != want {
			t.Errorf("%s:\n%swant\n%s", line, out, want)
		}
	}
	var got struct{ Quotas []gefs.Quota }
	if err := json.Unmarshal([]byte(must(t, c, "--json quota")), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Quotas) != 1 || got.Quotas[0].State != gefs.QuotaCounted || got.Quotas[0].Used != (gefs.Usage{Bytes: 114688, Files: 1}) ||
		got.Quotas[0].Each.Bytes != 1<<20 || len(got.Quotas[0].Users) != 2 || !got.Quotas[0].Users[1].Own {
		t.Errorf("%+v", got)
	}

	if out := must(t, c, "check"); !strings.HasSuffix(out, "\nok\n") {
		t.Errorf("check: %s", out)
	}
	// What was said is on the disk.
	fs, err := gefs.Open(dev.Clone(), gefs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if out := must(t, &cons.Console{FS: fs}, "quota"); out != want {
		t.Errorf("on the disk:\n%s", out)
	}
	if err := fs.Close(); err != nil {
		t.Error(err)
	}

	if out := must(t, c, "quota clear main/none"); out != "cleared: main/none\n" {
		t.Errorf("%q", out)
	}
	if out := must(t, c, "quota"); strings.Contains(out, "none") {
		t.Errorf("%s", out)
	}
	if out := must(t, c, "quota count main"); out != "counting: main\n" {
		t.Errorf("%q", out)
	}
	counted(t, c)
	must(t, c, "quota clear main")
	if out := must(t, c, "quota"); out != "" {
		t.Errorf("after clear: %s", out)
	}
}

func TestQuotaRefusesWhatMakesNoSense(t *testing.T) {
	c, _, _ := newConsole(t)
	for line, want := range map[string]string{
		"quota main":                "quota: 'main': there is no such quota",
		"quota set main":            "unknown command 'quota set main' (usage: quota ",
		"quota set main lots":       "unknown command 'quota set main lots' (usage: quota ",
		"quota set main 0":          "unknown command 'quota set main 0' (usage: quota ",
		"quota set main 1G 0":       "unknown command 'quota set main 1G 0' (usage: quota ",
		"quota set main 1G -5":      "unknown command 'quota set main 1G -5' (usage: quota ",
		"quota set main/ 1G":        "unknown command 'quota set main/ 1G' (usage: quota ",
		"quota set main 1K":         "quota: a limit of 1024 bytes and 0 files: at least 16384 bytes and 1 file are needed, or 0 for none",
		"quota set main/nosuch 1G":  "quota: 'nosuch': user does not exist",
		"quota set nosuch 1G":       "quota: snap: open 'nosuch': does not exist",
		"quota set empty 1G":        "quota: snap: 'empty': does not change",
		"quota clear main":          "quota: 'main': there is no such quota",
		"quota clear main/glenda":   "quota: 'main': there is no such quota",
		"quota clear main/nosuch":   "quota: 'nosuch': user does not exist",
		"quota clear":               "quota: 'clear': there is no such quota",
		"quota count main":          "quota: 'main': there is no such quota",
		"quota forbid main":         "unknown command 'quota forbid main' (usage: quota ",
		"quota set main 1G 1 1 1 1": "unknown command 'quota set main 1G 1 1 1 1' (usage: quota ",
	} {
		if out, err := exec(t, c, line); err == nil || !strings.HasPrefix(err.Error(), want) || out != "" {
			t.Errorf("%s: %q, %v, want %s", line, out, err, want)
		}
	}
}
