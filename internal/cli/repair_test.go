package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/blkfmt"
	"gefs9p/check"
	"gefs9p/gefs"
	"gefs9p/internal/golden"
)

// reportOf checks the disk in a file.
func reportOf(t *testing.T, disk string) *check.Report {
	t.Helper()
	js, errs, _ := command("check", "--json", disk)
	var rep check.Report
	if err := json.Unmarshal([]byte(js), &rep); err != nil {
		t.Fatalf("%v; %s", err, errs)
	}
	return &rep
}

// TestRepairGivesLeakedBlocksBack that the reference has lost.
func TestRepairGivesLeakedBlocksBack(t *testing.T) {
	disk := golden.Image(t, "crash").File(t)
	before := reportOf(t, disk)
	if before.Counts.Leaked == 0 {
		t.Fatal("nothing is leaked")
	}
	out, errs, code := command("check", "--repair", disk)
	if code != exitCheckRepaired || errs != "" || !strings.Contains(out, "leaked blocks are free\n") || !strings.HasSuffix(out, "0 fatal, 0 errors, 0 leaks, 0 notes\n") {
		t.Errorf("exit code %d, %s%s", code, out, errs)
	}
	after := reportOf(t, disk)
	if after.Counts.Leaked != 0 || after.Counts.Data != before.Counts.Data || !after.Clean(true) || after.Counts.Free < before.Counts.Free+before.Counts.Leaked-100 {
		t.Errorf("before %+v\nafter %+v", before.Counts, after.Counts)
	}
	// Once is enough.
	if out, errs, code := command("check", "--repair", disk); code != 0 || !strings.HasSuffix(out, "repair: nothing that can be repaired safely\n") {
		t.Errorf("again: exit code %d, %s%s", code, out, errs)
	}
}

// TestRepairHealsWhatIsThereTwice and an allocation log, which can be found out; the report says before what
// opening the disk would do.
func TestRepairHealsWhatIsThereTwice(t *testing.T) {
	for _, tt := range []struct {
		name  string
		where func(rep *check.Report) int64
		opens string
		says  string
	}{
		{"superblock", func(*check.Report) int64 { return 0 }, "makes both copies", "repaired: 1 superblocks"},
		{"backup", func(rep *check.Report) int64 { return int64(blkfmt.BackupAddr(rep.Size)) }, "makes both copies", "repaired: 1 superblocks"},
		{"header", func(rep *check.Report) int64 { return int64(rep.Arenas[1].Header) }, "makes both copies", "repaired: 1 superblocks"},
		{"its copy", func(rep *check.Report) int64 { return int64(rep.Arenas[1].Header) + blkfmt.BlkSize }, "makes both copies", "repaired: 1 superblocks"},
		{"log", func(rep *check.Report) int64 { return int64(rep.Arenas[2].Header) + blkfmt.ArenaOverhead },
			"the free ranges of arena 2 are found again from all trees", "repaired: the free ranges of arena 2, from all trees"},
	} {
		disk := newDisk(t)
		damage(t, disk, tt.where(reportOf(t, disk)), bytes.Repeat([]byte("junk"), 100))
		if rep := reportOf(t, disk); !strings.Contains(rep.Opening, tt.opens) {
			t.Errorf("%s: opening the disk: %q", tt.name, rep.Opening)
		}
		out, errs, code := command("check", "--repair", disk)
		if code != exitCheckRepaired || !strings.Contains(out, tt.says) || !strings.Contains(out, "opening the disk: ") {
			t.Errorf("%s: exit code %d, %s%s", tt.name, code, out, errs)
		}
		if rep := reportOf(t, disk); !rep.Clean(true) || rep.Found[check.Note] != 0 || rep.Opening != "" {
			t.Errorf("%s: after the repair %+v", tt.name, rep.Problems)
		}
	}
}

// TestRepairInventsNothing: a file that has lost a block stays reported.
func TestRepairInventsNothing(t *testing.T) {
	disk := newDisk(t)
	image, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	damage(t, disk, int64(bytes.Index(image, []byte("glenda:glenda"))), []byte("G"))
	damage(t, disk, 0, make([]byte, 100))
	js, errs, code := command("check", "--repair", "--json", disk)
	var got struct {
		Before, After *check.Report
		Repaired      gefs.Repaired
	}
	if err := json.Unmarshal([]byte(js), &got); err != nil {
		t.Fatal(err, errs)
	}
	if code != exitCheckErrors || got.Repaired.Copies != 1 || got.Before.ByKind[check.SuperBad] != 1 || got.After.ByKind[check.SuperBad] != 0 ||
		got.After.ByKind[check.Corrupt] != 1 || !slices.Equal(got.After.Problems[0].Paths, []string{"adm/users"}) {
		t.Errorf("exit code %d, %+v\n%+v", code, got.Repaired, got.After)
	}
}

// TestRepairRefusesContradictions, and writes nothing then.
func TestRepairRefusesContradictions(t *testing.T) {
	dev := blkdev.NewMem(128<<20 + blkfmt.BlkSize)
	if err := gefs.Ream(dev, gefs.ReamOptions{User: "glenda"}); err != nil {
		t.Fatal(err)
	}
	size, _ := dev.Size()
	rep, err := check.Run(context.Background(), dev, size, check.Options{})
	if err != nil {
		t.Fatal(err)
	}
	before := dev.Clone()
	for _, tt := range []struct {
		name   string
		change func(*check.Report)
	}{
		{"two owners", func(r *check.Report) {
			r.Found[check.Fatal]++
			r.ByKind[check.TwoOwners]++
			r.Problems = append(r.Problems, check.Problem{Kind: check.TwoOwners, Severity: check.Fatal, Text: "twice"})
		}},
		{"another commit", func(r *check.Report) { r.Qgen++ }},
	} {
		r := *rep
		r.ByKind = map[check.Kind]int{}
		tt.change(&r)
		done, err := gefs.Repair(context.Background(), dev, gefs.Options{}, &r)
		if err == nil || !strings.Contains(err.Error(), gefs.ErrNoRepair.Error()) || done.Any() {
			t.Errorf("%s: %+v, %v", tt.name, done, err)
		}
		if same, at := dev.Equal(before); !same {
			t.Errorf("%s: it has written at %#x", tt.name, at)
		}
	}
}
