package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"gefs9p/gefs"
)

// passwdFile is where Linux has the numbers of its users.
const passwdFile = "/etc/passwd"

// A uidMap is the numbers of users by their names, and the other way round. It is a gefs.IDMap.
type uidMap struct {
	numbers map[string]uint32
	names   map[uint32]string
}

// Number implements gefs.IDMap.
func (m *uidMap) Number(name string) (uint32, bool) {
	n, ok := m.numbers[name]
	return n, ok
}

// Name implements gefs.IDMap.
func (m *uidMap) Name(id uint32) (string, bool) {
	name, ok := m.names[id]
	return name, ok
}

// readUids reads the file, of which "" and "none" name none. Without the local passwd, as on systems
// that have none, nobody has a number there.
func readUids(file string) (gefs.IDMap, error) {
	if file == "" || file == "none" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if file == passwdFile && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("numbers of users: %w (--uids names another file, or none)", err)
	}
	m, err := parseUids(text)
	if err != nil {
		return nil, fmt.Errorf("numbers of users in %s: %w (--uids names another file, or none)", file, err)
	}
	return m, nil
}

// parseUids makes a map of lines as passwd(5) has them: the first field is the name, the third the number.
// Empty lines, comments and lines for NIS are skipped. Of two lines with a name or a number the first
// counts.
func parseUids(text []byte) (*uidMap, error) {
	m := &uidMap{map[string]uint32{}, map[uint32]string{}}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.ContainsRune("#+-", rune(line[0])) {
			continue
		}
		f := strings.Split(line, ":")
		if len(f) < 3 || f[0] == "" {
			return nil, fmt.Errorf("line %d: want name:password:number", n)
		}
		id, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil || id == 1<<32-1 {
			return nil, fmt.Errorf("line %d: %q is no number of a user", n, f[2])
		}
		if _, ok := m.numbers[f[0]]; !ok {
			m.numbers[f[0]] = uint32(id)
		}
		if _, ok := m.names[uint32(id)]; !ok {
			m.names[uint32(id)] = f[0]
		}
	}
	return m, lines.Err()
}
