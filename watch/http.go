package watch

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bounds of what one who asks may take.
const (
	headTime    = 5 * time.Second // for the head of a request
	readTime    = 10 * time.Second
	answerTime  = 20 * time.Second // for an answer to be taken
	profileTime = 5 * time.Minute  // the same, of a profile
	idleTime    = time.Minute
	headMax     = 16 << 10
	connsMax    = 64
	refreshed   = 10 // seconds after which a browser asks for the page again
)

// policy lets a browser do nothing with the page but show it.
const policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Serve answers HTTP requests on l until ctx ends, and closes it. Those under way may take some seconds more. The
// error is nil unless accepting failed. On a loopback address only requests that name it are answered: a page
// of the web whose name has been made to point here is not let in.
func (w *Watcher) Serve(ctx context.Context, l net.Listener) error {
	w.init()
	tcp, ok := l.Addr().(*net.TCPAddr)
	srv := &http.Server{
		Handler:           w.Handler(ok && tcp.IP.IsLoopback()),
		ReadHeaderTimeout: headTime,
		ReadTimeout:       readTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    headMax,
		ErrorLog:          slog.NewLogLogger(w.Logger.Handler(), slog.LevelDebug),
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	over, end := context.WithCancel(ctx)
	defer end()
	wg.Go(func() {
		<-over.Done()
		patience, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer stop()
		if srv.Shutdown(patience) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(&bounded{Listener: l, seats: make(chan struct{}, connsMax), end: over.Done()})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Handler answers requests. With local, only those for this machine, by a name that is its own alone.
func (w *Watcher) Handler(local bool) http.Handler {
	w.init()
	mux := http.NewServeMux()
	page := newRenderer()
	mux.HandleFunc("/{$}", func(rw http.ResponseWriter, r *http.Request) {
		w.look()
		p := w.page(time.Now())
		p.Refresh = refreshed
		if n, err := strconv.Atoi(r.URL.Query().Get("refresh")); err == nil {
			p.Refresh = min(max(n, 0), 3600)
		}
		var b bytes.Buffer
		if err := page.tmpl.Execute(&b, p); err != nil {
			w.Logger.Error("the status page cannot be made", "err", err)
			http.Error(rw, "the page cannot be made; the log says why", http.StatusInternalServerError)
			return
		}
		answer(rw, "text/html; charset=utf-8", b.Bytes())
	})
	mux.HandleFunc("/metrics", func(rw http.ResponseWriter, r *http.Request) {
		var b bytes.Buffer
		w.WriteMetrics(&b)
		answer(rw, contentType, b.Bytes())
	})
	mux.HandleFunc("/healthz", func(rw http.ResponseWriter, r *http.Request) {
		if d := w.stuck(); d > 0 {
			unavailable(rw, fmt.Sprintf("nothing could be changed for %v", d.Round(time.Second)))
			return
		}
		answer(rw, "text/plain; charset=utf-8", []byte("ok\n"))
	})
	mux.HandleFunc("/readyz", func(rw http.ResponseWriter, r *http.Request) {
		if err := w.FS.Store().Err(); err != nil {
			unavailable(rw, "read-only: "+plain(err.Error()))
			return
		}
		answer(rw, "text/plain; charset=utf-8", []byte("ok\n"))
	})
	if w.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h := rw.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", policy)
		h.Set("Cache-Control", "no-store")
		limit := answerTime
		if strings.HasPrefix(r.URL.Path, "/debug/pprof/") {
			limit = profileTime
		}
		http.NewResponseController(rw).SetWriteDeadline(time.Now().Add(limit)) // a recorder in a test has none
		switch {
		case local && !loopback(r.Host):
			http.Error(rw, "this address is for requests to localhost", http.StatusMisdirectedRequest)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(rw, "only GET and HEAD", http.StatusMethodNotAllowed)
		default:
			mux.ServeHTTP(rw, r)
		}
	})
}

func answer(rw http.ResponseWriter, typ string, b []byte) {
	rw.Header().Set("Content-Type", typ)
	rw.Header().Set("Content-Length", strconv.Itoa(len(b)))
	rw.Write(b) // net/http leaves the body of a HEAD away
}

func unavailable(rw http.ResponseWriter, why string) {
	http.Error(rw, why, http.StatusServiceUnavailable)
}

// loopback reports whether a Host header names this machine in a way that nobody else can make point here. HTTP/1.0
// may leave it out; a browser never does.
func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "" || strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// A bounded listener accepts no more connections than it has seats for.
type bounded struct {
	net.Listener
	seats chan struct{}
	end   <-chan struct{}
}

func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.seats <- struct{}{}:
	case <-b.end:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.seats
		return nil, err
	}
	return &seated{Conn: c, leave: sync.OnceFunc(func() { <-b.seats })}, nil
}

// seated is a connection that has a seat.
type seated struct {
	net.Conn
	leave func()
}

// Close closes the connection and gives its seat to another.
func (s *seated) Close() error {
	defer s.leave()
	return s.Conn.Close()
}
