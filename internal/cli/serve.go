package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gefs9p/blkfmt"
	"gefs9p/blkstore"
	"gefs9p/gefs"
	"gefs9p/internal/systemd"
	"gefs9p/internal/trace"
	"gefs9p/nbd"
	"gefs9p/ninep"
	"gefs9p/watch"
)

// A server is a disk being served.
type server struct {
	disk       string
	create     int64 // size of the disk to make if there is none; 0 makes none
	addrs      []string
	noAuth     bool
	authKey    string    // file with the server's key; clients on TCP have to prove who they are
	sk1        bool      // they may do so with p9sk1, for which there is another key in authKey
	peers      peersFlag // who may attach over Unix sockets
	tls        tlsFlags
	readOnly   bool
	permissive bool
	uids       string // file with the numbers of Linux users, in the form of passwd(5); none for none
	stdio      bool   // also a connection on in and out
	mem        memFlag
	keyFile    string
	level      slog.Level

	ctl         string // path of the console's socket; empty means DISK.ctl, if that can be had
	noCtl       bool
	ctl9p       []string // addresses where the console is served over 9P
	noSnapshots bool
	discard     bool
	scrub       time.Duration // so long after one scrub the next begins; 0: only when the console says so
	trace       traceFlag
	limits      limitFlags
	http        []string // addresses of the status page and the metrics
	pprof       bool     // there also profiles of the program

	in   io.Reader
	out  io.Writer // "listening ADDR", and 9P with stdio
	errw io.Writer

	key      *[blkfmt.KeySize]byte // content of keyFile
	gate     *gate                 // nil without authKey
	log      *slog.Logger
	levelVar slog.LevelVar // what log logs; the console can change it
}

// shutdownTime is how long requests under way may take to finish once the server is to end.
const shutdownTime = 5 * time.Second

func newServe() *cobra.Command {
	s := server{mem: memFlag{percent: 25}, trace: 4, peers: peersSelf}
	var create sizeFlag
	cmd := &cobra.Command{
		Use:   "serve DISK",
		Short: "serve a disk over 9P2000",
		Long: `Serve answers 9P2000 for the files on DISK, in the foreground, until it is interrupted
(SIGINT) or told to end (SIGTERM): then it commits what was written and exits with 0. A second
signal ends it at once; then the disk is as after a power cut, which does it no harm.

DISK is a file, a partition, a whole disk, or an address: nbd://host:port/export, nbds:// with TLS,
nbd+unix:///export?socket=PATH. Only one server may have it; see docs/storage.md.

When it is ready it prints a line "listening ADDR" for every address. Without -a it
listens on the Unix socket DISK.sock, which only you and the superuser can connect to, and says
how to mount it.

The console, for gefs9p ctl, is on the Unix socket DISK.ctl; see docs/console.md. Automatic snapshots
are made as the configuration key retain says, by default every minute, hour and day.

Who may attach as whom: over TCP, users that prove who they are, with a key (--auth, see gefs9p auth)
or a certificate (--tls-client-ca); over a Unix socket, whoever runs the server and the superuser as
anybody and others as themselves (--peers), if the socket's mode lets them connect at all. With -A,
everybody as anybody. docs/security.md says what that is worth.

With --http there is a status page to look at in a browser, metrics for Prometheus at /metrics, and whether
all is well at /healthz and /readyz; see docs/watch.md.

Started by systemd, or whatever speaks as it does, it says when it is ready, answers the watchdog as long as files
can be changed, and takes the sockets that it is given: in place of addresses that are named here, or by their
names (9p, ctl, ctl9p, http); see docs/install.md.

Addresses are written as on Plan 9 (tcp!*!564, unix!/run/gefs), as host:port, or as a path
with a slash in it.`,
		Example: `  gefs9p serve --create 4G disk.img
  gefs9p serve --auth server.key -a 'tcp!*!564' disk.img
  gefs9p serve -A -a 'tcp!127.0.0.1!564' disk.img
  gefs9p serve -A -a 'tcp!*!564' -a unix!/run/gefs -m 2G /dev/sdb1
  gefs9p serve --http 127.0.0.1:8564 disk.img
  ssh host gefs9p serve -s disk.img`,
		Args: oneDisk,
		RunE: func(cmd *cobra.Command, args []string) error {
			s.disk, s.create = args[0], int64(create)
			s.in, s.out, s.errw = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			if s.create != 0 && s.readOnly {
				return usagef("--create makes a disk and --read-only writes nothing: leave one of them out")
			}
			if s.scrub < 0 {
				return usagef("--scrub %v: a time cannot be negative", s.scrub)
			}
			if s.pprof && len(s.http) == 0 {
				return usagef("--pprof without --http: say with --http where profiles are to be had")
			}
			if err := s.limits.check(); err != nil {
				return err
			}
			return s.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&s.addrs, "addr", "a", nil, "listen on `ADDR`; may be given many times")
	f.BoolVarP(&s.noAuth, "no-auth", "A", false, "let whoever connects attach as anybody, also over TCP")
	f.StringVar(&s.authKey, "auth", "", "let in who proves to be a user; `KEYFILE` holds the server's key")
	f.BoolVar(&s.sk1, "auth-p9sk1", false, "let clients use p9sk1 too, whose conversations passwords can be tried on; its key is in KEYFILE as well")
	f.Var(&s.peers, "peers", "who may attach over Unix sockets without proof: self, any (as anybody) or prove (nobody)")
	f.StringVar(&s.tls.cert, "tls-cert", "", "speak TLS on TCP, with the certificate in `FILE`")
	f.StringVar(&s.tls.key, "tls-key", "", "`FILE` with the certificate's key")
	f.StringVar(&s.tls.clientCA, "tls-client-ca", "", "let in users with certificates that an authority in `FILE` has signed, by their common names")
	f.Var(&create, "create", "make and ream DISK, of SIZE bytes (suffixes K M G T), if there is none")
	f.BoolVar(&s.readOnly, "read-only", false, "write nothing to the disk")
	f.BoolVar(&s.permissive, "permissive", false, "let everybody attach with % before the name, which switches permissions off")
	f.StringVar(&s.uids, "uids", passwdFile, "numbers of users for clients that speak 9P2000.L or 9P2000.u, a `FILE` as passwd(5) has it; none for the users table's")
	f.VarP(&s.mem, "memory", "m", "memory for cached blocks: 25%, 512M, 2G")
	f.StringVar(&s.keyFile, "keyfile", "", "the disk's key file; with --create also make a disk hashed under it")
	f.BoolVarP(&s.stdio, "stdio", "s", false, "also serve standard input and output; without -a nothing else, until the client hangs up")
	f.StringVar(&s.ctl, "ctl", "", "`PATH` of the console's socket instead of DISK.ctl; none for no console")
	f.StringArrayVar(&s.ctl9p, "ctl9p", nil, "also offer the console as a 9P file, cmd, at `ADDR`; may be given many times")
	f.DurationVar(&s.scrub, "scrub", 0, "read all blocks in use in the background, again so long after the last time, like 168h; see scrub on the console")
	f.BoolVar(&s.discard, "discard", false, "tell the device what becomes free, in the background: sparse files shrink; Linux only")
	f.BoolVar(&s.noSnapshots, "no-snapshots", false, "make and delete no automatic snapshots")
	f.Var(&s.trace, "trace", "memory in MiB for what happened to blocks last, see save on the console; 0 for none")
	f.StringArrayVar(&s.http, "http", nil, "offer a status page, metrics and health at `ADDR`, best 127.0.0.1:8564; may be given many times")
	f.BoolVar(&s.pprof, "pprof", false, "with --http, also profiles of the program, under /debug/pprof/")
	s.limits.add(cmd)
	f.TextVar(&s.level, "log", slog.LevelInfo, "log what is at least a `LEVEL`: debug, info, warn or error")
	return cmd
}

// run serves until ctx ends or a signal comes.
func (s *server) run(ctx context.Context) (err error) {
	s.levelVar.Set(s.level)
	s.log = slog.New(slog.NewTextHandler(s.errw, &slog.HandlerOptions{Level: &s.levelVar}))
	svc, err := newService(os.Getenv, s.log)
	if err != nil {
		return err
	}
	defer svc.close()
	var events *watch.Events
	if len(s.http) > 0 || svc.gives(forStatusPage, address{}) {
		events = watch.NewEvents(eventsKept)
		s.log = slog.New(events.Handler(s.log.Handler()))
		svc.log = s.log
	}
	tlsConfig, err := s.access()
	if err != nil {
		return err
	}
	addrs, err := parseAddrs("-a", s.addrs, s.tcpAllowed())
	if err != nil {
		return err
	}
	ctl9p, err := parseAddrs("--ctl9p", s.ctl9p, s.noAuth)
	if err != nil {
		return err
	}
	web, err := parseHTTP(s.http, s.noAuth)
	if err != nil {
		return err
	}
	var std *stdio
	if s.stdio {
		if std, err = newStdio(s.in, s.out); err != nil {
			return err
		}
		s.out = s.errw
	}
	if len(addrs) == 0 && !s.stdio {
		if addrs, err = s.defaultAddrs(svc, append(ctl9p, web...)); err != nil {
			return err
		}
	}

	// From here on a signal ends what is under way in good order.
	ctx, stop := untilSignal(ctx, s.log)
	defer stop()

	svc.during("opening " + s.disk)
	dev, undo, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer dev.Close()
	// Before the disk is loaded, because loading may mend it: a server that cannot listen is to
	// leave it as it is. Clients that come early wait.
	listeners, err := listenAll(ctx, addrs, svc)
	if err != nil {
		undo()
		return err
	}
	defer func() { closeAll(listeners) }()
	con, err := s.listenConsole(ctx, ctl9p, svc)
	if err != nil {
		undo()
		return err
	}
	defer con.close()
	pages, err := s.listenPages(ctx, web, svc)
	if err != nil {
		undo()
		return err
	}
	defer closeAll(pages)
	// Last, when what has its place by its address has been taken.
	given, err := svc.left(forFiles, func(a address) error { return a.allowed(s.tcpAllowed()) })
	if err != nil {
		undo()
		return err
	}
	listeners = append(listeners, given...)
	s.tls.wrap(listeners, tlsConfig)
	fsys, err := s.load(svc.meter(dev))
	if err != nil {
		return err
	}
	err = s.serve(ctx, &reachable{dev, fsys, listeners, std, con, pages, events, svc})
	if cerr := fsys.Close(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("%s: what was written last could not be committed: %w", s.disk, cerr))
	}
	if cerr := dev.Close(); cerr != nil {
		err = errors.Join(err, cerr)
	}
	return err
}

// tcpAllowed reports whether it is known who may attach over TCP.
func (s *server) tcpAllowed() bool { return s.noAuth || s.gate != nil || s.tls.clientCA != "" }

// access finds out who may attach. It sets the gate, and returns how TCP is encrypted.
func (s *server) access() (*tls.Config, error) {
	if s.noAuth && (s.authKey != "" || s.tls.clientCA != "") {
		return nil, usagef("-A lets everybody be anybody, and --auth and --tls-client-ca want proof: leave one of them out")
	}
	if s.peers == peersProve && s.authKey == "" && len(s.addrs) == 0 {
		return nil, usagef("--peers prove without --auth lets nobody in: say with --auth which key the server has")
	}
	if s.sk1 && s.authKey == "" {
		return nil, usagef("--auth-p9sk1 goes with --auth, which names the file with the server's keys")
	}
	cfg, err := s.tls.config(s.authKey == "")
	if err != nil || s.authKey == "" {
		return cfg, err
	}
	k, err := readServerKey(s.authKey)
	if err != nil {
		return nil, err
	}
	s.gate = &gate{key: k, log: s.log}
	if s.sk1 {
		if s.gate.des, err = readServerDESKey(s.authKey, k); err != nil {
			return nil, err
		}
		s.log.Warn("p9sk1 is offered: whoever hears one of its conversations, or asks the authentication server for a ticket, can try passwords on it")
	}
	return cfg, nil
}

// defaultAddrs is where a disk is served if no flag says it: on its own socket, or nowhere else if v's manager
// listens for it. others are the addresses of other things than files.
func (s *server) defaultAddrs(v *service, others []address) ([]address, error) {
	a, err := defaultAddr(s.disk)
	if v.gives(forFiles, append(others, a, s.ctlAddr())...) {
		return nil, nil
	}
	return []address{a}, err
}

// defaultAddr is where a disk is served if nobody says otherwise.
func defaultAddr(disk string) (address, error) {
	name := localName(disk) + ".sock"
	as, err := parseAddrs("-a", []string{"unix!" + name}, false)
	if err != nil {
		return address{}, usagef("cannot listen on %s: %w (choose an address with -a)", name, errors.Unwrap(err))
	}
	return as[0], nil
}

// open opens the disk, which it makes first if that was asked for; undo removes what it made.
func (s *server) open(ctx context.Context) (dev disk, undo func(), err error) {
	if s.create != 0 {
		none, err := s.isNone()
		if err != nil {
			return nil, nil, err
		}
		if none {
			r := reamer{disk: s.disk, size: s.create, sip: s.keyFile != "", keyFile: s.keyFile, out: s.errw}
			if dev, undo, err = r.ream(ctx); err != nil || !nbd.IsAddress(s.disk) {
				return dev, undo, err
			}
			// Open it again as a server does, which is more patient than one that reams.
			if err := dev.Close(); err != nil {
				return nil, nil, err
			}
		}
	}
	dev, err = openDiskFor(ctx, s.disk, nbd.Options{ReadOnly: s.readOnly, Unflushed: unflushed(memory()), Logger: s.log})
	return dev, func() {}, err
}

// isNone reports whether the disk has yet to be made: there is no such file, or nothing at the address.
func (s *server) isNone() (bool, error) {
	if !nbd.IsAddress(s.disk) {
		_, err := os.Stat(s.disk)
		return errors.Is(err, fs.ErrNotExist), nil
	}
	dev, err := openDisk(s.disk, true)
	if err != nil {
		return false, err
	}
	defer dev.Close()
	size, err := dev.Size()
	if err != nil {
		return false, err
	}
	what, err := looksLike(dev, size)
	return err == nil && what == "", err
}

// load loads the disk and says what it is, in the words of the reference.
func (s *server) load(dev disk) (*gefs.FS, error) {
	var err error
	if s.key, err = readKey(s.keyFile); err != nil {
		return nil, err
	}
	cache := s.mem.blocks()
	limitGarbage(memory(), int64(cache)*blkfmt.BlkSize)
	opt := gefs.Options{
		Cache:      cache,
		Key:        s.key,
		ReadOnly:   s.readOnly,
		Permissive: s.permissive,
		Schedule:   !s.noSnapshots,
		ScrubEvery: s.scrub,
		Discard:    s.discard,
		Logger:     s.log,
		Trace:      trace.New(int64(s.trace) << 20),
	}
	if opt.IDs, err = readUids(s.uids); err != nil {
		return nil, err
	}
	if !s.noAuth {
		opt.Trust = newTrust(s.peers).attach
	}
	if s.gate != nil {
		opt.Auth = s.gate.begin
	}
	fsys, err := gefs.Open(dev, opt)
	if err != nil {
		return nil, diskError(dev, err)
	}
	super := fsys.Store().Super()
	fmt.Fprintf(s.errw, "load %s:\n", s.disk)
	for _, v := range []struct {
		label string
		value any
	}{
		{"snaptree", fmt.Sprintf("(%x,%x,%d)", int64(super.Snap.Addr), super.Snap.Hash, super.Snap.Gen)},
		{"narenas", len(super.Arenas)},
		{"features", super.Flag},
		{"nextqid", super.NextQid},
		{"lastqgen", super.Qgen},
		{"nextgen", super.NextGen},
		{"blocksize", blkfmt.BlkSize},
		{"cachesz", fmt.Sprintf("%d MiB", max(cache, blkstore.MinCache)*blkfmt.BlkSize>>20)},
	} {
		fmt.Fprintf(s.errw, "\t%s:\t%v\n", v.label, v.value)
	}
	return fsys, nil
}

// A reachable disk is one that is open, and the ways to it.
type reachable struct {
	dev       disk
	fsys      *gefs.FS
	listeners []net.Listener // for 9P
	std       *stdio         // nil for none
	con       *consoles
	pages     []net.Listener // for the status page
	events    *watch.Events  // nil without pages
	svc       *service
}

// serve answers clients until ctx ends, a listener fails or, when there is only r.std, its client
// hangs up. All connections are over when it returns.
func (s *server) serve(ctx context.Context, r *reachable) error {
	srv := &ninep.Server{FS: r.fsys, NewWorker: r.fsys.NewWorker, FreeWorker: r.fsys.FreeWorker, Logger: s.log}
	if len(r.pages) > 0 {
		srv.Meter = new(ninep.Meter)
	}
	srv.Limits = connLimits(memory(), int64(s.mem.blocks())*blkfmt.BlkSize)
	s.limits.apply(&srv.Limits)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The consoles end last: one of them may be what ends the server, and has yet to say so.
	endConsoles := s.serveConsole(ctx, r.fsys, srv, r.con, func() { cancel(nil) })
	defer endConsoles()
	defer s.serveWatch(ctx, r.fsys, srv, r.pages, r.events)()
	var wg sync.WaitGroup
	for _, l := range r.listeners {
		wg.Go(func() {
			// Not ctx: connections end in Shutdown, after the requests under way.
			if err := srv.Serve(context.WithoutCancel(ctx), l); err != nil && !errors.Is(err, ninep.ErrClosed) {
				cancel(err)
			}
		})
	}
	if r.std != nil {
		wg.Go(func() {
			err := srv.ServeConn(context.WithoutCancel(ctx), r.std)
			if len(r.listeners) == 0 {
				cancel(err)
			}
		})
	}
	if len(s.addrs) == 0 && len(r.listeners) > 0 {
		howTo(s.errw, r.listeners[0], exampleUser(r.fsys))
	}
	for _, l := range r.listeners {
		if s.noAuth && public(l) {
			s.log.Warn("everybody who can reach this machine can read and change all files as any user", "addr", addrName(l))
		}
		fmt.Fprintf(s.out, "listening %s\n", addrName(l))
	}
	r.svc.rest()
	defer r.svc.serving(ctx, r.fsys, r.dev, s.status(r.listeners))()
	<-ctx.Done()
	r.svc.tell(systemd.Stopping)
	r.svc.during("committing what was written last")
	s.log.Info("shutting down", "connections", srv.NumConns())
	// At once, for those whose second signal comes before clients have let go. Close says if it fails.
	wg.Go(func() { r.fsys.Sync(context.WithoutCancel(ctx)) })
	deadline, stop := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer stop()
	if err := srv.Shutdown(deadline); err != nil {
		s.log.Warn("requests that took too long were cut off", "after", shutdownTime)
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// status says in a line what is served where.
func (s *server) status(ls []net.Listener) string {
	names := make([]string, len(ls))
	for i, l := range ls {
		names[i] = addrName(l)
	}
	if len(names) == 0 {
		names = []string{"standard input and output"}
	}
	return fmt.Sprintf("serving %s on %s", s.disk, strings.Join(names, ", "))
}

// exampleUser is a user of the disk to show how it is mounted: the caller if the disk knows them.
func exampleUser(fsys *gefs.FS) string {
	t := fsys.Users()
	name, err := loginName()
	if _, ok := t.ID(name); err == nil && ok {
		return name
	}
	for _, u := range t.Users() {
		if t.InGroup(u.ID, t.Adm()) && u.ID != t.Adm() {
			return u.Name
		}
	}
	return "none"
}

// untilSignal returns a context that ends with ctx and when the process is interrupted or told to end.
// After that a second signal ends the process without further ado. stop gives the signals back.
func untilSignal(ctx context.Context, log *slog.Logger) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			select {
			case sig := <-signals:
				if n > 0 {
					log.Error("ending without a commit", "signal", sig)
					os.Exit(exitFail)
				}
				log.Info("ending; a second signal does not wait", "signal", sig)
				cancel()
			case <-quit:
				return
			}
		}
	})
	return ctx, func() {
		signal.Stop(signals)
		close(quit)
		wg.Wait()
		cancel()
	}
}
