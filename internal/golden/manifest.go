package golden

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A Contents is what the reference showed on a golden disk.
type Contents struct {
	Image  string `json:"image"`        // file name of the packed disk
	Bytes  int64  `json:"image_bytes"`  // length of the disk
	SHA256 string `json:"image_sha256"` // of the unpacked disk, in hex
	Note   string `json:"note"`         // how the disk came to be

	// LoadMessages are the lines the reference printed when it loaded the disk. See Load.
	LoadMessages []string `json:"load_messages"`

	// ReadWriteStart says whether the reference took writes afterwards; empty for clean disks.
	ReadWriteStart string `json:"read_write_start"`

	// Users is the content of the users file in the snapshot adm.
	Users string `json:"adm_users"`

	// Snapshots are the labels, by name.
	Snapshots map[string]Snapshot `json:"snapshots"`
}

// A Snapshot is what one label showed.
type Snapshot struct {
	Mutable     bool            `json:"mutable"`
	DumpQidPath uint64          `json:"dump_qid_path"` // of its directory in the dump tree; the label's generation
	Entries     int             `json:"entries"`       // len(Files)
	Files       map[string]File `json:"files"`         // by path; the root is "/"
}

// A File is the Rstat of one file or directory, and the hash of a file's content.
type File struct {
	Dir     bool
	Mode    uint32 // all of 9P's mode: DMDIR 0x80000000 and the other bits, and permissions
	Uid     string
	Gid     string
	Muid    string
	Atime   int64 // seconds since 1970
	Mtime   int64 // the same; the reference rounds to the nearest
	Length  uint64
	SHA256  string // of the content, in hex; empty for directories
	QidType uint8
	QidPath uint64
	QidVers uint32 // may be stale in the reference while fids are held
}

// UnmarshalJSON reads one file of a manifest.
func (f *File) UnmarshalJSON(p []byte) error {
	var raw struct {
		Type    string `json:"type"`
		Mode    string `json:"mode"`
		DMBits  string `json:"dmbits"`
		Uid     string `json:"uid"`
		Gid     string `json:"gid"`
		Muid    string `json:"muid"`
		Atime   int64  `json:"atime"`
		Mtime   int64  `json:"mtime"`
		Length  uint64 `json:"length"`
		SHA256  string `json:"sha256"`
		QidType string `json:"qid_type"`
		QidPath uint64 `json:"qid_path"`
		QidVers uint32 `json:"qid_vers"`
	}
	if err := json.Unmarshal(p, &raw); err != nil {
		return err
	}
	perm, err := strconv.ParseUint(raw.Mode, 8, 9)
	if err != nil {
		return fmt.Errorf("mode: %w", err)
	}
	mode := uint32(perm)
	for bit := range strings.FieldsFuncSeq(raw.DMBits, func(r rune) bool { return r == '|' }) {
		switch bit {
		case "DIR":
			mode |= 0x80000000
		case "APPEND":
			mode |= 0x40000000
		case "EXCL":
			mode |= 0x20000000
		case "TMP":
			mode |= 0x04000000
		default:
			return fmt.Errorf("mode bit %q", bit)
		}
	}
	typ, err := strconv.ParseUint(raw.QidType, 0, 8)
	if err != nil {
		return fmt.Errorf("qid type: %w", err)
	}
	*f = File{
		Dir: raw.Type == "dir", Mode: mode,
		Uid: raw.Uid, Gid: raw.Gid, Muid: raw.Muid,
		Atime: raw.Atime, Mtime: raw.Mtime,
		Length: raw.Length, SHA256: raw.SHA256,
		QidType: uint8(typ), QidPath: raw.QidPath, QidVers: raw.QidVers,
	}
	return nil
}

// Manifest reads the manifest of the golden disk name, or skips the test if there are no
// golden disks.
func Manifest(t testing.TB, name string) *Contents {
	t.Helper()
	p, err := os.ReadFile(filepath.Join(Dir(t), name+".json"))
	if err != nil {
		t.Fatalf("golden: %v", err)
	}
	m := new(Contents)
	if err := json.Unmarshal(p, m); err != nil {
		t.Fatalf("golden: manifest of %s: %v", name, err)
	}
	return m
}

// Load returns what follows "key: " in the load messages, such as narenas, features, nextqid,
// lastqgen, nextgen and blocksize (decimal numbers) or snaptree. The test fails if there is none.
//
// nextgen is one more than the disk says: loading took a generation for the snapshot it opened.
func (m *Contents) Load(t testing.TB, key string) string {
	t.Helper()
	for _, line := range m.LoadMessages {
		if v, ok := strings.CutPrefix(line, key+": "); ok {
			return v
		}
	}
	t.Fatalf("golden: no load message %q in the manifest of %s", key, m.Image)
	return ""
}
