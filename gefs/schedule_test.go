package gefs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/ninep"
)

func TestParseSchedule(t *testing.T) {
	for _, tt := range []struct {
		in, want string
	}{
		{"60@m 24@h @d", "[{minute 1m0s 60} {hour 1h0m0s 24} {day 24h0m0s 0}]"},
		{"", "[]"},
		{" \t ", "[]"},
		{"7@2d", "[{day 48h0m0s 7}]"},
		{"1@m 2@m", "[{minute 1m0s 2}]"},
		{"0@h", "[{hour 1h0m0s 0}]"},
	} {
		s, err := ParseSchedule(tt.in)
		if got := fmt.Sprint(s); err != nil || got != tt.want {
			t.Errorf("ParseSchedule(%q) = %v, %v, want %v", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []string{"60", "60@", "@x", "@", "-1@m", "1000001@m", "99999999999999999999@m", "@0m", "@-1m", "1@1.5h", "m", "@99999999999d"} {
		if s, err := ParseSchedule(in); err == nil {
			t.Errorf("ParseSchedule(%q) = %v, want an error", in, s)
		} else if !strings.Contains(err.Error(), "invalid time spec") {
			t.Errorf("ParseSchedule(%q): %v", in, err)
		}
	}
}

// autoLabels returns the times of the automatic snapshots of main with the tag, oldest first.
func autoLabels(fs *FS, tag string) []string {
	var list []string
	for _, l := range fs.forest.Labels() {
		if s, ok := strings.CutPrefix(l.Name, "main@"+tag+"."); ok {
			list = append(list, s)
		}
	}
	return list
}

func TestScheduledSnapshots(t *testing.T) {
	dev := blkdev.NewMem(140 << 20)
	if err := Ream(dev, ReamOptions{User: "glenda"}); err != nil {
		t.Fatal(err)
	}
	var fs *FS
	var s *scheduler
	var release func()
	open := func() {
		var err error
		if fs, err = Open(dev, Options{}); err != nil {
			t.Fatal(err)
		}
		s = &scheduler{last: make(map[string]time.Time)}
		c, end := fs.Background()
		root, _, err := fs.Attach(c, ninep.AttachArgs{Uname: "glenda"})
		if err != nil {
			t.Fatal(err)
		}
		end()
		release = func() {
			c, end := fs.Background()
			root.Clunk(c)
			end()
			if err := fs.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	open()
	conf := func(label, val string) {
		t.Helper()
		c, end := fs.Background()
		defer end()
		if err := fs.SetConf(c, label, RetainKey, val); err != nil {
			t.Fatal(err)
		}
	}
	want := func(tag string, times ...string) {
		t.Helper()
		if got := autoLabels(fs, tag); !slices.Equal(got, times) {
			t.Fatalf("%s snapshots are %q, want %q", tag, got, times)
		}
	}
	at := func(clock string) {
		now, err := time.Parse(stamp, clock)
		if err != nil {
			t.Fatal(err)
		}
		fs.runSchedules(s, now)
	}

	conf("", "3@m 2@2h")
	at("2026.03.01_10:00:03")
	want("minute", "2026.03.01_10:00:03")
	want("hour", "2026.03.01_10:00:03")
	at("2026.03.01_10:00:58")
	want("minute", "2026.03.01_10:00:03")
	at("2026.03.01_10:01:01")
	at("2026.03.01_10:02:00")
	at("2026.03.01_10:03:59")
	want("minute", "2026.03.01_10:01:01", "2026.03.01_10:02:00", "2026.03.01_10:03:59")
	want("hour", "2026.03.01_10:00:03")

	// A restart neither loses nor doubles one.
	release()
	open()
	at("2026.03.01_10:03:59")
	want("minute", "2026.03.01_10:01:01", "2026.03.01_10:02:00", "2026.03.01_10:03:59")

	// A clock that goes back makes none until its next period.
	at("2026.03.01_09:30:10")
	at("2026.03.01_09:30:50")
	want("minute", "2026.03.01_10:01:01", "2026.03.01_10:02:00", "2026.03.01_10:03:59")
	// One that jumps ahead makes one, not all it missed.
	at("2026.03.08_10:00:00")
	at("2026.03.08_10:00:01")
	want("minute", "2026.03.01_10:02:00", "2026.03.01_10:03:59", "2026.03.08_10:00:00")
	want("hour", "2026.03.01_10:00:03", "2026.03.08_10:00:00")

	// A changed schedule holds at once; that of the snapshot before that of the disk.
	conf("main", "1@m")
	at("2026.03.08_10:00:02")
	want("minute", "2026.03.08_10:00:00")
	want("hour", "2026.03.01_10:00:03", "2026.03.08_10:00:00")
	at("2026.03.08_12:00:00")
	want("hour", "2026.03.01_10:00:03", "2026.03.08_10:00:00")
	conf("main", "")
	at("2026.03.09_12:00:00")
	want("minute", "2026.03.08_12:00:00")

	// What does not parse is refused when it is set.
	c, end := fs.Background()
	for _, bad := range []string{"1@y", "x"} {
		if err := fs.SetConf(c, "main", RetainKey, bad); err == nil {
			t.Errorf("retain was set to %q", bad)
		}
	}
	end()
	release()
}
