package ninep

import (
	"encoding/binary"

	"github.com/knusbaum/go9p/proto"
)

// A Dir is a stat record, what stat(5) says of a file. It is go9p's Stat under a name with methods:
// (*Dir)(&stat) costs nothing.
//
//	size[2] type[2] dev[4] qid[13] mode[4] atime[4] mtime[4] length[8] name[s] uid[s] gid[s] muid[s]
//
// size counts the bytes after itself. Times are seconds since 1970. On the wire Rstat and Twstat put
// one more length[2] before the record; reading a directory gives records without it.
type Dir proto.Stat

// NullDir is a record in which every field says "do not touch"; as a Twstat it asks only for what
// was written to reach the disk. Source: stat(5).
func NullDir() Dir {
	return Dir{
		Type: ^uint16(0), Dev: ^uint32(0),
		Qid:  Qid{Qtype: ^uint8(0), Vers: ^uint32(0), Uid: ^uint64(0)},
		Mode: ^uint32(0), Atime: ^uint32(0), Mtime: ^uint32(0), Length: ^uint64(0),
	}
}

// IsNull says whether d is the record NullDir returns.
func (d *Dir) IsNull() bool { return *d == NullDir() }

// Size is the length of d's record in bytes, its size[2] included. It may be more than a record can
// have, which Append refuses.
func (d *Dir) Size() int {
	return DirSize + len(d.Name) + len(d.Uid) + len(d.Gid) + len(d.Muid)
}

// Append adds d's record to b. It returns b itself and ErrTooLong if the record is longer than its
// size[2], and the one around it, can say.
func (d *Dir) Append(b []byte) ([]byte, error) { return appendDir(b, d, d.Name, nil) }

// AppendNamed is Append with name instead of d's, for who has many names as bytes.
func (d *Dir) AppendNamed(b, name []byte) ([]byte, error) { return appendDir(b, d, name, nil) }

// appendDir appends a record, in 9P2000.u with u.
func appendDir[S string | []byte](b []byte, d *Dir, name S, u *UnixStat) ([]byte, error) {
	n := d.Size() - len(d.Name) + len(name)
	if u != nil {
		n += unixStatSize + len(u.Extension)
	}
	if n > 0xffff { // Rstat's and Twstat's length counts the record's own size[2] too
		return b, ErrTooLong
	}
	le := binary.LittleEndian
	b = le.AppendUint16(b, uint16(n-2))
	b = le.AppendUint16(b, d.Type)
	b = le.AppendUint32(b, d.Dev)
	b = appendQid(b, d.Qid)
	b = le.AppendUint32(b, d.Mode)
	b = le.AppendUint32(b, d.Atime)
	b = le.AppendUint32(b, d.Mtime)
	b = le.AppendUint64(b, d.Length)
	b = le.AppendUint16(b, uint16(len(name)))
	b = append(b, name...)
	b = appendString(b, d.Uid)
	b = appendString(b, d.Gid)
	b = appendString(b, d.Muid)
	if u != nil {
		b = u.append(b)
	}
	return b, nil
}

// Decode fills d with the record at the start of b and returns its length, for the next one to start
// there. On error, a *DecodeError with Off counted from the start of b, d is not to be used.
func (d *Dir) Decode(b []byte) (int, error) { return decodeDir(b, d, nil) }

func decodeDir(b []byte, d *Dir, u *UnixStat) (int, error) {
	n := len(b)
	if n >= 2 {
		n = min(n, 2+int(binary.LittleEndian.Uint16(b)))
	}
	dec := decoder{b: b[:n]}
	dec.dir(d, u)
	if dec.err != nil {
		return 0, &DecodeError{Tag: NOTAG, Field: dec.field, Off: dec.at, Err: dec.err}
	}
	return n, nil
}

// DecodeDirs splits what reading a directory gave into its records.
func DecodeDirs(b []byte) ([]Dir, error) {
	return decodeDirs(b, func(d *Dir, b []byte) (int, error) { return d.Decode(b) })
}

func decodeDirs[D any](b []byte, decode func(*D, []byte) (int, error)) ([]D, error) {
	var dirs []D
	for off := 0; off < len(b); {
		var d D
		n, err := decode(&d, b[off:])
		if err != nil {
			err.(*DecodeError).Off += off
			return dirs, err
		}
		dirs = append(dirs, d)
		off += n
	}
	return dirs, nil
}

// dir reads one stat record, in 9P2000.u with u, that must fill the decoder's bytes.
func (d *decoder) dir(r *Dir, u *UnixStat) {
	size := int(d.u16("stat.size"))
	if d.err == nil && size != len(d.b)-2 {
		d.fail("stat.size", 0, ErrCount)
	}
	r.Type = d.u16("stat.type")
	r.Dev = d.u32("stat.dev")
	r.Qid = d.qid("stat.qid")
	r.Mode = d.u32("stat.mode")
	r.Atime = d.u32("stat.atime")
	r.Mtime = d.u32("stat.mtime")
	r.Length = d.u64("stat.length")
	d.str(&r.Name, "stat.name")
	d.str(&r.Uid, "stat.uid")
	d.str(&r.Gid, "stat.gid")
	d.str(&r.Muid, "stat.muid")
	if u != nil {
		d.str(&u.Extension, "stat.extension")
		u.Nuid = d.u32("stat.n_uid")
		u.Ngid = d.u32("stat.n_gid")
		u.Nmuid = d.u32("stat.n_muid")
	}
	if d.err == nil && d.off != len(d.b) {
		d.fail("stat.end", d.off, ErrTrailing)
	}
}
