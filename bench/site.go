package bench

import (
	"context"
	"errors"
	"fmt"
	"io"

	"gefs9p/client"
	"gefs9p/ninep"
)

// Names below the run's directory.
const (
	bigName   = "big"
	manyName  = "many"
	smallName = "small"
)

func syncName(i int) string { return fmt.Sprintf("sync%04d", i) }

// What a block of the big file holds.
const (
	bigEither      = iota // the one or the other
	bigOriginal           // what W1 wrote
	bigOverwritten        // what W7 wrote
)

// A site is a server that workloads run on, and what they may expect to find there.
type site struct {
	addr  string
	opts  *Options
	size  *Sizes
	pat   *pattern
	null  bool // the server is a Null: nothing is ever there, and everything works
	blind bool // do not look at what is read
	msize uint32

	ctl  *client.Conn // for what is not measured
	stop func() bool  // of what hangs up when the run is over
	base *client.Fid  // the run's directory

	names []string // of files, by number
	dirs  []string // of directories of small files, by number

	big      []byte // what every block of the big file holds; nil if there is no such file
	many     bool   // the directory manyName has all its files
	small    bool   // so has smallName
	dirBytes int64  // of manyName, as read from it; a guess at first
}

// openSite connects to a server and goes to the directory of the run, which it makes if need be and
// allowed. The connection lasts until close or the end of ctx.
func openSite(ctx context.Context, addr string, o *Options, pat *pattern) (*site, error) {
	st := &site{addr: addr, opts: o, size: &o.Sizes, pat: pat}
	ctl, err := client.Dial(ctx, addr, o.Msize)
	if err != nil {
		return nil, err
	}
	st.ctl, st.msize = ctl, ctl.Msize()
	st.stop = context.AfterFunc(ctx, func() { ctl.Close() })
	if err := st.enter(); err != nil {
		st.close()
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	st.names = numbered("f%07d", max(st.size.Files, st.size.SmallFiles))
	st.dirs = numbered("d%07d", st.size.Dirs)
	st.dirBytes = int64(st.size.Files) * entryGuess
	return st, nil
}

func (st *site) enter() error {
	root, err := st.ctl.Attach(st.opts.Uname, st.opts.Aname)
	if err != nil {
		return fmt.Errorf("attach as %s to %q: %w", st.opts.Uname, st.opts.Aname, err)
	}
	st.null = root.Qid() == nullQid
	st.blind = st.null || st.opts.NoVerify
	st.base, err = root.Walk(st.opts.Path)
	if missing(err) && !st.opts.Cold {
		st.base, err = mkdir(root, st.opts.Path)
	}
	return err
}

// close hangs up.
func (st *site) close() {
	st.stop()
	st.ctl.Close()
}

// numbered makes n names in one piece of memory.
func numbered(format string, n int) []string {
	var all []byte
	ends := make([]int, n)
	for i := range n {
		all = fmt.Appendf(all, format, i)
		ends[i] = len(all)
	}
	text := string(all)
	names := make([]string, n)
	at := 0
	for i, end := range ends {
		names[i], at = text[at:end], end
	}
	return names
}

// missing reports whether a walk failed because of what the server said: it has nothing there, as
// far as one can tell.
func missing(err error) bool {
	var said client.Error
	return errors.As(err, &said)
}

// mkdir makes a directory and returns a fid for it that is not open.
func mkdir(in *client.Fid, name string) (*client.Fid, error) {
	f, err := in.Walk()
	if err != nil {
		return nil, err
	}
	defer f.Clunk()
	if err := f.Create(name, ninep.DMDIR|0775, ninep.OREAD); err != nil {
		return nil, fmt.Errorf("make directory %s: %w", name, err)
	}
	return in.Walk(name)
}

// create makes an empty file in the base directory; one that was there is removed first, so that no
// workload pays for the end of its blocks.
func (st *site) create(name string) error {
	if err := st.remove(name); err != nil {
		return err
	}
	f, err := st.base.Walk()
	if err != nil {
		return err
	}
	defer f.Clunk()
	if err := f.Create(name, 0666, ninep.OWRITE); err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	return nil
}

// remove removes a file or an empty directory of the base directory, if it is there.
func (st *site) remove(name string) error {
	f, err := st.base.Walk(name)
	if missing(err) {
		return nil
	}
	if err == nil {
		err = f.Remove()
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// length returns the length of a file below the base directory, or -1 if there is none.
func (st *site) length(names ...string) (int64, error) {
	f, err := st.base.Walk(names...)
	if missing(err) {
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Clunk()
	d, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("stat %q: %w", names, err)
	}
	return int64(d.Length), nil
}

// ErrCold says that a cold run found nothing to read.
var ErrCold = errors.New("not on the server; run the workloads that make it, and keep it, before a cold run")

// needBig sees to it that the big file is there.
func (st *site) needBig(ctx context.Context) error {
	if st.null && st.big == nil {
		st.big = make([]byte, (st.size.FileSize+blockSize-1)/blockSize)
	}
	if st.big != nil {
		return nil
	}
	n, err := st.length(bigName)
	switch {
	case err != nil:
		return err
	case n == st.size.FileSize: // of an earlier run, which may have overwritten some of it
		st.big = make([]byte, (n+blockSize-1)/blockSize)
		return nil
	}
	return st.produce(ctx, st.writeBig())
}

// bigHolds reports whether data, which lies in one block, is what the big file has at off.
func (st *site) bigHolds(off int64, data []byte) bool {
	state := st.big[off/blockSize]
	return state != bigOverwritten && st.pat.holds(original, off, data) ||
		state != bigOriginal && st.pat.holds(overwritten, off, data)
}

// needMany sees to it that the directory of many files is there, and full.
func (st *site) needMany(ctx context.Context) error {
	if st.many || st.null {
		return nil
	}
	ok, err := st.complete(0, []string{manyName, st.names[0]}, []string{manyName, st.names[st.size.Files-1]})
	if err != nil || ok {
		st.many = ok
		return err
	}
	return st.produce(ctx, st.createMany())
}

// needSmall does it for the small files.
func (st *site) needSmall(ctx context.Context) error {
	if st.small || st.null {
		return nil
	}
	last := st.size.SmallFiles - 1
	ok, err := st.complete(smallSize,
		[]string{smallName, st.dirs[0], st.names[0]},
		[]string{smallName, st.dirs[last%len(st.dirs)], st.names[last]})
	if err != nil || ok {
		st.small = ok
		return err
	}
	return st.produce(ctx, st.createSmall())
}

// complete reports whether two files have the length n: the first and the last that some workload makes.
// Looking at all of them would warm the caches of a cold run.
func (st *site) complete(n int64, first, last []string) (bool, error) {
	a, err := st.length(first...)
	if err != nil {
		return false, err
	}
	b, err := st.length(last...)
	return a == n && b == n, err
}

// produce runs a workload for what it leaves behind.
func (st *site) produce(ctx context.Context, w *workload) error {
	if st.opts.Cold {
		return ErrCold
	}
	res, err := st.run(ctx, w, nil)
	if err != nil {
		return fmt.Errorf("%s, to prepare: %w", w.id, err)
	}
	if res.Errors > 0 {
		return fmt.Errorf("%s, to prepare: %d errors; %s", w.id, res.Errors, res.FirstError)
	}
	return nil
}

// emptyMany makes manyName an empty directory.
func (st *site) emptyMany(ctx context.Context) error {
	st.many = false
	if st.null {
		return nil
	}
	if err := st.purge(ctx, manyName); err != nil {
		return err
	}
	return st.mkdirs(manyName)
}

// emptySmall makes smallName a directory of empty directories.
func (st *site) emptySmall(ctx context.Context) error {
	st.small = false
	if st.null {
		return nil
	}
	if err := st.purge(ctx, smallName); err != nil {
		return err
	}
	return st.mkdirs(smallName, st.dirs...)
}

// mkdirs makes a directory, and some in it.
func (st *site) mkdirs(name string, in ...string) error {
	d, err := mkdir(st.base, name)
	if err != nil {
		return err
	}
	defer d.Clunk()
	for _, name := range in {
		sub, err := mkdir(d, name)
		if err != nil {
			return err
		}
		if err := sub.Clunk(); err != nil {
			return err
		}
	}
	return nil
}

// purge removes a directory below the base directory and all that is in it, if it is there.
func (st *site) purge(ctx context.Context, path string) error {
	d, err := st.base.WalkPath(path)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var entries []ninep.Dir
	if err = d.Open(ninep.OREAD); err == nil {
		entries, err = d.ReadDir()
	}
	if e := d.Clunk(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("read directory %s: %w", path, err)
	}
	var files []string
	for i := range entries {
		if entries[i].Mode&ninep.DMDIR == 0 {
			files = append(files, entries[i].Name)
		} else if err := st.purge(ctx, path+"/"+entries[i].Name); err != nil {
			return err
		}
	}
	if len(files) > 0 {
		res, err := st.run(ctx, st.removal(path, files), nil)
		if err == nil && res.Errors > 0 {
			err = errors.New(res.FirstError)
		}
		if err != nil {
			return fmt.Errorf("empty directory %s: %w", path, err)
		}
	}
	if d, err = st.base.WalkPath(path); err == nil {
		err = d.Remove()
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

// cleanup removes the run's directory and all in it.
func (st *site) cleanup(ctx context.Context) error {
	if st.null {
		return nil
	}
	for _, dir := range []string{manyName, smallName} {
		if err := st.purge(ctx, dir); err != nil {
			return err
		}
	}
	if err := st.remove(bigName); err != nil {
		return err
	}
	if err := st.base.Remove(); err != nil {
		return fmt.Errorf("remove %s: %w", st.opts.Path, err)
	}
	st.base = nil
	return nil
}

// fsync asks the server to have everything on disk.
func (st *site) fsync() error {
	err := st.base.Fsync()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
