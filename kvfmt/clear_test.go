package kvfmt

import "testing"

func TestClearRecordRoundTrip(t *testing.T) {
	want := Clear{Qid: 0x1234, Gen: 77, From: 16384, To: 1 << 40}
	key, val := want.AppendKey(nil), want.AppendValue(nil)
	got, err := GetClear(key, val)
	if err != nil || got != want {
		t.Fatalf("got %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range [][2][]byte{
		{key[:len(key)-1], val}, {append(key[:len(key):len(key)], '0'), val}, {key, val[:23]},
		{AppendConfKey(nil, "retain"), val}, {AppendConfKey(nil, "gefs9p.clear.000000000000123X"), val}, {nil, val},
	} {
		if _, err := GetClear(bad[0], bad[1]); err == nil {
			t.Errorf("GetClear(%q, %x) took it", bad[0], bad[1])
		}
	}
}
