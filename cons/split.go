package cons

import (
	"errors"
	"strings"
)

// ErrQuote says that a line ends inside quotes.
var ErrQuote = errors.New("a quote is not closed")

// Split cuts a line into words at blanks and tabs; a newline ends it. Single quotes keep what is between
// them together, and two of them inside stand for one; quotes may be anywhere in a word. The word
// of nothing but a pair of quotes is empty. Source: tokenize of getfields(2).
func Split(line string) ([]string, error) {
	var words []string
	var w strings.Builder
	in, quoted := false, false // inside a word; inside quotes
	for i := 0; i < len(line); i++ {
		ch := line[i]
		switch {
		case quoted && ch == '\'' && i+1 < len(line) && line[i+1] == '\'':
			w.WriteByte('\'')
			i++
		case ch == '\'':
			quoted = !quoted
			in = true
		case !quoted && (ch == ' ' || ch == '\t' || ch == '\n' || ch == '\r'):
			if in {
				words = append(words, w.String())
				w.Reset()
			}
			in = false
		default:
			w.WriteByte(ch)
			in = true
		}
	}
	if quoted {
		return nil, ErrQuote
	}
	if in {
		words = append(words, w.String())
	}
	return words, nil
}

// Join makes a line that Split cuts into the words.
func Join(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		if w != "" && !strings.ContainsAny(w, " \t\r\n'") {
			b.WriteString(w)
			continue
		}
		b.WriteString("'" + strings.ReplaceAll(w, "'", "''") + "'")
	}
	return b.String()
}
