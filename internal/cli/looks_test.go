package cli

import (
	"bytes"
	"strings"
	"testing"
)

func TestSignaturesNameWhatIsThere(t *testing.T) {
	for i, s := range signatures {
		p := make([]byte, 200<<10)
		copy(p[s.off:], s.magic)
		got, err := looksLike(bytes.NewReader(p), int64(len(p)))
		if err != nil || got != s.what {
			t.Errorf("signature %d (%s) is taken for %q, %v", i, s.what, got, err)
		}
	}
}

func TestDataAnywhereIsFound(t *testing.T) {
	const size = 64 << 20
	for _, off := range []int{0, 1, headSize - 1, headSize, headSize + 1, size / 2, size - headSize, size - 1} {
		p := make([]byte, size)
		p[off] = 1
		if got, err := looksLike(bytes.NewReader(p), size); err != nil || got == "" {
			t.Errorf("a byte at %d is not seen: %q, %v", off, got, err)
		}
	}
	for _, n := range []int64{0, 1, 100, headSize, headSize + 1, size} {
		if got, err := looksLike(bytes.NewReader(make([]byte, n)), n); err != nil || got != "" {
			t.Errorf("%d zeros look like %q, %v", n, got, err)
		}
	}
	if _, err := looksLike(bytes.NewReader(make([]byte, 10)), 20); err == nil {
		t.Error("a device that is shorter than it says goes unnoticed")
	}
}

func TestTextIsShownAsFarAsItIsText(t *testing.T) {
	for in, want := range map[string]string{
		"hello\nworld\n":               `a text that begins "hello"`,
		"\n\n  hello":                  `a text that begins "hello"`,
		"größer":                       `a text that begins "größer"`,
		strings.Repeat("ä", 600):       `a text that begins "` + strings.Repeat("ä", 40) + `…"`,
		"a" + strings.Repeat("ä", 600): `a text that begins "a` + strings.Repeat("ä", 39) + `…"`,
		"hello\x00":                    "unknown data (first bytes 68 65 6c 6c 6f 00)",
		"\x1b[31mred":                  "unknown data (first bytes 1b 5b 33 31 6d 72 65 64)",
		"gr\xf6\xdfer":                 "unknown data (first bytes 67 72 f6 df 65 72)",
	} {
		if got, err := looksLike(strings.NewReader(in), int64(len(in))); err != nil || got != want {
			t.Errorf("%q looks like %s, %v; want %s", in, got, err, want)
		}
	}
}
