package auth

import (
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"fmt"
)

// desKeySize is the size of a key for DES without its parity bits.
const desKeySize = 7

// maxPassword is how many bytes of a password a DESKey is made of.
const maxPassword = 27

// A DESKey is what a Key is, for p9sk1: what User, a person or a server, shares with the authentication server
// of the domain Dom. It has 56 bits, and whoever has heard a conversation can try keys on it: see
// docs/security.md.
type DESKey struct {
	User, Dom string

	secret [desKeySize]byte
}

// NewDESKey makes a random key. The error wraps ErrName.
func NewDESKey(user, dom string) (*DESKey, error) {
	if err := checkNames(user, dom); err != nil {
		return nil, err
	}
	k := &DESKey{User: user, Dom: dom}
	rand.Read(k.secret[:])
	return k, nil
}

// PasswordDESKey makes the key that Plan 9 makes of a password, of which only the first 27 bytes count. The
// error wraps ErrName.
//
// The low seven bits of eight characters are the key; a shorter password is filled up with a NUL and spaces. Of a
// longer one the next eight characters are then encrypted with the key, which gives the next key. The last
// eight overlap those before them, if need be. Source: passtodeskey.
func PasswordDESKey(user, dom, password string) (*DESKey, error) {
	if err := checkNames(user, dom); err != nil {
		return nil, err
	}
	text := append(make([]byte, 0, maxPassword+9), password[:min(len(password), maxPassword)]...)
	defer func() { clear(text[:cap(text)]) }()
	size := len(text)
	text = append(text, 0)
	for len(text) < 8 {
		text = append(text, ' ')
	}
	k := &DESKey{User: user, Dom: dom}
	fold(&k.secret, text)
	for at := 8; at < size; at += 8 {
		next := text[min(at, size-8):][:8]
		desSeal(&k.secret, next)
		fold(&k.secret, next)
	}
	return k, nil
}

// fold makes a key of eight bytes: each gives seven bits, the first one the lowest of the first byte.
// The eighth bit of a byte is added to what comes after it.
func fold(key *[desKeySize]byte, text []byte) {
	for i := range key {
		key[i] = text[i]>>i + text[i+1]<<(7-i)
	}
}

func checkNames(user, dom string) error {
	if err := checkName("user", user, MaxName); err != nil {
		return err
	}
	return checkName("authentication domain", dom, MaxDom)
}

// String names the key, and shows nothing of it.
func (k *DESKey) String() string { return k.User + "@" + k.Dom }

// GoString is String: %#v shows no secrets either.
func (k *DESKey) GoString() string { return k.String() }

// Equal reports whether two keys are those of the same user with the same secret.
func (k *DESKey) Equal(o *DESKey) bool {
	return k.User == o.User && k.Dom == o.Dom && equal(k.secret[:], o.secret[:])
}

// desCipher is DES under the key. DES wants each seven bits in a byte of its own, above a parity bit that it does not
// look at.
func desCipher(key *[desKeySize]byte) cipher.Block {
	var bits uint64
	for _, b := range key {
		bits = bits<<8 | uint64(b)
	}
	var wide [des.BlockSize]byte
	for i := range wide {
		wide[i] = byte(bits >> (49 - 7*i) << 1)
	}
	defer clear(wide[:])
	c, err := des.NewCipher(wide[:])
	if err != nil { // only for keys of other lengths
		panic(fmt.Sprintf("auth: %v", err))
	}
	return c
}

// desBlocks returns where the blocks begin in which n bytes, at least eight, are encrypted: each is seven bytes
// behind the one before, so that all of them hang together, and the last one ends where the bytes do.
func desBlocks(n int) []int {
	var at []int
	for i := 0; i+des.BlockSize < n; i += des.BlockSize - 1 {
		at = append(at, i)
	}
	return append(at, n-des.BlockSize)
}

// desSeal encrypts b in place. Source: encrypt(2).
func desSeal(key *[desKeySize]byte, b []byte) {
	c := desCipher(key)
	for _, i := range desBlocks(len(b)) {
		c.Encrypt(b[i:i+des.BlockSize], b[i:i+des.BlockSize])
	}
}

// desOpen decrypts b in place.
func desOpen(key *[desKeySize]byte, b []byte) {
	c := desCipher(key)
	at := desBlocks(len(b))
	for n := len(at) - 1; n >= 0; n-- {
		i := at[n]
		c.Decrypt(b[i:i+des.BlockSize], b[i:i+des.BlockSize])
	}
}
