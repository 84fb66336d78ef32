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
or !password=PASSWORD in the last place. For proto=p9sk1 there are 14 digits. Words with spaces are put in single quotes, a quote in
them is doubled. Empty lines, those that begin with # and keys of other protocols are skipped.`

// maxKeyFile bounds what ParseKeys looks at.
const maxKeyFile = 1 << 20

// ParseKeys reads a key file and returns its keys for dp9ik: at least one, and at most one of a user in a
// domain. Errors wrap ErrKeyFile and name the line, and hold nothing of its content but names.
func ParseKeys(file []byte) ([]*Key, error) {
	return parseKeys(file, dp9ik, keySize, func(user, dom, password string, secret []byte) (*Key, error) {
		if secret == nil {
			return PasswordKey(user, dom, password)
		}
		k, err := emptyKey(user, dom)
		if err == nil {
			copy(k.secret[:], secret)
		}
		return k, err
	})
}

// ParseDESKeys is ParseKeys for keys for p9sk1.
func ParseDESKeys(file []byte) ([]*DESKey, error) {
	return parseKeys(file, p9sk1, desKeySize, func(user, dom, password string, secret []byte) (*DESKey, error) {
		if secret == nil {
			return PasswordDESKey(user, dom, password)
		}
		k := &DESKey{User: user, Dom: dom}
		copy(k.secret[:], secret)
		return k, checkNames(user, dom)
	})
}

// parseKeys reads the lines with keys for a protocol, of size bytes. newKey makes a key, of a secret or,
// if there is none, of a password.
func parseKeys[K fmt.Stringer](file []byte, proto string, size int, newKey func(user, dom, password string, secret []byte) (K, error)) ([]K, error) {
	if len(file) > maxKeyFile {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrKeyFile, maxKeyFile)
	}
	var keys []K
	seen := make(map[string]bool)
	n := 0
	for line := range strings.Lines(string(file)) {
		n++
		attr, err := parseLine(line, proto)
		if err == nil && attr != nil {
			var k K
			if k, err = makeKey(attr, size, newKey); err == nil && seen[k.String()] {
				err = fmt.Errorf("a second key for %v", k)
			}
			if err == nil {
				seen[k.String()] = true
				keys = append(keys, k)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrKeyFile, n, err)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: %w for %s", ErrKeyFile, ErrNoKey, proto)
	}
	return keys, nil
}

// attributes are what a line says of a key.
type attributes map[string]string

// parseLine reads a line; nil is no key for the protocol.
func parseLine(line, proto string) (attributes, error) {
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
	attr := make(attributes)
	for i, w := range words[1:] {
		name, value, ok := strings.Cut(w, "=")
		if _, twice := attr[name]; !ok || twice {
			return nil, fmt.Errorf("word %d is not one more name=value", i+2)
		}
		switch name {
		case "proto", "dom", "user", "!hex", "!password":
			attr[name] = value
		default:
			if attr["proto"] == proto {
				return nil, fmt.Errorf("word %d is an attribute that is not known here", i+2)
			}
		}
	}
	if attr["proto"] != proto {
		return nil, nil
	}
	return attr, nil
}

// makeKey makes the key of a line, whose secret has size bytes.
func makeKey[K any](attr attributes, size int, newKey func(user, dom, password string, secret []byte) (K, error)) (k K, err error) {
	digits, isHex := attr["!hex"]
	password, isPassword := attr["!password"]
	switch {
	case isHex == isPassword:
		return k, errors.New("one of !hex and !password is wanted")
	case isPassword && password == "":
		return k, errors.New("the password is empty")
	case isPassword:
		return newKey(attr["user"], attr["dom"], password, nil)
	case len(digits) != 2*size:
		return k, fmt.Errorf("!hex has %d digits instead of %d", len(digits), 2*size)
	}
	secret, err := hex.DecodeString(digits)
	if err != nil {
		return k, errors.New("!hex is not hexadecimal")
	}
	defer clear(secret)
	return newKey(attr["user"], attr["dom"], "", secret)
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

// AppendDESKey is AppendKey for p9sk1 and ParseDESKeys.
func AppendDESKey(b []byte, k *DESKey) []byte {
	b = fmt.Appendf(b, "key proto=%s dom=%s user=%s !hex=", p9sk1, k.Dom, k.User)
	return append(hex.AppendEncode(b, k.secret[:]), '\n')
}
