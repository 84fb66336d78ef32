package ninep

import (
	"encoding/binary"
	"fmt"
)

// Message types that 9P2000.L has beside those of 9P2000.
const (
	Rlerror      = 7
	Tstatfs      = 8
	Rstatfs      = 9
	Tlopen       = 12
	Rlopen       = 13
	Tlcreate     = 14
	Rlcreate     = 15
	Tsymlink     = 16
	Rsymlink     = 17
	Tmknod       = 18
	Rmknod       = 19
	Trename      = 20
	Rrename      = 21
	Treadlink    = 22
	Rreadlink    = 23
	Tgetattr     = 24
	Rgetattr     = 25
	Tsetattr     = 26
	Rsetattr     = 27
	Txattrwalk   = 30
	Rxattrwalk   = 31
	Txattrcreate = 32
	Rxattrcreate = 33
	Treaddir     = 40
	Rreaddir     = 41
	Tfsync       = 50
	Rfsync       = 51
	Tlock        = 52
	Rlock        = 53
	Tgetlock     = 54
	Rgetlock     = 55
	Tlink        = 70
	Rlink        = 71
	Tmkdir       = 72
	Rmkdir       = 73
	Trenameat    = 74
	Rrenameat    = 75
	Tunlinkat    = 76
	Runlinkat    = 77
)

// A LinuxMsg is the body of a message of 9P2000.L. fields calls c for each of its fields in their order,
// and is all there is to know about its form: decoding, encoding and printing are three ways to be
// called.
type LinuxMsg interface {
	fields(c coder)
}

// A coder does something with the fields of a message.
type coder interface {
	num8(field string, v *uint8)
	num32(field string, v *uint32)
	num64(field string, v *uint64)
	text(field string, v *string)
	qidOf(field string, v *Qid)
	rest(field string, v *[]byte) // count[4] and so many bytes, the last of the message
}

// The messages of 9P2000.L. Those that look the same share a type.
type (
	// LEmpty is the body of replies that say nothing: Rrename, Rsetattr, Rxattrcreate, Rfsync, Rlink,
	// Rrenameat and Runlinkat.
	LEmpty struct{}

	// LFid is Tstatfs and Treadlink.
	LFid struct{ Fid uint32 }

	// LQid is Rsymlink, Rmknod and Rmkdir.
	LQid struct{ Qid Qid }

	// LOpened is Rlopen and Rlcreate.
	LOpened struct {
		Qid    Qid
		Iounit uint32
	}

	// LError is Rlerror, which is what all requests are answered with that fail.
	LError struct{ Errno Errno }

	// LStatfs is Rstatfs.
	LStatfs struct{ Statfs }

	// LOpen is Tlopen; the flags are Linux's.
	LOpen struct{ Fid, Flags uint32 }

	// LCreate is Tlcreate: Fid, a directory, becomes the new file.
	LCreate struct {
		Fid              uint32
		Name             string
		Flags, Mode, Gid uint32
	}

	// LSymlink is Tsymlink.
	LSymlink struct {
		Fid          uint32
		Name, Target string
		Gid          uint32
	}

	// LMknod is Tmknod.
	LMknod struct {
		Dfid                    uint32
		Name                    string
		Mode, Major, Minor, Gid uint32
	}

	// LRename is Trename: the file of Fid becomes Name in the directory Dfid.
	LRename struct {
		Fid, Dfid uint32
		Name      string
	}

	// LReadlink is Rreadlink.
	LReadlink struct{ Target string }

	// LGetattr is Tgetattr; the mask says what the client is interested in.
	LGetattr struct {
		Fid  uint32
		Mask uint64
	}

	// LAttr is Rgetattr. Valid says which of the fields mean something.
	LAttr struct {
		Valid                uint64
		Qid                  Qid
		Mode, Uid, Gid       uint32
		Nlink, Rdev          uint64
		Size, Blksize, Blks  uint64
		Atime, Mtime         LTime
		Ctime, Btime         LTime
		Generation, Dversion uint64
	}

	// LTime is seconds since 1970 and nanoseconds.
	LTime struct{ Sec, Nsec uint64 }

	// LSetattr is Tsetattr. Valid says which of the fields are to be set, with the bits Set….
	LSetattr struct {
		Fid, Valid     uint32
		Mode, Uid, Gid uint32
		Size           uint64
		Atime, Mtime   LTime
	}

	// LXattrwalk is Txattrwalk.
	LXattrwalk struct {
		Fid, Newfid uint32
		Name        string
	}

	// LXattrcreate is Txattrcreate.
	LXattrcreate struct {
		Fid   uint32
		Name  string
		Size  uint64
		Flags uint32
	}

	// LReaddir is Treaddir. Offset is 0, or the offset that stood beside an entry, after which to go on.
	LReaddir struct {
		Fid    uint32
		Offset uint64
		Count  uint32
	}

	// LEntries is Rreaddir: entries as AppendDirent makes them.
	LEntries struct{ Data []byte }

	// LFsync is Tfsync.
	LFsync struct{ Fid, Datasync uint32 }

	// LLock is Tlock. Length 0 means to the end, wherever that is.
	LLock struct {
		Fid           uint32
		Type          uint8
		Flags         uint32
		Start, Length uint64
		Proc          uint32
		Client        string
	}

	// LLocked is Rlock.
	LLocked struct{ Status uint8 }

	// LGetlock is Tgetlock.
	LGetlock struct {
		Fid uint32
		LRange
	}

	// LRange is Rgetlock: a lock that is in the way, or one of type LockUnlock.
	LRange struct {
		Type          uint8
		Start, Length uint64
		Proc          uint32
		Client        string
	}

	// LLink is Tlink.
	LLink struct {
		Dfid, Fid uint32
		Name      string
	}

	// LMkdir is Tmkdir.
	LMkdir struct {
		Dfid      uint32
		Name      string
		Mode, Gid uint32
	}

	// LRenameat is Trenameat.
	LRenameat struct {
		Olddir  uint32
		Oldname string
		Newdir  uint32
		Newname string
	}

	// LUnlinkat is Tunlinkat.
	LUnlinkat struct {
		Dfid  uint32
		Name  string
		Flags uint32
	}
)

func (m *LEmpty) fields(c coder)    {}
func (m *LFid) fields(c coder)      { c.num32("fid", &m.Fid) }
func (m *LQid) fields(c coder)      { c.qidOf("qid", &m.Qid) }
func (m *LError) fields(c coder)    { c.num32("ecode", (*uint32)(&m.Errno)) }
func (m *LReadlink) fields(c coder) { c.text("target", &m.Target) }
func (m *LEntries) fields(c coder)  { c.rest("count", &m.Data) }
func (m *LLocked) fields(c coder)   { c.num8("status", &m.Status) }

func (m *LOpened) fields(c coder) {
	c.qidOf("qid", &m.Qid)
	c.num32("iounit", &m.Iounit)
}

func (m *LStatfs) fields(c coder) {
	c.num32("type", &m.Type)
	c.num32("bsize", &m.Bsize)
	c.num64("blocks", &m.Blocks)
	c.num64("bfree", &m.Bfree)
	c.num64("bavail", &m.Bavail)
	c.num64("files", &m.Files)
	c.num64("ffree", &m.Ffree)
	c.num64("fsid", &m.Fsid)
	c.num32("namelen", &m.Namelen)
}

func (m *LOpen) fields(c coder) {
	c.num32("fid", &m.Fid)
	c.num32("flags", &m.Flags)
}

func (m *LCreate) fields(c coder) {
	c.num32("fid", &m.Fid)
	c.text("name", &m.Name)
	c.num32("flags", &m.Flags)
	c.num32("mode", &m.Mode)
	c.num32("gid", &m.Gid)
}

func (m *LSymlink) fields(c coder) {
	c.num32("fid", &m.Fid)
	c.text("name", &m.Name)
	c.text("symtgt", &m.Target)
	c.num32("gid", &m.Gid)
}

func (m *LMknod) fields(c coder) {
	c.num32("dfid", &m.Dfid)
	c.text("name", &m.Name)
	c.num32("mode", &m.Mode)
	c.num32("major", &m.Major)
	c.num32("minor", &m.Minor)
	c.num32("gid", &m.Gid)
}

func (m *LRename) fields(c coder) {
	c.num32("fid", &m.Fid)
	c.num32("dfid", &m.Dfid)
	c.text("name", &m.Name)
}

func (m *LGetattr) fields(c coder) {
	c.num32("fid", &m.Fid)
	c.num64("request_mask", &m.Mask)
}

func (t *LTime) fields(c coder, sec, nsec string) {
	c.num64(sec, &t.Sec)
	c.num64(nsec, &t.Nsec)
}

func (m *LAttr) fields(c coder) {
	c.num64("valid", &m.Valid)
	c.qidOf("qid", &m.Qid)
	c.num32("mode", &m.Mode)
	c.num32("uid", &m.Uid)
	c.num32("gid", &m.Gid)
	c.num64("nlink", &m.Nlink)
	c.num64("rdev", &m.Rdev)
	c.num64("size", &m.Size)
	c.num64("blksize", &m.Blksize)
	c.num64("blocks", &m.Blks)
	m.Atime.fields(c, "atime_sec", "atime_nsec")
	m.Mtime.fields(c, "mtime_sec", "mtime_nsec")
	m.Ctime.fields(c, "ctime_sec", "ctime_nsec")
	m.Btime.fields(c, "btime_sec", "btime_nsec")
	c.num64("gen", &m.Generation)
	c.num64("data_version", &m.Dversion)
}

func (m *LSetattr) fields(c coder) {
	c.num32("fid", &m.Fid)
	c.num32("valid", &m.Valid)
	c.num32("mode", &m.Mode)
	c.num32("uid", &m.Uid)
	c.num32("gid", &m.Gid)
	c.num64("size", &m.Size)
	m.Atime.fields(c, "atime_sec", "atime_nsec")
	m.Mtime.fields(c, "mtime_sec", "mtime_nsec")
}

func (m *LXattrwalk) fields(c coder) {
	c.num32("fid", &m.Fid)
	c.num32("newfid", &m.Newfid)
	c.text("name", &m.Name)
}

func (m *LXattrcreate) fields(c coder) {
	c.num32("fid", &m.Fid)
	c.text("name", &m.Name)
	c.num64("attr_size", &m.Size)
	c.num32("flags", &m.Flags)
}

func (m *LReaddir) fields(c coder) {
	c.num32("fid", &m.Fid)
	c.num64("offset", &m.Offset)
	c.num32("count", &m.Count)
}

func (m *LFsync) fields(c coder) {
	c.num32("fid", &m.Fid)
	c.num32("datasync", &m.Datasync)
}

func (m *LLock) fields(c coder) {
	c.num32("fid", &m.Fid)
	c.num8("type", &m.Type)
	c.num32("flags", &m.Flags)
	c.num64("start", &m.Start)
	c.num64("length", &m.Length)
	c.num32("proc_id", &m.Proc)
	c.text("client_id", &m.Client)
}

func (m *LGetlock) fields(c coder) {
	c.num32("fid", &m.Fid)
	m.LRange.fields(c)
}

func (m *LRange) fields(c coder) {
	c.num8("type", &m.Type)
	c.num64("start", &m.Start)
	c.num64("length", &m.Length)
	c.num32("proc_id", &m.Proc)
	c.text("client_id", &m.Client)
}

func (m *LLink) fields(c coder) {
	c.num32("dfid", &m.Dfid)
	c.num32("fid", &m.Fid)
	c.text("name", &m.Name)
}

func (m *LMkdir) fields(c coder) {
	c.num32("dfid", &m.Dfid)
	c.text("name", &m.Name)
	c.num32("mode", &m.Mode)
	c.num32("gid", &m.Gid)
}

func (m *LRenameat) fields(c coder) {
	c.num32("olddirfid", &m.Olddir)
	c.text("oldname", &m.Oldname)
	c.num32("newdirfid", &m.Newdir)
	c.text("newname", &m.Newname)
}

func (m *LUnlinkat) fields(c coder) {
	c.num32("dirfid", &m.Dfid)
	c.text("name", &m.Name)
	c.num32("flags", &m.Flags)
}

// NewLinuxMsg returns an empty message of the type, nil if 9P2000.L has none of its own of that type.
func NewLinuxMsg(typ uint8) LinuxMsg {
	switch typ {
	case Rlerror:
		return new(LError)
	case Tstatfs, Treadlink:
		return new(LFid)
	case Rstatfs:
		return new(LStatfs)
	case Tlopen:
		return new(LOpen)
	case Rlopen, Rlcreate:
		return new(LOpened)
	case Tlcreate:
		return new(LCreate)
	case Tsymlink:
		return new(LSymlink)
	case Rsymlink, Rmknod, Rmkdir:
		return new(LQid)
	case Tmknod:
		return new(LMknod)
	case Trename:
		return new(LRename)
	case Rreadlink:
		return new(LReadlink)
	case Tgetattr:
		return new(LGetattr)
	case Rgetattr:
		return new(LAttr)
	case Tsetattr:
		return new(LSetattr)
	case Txattrwalk:
		return new(LXattrwalk)
	case Rxattrwalk:
		return new(LXattrsize)
	case Txattrcreate:
		return new(LXattrcreate)
	case Treaddir:
		return new(LReaddir)
	case Rreaddir:
		return new(LEntries)
	case Tfsync:
		return new(LFsync)
	case Tlock:
		return new(LLock)
	case Rlock:
		return new(LLocked)
	case Tgetlock:
		return new(LGetlock)
	case Rgetlock:
		return new(LRange)
	case Tlink:
		return new(LLink)
	case Tmkdir:
		return new(LMkdir)
	case Trenameat:
		return new(LRenameat)
	case Tunlinkat:
		return new(LUnlinkat)
	case Rrename, Rsetattr, Rxattrcreate, Rfsync, Rlink, Rrenameat, Runlinkat:
		return new(LEmpty)
	}
	return nil
}

// LXattrsize is Rxattrwalk.
type LXattrsize struct{ Size uint64 }

func (m *LXattrsize) fields(c coder) { c.num64("size", &m.Size) }

// linuxMsgs keeps one message of each type that was decoded, to be used again.
type linuxMsgs [Tunlinkat + 2]LinuxMsg

func (l *linuxMsgs) of(typ uint8) LinuxMsg {
	if int(typ) >= len(l) {
		return nil
	}
	if l[typ] == nil {
		l[typ] = NewLinuxMsg(typ)
	}
	return l[typ]
}

// fieldDecoder fills in the fields of a message.
type fieldDecoder struct{ *decoder }

func (d fieldDecoder) num8(field string, v *uint8)   { *v = d.u8(field) }
func (d fieldDecoder) num32(field string, v *uint32) { *v = d.u32(field) }
func (d fieldDecoder) num64(field string, v *uint64) { *v = d.u64(field) }
func (d fieldDecoder) text(field string, v *string)  { d.str(v, field) }
func (d fieldDecoder) qidOf(field string, v *Qid)    { *v = d.qid(field) }
func (d fieldDecoder) rest(field string, v *[]byte)  { *v = d.data(field) }

// fieldEncoder appends the fields of a message.
type fieldEncoder struct {
	b       []byte
	tooLong bool
}

func (e *fieldEncoder) num8(_ string, v *uint8) { e.b = append(e.b, *v) }
func (e *fieldEncoder) num32(_ string, v *uint32) {
	e.b = binary.LittleEndian.AppendUint32(e.b, *v)
}
func (e *fieldEncoder) num64(_ string, v *uint64) {
	e.b = binary.LittleEndian.AppendUint64(e.b, *v)
}
func (e *fieldEncoder) text(_ string, v *string) {
	if len(*v) > MaxString {
		e.tooLong = true
		return
	}
	e.b = appendString(e.b, *v)
}
func (e *fieldEncoder) qidOf(_ string, v *Qid) { e.b = appendQid(e.b, *v) }
func (e *fieldEncoder) rest(_ string, v *[]byte) {
	e.b = binary.LittleEndian.AppendUint32(e.b, uint32(len(*v)))
	e.b = append(e.b, *v...)
}

// fieldPrinter prints the fields of a message.
type fieldPrinter struct{ *textWriter }

func (w fieldPrinter) num8(field string, v *uint8)   { w.num(field, uint64(*v)) }
func (w fieldPrinter) num32(field string, v *uint32) { w.fid(field, *v) }
func (w fieldPrinter) num64(field string, v *uint64) { w.num(field, *v) }
func (w fieldPrinter) text(field string, v *string)  { w.str(field, *v) }
func (w fieldPrinter) qidOf(field string, v *Qid)    { w.qid(field, *v) }
func (w fieldPrinter) rest(_ string, v *[]byte)      { w.data(*v) }

// AppendLinux adds the frame of a message of 9P2000.L. m must be of the Go type that the message type
// has, see NewLinuxMsg. It returns b unchanged and an error that wraps ErrTooLong if a string is too
// long for the wire.
func AppendLinux(b []byte, typ uint8, tag uint16, m LinuxMsg) ([]byte, error) {
	e := fieldEncoder{b: begin(b, typ, tag)}
	m.fields(&e)
	if e.tooLong {
		return b, fmt.Errorf("%s: string: %w", typeName(typ), ErrTooLong)
	}
	return end(e.b, len(b)), nil
}

// AppendTattachL is AppendTattach in 9P2000.L and 9P2000.u: nuname is the user's number, NOUID for none.
func AppendTattachL(b []byte, tag uint16, fid, afid uint32, uname, aname string, nuname uint32) ([]byte, error) {
	at := len(b)
	c, err := AppendTattach(b, tag, fid, afid, uname, aname)
	if err != nil {
		return b, err
	}
	return end(binary.LittleEndian.AppendUint32(c, nuname), at), nil
}

// AppendTauthL is AppendTauth in 9P2000.L and 9P2000.u, with the user's number.
func AppendTauthL(b []byte, tag uint16, afid uint32, uname, aname string, nuname uint32) ([]byte, error) {
	at := len(b)
	c, err := AppendTauth(b, tag, afid, uname, aname)
	if err != nil {
		return b, err
	}
	return end(binary.LittleEndian.AppendUint32(c, nuname), at), nil
}

// FormatLinux prints a message of 9P2000.L as Format does those of 9P2000.
func FormatLinux(typ uint8, tag uint16, m LinuxMsg) string {
	var w textWriter
	w.head(typ, tag)
	m.fields(fieldPrinter{&w})
	return w.b.String()
}

// AppendDirent adds an entry of an Rreaddir: next is the offset that leads on from it, typ one of
// DTDir and DTReg. An entry takes DirentSize bytes and its name. Names must be shorter than 64 KiB.
//
//	qid[13] offset[8] type[1] name[s]
func AppendDirent(b []byte, q Qid, next uint64, typ uint8, name string) []byte {
	b = binary.LittleEndian.AppendUint64(appendQid(b, q), next)
	return appendString(append(b, typ), name)
}

// A Dirent is one entry of an Rreaddir.
type Dirent struct {
	Qid  Qid
	Next uint64
	Type uint8
	Name string
}

// DecodeDirents splits the data of an Rreaddir. The error is a *DecodeError.
func DecodeDirents(b []byte) ([]Dirent, error) {
	var list []Dirent
	for d := (decoder{b: b}); d.off < len(b); {
		e := Dirent{Qid: d.qid("qid"), Next: d.u64("offset"), Type: d.u8("type")}
		d.str(&e.Name, "name")
		if d.err != nil {
			return list, &DecodeError{Type: Rreaddir, Tag: NOTAG, Field: d.field, Off: d.at, Err: d.err}
		}
		list = append(list, e)
	}
	return list, nil
}
