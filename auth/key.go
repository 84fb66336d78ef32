package auth

import (
	"crypto/hkdf"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"
)

// Longest names on the wire, in bytes: their fields are one longer, for a NUL.
const (
	MaxName = 27 // of a user
	MaxDom  = 47 // of an authentication domain
)

// keySize is the size of what a user or server shares with the authentication server: a key for
// AES by name, which nothing uses as such.
const keySize = 16

// Errors of keys and names.
var (
	// ErrName is wrapped where a user or a domain cannot have that name.
	ErrName = errors.New("bad name")
	// ErrKeyFile is wrapped where a key file is not one.
	ErrKeyFile = errors.New("not a key file")
	// ErrNoKey is wrapped, beside ErrKeyFile, where there is nothing wrong with it but that there is no key for
	// the protocol in it.
	ErrNoKey = errors.New("no key in it")
)

// A Key is what User, a person or a server, shares with the authentication server of the domain Dom.
// It must not be copied. All methods are safe for concurrent use.
type Key struct {
	User, Dom string

	secret [keySize]byte
	once   sync.Once
	pm, pn point // the pakhash: what hides the values that client and server exchange
}

// NewKey makes a random key. The error wraps ErrName.
func NewKey(user, dom string) (*Key, error) {
	k, err := emptyKey(user, dom)
	if err == nil {
		rand.Read(k.secret[:])
	}
	return k, err
}

// PasswordKey makes the key that Plan 9 makes of a password, in about 10 ms. A server's key is worth
// no more than its password. The error wraps ErrName. Source: passtoaeskey.
func PasswordKey(user, dom, password string) (*Key, error) {
	k, err := emptyKey(user, dom)
	if err != nil {
		return nil, err
	}
	s, err := pbkdf2.Key(sha1.New, password, []byte("Plan 9 key derivation"), 9001, keySize)
	if err != nil {
		return nil, fmt.Errorf("key from a password: %w", err)
	}
	copy(k.secret[:], s)
	clear(s)
	return k, nil
}

func emptyKey(user, dom string) (*Key, error) {
	if err := checkNames(user, dom); err != nil {
		return nil, err
	}
	return &Key{User: user, Dom: dom}, nil
}

// checkName refuses what cannot be told apart from other parts of messages and of key files.
func checkName(what, name string, most int) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the %s has none", ErrName, what)
	case len(name) > most:
		return fmt.Errorf("%w: the %s %q is longer than %d bytes", ErrName, what, name, most)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: the %s %q is not UTF-8", ErrName, what, name)
	case strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '@' || r == '\'' || r == '=' }):
		return fmt.Errorf("%w: the %s %q has a space, a control character, @, ' or = in it", ErrName, what, name)
	}
	return nil
}

// String names the key, and shows nothing of it.
func (k *Key) String() string { return k.User + "@" + k.Dom }

// GoString is String: %#v shows no secrets either.
func (k *Key) GoString() string { return k.String() }

// Equal reports whether two keys are those of the same user with the same secret.
func (k *Key) Equal(o *Key) bool {
	return k.User == o.User && k.Dom == o.Dom && equal(k.secret[:], o.secret[:])
}

// points returns what the exchanged values are hidden with: pm for whoever asks for tickets or
// takes one, pn for the authentication server. Source: authpak_hash.
func (k *Key) points() (pm, pn point) {
	k.once.Do(func() {
		salt := sha256.Sum256([]byte(k.User))
		h := derive(k.secret[:], salt[:], "Plan 9 AuthPAK hash", 2*eltSize)
		k.pm = hashPoint((*[eltSize]byte)(h[:eltSize]))
		k.pn = hashPoint((*[eltSize]byte)(h[eltSize:]))
		clear(h)
	})
	return k.pm, k.pn
}

// derive is HKDF with SHA-256 (RFC 5869).
func derive(secret, salt []byte, info string, n int) []byte {
	b, err := hkdf.Key(sha256.New, secret, salt, info, n)
	if err != nil { // only for lengths nobody asks for here
		panic(fmt.Sprintf("auth: deriving %d bytes: %v", n, err))
	}
	return b
}
