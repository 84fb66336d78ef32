package kvfmt

import (
	"errors"
	"math"
	"reflect"
	"testing"

	"gefs9p/blkfmt"
)

func TestQuotaRecords(t *testing.T) {
	for _, q := range []Quota{
		{Label: "main", Limit: Use{640, 0}},
		{Label: "a b", Who: EachUser, Limit: Use{0, 7}},
		{Label: "main", Who: UserWho(-1), Limit: Use{math.MaxInt64, math.MaxInt64}},
		{Label: "main", Who: UserWho(math.MinInt32)},
	} {
		k := q.AppendKey(nil)
		got, err := GetQuota(k, q.AppendValue(nil))
		if err != nil || got != q || !IsQuota(k) || !IsOwn(k) || CheckKey(k) != nil {
			t.Errorf("%+v becomes %+v, %v", q, got, err)
		}
	}
	good := Quota{Label: "main", Limit: Use{1, 2}}
	val := good.AppendValue(nil)
	for name, bad := range map[string]struct {
		key string
		val []byte
		err error
	}{
		"no label":       {"gefs9p.quota./1", val, ErrKey},
		"no slash":       {"gefs9p.quota.main", val, ErrKey},
		"name of a user": {"gefs9p.quota.main/glenda", val, ErrKey},
		"leading zero":   {"gefs9p.quota.main/01", val, ErrKey},
		"user too large": {"gefs9p.quota.main/2147483648", val, ErrKey},
		"other key":      {"gefs9p.scrub", val, ErrValue},
		"empty":          {"gefs9p.quota.main/", nil, ErrValue},
		"short":          {"gefs9p.quota.main/", val[:16], ErrValue},
		"version":        {"gefs9p.quota.main/", append([]byte{2}, val[1:]...), ErrValue},
		"negative":       {"gefs9p.quota.main/", Quota{Limit: Use{-1, 0}}.AppendValue(nil), ErrValue},
	} {
		if q, err := GetQuota(AppendConfKey(nil, bad.key), bad.val); !errors.Is(err, bad.err) {
			t.Errorf("%s: %+v, %v", name, q, err)
		}
	}
}

func TestUsedRecords(t *testing.T) {
	u := Used{Root: blkfmt.Bptr{Addr: 1 << 20, Hash: 77, Gen: 9}, Ht: 3, Total: Use{5, 6}}
	if got, err := GetUsed(u.Append(nil)); err != nil || got != u {
		t.Errorf("%+v becomes %+v, %v", u, got, err)
	}
	for _, bad := range [][]byte{nil, u.Append(nil)[1:], append([]byte{2}, u.Append(nil)[1:]...), append(u.Append(nil), 0)} {
		if got, err := GetUsed(bad); !errors.Is(err, ErrValue) {
			t.Errorf("%x: %+v, %v", bad, got, err)
		}
	}
	for _, k := range []UsedKey{{Label: "main"}, {Label: "main", Users: true, Page: 0x0fffffff}, {Label: "x", Users: true}} {
		key := k.AppendKey(nil)
		if got, ok := GetUsedKey(key); !ok || got != k || CheckKey(key) != nil || !IsOwn(key) {
			t.Errorf("%+v becomes %+v, %v", k, got, ok)
		}
	}
	for _, bad := range []string{"gefs9p.used.", "gefs9p.used./00000000", "gefs9p.used.main/1", "gefs9p.used.main/0000000G", "gefs9p.quota.main/"} {
		if got, ok := GetUsedKey(AppendConfKey(nil, bad)); ok {
			t.Errorf("%s: %+v", bad, got)
		}
	}
}

func TestRecordsOfUsers(t *testing.T) {
	list := []UserUse{{16, Use{1, 1}}, {17, Use{0, 3}}, {31, Use{1 << 40, 1}}}
	if got, err := GetUsers(1, AppendUsers(nil, list)); err != nil || !reflect.DeepEqual(got, list) {
		t.Errorf("%v becomes %v, %v", list, got, err)
	}
	all := []UserUse{}
	for id := int32(-16); id < 0; id++ {
		all = append(all, UserUse{id, Use{2, 1}})
	}
	val := AppendUsers(nil, all)
	if got, err := GetUsers(PageOf(-1), val); err != nil || len(got) != UsedPage || len(val) > ValMax {
		t.Errorf("%d users in %d bytes, %v", len(got), len(val), err)
	}
	for name, bad := range map[string][]byte{
		"nobody":        nil,
		"cut":           val[1:],
		"another page":  AppendUsers(nil, []UserUse{{32, Use{1, 1}}}),
		"twice":         AppendUsers(nil, []UserUse{{16, Use{1, 1}}, {16, Use{1, 1}}}),
		"order":         AppendUsers(nil, []UserUse{{17, Use{1, 1}}, {16, Use{1, 1}}}),
		"nothing":       AppendUsers(nil, []UserUse{{16, Use{}}}),
		"one too many":  append(AppendUsers(nil, all), val[:20]...),
		"half an entry": AppendUsers(nil, list)[:30],
	} {
		if got, err := GetUsers(1, bad); !errors.Is(err, ErrValue) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestUseOfAFile(t *testing.T) {
	for _, tt := range []struct {
		d    Dir
		want Use
	}{
		{Dir{}, Use{0, 1}},
		{Dir{Length: 1}, Use{1, 1}},
		{Dir{Length: blkfmt.BlkSize}, Use{1, 1}},
		{Dir{Length: blkfmt.BlkSize + 1}, Use{2, 1}},
		{Dir{Length: math.MaxUint64}, Use{math.MaxUint64/blkfmt.BlkSize + 1, 1}},
		{Dir{Length: 5 << 20, Mode: 1 << 31}, Use{0, 1}},
	} {
		if got := UseOf(&tt.d); got != tt.want {
			t.Errorf("%+v uses %+v, want %+v", tt.d, got, tt.want)
		}
	}
	if !IsRoot(AppendEntKey(nil, RootPqid, "")) || IsRoot(AppendEntKey(nil, 3, "")) || IsRoot(AppendUpKey(nil, RootPqid)) || IsRoot(nil) {
		t.Error("what is the entry of a root is not told from others")
	}
}
