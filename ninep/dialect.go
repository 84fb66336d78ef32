package ninep

import "strings"

// A Dialect is one of the forms of 9P that a connection can speak.
type Dialect uint8

// The dialects. The zero Dialect is Plan 9's.
const (
	Plan9 Dialect = iota // 9P2000, which every FS is served by
	Unix                 // 9P2000.u, for file systems that are a LinuxFS
	Linux                // 9P2000.L, likewise
)

// Names of the dialects in Tversion and Rversion.
const (
	Version  = "9P2000"
	VersionU = "9P2000.u"
	VersionL = "9P2000.L"
)

// String is the dialect's name in an Rversion.
func (d Dialect) String() string {
	switch d {
	case Unix:
		return VersionU
	case Linux:
		return VersionL
	}
	return Version
}

// dialectOf gives the best of the dialects for a client that asks for version, where with numbers for users
// and errors there are all, else only Plan 9's; and whether the version is one of 9P2000 at all. What comes
// after a dot and means nothing here is ignored. Source: version(5).
func dialectOf(version string, numbers bool) (Dialect, bool) {
	protocol, rest, _ := strings.Cut(version, ".")
	if protocol != Version {
		return Plan9, false
	}
	name, _, _ := strings.Cut(rest, ".")
	switch {
	case !numbers:
	case name == "u":
		return Unix, true
	case name == "L":
		return Linux, true
	}
	return Plan9, true
}
