package cons_test

import (
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gefs9p/cons"
)

var seed = flag.Uint64("seed", 0, "seed of random tests, 0 for a new one")

func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		line string
		want []string
	}{
		{"", nil},
		{" \t \r\n", nil},
		{"snap -l\n", []string{"snap", "-l"}},
		{" a\tb  c ", []string{"a", "b", "c"}},
		{"set main retain '12@5m 48@2h @d'", []string{"set", "main", "retain", "12@5m 48@2h @d"}},
		{"set x ''", []string{"set", "x", ""}},
		{"''", []string{""}},
		{"'it''s'", []string{"it's"}},
		{"it''s", []string{"its"}},
		{"a' 'b", []string{"a b"}},
		{"''''", []string{"'"}},
		{`a"b c"`, []string{`a"b`, `c"`}},
		{`a\ b`, []string{`a\`, "b"}},
		{"größe 日本", []string{"größe", "日本"}},
	} {
		got, err := cons.Split(tt.line)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("Split(%q) = %q, %v, want %q", tt.line, got, err, tt.want)
		}
	}
	for _, line := range []string{"'", "a 'b", "'''", "it's"} {
		if got, err := cons.Split(line); err != cons.ErrQuote {
			t.Errorf("Split(%q) = %q, %v", line, got, err)
		}
	}
}

// TestJoinIsUndoneBySplit for words of the characters that matter.
func TestJoinIsUndoneBySplit(t *testing.T) {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed=%d", s)
	r := rand.New(rand.NewPCG(s, 0))
	for range 20000 {
		words := make([]string, r.IntN(5))
		for i := range words {
			w := make([]byte, r.IntN(6))
			for j := range w {
				w[j] = "ab' \t=|\"\\-"[r.IntN(10)]
			}
			words[i] = string(w)
		}
		line := cons.Join(words)
		if got, err := cons.Split(line); err != nil || !slices.Equal(got, words) {
			t.Fatalf("Split(%q) = %q, %v, want %q", line, got, err, words)
		}
	}
}
