package kvfmt

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// A Scrub says how far a scrub of the disk has come, and how the one before ended. It stands in the
// snapshot tree, as a configuration value that the reference does not know and leaves alone.
//
//	key    Kconf "gefs9p.scrub"
//	value  version[1]=1 flags[1] rate[8] began[8] ended[8] read[8] bad[8] healed[8] mark
//
// Times are seconds since 1970, 0 for never; rate and read are bytes; mark is a text that package check
// writes, of at most ScrubMark bytes.
type Scrub struct {
	Running      bool  // to be gone on with when the disk is served
	Rate         int64 // bytes a second
	Began, Ended int64 // this scrub, the last one that came to its end
	Read         int64
	Bad, Healed  int64 // blocks
	Mark         string
}

const (
	scrubKey  = "gefs9p.scrub"
	scrubHead = 2 + 7*8 - 8
	// ScrubMark is the greatest length of a Scrub's Mark.
	ScrubMark = 192
)

// AppendScrubKey appends the record's key.
func AppendScrubKey(p []byte) []byte { return AppendConfKey(p, scrubKey) }

// IsScrub reports whether key is that of a Scrub record.
func IsScrub(key []byte) bool {
	return len(key) > 0 && key[0] == Kconf && string(key[1:]) == scrubKey
}

// Append appends the record's value.
func (s Scrub) Append(p []byte) []byte {
	flags := byte(0)
	if s.Running {
		flags = 1
	}
	p = append(p, 1, flags)
	for _, v := range []int64{s.Rate, s.Began, s.Ended, s.Read, s.Bad, s.Healed} {
		p = binary.BigEndian.AppendUint64(p, uint64(v))
	}
	return append(p, s.Mark...)
}

// GetScrub decodes a Scrub record, strictly.
func GetScrub(val []byte) (Scrub, error) {
	var s Scrub
	if len(val) < scrubHead || len(val) > scrubHead+ScrubMark || val[0] != 1 || val[1] > 1 {
		return s, fmt.Errorf("%w: record of a scrub, %x", ErrValue, val[:min(len(val), scrubHead)])
	}
	s.Running = val[1] == 1
	for i, v := range []*int64{&s.Rate, &s.Began, &s.Ended, &s.Read, &s.Bad, &s.Healed} {
		if *v = int64(binary.BigEndian.Uint64(val[2+8*i:])); *v < 0 {
			return Scrub{}, fmt.Errorf("%w: record of a scrub with the number %d", ErrValue, *v)
		}
	}
	s.Mark = string(bytes.Clone(val[scrubHead:]))
	return s, nil
}
