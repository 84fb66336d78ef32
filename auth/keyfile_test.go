package auth

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestKeyFilesAreReadAsWritten(t *testing.T) {
	a, b := newKey(t, "glenda"), newKey(t, "λ")
	file := AppendKey(AppendKey(nil, a), b)
	file = append(file, "\n# nothing\n\t key\tproto=dp9ik user=rsc 'dom=example.com' !password='it''s a secret'\r\nkey proto=rsa service=ssh !dk=1\nkey proto=p9sk1 dom=x user=rsc !hex=00"...)
	keys, err := ParseKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := PasswordKey("rsc", "example.com", "it's a secret")
	if err != nil {
		t.Fatal(err)
	}
	want := []*Key{a, b, c}
	if len(keys) != len(want) {
		t.Fatalf("%v", keys)
	}
	for i, k := range keys {
		if !k.Equal(want[i]) {
			t.Errorf("key %d is %v, want %v, or differs in its secret", i, k, want[i])
		}
	}
	if a.Equal(newKey(t, "glenda")) {
		t.Error("two random keys are equal")
	}
}

func TestKeyFilesThatAreNone(t *testing.T) {
	const good = "key proto=dp9ik dom=d user=u !hex=00112233445566778899aabbccddeeff\n"
	for name, file := range map[string]string{
		"empty":               "",
		"other protocols":     "key proto=p9sk1 dom=d user=u !hex=00",
		"no key":              "lock",
		"no user":             "key proto=dp9ik dom=d !hex=00112233445566778899aabbccddeeff",
		"no domain":           "key proto=dp9ik user=u !hex=00112233445566778899aabbccddeeff",
		"no secret":           "key proto=dp9ik dom=d user=u",
		"two secrets":         strings.TrimSuffix(good, "\n") + " !password=secret",
		"empty password":      "key proto=dp9ik dom=d user=u !password=",
		"short secret":        "key proto=dp9ik dom=d user=u !hex=0011",
		"no number":           strings.ReplaceAll(good, "ff", "fg"),
		"attribute twice":     strings.Replace(good, "dom=d", "dom=d dom=e", 1),
		"unknown attribute":   strings.Replace(good, "dom=d", "dom=d disabled=yes", 1),
		"no value":            strings.Replace(good, "dom=d", "dom=d secretword", 1),
		"open quote":          strings.Replace(good, "dom=d", "dom='d", 1),
		"user with a space":   strings.Replace(good, "user=u", "'user=secretword x'", 1),
		"user with an at":     strings.Replace(good, "user=u", "user=u@d", 1),
		"long user":           strings.Replace(good, "user=u", "user="+strings.Repeat("u", 28), 1),
		"long domain":         strings.Replace(good, "dom=d", "dom="+strings.Repeat("d", 48), 1),
		"two keys of a user":  good + good,
		"not UTF-8":           good + "\xff",
		"a NUL":               good + "\x00",
		"too large":           good + strings.Repeat("\n", maxKeyFile),
		"a disk":              strings.Repeat("gefs9.00", 1000),
		"a password in front": "secretword " + good,
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := ParseKeys([]byte(file))
			if !errors.Is(err, ErrKeyFile) {
				t.Fatalf("%v, %v", keys, err)
			}
			if strings.Contains(err.Error(), "00112233") || name != "user with a space" && strings.Contains(err.Error(), "secretword") {
				t.Errorf("the error tells secrets: %v", err)
			}
		})
	}
}

func TestKeysDoNotShow(t *testing.T) {
	k := newKey(t, "glenda")
	secret := fmt.Sprintf("%x", k.secret[:4])
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if s := fmt.Sprintf(format, k); !strings.Contains(s, "glenda@"+testDom) || strings.Contains(s, secret) {
			t.Errorf("%s shows %s", format, s)
		}
	}
	if _, err := NewKey("", "d"); !errors.Is(err, ErrName) {
		t.Errorf("a key for nobody: %v", err)
	}
	if _, err := PasswordKey("u", "a b", "x"); !errors.Is(err, ErrName) {
		t.Errorf("a key for a domain with a space: %v", err)
	}
}
