package ninep

import (
	"encoding/binary"
	"fmt"

	"github.com/knusbaum/go9p/proto"
)

// A UnixPart is what messages have in 9P2000.u beside their fields in 9P2000: at the end of the message,
// except that the numbers of a stat record stand in the record.
//
//	Tauth    … n_uname[4]
//	Tattach  … n_uname[4]
//	Rerror   … errno[4]
//	Tcreate  … extension[s]
//	Rstat    stat[n] with a UnixStat
//	Twstat   … stat[n] with a UnixStat
type UnixPart struct {
	// NUname is the user's number in a Tauth and a Tattach, of 9P2000.L as well; NOUID if there is none.
	NUname uint32

	// Errno is the number of an Rerror.
	Errno Errno

	// UnixStat belongs to an Rstat and a Twstat. Its Extension is also that of a Tcreate: what a special
	// file is.
	UnixStat
}

// NullUnixPart says nothing.
func NullUnixPart() UnixPart { return UnixPart{NUname: NOUID, UnixStat: nullUnixStat()} }

// addString adds a string to the frame that starts at byte at.
func addString(b []byte, at int, s string) []byte { return end(appendString(b, s), at) }

// AppendRerrorU is AppendRerror in 9P2000.u, with the error's number.
func AppendRerrorU(b []byte, tag uint16, ename string, errno Errno) []byte {
	return appendErrorU(b, tag, clip(ename, MaxError), errno)
}

func appendErrorU(b []byte, tag uint16, ename string, errno Errno) []byte {
	at := len(b)
	return end(binary.LittleEndian.AppendUint32(appendError(b, tag, ename), uint32(errno)), at)
}

// AppendTcreateU is AppendTcreate in 9P2000.u. The extension says what a special file is, and is empty for
// others.
func AppendTcreateU(b []byte, tag uint16, fid uint32, name string, perm uint32, mode uint8, extension string) ([]byte, error) {
	if err := fits(Tcreate, extension); err != nil {
		return b, err
	}
	c, err := AppendTcreate(b, tag, fid, name, perm, mode)
	if err != nil {
		return b, err
	}
	return addString(c, len(b), extension), nil
}

// AppendRstatU is AppendRstat in 9P2000.u.
func AppendRstatU(b []byte, tag uint16, d *UnixDir) ([]byte, error) {
	c, err := appendStat(begin(b, Rstat, tag), &d.Dir, &d.UnixStat)
	if err != nil {
		return b, fmt.Errorf("Rstat: %w", err)
	}
	return end(c, len(b)), nil
}

// AppendTwstatU is AppendTwstat in 9P2000.u.
func AppendTwstatU(b []byte, tag uint16, fid uint32, d *UnixDir) ([]byte, error) {
	c, err := appendStat(binary.LittleEndian.AppendUint32(begin(b, Twstat, tag), fid), &d.Dir, &d.UnixStat)
	if err != nil {
		return b, fmt.Errorf("Twstat: %w", err)
	}
	return end(c, len(b)), nil
}

// AppendUnix is Append in 9P2000.u: of u, m has what belongs to its type.
func AppendUnix(b []byte, m proto.FCall, u *UnixPart) ([]byte, error) {
	tag := m.GetTag()
	switch m := m.(type) {
	case *proto.TAuth:
		return AppendTauthL(b, tag, m.Afid, m.Uname, m.Aname, u.NUname)
	case *proto.TAttach:
		return AppendTattachL(b, tag, m.Fid, m.Afid, m.Uname, m.Aname, u.NUname)
	case *proto.RError:
		if err := fits(Rerror, m.Ename); err != nil {
			return b, err
		}
		return appendErrorU(b, tag, m.Ename, u.Errno), nil
	case *proto.TCreate:
		return AppendTcreateU(b, tag, m.Fid, m.Name, m.Perm, m.Mode, u.Extension)
	case *proto.RStat:
		return AppendRstatU(b, tag, &UnixDir{Dir(m.Stat), u.UnixStat})
	case *proto.TWstat:
		return AppendTwstatU(b, tag, m.Fid, &UnixDir{Dir(m.Stat), u.UnixStat})
	}
	return Append(b, m)
}

// FormatUnix is Format for 9P2000.u: of u, what belongs to m's type comes after m's fields, the numbers of
// a stat record inside of its parentheses.
func FormatUnix(m proto.FCall, u *UnixPart) string {
	var w textWriter
	switch m := m.(type) {
	case *proto.RStat:
		w.head(Rstat, m.GetTag())
		w.word("stat", (&UnixDir{Dir(m.Stat), u.UnixStat}).String())
		return w.b.String()
	case *proto.TWstat:
		w.head(Twstat, m.GetTag())
		w.fid("fid", m.Fid)
		w.word("stat", (&UnixDir{Dir(m.Stat), u.UnixStat}).String())
		return w.b.String()
	case *proto.TAuth, *proto.TAttach:
		w.uid("n_uname", u.NUname)
	case *proto.RError:
		w.num("errno", uint64(u.Errno))
	case *proto.TCreate:
		w.str("extension", u.Extension)
	}
	return Format(m) + w.b.String()
}

// String prints d as Format does, with extension, n_uid, n_gid and n_muid at the end.
func (d *UnixDir) String() string {
	var w textWriter
	w.dir(&d.Dir)
	w.str("extension", d.Extension)
	w.uid("n_uid", d.Nuid)
	w.uid("n_gid", d.Ngid)
	w.uid("n_muid", d.Nmuid)
	return w.group()
}

// Text prints the message in f, which was decoded from a connection that speaks d: as Format, FormatUnix or
// FormatLinux.
func (f *Fcall) Text(d Dialect) string {
	switch {
	case f.Linux != nil:
		return FormatLinux(f.Type, f.Tag, f.Linux)
	case d == Unix:
		return FormatUnix(f.Msg(), &f.UnixPart)
	}
	return Format(f.Msg())
}
