package salvage

import (
	"gefs9p/kvfmt"
	"gefs9p/users"
)

// A File is a file or directory on its way to a Sink.
type File struct {
	Label string
	Path  []string // from the label's root, whose own Path is empty; names as on the disk, any bytes but 0
	Dir   kvfmt.Dir
	// Uid, Gid and Muid are the names of the users, numbers where the disk's table has none.
	Uid, Gid, Muid string
	// Status may become worse until the file is finished.
	Status Status
	Why    string
	Lost   []Range // what is lost of the data
}

// IsDir reports whether f is a directory.
func (f *File) IsDir() bool { return f.Dir.Mode&dmDir != 0 }

// A Sink takes what is salvaged. Its methods are called by the goroutine of Run. An error of type
// *FileError is about one file: it is reported, and the run goes on. Any other error ends the run.
//
// A directory may come twice, if entries of it are found later.
type Sink interface {
	// Label begins another tree; f.Path of all that follows is relative to it. table has the disk's users and is
	// nil if they could not be read.
	Label(l LabelReport, table *users.Table) error
	// Mkdir makes a directory. It comes before all in it, its parents before it.
	Mkdir(f *File) error
	// Create makes a file.
	Create(f *File) (Writer, error)
	// Done says that all below the directory has been made, so that its times can be set.
	Done(f *File) error
}

// A Writer takes a file's data, in ascending order.
type Writer interface {
	// WriteAt writes p at off, a multiple of the block size. What is never written is zeros: holes
	// of the file, and what is lost. p is valid during the call only.
	WriteAt(p []byte, off int64) (int, error)
	// Finish ends the file, whose length is f.Dir.Length and whose Status is final.
	Finish(f *File) error
}

// A FileError says that a Sink cannot hold a file or directory.
type FileError struct{ Err error }

func (e *FileError) Error() string { return "cannot be written: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }
