package salvage

import (
	"fmt"
	"io"

	"gefs9p/blkfmt"
)

// A Status says what has become of a file or directory.
type Status uint8

// The statuses, from the best to the worst.
const (
	Whole   Status = iota // entry and data are proved to be of one state of the label
	Unsure                // complete, but changes may be missing
	Damaged               // parts are lost
)

var statusNames = [...]string{"whole", "unsure", "damaged"}

func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// MarshalText returns the status's name.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *Status) UnmarshalText(p []byte) error {
	for i, n := range statusNames {
		if n == string(p) {
			*s = Status(i)
			return nil
		}
	}
	return fmt.Errorf("unknown status %q", p)
}

// A Range is Len bytes of a file from Off.
type Range struct {
	Off uint64 `json:"off"`
	Len uint64 `json:"len"`
}

// A FileReport is about a file or directory that is not whole.
type FileReport struct {
	Label  string  `json:"label"`
	Path   string  `json:"path"` // from the label's root, with a slash before it
	Qid    uint64  `json:"qid"`
	Dir    bool    `json:"dir,omitempty"`
	Length uint64  `json:"length"`
	Status Status  `json:"status"`
	Why    string  `json:"why,omitempty"`
	Lost   []Range `json:"lost,omitempty"` // what could not be read, in order
}

// A Hole is a range of a tree's keys that is lost, or was patched.
type Hole struct {
	Addr    blkfmt.Addr `json:"addr"` // of the block that cannot be read; NoAddr if that is not known
	Level   int         `json:"level"`
	From    string      `json:"from"` // in words: a path where there is one
	To      string      `json:"to"`
	Patches int         `json:"patches"` // nodes found for it; without any all in the range is lost
}

// A LabelReport is about what was found under one label.
type LabelReport struct {
	Name    string     `json:"name"`
	Gen     blkfmt.Gen `json:"gen"`
	Mutable bool       `json:"mutable"`
	// Proven says that the label's record was reached from a superblock. Otherwise it is the newest that
	// was found.
	Proven bool `json:"proven"`
	// Doubt says why nothing in the label is Whole, empty if that is not so. Then files that are Unsure
	// are not listed one by one.
	Doubt   string `json:"doubt,omitempty"`
	Dirs    int64  `json:"dirs"`
	Whole   int64  `json:"whole"` // files, as the next two
	Unsure  int64  `json:"unsure"`
	Damaged int64  `json:"damaged"`
	Bytes   uint64 `json:"bytes"` // of data read and verified
	Holes   []Hole `json:"holes,omitempty"`
}

// A Report is what a run found. It holds a record for each file that is not whole.
type Report struct {
	Size       int64         `json:"size"`  // bytes of the device
	Super      blkfmt.Addr   `json:"super"` // the superblock used; NoAddr if there is none
	Qgen       int64         `json:"qgen"`  // the commit; without a superblock, the one that the logs are believed up to
	Scanned    bool          `json:"scanned"`
	Nodes      int64         `json:"nodes"`      // blocks that have the form of a node, if scanned
	LostNodes  int64         `json:"lostNodes"`  // that something points at and that cannot be read
	ReadErrors int64         `json:"readErrors"` // blocks the device failed to read
	Notes      []string      `json:"notes,omitempty"`
	Labels     []LabelReport `json:"labels"`
	Files      []FileReport  `json:"files,omitempty"` // in the order they were met
}

// Whole reports whether everything that was asked for has been saved whole, from a state that is
// proved to be the newest.
func (r *Report) Whole() bool {
	for i := range r.Labels {
		l := &r.Labels[i]
		if !l.Proven || l.Doubt != "" || l.Unsure+l.Damaged > 0 || len(l.Holes) > 0 {
			return false
		}
	}
	return len(r.Files) == 0
}

// WriteText writes the report for people. It returns the error of w.
func (r *Report) WriteText(w io.Writer) error {
	p := &printer{w: w}
	for _, n := range r.Notes {
		p.f("note: %s\n", n)
	}
	if r.ReadErrors > 0 {
		p.f("note: %d blocks could not be read from the device\n", r.ReadErrors)
	}
	for i := range r.Labels {
		l := &r.Labels[i]
		p.f("%s: %d files whole, %d unsure, %d damaged; %d directories; %d bytes\n", l.Name, l.Whole, l.Unsure, l.Damaged, l.Dirs, l.Bytes)
		if l.Doubt != "" {
			p.f("\tnothing in it is certain: %s\n", l.Doubt)
		} else if !l.Proven {
			p.f("\tthe newest state that was found; a newer one may have been lost\n")
		}
		for _, h := range l.Holes {
			what := "is lost"
			if h.Patches > 0 {
				what = fmt.Sprintf("comes from %d blocks found by scanning: changes may be missing, or removed files have come back", h.Patches)
			}
			p.f("\tfrom %s to %s: %s\n", h.From, h.To, what)
		}
	}
	for _, f := range r.Files {
		p.f("%s: %s%s", f.Status, f.Label, f.Path)
		if f.Why != "" {
			p.f(": %s", f.Why)
		}
		for i, l := range f.Lost {
			sep := ", "
			if i == 0 {
				sep = ": lost "
			}
			p.f("%s%d+%d", sep, l.Off, l.Len)
		}
		p.f("\n")
	}
	return p.err
}

// A printer prints until that fails.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) f(format string, arg ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, arg...)
	}
}
