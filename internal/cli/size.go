package cli

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"gefs9p/blkfmt"
	"gefs9p/blkstore"
)

var units = map[byte]int64{'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}

// parseSize reads a number of bytes: digits, and K, M, G or T for powers of 1024. A number alone is
// in units of bare bytes.
func parseSize(s string, bare int64) (int64, error) {
	digits, unit := s, bare
	if s != "" {
		if u, ok := units[strings.ToUpper(s)[len(s)-1]]; ok {
			digits, unit = s[:len(s)-1], u
		}
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, fmt.Errorf("%q is not a size: a whole number is wanted, then K, M, G or T, such as 4G", s)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is too large: a disk has at most %d bytes", s, int64(math.MaxInt64))
	}
	return n * unit, nil
}

// A sizeFlag is the value of a flag that takes a number of bytes; 0 if it was not given.
type sizeFlag int64

func (f *sizeFlag) String() string {
	if *f == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*f), 10)
}

func (f *sizeFlag) Type() string { return "SIZE" }

func (f *sizeFlag) Set(s string) error {
	n, err := parseSize(s, 1)
	if err == nil && n == 0 {
		err = errors.New("a disk of no bytes is none")
	}
	if err != nil {
		return err
	}
	*f = sizeFlag(n)
	return nil
}

// A memFlag is how much memory the block cache may take: bytes, or a part of what the machine has.
type memFlag struct {
	bytes   int64
	percent int64 // if bytes is 0
}

// unknownMemory is what the cache takes where the machine does not say how much memory it has.
// Source: gefs(4).
const unknownMemory = 512 << 20

func (f *memFlag) String() string {
	if f.bytes != 0 {
		return strconv.FormatInt(f.bytes, 10)
	}
	return strconv.FormatInt(f.percent, 10) + "%"
}

func (f *memFlag) Type() string { return "MEM" }

// Set reads 25%, 512M, 2G; a number alone is in MiB, as in gefs(4).
func (f *memFlag) Set(s string) error {
	if p, ok := strings.CutSuffix(s, "%"); ok {
		n, err := strconv.ParseUint(p, 10, 8)
		if err != nil || n < 1 || n > 100 {
			return fmt.Errorf("%q is not a part of the memory: 1%% to 100%% is wanted", s)
		}
		*f = memFlag{percent: int64(n)}
		return nil
	}
	n, err := parseSize(s, 1<<20)
	if err != nil {
		return err
	}
	if least := int64(blkstore.MinCache) * blkfmt.BlkSize; n < least {
		return fmt.Errorf("%q is too little: the cache needs at least %dM", s, least>>20)
	}
	if total := memory(); total > 0 && n > total {
		return fmt.Errorf("%q is more than the %dM of memory there are", s, total>>20)
	}
	*f = memFlag{bytes: n}
	return nil
}

// blocks is the size of the cache in blocks.
func (f *memFlag) blocks() int {
	n := f.bytes
	if n == 0 {
		n = unknownMemory
		if total := memory(); total > 0 {
			n = total / 100 * f.percent
		}
	}
	return int(max(n/blkfmt.BlkSize, blkstore.MinCache))
}

// A traceFlag is an amount of memory in MiB.
type traceFlag int64

// traceMax is far more than anybody reads.
const traceMax = 4096

func (f *traceFlag) String() string { return strconv.FormatInt(int64(*f), 10) }

func (f *traceFlag) Type() string { return "MIB" }

func (f *traceFlag) Set(s string) error {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || n > traceMax {
		return fmt.Errorf("%q is not a number of MiB from 0 to %d", s, traceMax)
	}
	*f = traceFlag(n)
	return nil
}
