package ninep

import "encoding/binary"

// A UnixFile is a File that understands 9P2000.u. Such connections use it as they use any File, except that
//
//   - stat records have a second part, UnixStat, with numbers for users: StatUnix and WstatUnix are called
//     instead of Stat and Wstat, and reading a directory gives records of UnixDir.Append;
//   - what perm and mode have is that of 9P2000 again: OAPPEND, DMSETUID, DMSETGID and DMSETVTX, which are
//     the client's own business, are taken off by the server. So it is with the mode of a WstatUnix.
//
// Symbolic and hard links, devices, pipes and sockets (DMSYMLINK…) are refused by the server with
// EOPNOTSUPP, as in 9P2000.L.
//
// Sources: the draft "Plan 9 Remote Resource Protocol, Unix Extension" (9P2000.u), and fs/9p of Linux.
type UnixFile interface {
	File

	// StatUnix fills d, which holds leftovers.
	StatUnix(c *Ctx, d *UnixDir) error

	// WstatUnix changes the file. A user or group that has no name in d is meant by its number, unless
	// that is NOUID. See UnixDir.IsNull for the record that means sync.
	WstatUnix(c *Ctx, d *UnixDir) error
}

// Mode bits of 9P2000.u beside those of 9P2000.
const (
	DMSYMLINK   = 1 << 25
	DMLINK      = 1 << 24
	DMDEVICE    = 1 << 23
	DMNAMEDPIPE = 1 << 21
	DMSOCKET    = 1 << 20
	DMSETUID    = 1 << 19
	DMSETGID    = 1 << 18
	DMSETVTX    = 1 << 16

	dmSpecial = DMSYMLINK | DMLINK | DMDEVICE | DMNAMEDPIPE | DMSOCKET // no disk has a place for these
	dmSetID   = DMSETUID | DMSETGID | DMSETVTX
)

// OAPPEND is an open mode of 9P2000.u. The client that sets it knows where the end is, and says so.
const OAPPEND = 128

// A UnixStat is what 9P2000.u adds to a stat record, at its end. The extension is the target of a symbolic
// link, or describes a device; the numbers are those of Linux.
//
//	extension[s] n_uid[4] n_gid[4] n_muid[4]
type UnixStat struct {
	Extension         string
	Nuid, Ngid, Nmuid uint32
}

// unixStatSize is the length of a UnixStat without an extension.
const unixStatSize = 2 + 3*4

// nullUnixStat says nothing.
func nullUnixStat() UnixStat { return UnixStat{Nuid: NOUID, Ngid: NOUID, Nmuid: NOUID} }

// append adds the part to a record; the extension is known to be short enough.
func (u *UnixStat) append(b []byte) []byte {
	b = appendString(b, u.Extension)
	b = binary.LittleEndian.AppendUint32(b, u.Nuid)
	b = binary.LittleEndian.AppendUint32(b, u.Ngid)
	return binary.LittleEndian.AppendUint32(b, u.Nmuid)
}

// A UnixDir is a stat record of 9P2000.u.
type UnixDir struct {
	Dir
	UnixStat
}

// NullUnixDir is NullDir in 9P2000.u.
func NullUnixDir() UnixDir { return UnixDir{NullDir(), nullUnixStat()} }

// IsNull says whether d is the record NullUnixDir returns.
func (d *UnixDir) IsNull() bool { return *d == NullUnixDir() }

// Size is the length of d's record in bytes, as (*Dir).Size.
func (d *UnixDir) Size() int { return d.Dir.Size() + unixStatSize + len(d.Extension) }

// Append adds d's record to b, as (*Dir).Append.
func (d *UnixDir) Append(b []byte) ([]byte, error) {
	return appendDir(b, &d.Dir, d.Name, &d.UnixStat)
}

// AppendNamed is Append with name instead of d's.
func (d *UnixDir) AppendNamed(b, name []byte) ([]byte, error) {
	return appendDir(b, &d.Dir, name, &d.UnixStat)
}

// Decode fills d with the record at the start of b, as (*Dir).Decode.
func (d *UnixDir) Decode(b []byte) (int, error) { return decodeDir(b, &d.Dir, &d.UnixStat) }

// DecodeUnixDirs is DecodeDirs in 9P2000.u.
func DecodeUnixDirs(b []byte) ([]UnixDir, error) {
	return decodeDirs(b, func(d *UnixDir, b []byte) (int, error) { return d.Decode(b) })
}
