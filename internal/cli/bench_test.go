package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"gefs9p/bench"
)

func TestBenchMeasuresAServer(t *testing.T) {
	disk := newDisk(t)
	l := start(t, 1, "serve", "-m", "16M", disk)
	out, errs, code := command("bench", "--json", "-w", "w3,W10,W11", "--scale", "0.001", "--clients", "4", "--wire", "--ctl", disk+".ctl", l.addrs[0])
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	var rep bench.Report
	if err := json.Unmarshal([]byte(out), &rep); err != nil {
		t.Fatal(err)
	}
	if len(rep.Rows) == 0 || rep.Errors() != 0 || rep.Rows[0].Wire == nil {
		t.Errorf("the report says %+v", rep)
	}
	for _, r := range rep.Rows {
		if wrote := r.ID != "W10"; wrote != (r.Ours.Written > 0) || r.Ours.Ops == 0 {
			t.Errorf("%s: %+v", r.ID, r.Ours)
		}
	}
	if left := must(t, "ctl", "-s", disk, "snap", "-l"); strings.Contains(left, "bench") {
		t.Errorf("after the snapshots of W10:\n%s", left)
	}
	l.stop()
	must(t, "check", "--strict", disk)
	refused(t, t.TempDir(), exitFail, []string{disk}, "bench", disk+".sock")
}

func TestBenchTakesOptions(t *testing.T) {
	l := start(t, 1, "bench", "--null", "tcp!127.0.0.1!0")
	out, errs, code := command("bench", "-w", "W3", "--files", "100", "-c", "2", "-d", "3", "--seed", "7", "--no-verify", l.addrs[0])
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	if !strings.Contains(out, "W3") {
		t.Errorf("bench prints %q", out)
	}
}
