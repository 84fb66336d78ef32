package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"gefs9p/auth"
)

// readAuthKeys reads a file of keys for dp9ik, which must be for its owner only.
func readAuthKeys(path string) ([]*auth.Key, error) { return readKeyFile(path, auth.ParseKeys) }

// readDESKeys reads the keys for p9sk1 in such a file.
func readDESKeys(path string) ([]*auth.DESKey, error) { return readKeyFile(path, auth.ParseDESKeys) }

func readKeyFile[K any](path string, parse func([]byte) ([]K, error)) ([]K, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("key file %w", pathError(err))
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("key file %w", pathError(err))
	}
	if runtime.GOOS != "windows" && st.Mode().IsRegular() && st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key file %s: others can read it (mode %o), and whoever can is everybody on the server: chmod 600 it, and make a new key if somebody may have",
			path, st.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, 2<<20)) // more than ParseKeys takes
	if err != nil {
		return nil, fmt.Errorf("key file %w", pathError(err))
	}
	defer clear(b)
	keys, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w (gefs9p auth newkey makes one)", path, err)
	}
	return keys, nil
}

// readServerKey reads a key file with one key, the server's.
func readServerKey(path string) (*auth.Key, error) {
	keys, err := readAuthKeys(path)
	if err != nil {
		return nil, err
	}
	if len(keys) != 1 {
		return nil, fmt.Errorf("%s: there are %d keys in it; a server has one", path, len(keys))
	}
	return keys[0], nil
}

// readServerDESKey reads the server's key for p9sk1, which stands beside k in its key file.
func readServerDESKey(path string, k *auth.Key) (*auth.DESKey, error) {
	keys, err := readDESKeys(path)
	if err != nil {
		return nil, err
	}
	if len(keys) != 1 || keys[0].String() != k.String() {
		return nil, fmt.Errorf("%s: its keys for p9sk1 are those of %v; the server has one, that of %v", path, keys, k)
	}
	return keys[0], nil
}

// writeAuthKey makes a key file with one key, or, with add, adds the key to one.
func writeAuthKey(path string, k *auth.Key, add bool) error {
	line := auth.AppendKey(nil, k)
	defer clear(line)
	return writeKeyLine(path, k, line, add, auth.ParseKeys)
}

// writeDESKey is writeAuthKey for p9sk1.
func writeDESKey(path string, k *auth.DESKey, add bool) error {
	line := auth.AppendDESKey(nil, k)
	defer clear(line)
	return writeKeyLine(path, k, line, add, auth.ParseDESKeys)
}

// writeKeyLine writes the line of a key, or adds it to a file that parse finds no such key in.
func writeKeyLine[K fmt.Stringer](path string, k K, line []byte, add bool, parse func([]byte) ([]K, error)) error {
	if add {
		keys, err := readKeyFile(path, parse)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			add = false
		case errors.Is(err, auth.ErrNoKey): // but of another kind
		case err != nil:
			return err
		}
		for _, o := range keys {
			if o.String() == k.String() {
				return fmt.Errorf("%s: %v has a key there; delete its line first", path, k)
			}
		}
	}
	if add {
		return appendLine(path, line)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("key file %s: there is a file of that name; remove it, or choose another name", path)
	}
	if err != nil {
		return fmt.Errorf("key file %w", pathError(err))
	}
	_, err = f.Write(line)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(path)
		return fmt.Errorf("key file %w", pathError(err))
	}
	syncFolder(path)
	return nil
}

// appendLine replaces a file by itself and a line: by a new file, so that a crash leaves one or the
// other.
func appendLine(path string, line []byte) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("key file %w", pathError(err))
	}
	defer clear(old)
	if len(old) > 0 && !bytes.HasSuffix(old, []byte("\n")) {
		old = append(old, '\n')
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // of mode 600
	if err != nil {
		return fmt.Errorf("key file %w", pathError(err))
	}
	_, err = f.Write(old)
	if err == nil {
		_, err = f.Write(line)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("key file %w", pathError(err))
	}
	syncFolder(path)
	return nil
}

// syncFolder makes a new name durable, as far as the system can sync a folder.
func syncFolder(path string) {
	if dir, err := os.Open(filepath.Dir(path)); err == nil {
		dir.Sync()
		dir.Close()
	}
}
