package kvfmt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"

	"gefs9p/blkfmt"
)

// The records of quotas stand in the snapshot tree, as configuration values that the reference does not know and
// leaves alone.
//
// A Quota is a limit of what the files of a label may use:
//
//	key    Kconf "gefs9p.quota." label "/" who
//	value  version[1]=1 blocks[8] files[8]
//
// who is empty for the label itself, "*" for each user who has no limit of his own, or a user's id in decimal.
//
// A Used says how much the files of a label use, as the state with this root has it. A label whose root is
// another one was changed by a server that does not count:
//
//	key    Kconf "gefs9p.used." label
//	value  version[1]=1 ht[4] root[24] blocks[8] files[8]
//
// Beside it stands what each user has of that, for 16 neighbouring ids in a record:
//
//	key    Kconf "gefs9p.used." label "/" (id shifted right by 4, in 8 hexadecimal digits)
//	value  as often as there are users with files, in the order of their ids: id[4] blocks[8] files[8]
type Quota struct {
	Label string
	Who   string
	Limit Use
}

// A Use is a number of blocks, of which a file has as many as its length asks for, and of files, directories
// included.
type Use struct{ Blocks, Files int64 }

// Add adds o to u.
func (u *Use) Add(o Use) { u.Blocks, u.Files = u.Blocks+o.Blocks, u.Files+o.Files }

// Neg returns -u.
func (u Use) Neg() Use { return Use{-u.Blocks, -u.Files} }

// IsZero reports whether u is nothing.
func (u Use) IsZero() bool { return u == Use{} }

// UseOf returns what the file with the entry d uses.
func UseOf(d *Dir) Use {
	if d.Mode&(1<<31) != 0 {
		return Use{Files: 1}
	}
	n := d.Length / blkfmt.BlkSize
	if d.Length%blkfmt.BlkSize != 0 {
		n++
	}
	return Use{Blocks: int64(n), Files: 1}
}

// IsRoot reports whether key is that of the entry of a root directory, which is no file of anybody's.
func IsRoot(key []byte) bool {
	return len(key) > EntPrefix && key[0] == Kent && binary.BigEndian.Uint64(key[1:]) == RootPqid
}

// A Used is the record of what a label uses.
type Used struct {
	Root  blkfmt.Bptr
	Ht    int32
	Total Use
}

// A UserUse is what one user has of it.
type UserUse struct {
	Uid int32
	Use
}

const (
	quotaPrefix = ownPrefix + "quota."
	usedPrefix  = ownPrefix + "used."

	// EachUser is the Who of a Quota for each user who has no limit of his own.
	EachUser = "*"
	// UsedPage is how many users a record of Useds has room for.
	UsedPage = 16

	useSize   = 16
	quotaSize = 1 + useSize
	usedSize  = 1 + 4 + blkfmt.PtrSize + useSize
	userSize  = 4 + useSize
)

func (u Use) append(p []byte) []byte {
	p = binary.BigEndian.AppendUint64(p, uint64(u.Blocks))
	return binary.BigEndian.AppendUint64(p, uint64(u.Files))
}

func getUse(p []byte) Use {
	return Use{int64(binary.BigEndian.Uint64(p)), int64(binary.BigEndian.Uint64(p[8:]))}
}

// AppendQuotaPrefix appends the prefix that the keys of all Quotas share.
func AppendQuotaPrefix(p []byte) []byte { return AppendConfKey(p, quotaPrefix) }

// AppendUsedPrefix appends the prefix that the keys of all Useds share.
func AppendUsedPrefix(p []byte) []byte { return AppendConfKey(p, usedPrefix) }

// IsQuota reports whether key is that of a Quota.
func IsQuota(key []byte) bool {
	return len(key) > 0 && key[0] == Kconf && bytes.HasPrefix(key[1:], []byte(quotaPrefix))
}

// AppendKey appends the record's key; Limit does not count.
func (q Quota) AppendKey(p []byte) []byte {
	return append(append(append(AppendQuotaPrefix(p), q.Label...), '/'), q.Who...)
}

// AppendValue appends the record's value.
func (q Quota) AppendValue(p []byte) []byte { return q.Limit.append(append(p, 1)) }

// Uid returns the id of the user that the limit is for. ok is false if it is for the label, or for each user.
func (q Quota) Uid() (id int32, ok bool) {
	n, err := strconv.ParseInt(q.Who, 10, 32)
	return int32(n), err == nil
}

// UserWho is the Who of a Quota for the user.
func UserWho(uid int32) string { return strconv.Itoa(int(uid)) }

// GetQuota decodes a Quota, strictly.
func GetQuota(key, val []byte) (q Quota, err error) {
	if !IsQuota(key) || len(val) != quotaSize || val[0] != 1 {
		return q, fmt.Errorf("%w: record of a quota, %.100q = %.40x", ErrValue, key, val)
	}
	name := key[1+len(quotaPrefix):]
	i := bytes.LastIndexByte(name, '/')
	if i <= 0 {
		return q, fmt.Errorf("%w: record of a quota, key %.100q", ErrKey, key)
	}
	q.Label, q.Who, q.Limit = string(name[:i]), string(name[i+1:]), getUse(val[1:])
	if id, ok := q.Uid(); q.Who != "" && q.Who != EachUser && (!ok || UserWho(id) != q.Who) {
		return Quota{}, fmt.Errorf("%w: record of a quota, key %.100q", ErrKey, key)
	}
	if q.Limit.Blocks < 0 || q.Limit.Files < 0 {
		return Quota{}, fmt.Errorf("%w: record of a quota, limits %d and %d", ErrValue, q.Limit.Blocks, q.Limit.Files)
	}
	return q, nil
}

// A UsedKey is what the key of a Used says, or, with Users, of a record of users.
type UsedKey struct {
	Label string
	Users bool
	Page  uint32 // of the users, see PageOf
}

// PageOf returns in which record of its label a user stands.
func PageOf(uid int32) uint32 { return uint32(uid) / UsedPage }

// AppendKey appends the key.
func (k UsedKey) AppendKey(p []byte) []byte {
	p = append(AppendUsedPrefix(p), k.Label...)
	if k.Users {
		p = fmt.Appendf(p, "/%08x", k.Page)
	}
	return p
}

// GetUsedKey decodes a key, strictly. ok is false for keys of other records.
func GetUsedKey(key []byte) (k UsedKey, ok bool) {
	if len(key) == 0 || key[0] != Kconf || !bytes.HasPrefix(key[1:], []byte(usedPrefix)) {
		return k, false
	}
	k.Label = string(key[1+len(usedPrefix):])
	if i := bytes.LastIndexByte(key[1+len(usedPrefix):], '/'); i >= 0 {
		n, err := strconv.ParseUint(k.Label[i+1:], 16, 32)
		if err != nil {
			return k, false
		}
		k = UsedKey{Label: k.Label[:i], Users: true, Page: uint32(n)}
	}
	return k, k.Label != "" && bytes.Equal(k.AppendKey(nil), key)
}

// Append appends the record's value.
func (u Used) Append(p []byte) []byte {
	p = binary.BigEndian.AppendUint32(append(p, 1), uint32(u.Ht))
	return u.Total.append(u.Root.Append(p))
}

// GetUsed decodes the value of a Used, strictly.
func GetUsed(val []byte) (u Used, err error) {
	if len(val) != usedSize || val[0] != 1 {
		return u, fmt.Errorf("%w: record of what is used, %.80x", ErrValue, val)
	}
	u.Ht = int32(binary.BigEndian.Uint32(val[1:]))
	u.Root = blkfmt.GetPtr(val[5:])
	u.Total = getUse(val[5+blkfmt.PtrSize:])
	return u, nil
}

// AppendUsers appends the value of a record of users, who are in the order of their ids.
func AppendUsers(p []byte, list []UserUse) []byte {
	for _, u := range list {
		p = u.append(binary.BigEndian.AppendUint32(p, uint32(u.Uid)))
	}
	return p
}

// GetUsers decodes the record of users of a page, strictly.
func GetUsers(page uint32, val []byte) (list []UserUse, err error) {
	if len(val) == 0 || len(val)%userSize != 0 || len(val) > UsedPage*userSize {
		return nil, fmt.Errorf("%w: record of users of %d bytes", ErrValue, len(val))
	}
	for ; len(val) > 0; val = val[userSize:] {
		u := UserUse{int32(binary.BigEndian.Uint32(val)), getUse(val[4:])}
		if PageOf(u.Uid) != page || len(list) > 0 && uint32(list[len(list)-1].Uid) >= uint32(u.Uid) || u.IsZero() {
			return nil, fmt.Errorf("%w: record %08x of users has the user %d", ErrValue, page, u.Uid)
		}
		list = append(list, u)
	}
	return list, nil
}
