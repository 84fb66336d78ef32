package cli

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"time"

	"gefs9p/salvage"
)

// A tarSink is a tar archive being written.
type tarSink struct {
	t    *transfer
	w    *tar.Writer
	buf  *bufio.Writer
	file *os.File // nil if it is a stream
	name string
	made bool
	have []*tar.Header // what is in the archive already, and is still to be met
}

func newTarSink(t *transfer, w io.Writer) *tarSink {
	buf := bufio.NewWriterSize(w, 1<<20)
	return &tarSink{t: t, w: tar.NewWriter(buf), buf: buf}
}

// openTarSink makes an archive, or goes on with one behind its last whole file.
func openTarSink(t *transfer, name string) (*tarSink, error) {
	made := false
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		made = true
		f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return nil, pathError(err)
	}
	have, end, err := tarPart(f)
	if err == nil {
		_, err = f.Seek(end, io.SeekStart)
	}
	if err == nil && len(have) == 0 {
		err = f.Truncate(0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w; name another file, or remove it", name, pathError(err))
	}
	s := newTarSink(t, f)
	s.file, s.name, s.made, s.have = f, name, made, have
	return s, nil
}

// tarPart returns what an archive has, and where the last whole file in it ends.
func tarPart(f *os.File) (have []*tar.Header, end int64, err error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return nil, 0, err
	}
	const block = 512
	if info.Size() < block {
		return nil, 0, errors.New("it is no archive")
	}
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if err != nil {
			// The end, or what was being written; a file that begins otherwise is not ours.
			if len(have) == 0 && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
				return nil, 0, err
			}
			return have, end, nil
		}
		at, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, 0, err
		}
		at += (h.Size + block - 1) &^ (block - 1)
		if at > info.Size() {
			return have, end, nil
		}
		have, end = append(have, h), at
	}
}

// tarHeader describes a file as archives do.
func tarHeader(f *salvage.File) *tar.Header {
	p := ""
	for _, name := range f.Path {
		p = path.Join(p, hostName(name))
	}
	h := &tar.Header{
		Typeflag: tar.TypeReg, Name: p, Size: int64(f.Dir.Length), Mode: int64(f.Dir.Mode & 0777),
		Uname: f.Uid, Gname: f.Gid, ModTime: time.Unix(f.Dir.Mtime/1e9, 0), Format: tar.FormatPAX,
	}
	if f.IsDir() {
		h.Typeflag, h.Name, h.Size = tar.TypeDir, p+"/", 0
	}
	if f.Dir.Mode&specialBits != 0 {
		h.PAXRecords = map[string]string{paxMode: strconv.FormatUint(uint64(f.Dir.Mode&(specialBits|0777)), 8)}
	}
	return h
}

// had reports whether the archive has the file already.
func (s *tarSink) had(h *tar.Header) (bool, error) {
	if len(s.have) == 0 {
		return false, nil
	}
	o := s.have[0]
	if o.Name != h.Name || o.Size != h.Size || o.Mode != h.Mode || !o.ModTime.Equal(h.ModTime) || o.Uname != h.Uname {
		return false, fmt.Errorf("%s: holds something else: %s where this snapshot has %s; name another file, or remove it", s.name, o.Name, h.Name)
	}
	if s.have = s.have[1:]; len(s.have) > 0 {
		return true, nil
	}
	// From here on it is written: what is behind was not whole.
	at, err := s.file.Seek(0, io.SeekCurrent)
	if err == nil {
		err = s.file.Truncate(at)
	}
	return true, err
}

func (s *tarSink) mkdir(f *salvage.File) error {
	h := tarHeader(f)
	if had, err := s.had(h); had || err != nil {
		return err
	}
	return s.w.WriteHeader(h)
}

func (s *tarSink) leave(f *salvage.File) error { return nil }

func (s *tarSink) add(f *salvage.File, open func() (io.ReadCloser, error)) (same bool, err error) {
	h := tarHeader(f)
	if had, err := s.had(h); had || err != nil {
		return had, err
	}
	data, err := open()
	if err != nil {
		return false, &readError{err}
	}
	defer data.Close()
	return false, s.write(h, data)
}

// write writes a file. One that cannot be read to its end ends the archive: its length was announced.
func (s *tarSink) write(h *tar.Header, data io.Reader) error {
	if err := s.w.WriteHeader(h); err != nil {
		return err
	}
	buf := make([]byte, transferChunk)
	for {
		if err := s.t.w.ctx.Err(); err != nil {
			return err
		}
		n, rerr := io.ReadFull(data, buf)
		if _, err := s.w.Write(buf[:n]); err != nil {
			return err
		}
		s.t.sum.Bytes += int64(n)
		s.t.show("exporting")
		switch {
		case rerr == io.EOF || rerr == io.ErrUnexpectedEOF:
			return nil
		case rerr != nil:
			return fmt.Errorf("%s: %w; an archive cannot leave it out: export to a directory", h.Name, rerr)
		}
	}
}

func (s *tarSink) close(ok bool) error {
	var err error
	if ok {
		if len(s.have) > 0 {
			err = fmt.Errorf("%s: holds something else: this snapshot has no %s; name another file, or remove it", s.name, s.have[0].Name)
		} else {
			err = s.w.Close()
		}
	}
	if ferr := s.buf.Flush(); err == nil {
		err = ferr
	}
	if s.file == nil {
		return err
	}
	if ok && err == nil {
		err = s.file.Sync()
	}
	if cerr := s.file.Close(); err == nil {
		err = cerr
	}
	if info, serr := os.Stat(s.name); s.made && serr == nil && info.Size() == 0 {
		os.Remove(s.name)
	}
	return err
}
