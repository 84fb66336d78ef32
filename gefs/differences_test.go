package gefs_test

import "strings"

// Why an answer is not the reference's: the headings of docs/differences.md.
const (
	whyMsize      = "Message sizes"
	whyUnix       = "9P2000.u"
	whySession    = "A second Tversion starts the session anew"
	whyUnopened   = "Only open fids are read and written"
	whyDirOpen    = "Directories are opened for reading only"
	whyOpenBits   = "Unknown bits of an open mode are refused"
	whyDirCreate  = "Files are created in directories only"
	whyNames      = "File names are UTF-8"
	whyNameLength = "Names in a walk have the limit of names in a create"
	whyRoot       = "The root is neither removed nor renamed"
	whyDotDot     = "Dot-dot at the top stays there"
	whyScan       = "Directories are read in order"
	whyClose      = "Removal on close counts in the directory"
	whyTail       = "What was cut off does not come back"
	whyDirLength  = "Directories have no length to set"
	whyVers       = "The version in a Twstat is checked on its own"
	whyTrace      = "A refused request leaves no trace"
	whyOffset     = "Offsets end before 2^63"
	whyUsage      = "Usage messages"
)

const (
	notOpen    = "Rerror ename 'resource in use'"
	denied     = "Rerror ename 'permission denied'"
	badScan    = "Rerror ename 'invalid dir scan offset'"
	badMode    = "Rerror ename 'open/create -- unknown mode'"
	tooBig     = "Rerror ename 'file too big'"
	noneHere   = " type 65535 dev 4294967295)"
	justNow    = " atime 1795392000 mtime 1795392000"
	glendasOwn = " uid glenda gid adm muid glenda "
)

// snapUsage is how the console says what snap can do.
const snapUsage = "(usage: snap -l [-s] | [-m] old new | [-n] -d name... | rollback [-f] label old [keep])"

// deliberate are the steps of the transcript in which we differ on purpose. A step that differs only
// as a consequence of an earlier one has the reason of that one.
var deliberate = map[string]difference{
	"3.0": {want: "Rversion msize 8192 version 9P2000.u", why: whyUnix},
	"3.1": {want: "Rversion msize 8192 version unknown", why: whyMsize},
	"5.0": {want: "Rerror ename 'version: message size too small'", why: whyMsize},

	"9.3": {want: "Rerror ename 'unknown fid'", why: whySession},

	"14.7":  {want: badScan, why: whyScan},
	"14.14": {want: "Rwalk wqid [0x8000000000000000.0.d]", why: whyDotDot},
	"18.5":  {want: "Rwalk wqid [0x3.1.d 0x0.1.d 0x0.1.d 0x3.1.d 0x4.1]", why: whyDotDot},

	"22.17": {want: badMode, why: whyOpenBits},
	"22.21": {want: badMode, why: whyOpenBits},

	// A directory opened for writing and written to, and opened to be truncated.
	"23.6": {want: denied, why: whyDirOpen},
	"23.7": {want: notOpen, why: whyDirOpen, vers: map[uint64]int32{8: 1}},
	"23.8": {want: "Rstat stat (name od" + glendasOwn + "qid 0x8.1.d mode d775" + justNow + " length 0" + noneHere, why: whyDirOpen},
	"24.3": {want: denied, why: whyDirOpen, vers: map[uint64]int32{8: 1}},
	"24.5": {want: denied, why: whyDirOpen},

	"26.4": {want: notOpen, why: whyUnopened},
	"26.6": {want: notOpen, why: whyUnopened},
	"26.8": {want: notOpen, why: whyUnopened},

	"30.23": {want: "Rerror ename 'create/wstat -- bad character in file name'", why: whyNames, qids: 1, vers: map[uint64]int32{0: 1}},

	"33.9":  {want: notOpen, why: whyUnopened},
	"33.21": {want: notOpen, why: whyUnopened},
	"33.23": {want: denied, why: whyDirOpen, qids: 1, vers: map[uint64]int32{0: 1}},
	"33.24": {want: notOpen, why: whyDirOpen},

	"34.7": {want: denied, why: whyDirCreate, qids: 1, vers: map[uint64]int32{7: 1}},

	// Not answers that differ: what was open is removed, and the directory is told.
	"36.6": {why: whyClose, vers: map[uint64]int32{0: -1}},
	"37.9": {why: whyClose, vers: map[uint64]int32{0: -1}},

	"39.4": {want: notOpen, why: whyUnopened},

	"40.27": {want: badScan, why: whyScan},
	"40.28": {want: badScan, why: whyScan},
	"40.31": {want: badScan, why: whyScan},
	"40.34": {want: "Rerror ename 'protocol botch'", why: whyScan},
	"40.35": {want: "Rerror ename 'protocol botch'", why: whyScan},
	"40.36": {want: badScan, why: whyScan},
	"40.37": {want: badScan, why: whyScan},

	"42.4": {want: notOpen, why: whyUnopened, vers: map[uint64]int32{9: 1}},
	"42.5": {want: notOpen, why: whyUnopened},
	"43.3": {want: notOpen, why: whyUnopened, vers: map[uint64]int32{4: 1}},
	"43.12": {
		want: "Rread count 104 data 0x68656c6c6f" + strings.Repeat("00", 95) + "70617374", // the write of x is missing
		why:  whyUnopened,
	},

	"54.11": {want: "Rread count 8 data 0x3031323300000000", why: whyTail},
	"54.15": {want: denied, why: whyDirLength, vers: map[uint64]int32{8: 1}},
	"54.16": {want: "Rstat stat (name od" + glendasOwn + "qid 0x8.3.d mode d775" + justNow + " length 0" + noneHere, why: whyDirLength},

	"57.4": {want: "Rerror ename 'wstat -- attempt to change qid.vers'", why: whyVers},

	"61.6": {want: "unknown command 'snap -x main' " + snapUsage, why: whyUsage},
	"61.7": {want: "unknown command 'snap main' " + snapUsage, why: whyUsage},

	"63.12": {want: "Rstat stat (name victim" + glendasOwn + "qid 0x3.2 mode 644" + justNow + " length 10" + noneHere, why: whyTrace},
	"63.15": {want: "Rwrite count 1", why: whyTrace},
	"63.17": {want: "Rcreate qid 0x4.0 iounit 0", why: whyTrace},

	"65.2": {want: "Rerror ename 'name too long'", why: whyNameLength},

	"67.2": {want: denied, why: whyRoot},
	"67.3": {want: "Rwalk wqid []", why: whyRoot},
	"67.4": {want: "Rstat stat (name '' uid adm gid adm muid none qid 0x0.0.d mode d775 atime 0 mtime 0 length 0" + noneHere, why: whyRoot},
	"67.5": {want: "Rattach qid 0x0.0.d", why: whyRoot},
	"69.3": {want: denied, why: whyRoot},

	"71.4": {want: tooBig, why: whyOffset},
	"71.5": {want: "Rstat stat (name far" + glendasOwn + "qid 0x3.0 mode 664" + justNow + " length 0" + noneHere, why: whyOffset},
	"71.6": {want: tooBig, why: whyOffset},
	"71.7": {want: "Rstat stat (name far" + glendasOwn + "qid 0x3.0 mode 664" + justNow + " length 0" + noneHere, why: whyOffset},
}
