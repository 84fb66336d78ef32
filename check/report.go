package check

import (
	"fmt"

	"gefs9p/blkfmt"
)

// A Severity says what a problem means for whoever uses the disk.
type Severity uint8

// The severities, from harmless to the worst.
const (
	Note  Severity = iota // worth knowing: the normal trace of a crash, or of the reference's habits
	Leak                  // space or records that nobody can reach any more; harmless
	Error                 // something is lost or contradicts itself
	Fatal                 // the allocation is inconsistent: further writes may destroy good blocks
)

var severities = [...]string{"note", "leak", "error", "fatal"}

func (s Severity) String() string {
	if int(s) < len(severities) {
		return severities[s]
	}
	return fmt.Sprintf("severity %d", uint8(s))
}

// MarshalText returns the severity's name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *Severity) UnmarshalText(p []byte) error {
	for i, name := range severities {
		if string(p) == name {
			*s = Severity(i)
			return nil
		}
	}
	return fmt.Errorf("unknown severity %q", p)
}

// A Kind names a sort of problem. The strings are stable: scripts and tests match on them.
type Kind string

// The kinds, by the pass that finds them. The comment gives the severity.
const (
	SuperBad      Kind = "super-bad"      // note: a copy of the superblock does not verify; fatal: neither does
	SuperStale    Kind = "super-stale"    // note: the copies are of different commits
	SuperFallback Kind = "super-fallback" // error: the newer superblock's arenas do not load, the older's do
	SuperField    Kind = "super-field"    // error: a field of the superblock makes no sense

	ArenaLayout      Kind = "arena-layout"      // fatal: an arena lies outside the device or on another
	HeaderBad        Kind = "header-bad"        // fatal: no copy of an arena's header is what the superblock says
	HeaderStale      Kind = "header-stale"      // note: one copy is not
	HeaderUnverified Kind = "header-unverified" // note: the superblock has no hash for it
	LogBad           Kind = "log-bad"           // fatal: a log block or entry cannot be read
	LogRange         Kind = "log-range"         // fatal: it allocates what is not free, or frees what is
	LogNoBarrier     Kind = "log-no-barrier"    // note: the log does not hold the commit's barrier
	UsedDiffers      Kind = "used-differs"      // note: replay and header disagree on the space in use

	ReadFailed Kind = "read-failed" // error: the device failed to read a block
	Corrupt    Kind = "corrupt"     // error: a block is not what its pointer or its own hash says
	BadAddress Kind = "bad-address" // fatal: a pointer leads out of the arenas
	UsedFree   Kind = "used-free"   // fatal: a block in use is free to be overwritten
	TwoOwners  Kind = "two-owners"  // fatal: a block is used twice
	Leaked     Kind = "leaked"      // leak: blocks are allocated and nobody owns them

	BadNode    Kind = "bad-node"    // error: a tree block is malformed
	BadDepth   Kind = "bad-depth"   // error: a leaf is not at the bottom, or a pivot is
	BadFill    Kind = "bad-fill"    // error: the parent records another fill
	BadOrder   Kind = "bad-order"   // error: keys outside what the parent says
	BadGen     Kind = "bad-gen"     // error: a block is younger than what points at it
	BadKey     Kind = "bad-key"     // error: a malformed key, or one that does not belong in this tree
	BadValue   Kind = "bad-value"   // error: a malformed value
	BadMessage Kind = "bad-message" // error: a message that cannot be applied
	BadName    Kind = "bad-name"    // note: a file name that cannot be created over 9P

	NoRoot      Kind = "no-root"      // error: a snapshot without a root directory
	QidTwice    Kind = "qid-twice"    // error: two entries with one qid
	QidRange    Kind = "qid-range"    // error: a qid that was not handed out yet
	UpMismatch  Kind = "up-mismatch"  // error: a directory's own record and its entry disagree
	DirLoop     Kind = "dir-loop"     // error: directories that are their own parents
	ModeType    Kind = "mode-type"    // error: mode and qid type disagree on what is a directory
	OrphanEntry Kind = "orphan-entry" // leak: entries of a directory that is not there
	OrphanData  Kind = "orphan-data"  // leak: data of a file that is not there
	DataBeyond  Kind = "data-beyond"  // leak: data behind the end of a file
	Clearing    Kind = "clearing"     // note: data that a server has yet to clear, and knows it
	Receiving   Kind = "receiving"    // note: a snapshot of which a part was received
	FileEntries Kind = "file-entries" // note: a plain file with directory entries
	DirData     Kind = "dir-data"     // note: a directory with data

	LabelDangling Kind = "label-dangling" // error: a label of a snapshot that is not there
	LabelMissing  Kind = "label-missing"  // error: no snapshot is labelled adm, or main; note: empty
	SnapGen       Kind = "snap-gen"       // error: a snapshot's generation is not its key's or not handed out yet
	SnapPred      Kind = "snap-pred"      // error: the predecessor is not there, or not older
	SnapSucc      Kind = "snap-succ"      // error: the successor is not there, or has another predecessor
	SnapBase      Kind = "snap-base"      // error: a fork point in the future
	CountLow      Kind = "count-low"      // error: fewer labels or references recorded than there are
	CountHigh     Kind = "count-high"     // leak: more recorded, so that it will never be reclaimed
	SnapStale     Kind = "snap-stale"     // note: a snapshot that nobody needs; our server goes on removing it
	Unchecked     Kind = "unchecked"      // note: contents that were not cross-checked as parts are unreadable

	QuotaBad   Kind = "quota-bad"   // note: a record for quotas that a server ignores
	QuotaStale Kind = "quota-stale" // note: what a label's files use was counted for another state
	QuotaWrong Kind = "quota-wrong" // error: it is not what was recorded for the quotas

	DeadBad     Kind = "dead-bad"     // error: a deadlist that cannot be followed
	DeadGen     Kind = "dead-gen"     // error: a deadlist, or an entry, of the wrong generation
	DeadLive    Kind = "dead-live"    // error: listed as dead and still in use
	DeadTwice   Kind = "dead-twice"   // fatal: listed as dead twice: it would be freed twice
	DeadMissing Kind = "dead-missing" // leak: dead blocks that no list has
	DeadStray   Kind = "dead-stray"   // leak: listed as dead, and in no snapshot
	DeadOrphan  Kind = "dead-orphan"  // leak: the deadlist of a snapshot that is not there
	DeadWaiting Kind = "dead-waiting" // note: blocks of removed snapshots that our server has yet to free
)

// A Problem is one thing that is wrong, or worth a note.
type Problem struct {
	Kind     Kind        `json:"kind"`
	Severity Severity    `json:"severity"`
	Addr     blkfmt.Addr `json:"addr"`            // the block it is about; NoAddr if it is not about one
	Block    string      `json:"block,omitempty"` // what that block is, as blkfmt.Type names it
	Text     string      `json:"text"`
	// Paths are the files concerned as snapshot/path, a directory whose entries are meant with a
	// slash at its end; a snapshot without a label is #generation. There are MorePaths besides.
	Paths     []string `json:"paths,omitempty"`
	MorePaths int      `json:"morePaths,omitempty"`

	refs []fileRef // files it concerns that are known without looking for Addr
}

// An Extent is a run of blocks: Len bytes from Addr.
type Extent struct {
	Addr blkfmt.Addr `json:"addr"`
	Len  int64       `json:"len"`
}

// Counts are numbers of blocks. Shared blocks count once.
type Counts struct {
	Total     int64 `json:"total"` // allocatable blocks of all arenas
	Free      int64 `json:"free"`
	Used      int64 `json:"used"` // Total less Free
	Log       int64 `json:"log"`
	SnapNodes int64 `json:"snapNodes"` // nodes of the snapshot tree
	Pivots    int64 `json:"pivots"`    // of file systems
	Leaves    int64 `json:"leaves"`    // of file systems
	Data      int64 `json:"data"`
	Deadlist  int64 `json:"deadlist"` // blocks that hold deadlists
	Dead      int64 `json:"dead"`     // listed in deadlists and in no snapshot
	Leaked    int64 `json:"leaked"`
}

// An ArenaReport is about one arena. Sizes are in bytes.
type ArenaReport struct {
	Header     blkfmt.Addr `json:"header"`
	Size       int64       `json:"size"` // of the body
	Used       int64       `json:"used"` // by replay; as in the header, the two blocks never used count
	HeaderUsed int64       `json:"headerUsed"`
	LogBlocks  int         `json:"logBlocks"`
	LogEntries int         `json:"logEntries"` // replayed
	Barrier    bool        `json:"barrier"`    // the commit's barrier was found
	Leaked     int64       `json:"leaked"`     // blocks
	Loaded     bool        `json:"loaded"`     // header and log could be read
}

// A SnapReport is about one snapshot.
type SnapReport struct {
	Gen     blkfmt.Gen `json:"gen"`
	Labels  []string   `json:"labels,omitempty"`
	Mutable bool       `json:"mutable"` // one of the labels is
	Pred    blkfmt.Gen `json:"pred"`
	Succ    blkfmt.Gen `json:"succ"`
	Base    blkfmt.Gen `json:"base"`
	Height  int        `json:"height"`
	Nlbl    int        `json:"nlbl"` // as recorded
	Nref    int        `json:"nref"`
	Refs    int        `json:"refs"` // snapshots that have it as their predecessor
	Dead    int64      `json:"dead"` // addresses in its deadlists
	// The rest is what is in it once buffered messages are applied; known if Checked.
	Checked bool   `json:"checked"`
	Files   int64  `json:"files"`
	Dirs    int64  `json:"dirs"`
	Data    int64  `json:"data"`  // data blocks
	Bytes   uint64 `json:"bytes"` // sum of the lengths of plain files
}

// A Report is what a run found.
type Report struct {
	Version  string         `json:"version"`
	Size     int64          `json:"size"` // bytes of the device
	Qgen     int64          `json:"qgen"` // of the commit that was checked
	NextQid  uint64         `json:"nextQid"`
	NextGen  blkfmt.Gen     `json:"nextGen"`
	Super    blkfmt.Addr    `json:"super"` // the superblock used
	Counts   Counts         `json:"counts"`
	Arenas   []ArenaReport  `json:"arenas"`
	Snaps    []SnapReport   `json:"snapshots"`
	Problems []Problem      `json:"problems"` // worst first; of each kind only the first MaxPerKind
	ByKind   map[Kind]int   `json:"byKind"`   // all of them
	Found    [Fatal + 1]int `json:"found"`    // number of problems by severity
	// Leaked are the blocks without an owner, in order. It is only filled if Complete.
	Leaked []Extent `json:"leaked,omitempty"`
	// Opening says what a server will do that opens the disk, where that is more than to open it.
	Opening string `json:"opening,omitempty"`
	// Complete says that all that owns blocks could be read. Otherwise a block without an owner
	// may belong to what was not readable, and must not be given back.
	Complete bool `json:"complete"`
}

// MaxPerKind is the number of problems of one kind that a report holds.
const MaxPerKind = 100

// Clean reports whether the disk is sound: nothing found that is worse than a leak or, if strict,
// than a note.
func (r *Report) Clean(strict bool) bool {
	return r.Found[Error]+r.Found[Fatal] == 0 && (!strict || r.Found[Leak] == 0)
}
