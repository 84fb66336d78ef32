package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain is the program itself when it is called by its name, as the documented commands do.
func TestMain(m *testing.M) {
	if strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe") == "gefs9p" {
		os.Exit(Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// What a fenced block of a document may begin with. One that begins with sh and nothing else is run; the words
// say why another is not.
var blockKinds = map[string]string{
	"sh":         "",
	"sh mount":   "needs a mount",
	"sh network": "needs another machine",
	"sh device":  "needs a disk that may be erased",
	"sh program": "needs programs of others",
	"rc":         "is for Plan 9",
	"":           "is no command",
}

// A docCommand is a command of a document and what is shown as its output.
type docCommand struct {
	line int
	text string
	want []string // lines, in which … stands for anything
	code int      // expected exit code
}

var exitCodeNote = regexp.MustCompile(`#.*\bexit code (\d+)`)

// docCommands returns the commands of a document's blocks that are to be run. In a block, lines that begin
// with "$ " are commands, which go on in the next line behind a backslash; others are output. It fails for blocks
// of a kind that there is not.
func docCommands(text string) (list []docCommand, err error) {
	kind, inside := "", false
	for i, line := range strings.Split(text, "\n") {
		fence, fenced := strings.CutPrefix(line, "```")
		switch {
		case fenced && inside:
			inside = false
		case fenced:
			kind, inside = fence, true
			if _, ok := blockKinds[kind]; !ok {
				err = errors.Join(err, fmt.Errorf("line %d: a block of the kind %q: there are %q", i+1, kind, blockKinds))
			}
		case !inside || kind != "sh":
		case strings.HasPrefix(line, "$ "):
			c := docCommand{line: i + 1, text: line[2:]}
			if m := exitCodeNote.FindStringSubmatch(line); m != nil {
				fmt.Sscan(m[1], &c.code)
			}
			list = append(list, c)
		case len(list) == 0:
			err = errors.Join(err, fmt.Errorf("line %d: output of no command", i+1))
		default:
			c := &list[len(list)-1]
			if strings.HasSuffix(c.text, `\`) {
				c.text += "\n" + line
			} else {
				c.want = append(c.want, line)
			}
		}
	}
	return list, err
}

// docScript returns a script for sh that runs the commands, in one folder, with a line before what each
// prints. Servers in the background are waited for until they listen, and ended at the end.
func docScript(list []docCommand) string {
	var b strings.Builder
	b.WriteString("trap '[ -z \"$pids\" ] || { kill $pids 2>/dev/null; wait; }' EXIT\npids=\n")
	for i, c := range list {
		fmt.Fprintf(&b, "echo '@@ %d'\n", i)
		if command, ok := strings.CutSuffix(strings.TrimSpace(strings.SplitN(c.text, " #", 2)[0]), "&"); ok {
			fmt.Fprintf(&b, "%s >log.%d 2>&1 &\npids=\"$pids $!\"\n", command, i)
			fmt.Fprintf(&b, "until grep -q '^listening' log.%d; do kill -0 $! 2>/dev/null || { cat log.%d; exit 99; }; sleep 0.05; done\ncat log.%d\n", i, i, i)
			continue
		}
		fmt.Fprintf(&b, "code=0\n{ %s\n} </dev/null || code=$?\n[ $code = %d ] || { echo \"exit code $code\"; exit 99; }\n", c.text, c.code)
		if strings.HasSuffix(c.text, " halt") {
			b.WriteString("wait $!\n")
		}
	}
	return b.String()
}

// matches reports whether a line of output is what the document shows, in which … stands for anything.
func matches(shown, line string) bool {
	var parts []string
	for _, p := range strings.Split(strings.TrimSpace(shown), "…") {
		parts = append(parts, regexp.QuoteMeta(strings.Join(strings.Fields(p), " ")))
	}
	ok, _ := regexp.MatchString("^"+strings.Join(parts, ".*")+"$", strings.Join(strings.Fields(line), " "))
	return ok
}

// runDocument runs the commands of a document in an empty folder and says what is not as it is written there.
func runDocument(t *testing.T, list []docCommand) error {
	dir, err := os.MkdirTemp("", "gefs9p-doc") // a short path, as sockets need
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	bin, work := filepath.Join(dir, "bin"), filepath.Join(dir, "w")
	self, err := os.Executable()
	for _, err := range []error{err, os.Mkdir(bin, 0o700), os.Mkdir(work, 0o700), os.Symlink(self, filepath.Join(bin, "gefs9p"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", docScript(list))
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "LC_ALL=C.UTF-8")
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	runErr := cmd.Run()
	printed := make([][]string, len(list))
	at := -1
	for line := range strings.Lines(out.String()) {
		line = strings.TrimRight(line, "\n")
		if n, err := fmt.Sscanf(line, "@@ %d", &at); n == 1 && err == nil {
			continue
		}
		if at >= 0 {
			printed[at] = append(printed[at], line)
		}
	}
	if runErr != nil {
		if at < 0 {
			return fmt.Errorf("%w\n%s", runErr, out.String())
		}
		return fmt.Errorf("line %d: %s: %w\n%s", list[at].line, list[at].text, runErr, strings.Join(printed[at], "\n"))
	}
	var errs []error
	for i, c := range list {
		rest := printed[i]
		for _, want := range c.want {
			n := slices.IndexFunc(rest, func(line string) bool { return matches(want, line) })
			if n < 0 {
				errs = append(errs, fmt.Errorf("line %d: %s\ndoes not print\n%s\nbut\n%s", c.line, c.text, want, strings.Join(printed[i], "\n")))
				break
			}
			rest = rest[n+1:]
		}
	}
	return errors.Join(errs...)
}

// documents returns the texts of README.md and of docs, by name.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := make(map[string]string)
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(file)] = string(text)
	}
	return texts
}

// TestDocumentedCommandsDoWhatTheDocumentsSay types what the documents say, in the order in which they say it, each
// document in a folder of its own.
func TestDocumentedCommandsDoWhatTheDocumentsSay(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "plan9" {
		t.Skip("the documents are for sh")
	}
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	ran := 0
	for name, text := range documents(t) {
		list, err := docCommands(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if ran += len(list); len(list) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := runDocument(t, list); err != nil {
				t.Error(err)
			}
		})
	}
	if ran < 30 {
		t.Errorf("only %d commands in all documents", ran)
	}
}

// TestWrongDocumentsAreFound is about the test above: what it is there to find, it finds.
func TestWrongDocumentsAreFound(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "plan9" {
		t.Skip("the documents are for sh")
	}
	const good = "Text.\n\n```sh\n$ gefs9p ream -u glenda --size 131088K d\n$ gefs9p check d\n0 fatal, … 0 notes\n$ gefs9p check none   # exit code 8\n```\n```sh mount\n$ false\n```\n"
	for _, tt := range []struct {
		name, from, to string
		want           string // part of the error; empty for none
	}{
		{"as it is", "", "", ""},
		{"a flag that is not there", "-u glenda", "--owner glenda", "unknown flag"},
		{"another exit code", "exit code 8", "exit code 7", "exit code 8"},
		{"output that does not come", "0 fatal, …", "all is well, …", "does not print"},
		{"a block of another kind", "sh mount", "sh perhaps", "sh perhaps"},
		{"output before a command", "$ gefs9p ream", "gefs9p ream", "output of no command"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, err := docCommands(strings.ReplaceAll(good, tt.from, tt.to))
			if tt.from == "" {
				list, err = docCommands(good)
			}
			if err == nil {
				err = runDocument(t, list)
			}
			if err == nil && tt.want != "" || err != nil && (tt.want == "" || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
