package ninep

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/knusbaum/go9p/proto"
)

// Message types.
const (
	Tversion = uint8(proto.Tversion)
	Rversion = uint8(proto.Rversion)
	Tauth    = uint8(proto.Tauth)
	Rauth    = uint8(proto.Rauth)
	Tattach  = uint8(proto.Tattach)
	Rattach  = uint8(proto.Rattach)
	Rerror   = uint8(proto.Rerror)
	Tflush   = uint8(proto.Tflush)
	Rflush   = uint8(proto.Rflush)
	Twalk    = uint8(proto.Twalk)
	Rwalk    = uint8(proto.Rwalk)
	Topen    = uint8(proto.Topen)
	Ropen    = uint8(proto.Ropen)
	Tcreate  = uint8(proto.Tcreate)
	Rcreate  = uint8(proto.Rcreate)
	Tread    = uint8(proto.Tread)
	Rread    = uint8(proto.Rread)
	Twrite   = uint8(proto.Twrite)
	Rwrite   = uint8(proto.Rwrite)
	Tclunk   = uint8(proto.Tclunk)
	Rclunk   = uint8(proto.Rclunk)
	Tremove  = uint8(proto.Tremove)
	Rremove  = uint8(proto.Rremove)
	Tstat    = uint8(proto.Tstat)
	Rstat    = uint8(proto.Rstat)
	Twstat   = uint8(proto.Twstat)
	Rwstat   = uint8(proto.Rwstat)
)

// An Fcall holds one decoded message and is meant to be used again and again: decoding into it
// allocates only for strings that differ from those of the last message of its type, and for the
// first Rwalk.
//
// Type says which of the other fields is the message; the rest is left over from earlier ones.
// Strings are copies and may be kept. The Data of Twrite and Rread is part of the frame.
//
//	size[4] Tversion tag[2] msize[4] version[s]
//	size[4] Rversion tag[2] msize[4] version[s]
//	size[4] Tauth    tag[2] afid[4] uname[s] aname[s]
//	size[4] Rauth    tag[2] aqid[13]
//	size[4] Rerror   tag[2] ename[s]
//	size[4] Tflush   tag[2] oldtag[2]
//	size[4] Rflush   tag[2]
//	size[4] Tattach  tag[2] fid[4] afid[4] uname[s] aname[s]
//	size[4] Rattach  tag[2] qid[13]
//	size[4] Twalk    tag[2] fid[4] newfid[4] nwname[2] nwname*(wname[s])
//	size[4] Rwalk    tag[2] nwqid[2] nwqid*(qid[13])
//	size[4] Topen    tag[2] fid[4] mode[1]
//	size[4] Ropen    tag[2] qid[13] iounit[4]
//	size[4] Tcreate  tag[2] fid[4] name[s] perm[4] mode[1]
//	size[4] Rcreate  tag[2] qid[13] iounit[4]
//	size[4] Tread    tag[2] fid[4] offset[8] count[4]
//	size[4] Rread    tag[2] count[4] data[count]
//	size[4] Twrite   tag[2] fid[4] offset[8] count[4] data[count]
//	size[4] Rwrite   tag[2] count[4]
//	size[4] Tclunk   tag[2] fid[4]
//	size[4] Rclunk   tag[2]
//	size[4] Tremove  tag[2] fid[4]
//	size[4] Rremove  tag[2]
//	size[4] Tstat    tag[2] fid[4]
//	size[4] Rstat    tag[2] stat[n]
//	size[4] Twstat   tag[2] fid[4] stat[n]
//	size[4] Rwstat   tag[2]
//
// Numbers are little-endian; [s] is a length[2] and that many bytes of UTF-8 without NUL; stat[n]
// is a length[2] and a stat record of that length, see Dir.
type Fcall struct {
	Type uint8
	Tag  uint16

	Version proto.TRVersion // Tversion and Rversion
	Tauth   proto.TAuth
	Rauth   proto.RAuth
	Tattach proto.TAttach
	Rattach proto.RAttach
	Rerror  proto.RError
	Tflush  proto.TFlush
	Rflush  proto.RFlush
	Twalk   proto.TWalk
	Rwalk   proto.RWalk
	Topen   proto.TOpen
	Ropen   proto.ROpen
	Tcreate proto.TCreate
	Rcreate proto.RCreate
	Tread   proto.TRead
	Rread   proto.RRead
	Twrite  proto.TWrite
	Rwrite  proto.RWrite
	Tclunk  proto.TClunk
	Rclunk  proto.RClunk
	Tremove proto.TRemove
	Rremove proto.RRemove
	Tstat   proto.TStat
	Rstat   proto.RStat
	Twstat  proto.TWstat
	Rwstat  proto.RWstat

	// UnixPart is what 9P2000.u has beside all this. Only that of the message's type means something, and
	// only after DecodeAs(…, Unix); but NUname, which 9P2000.L has as well, always does.
	UnixPart

	// Linux is a message that only 9P2000.L has, nil for others. It is used again for the next of its
	// type.
	Linux LinuxMsg

	names [MaxWalk]string // backs Twalk.Wname
	linux linuxMsgs
	dec   decoder // walks over a message of 9P2000.L
}

// Decode fills f with the message in frame, which must be exactly one frame. On error, a
// *DecodeError, the fields of the message are not to be used, but f.Type and f.Tag are right if the
// frame was long enough to have them.
// Source: intro(5) and the page of each message.
func (f *Fcall) Decode(frame []byte) error { return f.DecodeAs(frame, Plan9) }

// DecodeLinux is Decode for a connection that speaks 9P2000.L: Tauth and Tattach have n_uname[4] at
// their ends, and there are the messages of Linux. Those of 9P2000 are decoded as well, although the
// dialect does not use all of them.
func (f *Fcall) DecodeLinux(frame []byte) error { return f.DecodeAs(frame, Linux) }

// DecodeAs is Decode for a connection that speaks the dialect: in 9P2000.u messages have what UnixPart lists.
func (f *Fcall) DecodeAs(frame []byte, dialect Dialect) error {
	f.Type, f.Tag = 0, NOTAG
	f.NUname, f.Linux = NOUID, nil
	if len(frame) < HeaderSize || uint64(binary.LittleEndian.Uint32(frame)) != uint64(len(frame)) {
		return &DecodeError{Tag: NOTAG, Field: "size", Err: ErrFrameSize}
	}
	f.Type = frame[4]
	f.Tag = binary.LittleEndian.Uint16(frame[5:])
	d := decoder{b: frame, off: HeaderSize}
	h := proto.Header{Type: f.Type, Tag: f.Tag}

	switch f.Type {
	case Tversion, Rversion:
		f.Version.Header = h
		f.Version.Msize = d.u32("msize")
		d.str(&f.Version.Version, "version")
	case Tauth:
		f.Tauth.Header = h
		f.Tauth.Afid = d.u32("afid")
		d.str(&f.Tauth.Uname, "uname")
		d.str(&f.Tauth.Aname, "aname")
		if dialect != Plan9 {
			f.NUname = d.u32("n_uname")
		}
	case Rauth:
		f.Rauth.Header = h
		f.Rauth.Aqid = d.qid("aqid")
	case Rerror:
		f.Rerror.Header = h
		d.str(&f.Rerror.Ename, "ename")
		if dialect == Unix {
			f.Errno = Errno(d.u32("errno"))
		}
	case Tflush:
		f.Tflush.Header = h
		f.Tflush.Oldtag = d.u16("oldtag")
	case Rflush:
		f.Rflush.Header = h
	case Tattach:
		f.Tattach.Header = h
		f.Tattach.Fid = d.u32("fid")
		f.Tattach.Afid = d.u32("afid")
		d.str(&f.Tattach.Uname, "uname")
		d.str(&f.Tattach.Aname, "aname")
		if dialect != Plan9 {
			f.NUname = d.u32("n_uname")
		}
	case Rattach:
		f.Rattach.Header = h
		f.Rattach.Qid = d.qid("qid")
	case Twalk:
		f.Twalk.Header = h
		f.Twalk.Fid = d.u32("fid")
		f.Twalk.Newfid = d.u32("newfid")
		n := d.elems("nwname")
		f.Twalk.Nwname = uint16(n)
		f.Twalk.Wname = f.names[:n]
		for i := range f.Twalk.Wname {
			if d.str(&f.Twalk.Wname[i], "wname"); d.err != nil {
				d.field = fmt.Sprintf("wname[%d]", i)
				break
			}
		}
	case Rwalk:
		f.Rwalk.Header = h
		n := d.elems("nwqid")
		f.Rwalk.Nwqid = uint16(n)
		f.Rwalk.Wqid = f.Rwalk.Wqid[:0]
		for range n {
			f.Rwalk.Wqid = append(f.Rwalk.Wqid, d.qid("qid"))
		}
	case Topen:
		f.Topen.Header = h
		f.Topen.Fid = d.u32("fid")
		f.Topen.Mode = proto.Mode(d.u8("mode"))
	case Ropen:
		f.Ropen.Header = h
		f.Ropen.Qid = d.qid("qid")
		f.Ropen.Iounit = d.u32("iounit")
	case Tcreate:
		f.Tcreate.Header = h
		f.Tcreate.Fid = d.u32("fid")
		d.str(&f.Tcreate.Name, "name")
		f.Tcreate.Perm = d.u32("perm")
		f.Tcreate.Mode = d.u8("mode")
		if dialect == Unix {
			d.str(&f.Extension, "extension")
		}
	case Rcreate:
		f.Rcreate.Header = h
		f.Rcreate.Qid = d.qid("qid")
		f.Rcreate.Iounit = d.u32("iounit")
	case Tread:
		f.Tread.Header = h
		f.Tread.Fid = d.u32("fid")
		f.Tread.Offset = d.u64("offset")
		f.Tread.Count = d.u32("count")
	case Rread:
		f.Rread.Header = h
		f.Rread.Data = d.data("count")
		f.Rread.Count = uint32(len(f.Rread.Data))
	case Twrite:
		f.Twrite.Header = h
		f.Twrite.Fid = d.u32("fid")
		f.Twrite.Offset = d.u64("offset")
		f.Twrite.Data = d.data("count")
		f.Twrite.Count = uint32(len(f.Twrite.Data))
	case Rwrite:
		f.Rwrite.Header = h
		f.Rwrite.Count = d.u32("count")
	case Tclunk:
		f.Tclunk.Header = h
		f.Tclunk.Fid = d.u32("fid")
	case Rclunk:
		f.Rclunk.Header = h
	case Tremove:
		f.Tremove.Header = h
		f.Tremove.Fid = d.u32("fid")
	case Rremove:
		f.Rremove.Header = h
	case Tstat:
		f.Tstat.Header = h
		f.Tstat.Fid = d.u32("fid")
	case Rstat:
		f.Rstat.Header = h
		d.stat((*Dir)(&f.Rstat.Stat), f.unixStat(dialect))
	case Twstat:
		f.Twstat.Header = h
		f.Twstat.Fid = d.u32("fid")
		d.stat((*Dir)(&f.Twstat.Stat), f.unixStat(dialect))
	case Rwstat:
		f.Rwstat.Header = h
	default:
		if dialect == Linux {
			f.Linux = f.linux.of(f.Type)
		}
		if f.Linux == nil {
			return &DecodeError{Type: f.Type, Tag: f.Tag, Field: "type", Off: 4, Err: ErrUnknownType}
		}
		if f.Type == Tfsync && len(frame) == HeaderSize+4 {
			// As it was in the beginning, and some clients still have it.
			*f.Linux.(*LFsync) = LFsync{Fid: d.u32("fid")}
			break
		}
		f.dec = d // d itself stays where it costs nothing
		f.Linux.fields(fieldDecoder{&f.dec})
		d, f.dec = f.dec, decoder{}
	}
	if d.off != len(frame) {
		d.fail("end", d.off, ErrTrailing)
	}
	if d.err != nil {
		return &DecodeError{Type: f.Type, Tag: f.Tag, Field: d.field, Off: d.at, Err: d.err}
	}
	return nil
}

// unixStat is where the second part of a stat record goes, nil if it has none.
func (f *Fcall) unixStat(d Dialect) *UnixStat {
	if d == Unix {
		return &f.UnixStat
	}
	return nil
}

// Msg is the message in f as a pointer into f, nil if f holds none, or one that only 9P2000.L has.
func (f *Fcall) Msg() proto.FCall {
	switch f.Type {
	case Tversion, Rversion:
		return &f.Version
	case Tauth:
		return &f.Tauth
	case Rauth:
		return &f.Rauth
	case Tattach:
		return &f.Tattach
	case Rattach:
		return &f.Rattach
	case Rerror:
		return &f.Rerror
	case Tflush:
		return &f.Tflush
	case Rflush:
		return &f.Rflush
	case Twalk:
		return &f.Twalk
	case Rwalk:
		return &f.Rwalk
	case Topen:
		return &f.Topen
	case Ropen:
		return &f.Ropen
	case Tcreate:
		return &f.Tcreate
	case Rcreate:
		return &f.Rcreate
	case Tread:
		return &f.Tread
	case Rread:
		return &f.Rread
	case Twrite:
		return &f.Twrite
	case Rwrite:
		return &f.Rwrite
	case Tclunk:
		return &f.Tclunk
	case Rclunk:
		return &f.Rclunk
	case Tremove:
		return &f.Tremove
	case Rremove:
		return &f.Rremove
	case Tstat:
		return &f.Tstat
	case Rstat:
		return &f.Rstat
	case Twstat:
		return &f.Twstat
	case Rwstat:
		return &f.Rwstat
	}
	return nil
}

// A decoder walks over a frame. Its first error stays, with the field and place it happened at, and
// from then on every field reads as zero.
type decoder struct {
	b   []byte
	off int

	err   error
	field string
	at    int
}

func (d *decoder) fail(field string, at int, err error) {
	if d.err == nil {
		d.err, d.field, d.at = err, field, at
	}
}

// take gives the next n bytes, nil when they are not all there.
func (d *decoder) take(n int, field string) []byte {
	if d.err != nil {
		return nil
	}
	if len(d.b)-d.off < n {
		d.fail(field, d.off, ErrShort)
		return nil
	}
	p := d.b[d.off : d.off+n : d.off+n]
	d.off += n
	return p
}

func (d *decoder) u8(field string) uint8 {
	if p := d.take(1, field); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) u16(field string) uint16 {
	if p := d.take(2, field); p != nil {
		return binary.LittleEndian.Uint16(p)
	}
	return 0
}

func (d *decoder) u32(field string) uint32 {
	if p := d.take(4, field); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (d *decoder) u64(field string) uint64 {
	if p := d.take(8, field); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (d *decoder) qid(field string) (q Qid) {
	if p := d.take(QidSize, field); p != nil {
		q.Qtype = p[0]
		q.Vers = binary.LittleEndian.Uint32(p[1:])
		q.Uid = binary.LittleEndian.Uint64(p[5:])
	}
	return q
}

// elems reads the number of a walk's names or qids.
func (d *decoder) elems(field string) int {
	at := d.off
	n := d.u16(field)
	if n > MaxWalk {
		d.fail(field, at, ErrTooManyElem)
		return 0
	}
	return int(n)
}

// str reads a string into *s, which is left alone if it is that string already: no allocation for
// names and users that come again.
func (d *decoder) str(s *string, field string) {
	at := d.off
	p := d.take(int(d.u16(field)), field)
	if d.err != nil {
		return
	}
	if !utf8.Valid(p) || bytes.IndexByte(p, 0) >= 0 {
		d.fail(field, at, ErrBadString)
		return
	}
	if *s != string(p) {
		*s = string(p)
	}
}

// data reads a count[4] and the bytes it counts, which must be all the rest of the frame.
func (d *decoder) data(field string) []byte {
	at := d.off
	n := d.u32(field)
	if d.err != nil {
		return nil
	}
	if uint64(n) != uint64(len(d.b)-d.off) {
		d.fail(field, at, ErrCount)
		return nil
	}
	return d.take(int(n), field)
}

// stat reads a length[2] and a stat record, in 9P2000.u with u, which must be all the rest of the frame.
func (d *decoder) stat(dir *Dir, u *UnixStat) {
	at := d.off
	n := int(d.u16("nstat"))
	if d.err != nil {
		return
	}
	if n != len(d.b)-d.off {
		d.fail("nstat", at, ErrCount)
		return
	}
	rec := decoder{b: d.take(n, "stat")}
	rec.dir(dir, u)
	if rec.err != nil {
		if rec.err != ErrBadString {
			rec.err = ErrBadStat
		}
		d.fail(rec.field, at+2+rec.at, rec.err)
	}
}
