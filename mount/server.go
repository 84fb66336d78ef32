//go:build linux || darwin

package mount

import (
	"context"
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"gefs9p/client"
)

// A Server is a mounted tree. Make one with New and end it with Run.
type Server struct {
	o    Options
	conn *client.Conn
	root *client.Fid
	fuse *fuse.Server
	dirs dirs

	mu         sync.Mutex
	uids, gids map[string]uint32 // numbers of users and groups by name
}

// maxWrite is the largest request the kernel makes, in bytes.
const maxWrite = 1 << 20

// New mounts the tree whose root is the fid root of conn. Both remain the caller's, who does not end them before Run
// has returned.
func New(conn *client.Conn, root *client.Fid, o Options) (*Server, error) {
	if st, err := os.Stat(o.Dir); err != nil {
		return nil, err
	} else if !st.IsDir() {
		return nil, fmt.Errorf("%s: not a directory", o.Dir)
	}
	d, err := root.Stat()
	if err != nil {
		return nil, fmt.Errorf("the root of %s: %w", o.Source, err)
	}
	if !root.IsDir() {
		return nil, fmt.Errorf("the root of %s, %q, is no directory", o.Source, d.Name)
	}
	s := &Server{o: o, conn: conn, root: root, dirs: dirs{most: maxDirs}}
	s.uids, s.gids = myself(o.User)
	top := &node{s: s, top: true, qid: root.Qid(), held: held{fid: root, root: true}}
	// A piece that goes in one request, and a power of two, so that requests begin where pages do.
	piece := 1 << (bits.Len(uint(max(root.Iounit(), 4096))) - 1)
	logger := slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn)
	id := identity(root.Qid(), 0, false)
	never := time.Duration(0)
	opts := &fs.Options{
		EntryTimeout: &o.Cache, AttrTimeout: &o.Cache, NegativeTimeout: &never,
		NullPermissions: true,
		RootStableAttr:  &id,
		Logger:          logger,
		MountOptions: fuse.MountOptions{
			AllowOther: o.AllowOther,
			FsName:     o.Source, Name: "gefs9p",
			MaxWrite: min(piece, maxWrite), MaxBackground: 64,
			DisableXAttrs: true,
			DirectMount:   os.Getuid() == 0,
			Logger:        logger,
		},
	}
	if o.ReadOnly {
		opts.Options = append(opts.Options, "ro")
		opts.DirectMountFlags = readOnlyFlags
	}
	if s.fuse, err = fs.Mount(o.Dir, top, opts); err != nil {
		return nil, fmt.Errorf("mounting on %s: %w", o.Dir, err)
	}
	return s, nil
}

// Run waits until the file system has been unmounted by whoever it is. When ctx ends, it unmounts it itself: if
// it is in use, it takes it out of the tree of names at once, and waits until the last user has left.
func (s *Server) Run(ctx context.Context) error {
	gone := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		select {
		case <-s.conn.Done():
			s.o.Log.Error("the connection is at its end, everything fails from now on: unmount, and mount again", "dir", s.o.Dir, "err", s.conn.Err())
		case <-gone:
		}
	})

	wg.Go(func() {
		select {
		case <-ctx.Done():
			err := s.fuse.Unmount()
			if err == nil {
				return
			}
			s.o.Log.Warn("still in use; waiting until it is not", "dir", s.o.Dir, "err", err)
			if err := detach(s.o.Dir); err != nil {
				s.o.Log.Error("cannot be unmounted; it ends when somebody else does it", "dir", s.o.Dir, "err", err)
			}
		case <-gone:
		}
	})
	s.fuse.Wait()
	close(gone)
	return nil
}
