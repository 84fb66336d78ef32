package cons

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"gefs9p/blkfmt"
	"gefs9p/gefs"
	"gefs9p/ninep"
)

// A Console runs commands for one disk. The fields are set before the first use and not changed after.
// Only FS is required. Its methods are safe for concurrent use.
type Console struct {
	FS  *gefs.FS
	Key *[blkfmt.KeySize]byte // content of the disk's key file, for check

	// Halt makes the server end. It must not wait: commands are still running.
	Halt func()

	// Level is the server's log level, for debug.
	Level *slog.LevelVar

	// Connections describes the clients of the server, for show fid.
	Connections func() []ninep.ConnInfo

	// Logger hears of every command: at the level debug, and info if it has changed something.
	Logger *slog.Logger // nil discards

	Now func() time.Time // the clock; nil means time.Now

	once     sync.Once
	checking chan struct{} // holds a token while a check runs

	debugMu sync.Mutex
	normal  slog.Level // what debug 0 goes back to
}

func (c *Console) init() {
	c.once.Do(func() {
		c.checking = make(chan struct{}, 1)
		if c.Level != nil {
			c.normal = max(c.Level.Level(), slog.LevelInfo)
		}
		if c.Logger == nil {
			c.Logger = slog.New(slog.DiscardHandler)
		}
		if c.Now == nil {
			c.Now = time.Now
		}
	})
}

// ErrReported is the error of a command that failed and has said everything in its output.
var ErrReported = errors.New("the command failed")

// A Command is an entry of the table.
type Command struct {
	Name string
	Args string // what follows the name, as in a manual page
	Help string // what it does, one line
	Long string // more, for help NAME; may be empty
	min  int    // number of arguments
	max  int    // -1 if there may be any number
	run  func(*call) error
}

// Commands returns the table, in the order in which help shows it.
func Commands() []Command {
	var all []Command
	for _, part := range [][]Command{adminCommands(), growCommands(), scrubCommands(), snapCommands(), quotaCommands(), streamCommands(), userCommands(), showCommands(), ctlCommands()} {
		all = append(all, part...)
	}
	return all
}

// A call is one command being run.
type call struct {
	*Console
	ctx  context.Context
	cmd  *Command
	args []string
	out  io.Writer
	json bool
	did  bool // it has changed something
}

// Exec runs the command that words are and writes what it says to out. A first word --json asks for
// one JSON object, where the command has a form for it.
//
// The error's text is the line to show; it names the command. A write to out that fails ends a long
// command. When ctx ends, the command gives up, and says what it had done already.
func (c *Console) Exec(ctx context.Context, words []string, out io.Writer) error {
	c.init()
	k := call{Console: c, ctx: ctx, out: out}
	if len(words) > 0 && words[0] == "--json" {
		k.json = true
		words = words[1:]
	}
	if len(words) == 0 {
		return nil
	}
	for _, cmd := range Commands() {
		if cmd.Name != words[0] {
			continue
		}
		k.cmd, k.args = &cmd, words[1:]
		if n := len(k.args); n < cmd.min || cmd.max >= 0 && n > cmd.max {
			return k.misuse()
		}
		err := k.explain(cmd.run(&k))
		level := slog.LevelDebug
		if k.did {
			level = slog.LevelInfo
		}
		c.Logger.Log(ctx, level, "console", "command", Join(words), "err", err)
		return err
	}
	return fmt.Errorf("unknown command '%s'", oneLine(strings.Join(words, " ")))
}

// A misuse is a command that there is, with arguments that make no sense to it.
type misuse struct{ text string }

func (m *misuse) Error() string { return m.text }

// misuse is the error of wrong arguments, in the reference's words and a few more.
func (k *call) misuse() error {
	words := append([]string{k.cmd.Name}, k.args...)
	return &misuse{fmt.Sprintf("unknown command '%s' (usage: %s)", oneLine(strings.Join(words, " ")), k.cmd.usageLine())}
}

func (cmd *Command) usageLine() string {
	if cmd.Args == "" {
		return cmd.Name
	}
	return cmd.Name + " " + cmd.Args
}

// explain puts the command's name before an error that does not begin with it.
func (k *call) explain(err error) error {
	var m *misuse
	if err == nil || err == ErrReported || errors.As(err, &m) {
		return err
	}
	// A disk that takes no more changes since something failed says "read only", and no more.
	if why := k.FS.Store().Err(); why != nil && !strings.Contains(err.Error(), why.Error()) {
		err = fmt.Errorf("%w, because of: %w", err, why)
	}
	switch {
	case strings.HasPrefix(err.Error(), k.cmd.Name+": "), strings.HasPrefix(err.Error(), k.cmd.Name+" "):
		return err // it names the command itself
	}
	return fmt.Errorf("%s: %w", k.cmd.Name, err)
}

// inside runs f inside an epoch. f must not wait for a commit.
func (k *call) inside(f func(c *ninep.Ctx) error) error {
	c, end := k.FS.Background()
	defer end()
	return f(c)
}

// commit waits until what the command did is on the disk; done says what that was.
func (k *call) commit(done string) error {
	k.did = true
	if err := k.FS.Sync(k.ctx); err != nil {
		return fmt.Errorf("%s, but that is not known to be on the disk: %w", done, err)
	}
	return nil
}

// answer writes the command's result: v to a program, the text to people.
func (k *call) answer(v any, format string, args ...any) error {
	if k.json {
		enc := json.NewEncoder(k.out)
		enc.SetIndent("", "\t")
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	_, err := fmt.Fprintf(k.out, format, args...)
	return err
}

// oneLine makes sure that a message is one line.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
