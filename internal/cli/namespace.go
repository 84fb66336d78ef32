package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// serviceAddr is the address that plan9port's programs connect to for the service name: a socket in
// the name space folder, which is made if it is not there. Source: intro(4) of plan9port, getns(3).
func serviceAddr(name string) (string, error) {
	if name == "." || name == ".." || strings.ContainsAny(name, "/!\x00") {
		return "", usagef("%q cannot be the name of a service: it is the name of a file", name)
	}
	dir, err := namespace()
	if err != nil {
		return "", err
	}
	return "unix!" + filepath.Join(dir, name), nil
}

// namespace returns plan9port's folder for services.
func namespace() (string, error) {
	if dir := os.Getenv("NAMESPACE"); dir != "" {
		return dir, nil
	}
	user, err := loginName()
	if err != nil {
		return "", err
	}
	display := os.Getenv("DISPLAY")
	if display == "" {
		display = ":0"
	}
	if i := strings.LastIndexByte(display, ':'); i >= 0 { // without the screen
		num, _, _ := strings.Cut(display[i:], ".")
		display = display[:i] + num
	}
	dir := filepath.Join("/tmp", "ns."+user+"."+strings.ReplaceAll(display, "/", "_"))
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return "", fmt.Errorf("name space %w", pathError(err))
	}
	// Others can make folders in /tmp too.
	st, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("name space %w", pathError(err))
	}
	if !st.IsDir() || st.Mode().Perm()&0o077 != 0 || !mine(st) {
		return "", fmt.Errorf("name space %s: not a folder of yours alone (set NAMESPACE to one that is)", dir)
	}
	return dir, nil
}
