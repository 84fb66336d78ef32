package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// A signature is what bytes at an offset say of a disk or file.
type signature struct {
	off   int
	magic string
	what  string
}

// signatures of what one would not want to erase by a slip of the hand. The first that fits names it,
// so those that are also found inside of others stand last.
var signatures = [...]signature{
	{0, "gefs", "a gefs disk"},
	{0, "LUKS\xba\xbe", "an encrypted disk (LUKS)"},
	{0, "XFSB", "an XFS file system"},
	{0, "hsqs", "a squashfs image"},
	{0, "QFI\xfb", "a qcow2 disk image"},
	{0, "KDMV", "a VMDK disk image"},
	{0, "conectix", "a VHD disk image"},
	{0, "vhdxfile", "a VHDX disk image"},
	{0, "\x1f\x8b", "a gzip file"},
	{0, "\x28\xb5\x2f\xfd", "a zstd file"},
	{0, "\xfd7zXZ\x00", "an xz file"},
	{0, "BZh", "a bzip2 file"},
	{0, "PK\x03\x04", "a zip file"},
	{0, "7z\xbc\xaf\x27\x1c", "a 7z file"},
	{0, "\x7fELF", "a program or library (ELF)"},
	{0, "MZ", "a program (Windows)"},
	{0, "%PDF-", "a PDF file"},
	{0, "\x89PNG", "a PNG picture"},
	{0, "\xff\xd8\xff", "a JPEG picture"},
	{0, "SQLite format 3\x00", "an SQLite database"},
	{3, "NTFS    ", "an NTFS file system"},
	{3, "EXFAT   ", "an exFAT file system"},
	{82, "FAT32   ", "a FAT file system"},
	{54, "FAT", "a FAT file system"},
	{257, "ustar", "a tar archive"},
	{1024 + 56, "\x53\xef", "an ext2, ext3 or ext4 file system"},
	{1024, "\x10\x20\xf5\xf2", "an F2FS file system"},
	{512, "LABELONE", "an LVM volume"},
	{4096 - 10, "SWAPSPACE2", "swap space"},
	{32769, "CD001", "a CD image (ISO 9660)"},
	{65536 + 64, "_BHRfS_M", "a Btrfs file system"},
	{512, "EFI PART", "a partitioned disk (GPT)"},
	{510, "\x55\xaa", "a partitioned disk (MBR)"},
}

const (
	headSize = 1 << 20 // bytes of a disk's beginning and of its end that are looked at
	nsample  = 1024    // places between that are looked at
	sampleSz = 4 << 10
)

// looksLike says what is on a device of size bytes, for a person to recognize: "" if it is empty as
// far as can be seen. It looks at the beginning, the end and many places between.
func looksLike(r io.ReaderAt, size int64) (string, error) {
	head := make([]byte, min(size, headSize))
	if err := readAll(r, head, 0); err != nil {
		return "", err
	}
	for _, s := range signatures {
		if end := s.off + len(s.magic); end <= len(head) && string(head[s.off:end]) == s.magic {
			return s.what, nil
		}
	}
	if !isZero(head) {
		if text, ok := textLine(head); ok {
			return fmt.Sprintf("a text that begins %q", text), nil
		}
		return fmt.Sprintf("unknown data (first bytes % x)", head[:min(16, len(head))]), nil
	}
	const later = "zeros at first but data after that"
	buf := make([]byte, sampleSz)
	step := max(size/nsample, sampleSz)
	for off := int64(len(head)); off < size; off += step {
		p := buf[:min(sampleSz, size-off)]
		if err := readAll(r, p, off); err != nil {
			return "", err
		}
		if !isZero(p) {
			return later, nil
		}
	}
	tail := head // its zeros are no longer needed
	if err := readAll(r, tail, size-int64(len(tail))); err != nil {
		return "", err
	}
	if !isZero(tail) {
		return later, nil
	}
	return "", nil
}

func readAll(r io.ReaderAt, p []byte, off int64) error {
	if n, err := r.ReadAt(p, off); n < len(p) {
		if err == io.EOF {
			err = errors.New("shorter than it was a moment ago")
		}
		return err
	}
	return nil
}

var zeros [4096]byte

func isZero(p []byte) bool {
	for len(p) > len(zeros) {
		if !bytes.Equal(p[:len(zeros)], zeros[:]) {
			return false
		}
		p = p[len(zeros):]
	}
	return bytes.Equal(p, zeros[:len(p)])
}

// textLine returns the first words of p if it begins like a text.
func textLine(p []byte) (string, bool) {
	p = p[:min(len(p), 512)]
	for i := len(p) - 1; i > len(p)-utf8.UTFMax && i >= 0; i-- {
		if utf8.RuneStart(p[i]) { // do not mind a rune cut in two
			if !utf8.FullRune(p[i:]) {
				p = p[:i]
			}
			break
		}
	}
	if !utf8.Valid(p) || bytes.ContainsFunc(p, func(r rune) bool { return r < ' ' && !strings.ContainsRune("\t\n\r\f", r) || r == 0x7f }) {
		return "", false
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(p)), "\n")
	if r := []rune(line); len(r) > 40 {
		line = string(r[:40]) + "…"
	}
	return line, true
}
