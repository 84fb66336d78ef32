package blkfmt

import (
	"errors"
	"fmt"
)

// MinDevice is the length in bytes of the smallest device that can be reamed.
const MinDevice = 128<<20 + BlkSize

// ArenaOverhead is what an arena takes beside its body: the header and its copy.
const ArenaOverhead = 2 * BlkSize

// ArenaUnused is what is never handed out at the end of each body, as in the reference.
const ArenaUnused = 2 * BlkSize

// MinGrow is the number of bytes a device must have gained before it can be grown into.
const MinGrow = 64 << 20

// GrowCount is the number of arenas that growing adds.
const GrowCount = 4

var (
	// ErrTooSmall says that a device is smaller than MinDevice.
	ErrTooSmall = errors.New("ream: disk too small")

	// ErrNoGrowth says that a device has not gained MinGrow bytes. The error is a *GrowthError.
	ErrNoGrowth = errors.New("new arenas too small")
)

// A GrowthError says that a device is not long enough for more arenas. It is ErrNoGrowth.
type GrowthError struct {
	Length int64 // of the device, bytes
	Gained int64 // what there is for new arenas; what ream could not share out for a device that has not grown
	Least  int64 // the shortest device that can be grown into
}

func (e *GrowthError) Error() string {
	return fmt.Sprintf("%v (%d < %d), not growing: the disk must have at least %d bytes, and has %d",
		ErrNoGrowth, e.Gained, int64(MinGrow), e.Least, e.Length)
}

// Unwrap returns ErrNoGrowth.
func (e *GrowthError) Unwrap() error { return ErrNoGrowth }

// A Geometry is where ream puts the arenas of a device, or grow the new ones.
type Geometry struct {
	First  Addr  // header of the first arena
	Count  int   // number of arenas
	Size   int64 // bytes of each body
	Backup Addr  // second superblock
}

// Stride is the distance in bytes from one arena's header to the next.
func (g Geometry) Stride() int64 { return g.Size + ArenaOverhead }

// Header returns the address of arena i's header.
func (g Geometry) Header(i int) Addr { return g.First + Addr(int64(i)*g.Stride()) }

// BackupAddr returns where the second superblock of a device of length bytes is. For a device of
// less than two blocks it is not positive, and there is none.
func BackupAddr(length int64) Addr { return Addr(length - length%BlkSize - BlkSize) }

// ReamGeometry lays out a device of length bytes: one arena for each 4 TiB, at least 8 and at most
// 32. It returns an error that wraps ErrTooSmall below MinDevice. Source: ream.
func ReamGeometry(length int64) (Geometry, error) {
	if length < MinDevice {
		return Geometry{}, fmt.Errorf("%w: %d bytes, at least %d are needed", ErrTooSmall, length, int64(MinDevice))
	}
	space := length - length%BlkSize - 2*BlkSize
	const per = 4 << 40
	n := min(max((space+per-1)/per, 8), 32)
	size := space / n
	size -= size % BlkSize
	return Geometry{First: BlkSize, Count: int(n), Size: size - ArenaOverhead, Backup: Addr(space + BlkSize)}, nil
}

// GrowGeometry lays out what a device of length bytes has behind the end of its last arena: four
// new arenas. The old backup superblock is given up. It returns a *GrowthError if there are less than
// MinGrow bytes. Source: growfs.
func GrowGeometry(end Addr, length int64) (Geometry, error) {
	limit := length - length%BlkSize - BlkSize // the backup's address
	space := limit - BlkSize - int64(end)
	if end <= 0 || space < MinGrow {
		return Geometry{}, &GrowthError{Length: length, Gained: max(space, 0), Least: int64(end) + MinGrow + 2*BlkSize}
	}
	size := space / GrowCount
	size -= size % BlkSize
	return Geometry{First: end, Count: GrowCount, Size: size - ArenaOverhead, Backup: Addr(limit)}, nil
}
