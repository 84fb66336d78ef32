package ninep

import (
	"encoding/binary"
	"fmt"

	"github.com/knusbaum/go9p/proto"
)

// The Append functions add one whole frame to b and return the longer slice. Those that take strings,
// names or a stat record return b unchanged and an error that wraps ErrTooLong or ErrTooManyElem
// when the message cannot be said in 9P. None checks against an msize.

// begin adds a header whose size end fills in.
func begin(b []byte, typ uint8, tag uint16) []byte {
	return append(b, 0, 0, 0, 0, typ, byte(tag), byte(tag>>8))
}

// end fills in the size of the frame that starts at byte at.
func end(b []byte, at int) []byte {
	binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at))
	return b
}

func appendQid(b []byte, q Qid) []byte {
	b = append(b, q.Qtype)
	b = binary.LittleEndian.AppendUint32(b, q.Vers)
	return binary.LittleEndian.AppendUint64(b, q.Uid)
}

// appendString adds s, which the caller knows to be short enough.
func appendString(b []byte, s string) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// fits says whether all of s are short enough for the wire.
func fits(typ uint8, s ...string) error {
	for _, s := range s {
		if len(s) > MaxString {
			return fmt.Errorf("%s: string of %d bytes: %w", typeName(typ), len(s), ErrTooLong)
		}
	}
	return nil
}

func appendVersion(b []byte, typ uint8, tag uint16, msize uint32, version string) ([]byte, error) {
	if err := fits(typ, version); err != nil {
		return b, err
	}
	at := len(b)
	b = begin(b, typ, tag)
	b = binary.LittleEndian.AppendUint32(b, msize)
	return end(appendString(b, version), at), nil
}

// AppendTversion asks for a protocol and the largest frame.
func AppendTversion(b []byte, tag uint16, msize uint32, version string) ([]byte, error) {
	return appendVersion(b, Tversion, tag, msize, version)
}

// AppendRversion answers Tversion.
func AppendRversion(b []byte, tag uint16, msize uint32, version string) ([]byte, error) {
	return appendVersion(b, Rversion, tag, msize, version)
}

// AppendTauth asks for an auth fid.
func AppendTauth(b []byte, tag uint16, afid uint32, uname, aname string) ([]byte, error) {
	if err := fits(Tauth, uname, aname); err != nil {
		return b, err
	}
	at := len(b)
	b = begin(b, Tauth, tag)
	b = binary.LittleEndian.AppendUint32(b, afid)
	b = appendString(b, uname)
	return end(appendString(b, aname), at), nil
}

// AppendRauth answers Tauth.
func AppendRauth(b []byte, tag uint16, aqid Qid) []byte {
	at := len(b)
	return end(appendQid(begin(b, Rauth, tag), aqid), at)
}

// AppendRerror answers any message with an error text, cut to MaxError bytes.
func AppendRerror(b []byte, tag uint16, ename string) []byte {
	return appendError(b, tag, clip(ename, MaxError))
}

func appendError(b []byte, tag uint16, ename string) []byte {
	at := len(b)
	return end(appendString(begin(b, Rerror, tag), ename), at)
}

// AppendTflush asks to forget the request oldtag.
func AppendTflush(b []byte, tag, oldtag uint16) []byte {
	at := len(b)
	b = begin(b, Tflush, tag)
	return end(binary.LittleEndian.AppendUint16(b, oldtag), at)
}

// AppendRflush answers Tflush.
func AppendRflush(b []byte, tag uint16) []byte { return end(begin(b, Rflush, tag), len(b)) }

// AppendTattach asks for the root of a tree.
func AppendTattach(b []byte, tag uint16, fid, afid uint32, uname, aname string) ([]byte, error) {
	if err := fits(Tattach, uname, aname); err != nil {
		return b, err
	}
	at := len(b)
	b = begin(b, Tattach, tag)
	b = binary.LittleEndian.AppendUint32(b, fid)
	b = binary.LittleEndian.AppendUint32(b, afid)
	b = appendString(b, uname)
	return end(appendString(b, aname), at), nil
}

// AppendRattach answers Tattach.
func AppendRattach(b []byte, tag uint16, qid Qid) []byte {
	at := len(b)
	return end(appendQid(begin(b, Rattach, tag), qid), at)
}

// AppendTwalk asks to walk newfid from fid along at most MaxWalk names.
func AppendTwalk(b []byte, tag uint16, fid, newfid uint32, names ...string) ([]byte, error) {
	if len(names) > MaxWalk {
		return b, fmt.Errorf("Twalk of %d names: %w", len(names), ErrTooManyElem)
	}
	if err := fits(Twalk, names...); err != nil {
		return b, err
	}
	at := len(b)
	b = begin(b, Twalk, tag)
	b = binary.LittleEndian.AppendUint32(b, fid)
	b = binary.LittleEndian.AppendUint32(b, newfid)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(names)))
	for _, s := range names {
		b = appendString(b, s)
	}
	return end(b, at), nil
}

// AppendRwalk answers Twalk with at most MaxWalk qids.
func AppendRwalk(b []byte, tag uint16, qids ...Qid) ([]byte, error) {
	if len(qids) > MaxWalk {
		return b, fmt.Errorf("Rwalk of %d qids: %w", len(qids), ErrTooManyElem)
	}
	at := len(b)
	b = begin(b, Rwalk, tag)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(qids)))
	for _, q := range qids {
		b = appendQid(b, q)
	}
	return end(b, at), nil
}

// AppendTopen asks to open fid.
func AppendTopen(b []byte, tag uint16, fid uint32, mode uint8) []byte {
	at := len(b)
	b = begin(b, Topen, tag)
	b = binary.LittleEndian.AppendUint32(b, fid)
	return end(append(b, mode), at)
}

func appendOpened(b []byte, typ uint8, tag uint16, qid Qid, iounit uint32) []byte {
	at := len(b)
	b = appendQid(begin(b, typ, tag), qid)
	return end(binary.LittleEndian.AppendUint32(b, iounit), at)
}

// AppendRopen answers Topen.
func AppendRopen(b []byte, tag uint16, qid Qid, iounit uint32) []byte {
	return appendOpened(b, Ropen, tag, qid, iounit)
}

// AppendTcreate asks to create name in the directory fid, and to open it.
func AppendTcreate(b []byte, tag uint16, fid uint32, name string, perm uint32, mode uint8) ([]byte, error) {
	if err := fits(Tcreate, name); err != nil {
		return b, err
	}
	at := len(b)
	b = begin(b, Tcreate, tag)
	b = binary.LittleEndian.AppendUint32(b, fid)
	b = appendString(b, name)
	b = binary.LittleEndian.AppendUint32(b, perm)
	return end(append(b, mode), at), nil
}

// AppendRcreate answers Tcreate.
func AppendRcreate(b []byte, tag uint16, qid Qid, iounit uint32) []byte {
	return appendOpened(b, Rcreate, tag, qid, iounit)
}

// AppendTread asks for count bytes of fid from byte off.
func AppendTread(b []byte, tag uint16, fid uint32, off uint64, count uint32) []byte {
	at := len(b)
	b = begin(b, Tread, tag)
	b = binary.LittleEndian.AppendUint32(b, fid)
	b = binary.LittleEndian.AppendUint64(b, off)
	return end(binary.LittleEndian.AppendUint32(b, count), at)
}

// AppendRread answers Tread.
func AppendRread(b []byte, tag uint16, data []byte) []byte {
	at := len(b)
	b = begin(b, Rread, tag)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	return end(append(b, data...), at)
}

// AppendTwrite asks to write data to fid at byte off.
func AppendTwrite(b []byte, tag uint16, fid uint32, off uint64, data []byte) []byte {
	at := len(b)
	b = begin(b, Twrite, tag)
	b = binary.LittleEndian.AppendUint32(b, fid)
	b = binary.LittleEndian.AppendUint64(b, off)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	return end(append(b, data...), at)
}

// AppendRwrite answers Twrite.
func AppendRwrite(b []byte, tag uint16, count uint32) []byte {
	at := len(b)
	return end(binary.LittleEndian.AppendUint32(begin(b, Rwrite, tag), count), at)
}

func appendFid(b []byte, typ uint8, tag uint16, fid uint32) []byte {
	at := len(b)
	return end(binary.LittleEndian.AppendUint32(begin(b, typ, tag), fid), at)
}

// AppendTclunk asks to forget fid.
func AppendTclunk(b []byte, tag uint16, fid uint32) []byte { return appendFid(b, Tclunk, tag, fid) }

// AppendRclunk answers Tclunk.
func AppendRclunk(b []byte, tag uint16) []byte { return end(begin(b, Rclunk, tag), len(b)) }

// AppendTremove asks to remove the file of fid and to forget fid.
func AppendTremove(b []byte, tag uint16, fid uint32) []byte { return appendFid(b, Tremove, tag, fid) }

// AppendRremove answers Tremove.
func AppendRremove(b []byte, tag uint16) []byte { return end(begin(b, Rremove, tag), len(b)) }

// AppendTstat asks for the stat record of fid.
func AppendTstat(b []byte, tag uint16, fid uint32) []byte { return appendFid(b, Tstat, tag, fid) }

// appendStat adds the record's own length and the record, in 9P2000.u with u.
func appendStat(b []byte, d *Dir, u *UnixStat) ([]byte, error) {
	at := len(b)
	b, err := appendDir(append(b, 0, 0), d, d.Name, u)
	binary.LittleEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	return b, err
}

// AppendRstat answers Tstat.
func AppendRstat(b []byte, tag uint16, d *Dir) ([]byte, error) {
	at := len(b)
	c, err := appendStat(begin(b, Rstat, tag), d, nil)
	if err != nil {
		return b, fmt.Errorf("Rstat: %w", err)
	}
	return end(c, at), nil
}

// AppendTwstat asks to change the file of fid.
func AppendTwstat(b []byte, tag uint16, fid uint32, d *Dir) ([]byte, error) {
	at := len(b)
	c := binary.LittleEndian.AppendUint32(begin(b, Twstat, tag), fid)
	c, err := appendStat(c, d, nil)
	if err != nil {
		return b, fmt.Errorf("Twstat: %w", err)
	}
	return end(c, at), nil
}

// AppendRwstat answers Twstat.
func AppendRwstat(b []byte, tag uint16) []byte { return end(begin(b, Rwstat, tag), len(b)) }

// Append adds the frame of any message. The type comes from m's Go type (for TRVersion from its
// header), and the counts from the slices. An Rerror's text is not cut.
func Append(b []byte, m proto.FCall) ([]byte, error) {
	tag := m.GetTag()
	switch m := m.(type) {
	case *proto.TRVersion:
		if m.Type != Tversion && m.Type != Rversion {
			return b, fmt.Errorf("version message of type %d: %w", m.Type, ErrUnknownType)
		}
		return appendVersion(b, m.Type, tag, m.Msize, m.Version)
	case *proto.TAuth:
		return AppendTauth(b, tag, m.Afid, m.Uname, m.Aname)
	case *proto.RAuth:
		return AppendRauth(b, tag, m.Aqid), nil
	case *proto.TAttach:
		return AppendTattach(b, tag, m.Fid, m.Afid, m.Uname, m.Aname)
	case *proto.RAttach:
		return AppendRattach(b, tag, m.Qid), nil
	case *proto.RError:
		if err := fits(Rerror, m.Ename); err != nil {
			return b, err
		}
		return appendError(b, tag, m.Ename), nil
	case *proto.TFlush:
		return AppendTflush(b, tag, m.Oldtag), nil
	case *proto.RFlush:
		return AppendRflush(b, tag), nil
	case *proto.TWalk:
		return AppendTwalk(b, tag, m.Fid, m.Newfid, m.Wname...)
	case *proto.RWalk:
		return AppendRwalk(b, tag, m.Wqid...)
	case *proto.TOpen:
		return AppendTopen(b, tag, m.Fid, uint8(m.Mode)), nil
	case *proto.ROpen:
		return AppendRopen(b, tag, m.Qid, m.Iounit), nil
	case *proto.TCreate:
		return AppendTcreate(b, tag, m.Fid, m.Name, m.Perm, m.Mode)
	case *proto.RCreate:
		return AppendRcreate(b, tag, m.Qid, m.Iounit), nil
	case *proto.TRead:
		return AppendTread(b, tag, m.Fid, m.Offset, m.Count), nil
	case *proto.RRead:
		return AppendRread(b, tag, m.Data), nil
	case *proto.TWrite:
		return AppendTwrite(b, tag, m.Fid, m.Offset, m.Data), nil
	case *proto.RWrite:
		return AppendRwrite(b, tag, m.Count), nil
	case *proto.TClunk:
		return AppendTclunk(b, tag, m.Fid), nil
	case *proto.RClunk:
		return AppendRclunk(b, tag), nil
	case *proto.TRemove:
		return AppendTremove(b, tag, m.Fid), nil
	case *proto.RRemove:
		return AppendRremove(b, tag), nil
	case *proto.TStat:
		return AppendTstat(b, tag, m.Fid), nil
	case *proto.RStat:
		return AppendRstat(b, tag, (*Dir)(&m.Stat))
	case *proto.TWstat:
		return AppendTwstat(b, tag, m.Fid, (*Dir)(&m.Stat))
	case *proto.RWstat:
		return AppendRwstat(b, tag), nil
	}
	return b, fmt.Errorf("message %T: %w", m, ErrUnknownType)
}
