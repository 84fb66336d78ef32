package golibs

import (
	"errors"
	"strings"
)

// A tree is a file system as a library shows it, attached. Paths have no slash in front. All of it may be used by
// many goroutines.
type tree interface {
	// Create makes a file with permissions perm and writes data into it.
	Create(path string, perm uint32, data []byte) error
	// WriteAt opens a file that exists and writes; with trunc it empties it before.
	WriteAt(path string, data []byte, off int64, trunc bool) error
	ReadAll(path string) ([]byte, error)
	Stat(path string) (info, error)
	List(path string) ([]info, error)
	Mkdir(path string, perm uint32) error
	Rename(path, name string) error // in its directory
	Chmod(path string, perm uint32) error
	Truncate(path string, n uint64) error
	Remove(path string) error
	Close()
}

// An info is what all libraries can say of a file.
type info struct {
	Name    string
	Dir     bool
	Perm    uint32
	Size    uint64
	QidPath uint64
	QidVers uint32
	Uid     string
}

// errSkip is the error of what a library cannot do.
var errSkip = errors.New("not offered by this library")

// A library attaches as uname to aname at an address of package net.
type library struct {
	name   string
	attach func(network, addr, uname, aname string) (tree, error)
}

var libraries = []library{
	{"9fans.net/go/plan9/client", attachNineFans},
	{"lionkov/go9p", attachLionkov},
	{"lionkov/go9p in 9P2000.u", attachLionkovU},
	{"docker/go-p9p", attachDocker},
	{"knusbaum/go9p/proto", attachProto},
	{"hugelgupf/p9 in 9P2000.L", attachHugelgupf},
}

// split returns the elements of a path.
func split(path string) []string {
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

// dirAndName cuts a path before its last element.
func dirAndName(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}
