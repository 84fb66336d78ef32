package cons

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"gefs9p/gefs"
	"gefs9p/stream"
)

func streamCommands() []Command {
	return []Command{
		{Name: "send", Args: "[-i old] [-r token] [-a] snap | -f label [token]", min: 1, max: 6, run: (*call).send,
			Help: "send a snapshot as a stream, as gefs9p send does",
			Long: "What is said is for gefs9p send, which runs this on a disk that is served: lines of the stream in\n" +
				"base64, and last a line that begins with = and is a JSON object.\n" +
				"-i old    only what differs from the snapshot old\n" +
				"-r token  go on where recv --where says; with -a without a header, to be put behind that part\n" +
				"-f        what label is now, as the difference to the newest snapshot that a disk that follows has,\n" +
				"          as the token says; nothing if it has all of it"},
		{Name: "digest", Args: "snap", min: 1, max: 1, run: (*call).digest,
			Help: "read all that a snapshot holds and print a digest of it"},
	}
}

// streamLine is how many bytes of a stream make a line, a multiple of three.
const streamLine = 45000

// streamEnd begins the last line.
const streamEnd = "="

// A lineWriter writes what it is given as lines of base64.
type lineWriter struct {
	w    io.Writer
	line []byte
}

func (l *lineWriter) Write(p []byte) (int, error) {
	for n := 0; n < len(p); n += streamLine {
		l.line = base64.StdEncoding.AppendEncode(l.line[:0], p[n:min(n+streamLine, len(p))])
		if _, err := l.w.Write(append(l.line, '\n')); err != nil {
			return n, err
		}
	}
	return len(p), nil
}

func (k *call) send() error {
	follow := k.args[0] == "-f"
	var opt gefs.SendOptions
	args := k.args
	if follow {
		args = args[1:]
	}
	for !follow && len(args) > 1 && (args[0] == "-i" || args[0] == "-r" || args[0] == "-a") {
		if args[0] == "-a" {
			opt.Append, args = true, args[1:]
			continue
		}
		switch args[0] {
		case "-i":
			opt.Base = args[1]
		case "-r":
			m, err := stream.ParseToken(args[1])
			if err != nil {
				return err
			}
			opt.From = &m
		}
		args = args[2:]
	}
	if len(args) == 0 || len(args) > 2 || len(args) == 2 && !follow || strings.HasPrefix(args[0], "-") {
		return k.misuse()
	}
	w := bufio.NewWriterSize(&lineWriter{w: k.out}, streamLine)
	var sum gefs.Moved
	var err error
	if opt.Snap = args[0]; follow {
		var h gefs.Having
		if len(args) == 2 {
			if h, err = gefs.ParseHaving(args[1]); err != nil {
				return err
			}
		}
		k.did = true
		sum, err = k.FS.SendLatest(k.ctx, w, opt.Snap, h, nil)
	} else {
		sum, err = k.FS.Send(k.ctx, w, opt)
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return err
	}
	p, err := json.Marshal(sum)
	if err == nil {
		_, err = fmt.Fprintf(k.out, "%s%s\n", streamEnd, p)
	}
	return err
}

// A StreamReader takes what the command send says, and writes the stream of it.
type StreamReader struct {
	W    io.Writer
	Sum  gefs.Moved // of the last line
	line []byte
}

// Write takes a part of what the console says.
func (r *StreamReader) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		part, after, whole := bytes.Cut(rest, []byte{'\n'})
		r.line, rest = append(r.line, part...), after
		if whole {
			if err := r.take(); err != nil {
				return 0, err
			}
			r.line = r.line[:0]
		}
	}
	return len(p), nil
}

func (r *StreamReader) take() error {
	if text, ok := strings.CutPrefix(string(r.line), streamEnd); ok {
		return json.Unmarshal([]byte(text), &r.Sum)
	}
	p, err := base64.StdEncoding.Strict().DecodeString(string(r.line))
	if err != nil {
		return fmt.Errorf("the console says %.40q: %w", r.line, err)
	}
	_, err = r.W.Write(p)
	return err
}

func (k *call) digest() error {
	sum, err := k.FS.Digest(k.ctx, k.args[0], nil)
	if err != nil {
		return err
	}
	return k.answer(sum, "%v\n", sum.Digest)
}
