package gefs

import "gefs9p/ninep"

// What a client is told, word for word as the reference says it: scripts compare these texts.
const (
	errCorrupt  = ninep.Error("block contents corrupted")
	errIO       = ninep.Error("i/o error")
	errBotch    = ninep.ErrBotch
	errType     = ninep.ErrFidType
	errInUse    = ninep.Error("resource in use")
	errScan     = ninep.Error("invalid dir scan offset")
	errNotFound = ninep.ErrNotFound
	errExists   = ninep.Error("create/wstat -- file exists")
	errMode     = ninep.Error("open/create -- unknown mode")
	errFull     = ninep.Error("file system full")
	errQuota    = ninep.Error("disk quota exceeded") // the reference has no quotas
	errAuth     = ninep.ErrNoAuth
	errLength   = ninep.Error("name too long")
	errPerm     = ninep.Error("permission denied")
	errName     = ninep.ErrBadName
	errSpec     = ninep.Error("attach -- bad specifier")
	errBadUser  = ninep.Error("attach -- unknown user or failed authentication")
	errReadOnly = ninep.Error("file system read only")
	errLocked   = ninep.Error("open/create -- file is locked")
	errPhase    = ninep.Error("phase error -- use after remove")
	errNotEmpty = ninep.Error("directory is not empty")
	errDir      = ninep.ErrBadDir
	errNoUser   = ninep.Error("user does not exist")
	errNoGroup  = ninep.Error("group does not exist")
	errFileSize = ninep.Error("file too big")
	errNoneAuth = ninep.Error("auth -- user 'none' requires no authentication")

	errWstatBits   = ninep.Error("wstat -- unknown bits in qid.type/mode")
	errWstatDir    = ninep.Error("wstat -- attempt to change directory")
	errWstatGroup  = ninep.Error("wstat -- not in group")
	errWstatLength = ninep.Error("wstat -- attempt to make length negative")
	errWstatOwner  = ninep.Error("wstat -- not owner or group leader")
	errWstatPath   = ninep.Error("wstat -- attempt to change qid.path")
	errWstatUid    = ninep.Error("wstat -- not owner")
	errWstatVers   = ninep.Error("wstat -- attempt to change qid.vers")
)
