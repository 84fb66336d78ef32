package auth

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// KeyFileHelp describes key files for those who write one by hand.
const KeyFileHelp = `A key file has a line for each key, as factotum's ctl takes it:
	key proto=dp9ik dom=DOMAIN user=USER !hex=32_HEXADECIMAL_DIGITS
or !password=PASSWORD in the last place. Words with spaces are put in single quotes, a quote in
them is doubled. Empty lines, those that begin with # and keys of other protocols are skipped.`

// maxKeyFile bounds what ParseKeys looks at.
const maxKeyFile = 1 << 20

// ParseKeys reads a key file: at least one key, and at most one of a user in a domain. Errors wrap
// ErrKeyFile and name the line, and hold nothing of its content but names.
func ParseKeys(file []byte) ([]*Key, error) {
	if len(file) > maxKeyFile {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrKeyFile, maxKeyFile)
	}
	var keys []*Key
	seen := make(map[string]bool)
	n := 0
	for line := range strings.Lines(string(file)) {
		n++
		k, err := parseKey(line)
		if err == nil && k != nil && seen[k.String()] {
			err = fmt.Errorf("a second key for %v", k)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrKeyFile, n, err)
		}
		if k != nil {
			seen[k.String()] = true
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: no key for %s in it", ErrKeyFile, dp9ik)
	}
	return keys, nil
}

// parseKey reads a line; nil is none.
func parseKey(line string) (*Key, error) {
	if !utf8.ValidString(line) || strings.ContainsRune(line, 0) {
		return nil, errors.New("not UTF-8")
	}
	words, err := tokenize(line)
	switch {
	case err != nil:
		return nil, err
	case len(words) == 0 || strings.HasPrefix(words[0], "#"):
		return nil, nil
	case words[0] != "key":
		return nil, errors.New("does not begin with the word key")
	}
	attr := make(map[string]string)
	for i, w := range words[1:] {
		name, value, ok := strings.Cut(w, "=")
		if _, twice := attr[name]; !ok || twice {
			return nil, fmt.Errorf("word %d is not one more name=value", i+2)
		}
		switch name {
		case "proto", "dom", "user", "!hex", "!password":
			attr[name] = value
		default:
			if attr["proto"] == dp9ik {
				return nil, fmt.Errorf("word %d is an attribute that is not known here", i+2)
			}
		}
	}
	if attr["proto"] != dp9ik {
		return nil, nil
	}
	digits, isHex := attr["!hex"]
	password, isPassword := attr["!password"]
	switch {
	case isHex == isPassword:
		return nil, errors.New("one of !hex and !password is wanted")
	case isPassword:
		if password == "" {
			return nil, errors.New("the password is empty")
		}
		return PasswordKey(attr["user"], attr["dom"], password)
	}
	k, err := emptyKey(attr["user"], attr["dom"])
	if err != nil {
		return nil, err
	}
	if len(digits) != 2*keySize {
		return nil, fmt.Errorf("!hex has %d digits instead of %d", len(digits), 2*keySize)
	}
	if _, err := hex.Decode(k.secret[:], []byte(digits)); err != nil {
		return nil, errors.New("!hex is not hexadecimal")
	}
	return k, nil
}

// tokenize cuts a line at spaces that are not in quotes. Source: quote(2).
func tokenize(line string) (words []string, err error) {
	var w strings.Builder
	in, quoted := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\'' && quoted && i+1 < len(line) && line[i+1] == '\'':
			w.WriteByte(c)
			i++
		case c == '\'':
			in, quoted = true, !quoted
		case !quoted && strings.IndexByte(" \t\r\n", c) >= 0:
			if in {
				words = append(words, w.String())
				w.Reset()
			}
			in = false
		default:
			w.WriteByte(c)
			in = true
		}
	}
	if quoted {
		return nil, errors.New("a quote has no end")
	}
	if in {
		words = append(words, w.String())
	}
	return words, nil
}

// AppendKey appends the line of a key file that ParseKeys reads as k. It is the secret itself.
func AppendKey(b []byte, k *Key) []byte {
	b = fmt.Appendf(b, "key proto=%s dom=%s user=%s !hex=", dp9ik, k.Dom, k.User)
	return append(hex.AppendEncode(b, k.secret[:]), '\n')
}
