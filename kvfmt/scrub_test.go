package kvfmt

import (
	"errors"
	"testing"
)

func TestScrubRecords(t *testing.T) {
	if k := AppendScrubKey(nil); !IsScrub(k) || CheckKey(k) != nil || IsClear(k) || IsScrub(k[:len(k)-1]) || IsScrub(nil) {
		t.Errorf("key %q", k)
	}
	for _, s := range []Scrub{{}, {true, 1 << 40, 2, 3, 4, 5, 6, "2.7.00ff"}} {
		got, err := GetScrub(s.Append(nil))
		if err != nil || got != s {
			t.Errorf("%+v becomes %+v, %v", s, got, err)
		}
	}
	good := Scrub{Rate: 1, Mark: "0.0."}.Append(nil)
	for name, bad := range map[string][]byte{
		"empty":    nil,
		"short":    good[:scrubHead-1],
		"long":     append(good, make([]byte, ScrubMark)...),
		"version":  append([]byte{2}, good[1:]...),
		"flags":    append([]byte{1, 2}, good[2:]...),
		"negative": append([]byte{1, 0, 0xff}, good[3:]...),
	} {
		if s, err := GetScrub(bad); !errors.Is(err, ErrValue) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}
