package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gefs9p/cons"
)

// rendered is a page as a terminal of some width shows it, without its formatting.
func rendered(t *testing.T, page string) string {
	t.Helper()
	for _, c := range []string{"man", "groff"} {
		if _, err := exec.LookPath(c); err != nil {
			t.Skipf("%s is not installed", c)
		}
	}
	cmd := exec.Command("groff", "-man", "-Tutf8", "-P-cbou", "-rLL=400n", "-ww")
	cmd.Stdin = strings.NewReader(page)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || errs.Len() > 0 {
		t.Errorf("groff: %v\n%s", err, errs.String())
	}
	return string(out)
}

// plain is text with one blank where there is any white space.
func plain(s string) string { return strings.Join(strings.Fields(s), " ") }

// commands are all that a user is told of.
func commands() []*cobra.Command { return manned(newRoot()) }

// TestManualHasEveryCommandAndFlag as groff shows them: what help says is there to the letter.
func TestManualHasEveryCommandAndFlag(t *testing.T) {
	for _, cmd := range commands() {
		name := manName(cmd)
		text := plain(rendered(t, string(manPage(cmd, time.Unix(1e9, 0)))))
		want := []string{cmd.Short, cmd.CommandPath()}
		for _, par := range strings.Split(cmd.Long+"\n\n"+cmd.Example, "\n\n") {
			want = append(want, par)
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			arg, usage := pflag.UnquoteUsage(f)
			if f.Shorthand != "" {
				want = append(want, "-"+f.Shorthand+", --"+f.Name)
			}
			want = append(want, strings.TrimSpace("--"+f.Name+" "+arg), usage)
		})
		for _, c := range cmd.Commands() {
			if !c.Hidden && c.Name() != "help" {
				want = append(want, manName(c)+"(1) "+c.Short)
			}
		}
		if cmd.Name() == "ctl" {
			for _, c := range cons.Commands() {
				want = append(want, plain(c.Name+" "+c.Args)+" "+c.Help, c.Long)
			}
		}
		for _, w := range want {
			if !strings.Contains(text, plain(w)) {
				t.Errorf("%s has not %q", name, plain(w))
			}
		}
		if t.Failed() {
			t.Fatalf("%s is\n%s", name, text)
		}
	}
}

// TestManualPagesPassTheLinters that are installed.
func TestManualPagesPassTheLinters(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	must(t, "man", "-o", filepath.Join(dir, "man1"))
	pages, err := filepath.Glob(filepath.Join(dir, "man1", "*.1"))
	if err != nil || len(pages) != len(commands()) {
		t.Fatalf("%d pages of %d: %v", len(pages), len(commands()), err)
	}
	for _, l := range [][]string{
		{"mandoc", "-Tlint", "-Wwarning"},
		{"man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"},
	} {
		if _, err := exec.LookPath(l[0]); err != nil {
			t.Logf("%s is not installed", l[0])
			continue
		}
		for _, p := range pages {
			cmd := exec.Command(l[0], append(l[1:], p)...)
			cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MAN_KEEP_STDERR=1", "MANROFFSEQ=")
			var errs strings.Builder
			cmd.Stderr = &errs
			if l[0] == "mandoc" {
				cmd.Stdout = &errs
			}
			if err := cmd.Run(); err != nil || errs.Len() > 0 {
				t.Errorf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, errs.String())
			}
		}
	}
	b, err := os.ReadFile(pages[0])
	if err != nil || !strings.Contains(string(b), `"2023-11-14"`) {
		t.Errorf("the page is not of the day it should be of (%v):\n%.200s", err, b)
	}
}

// TestRoffKeepsText: nothing in a text becomes a macro or another letter.
func TestRoffKeepsText(t *testing.T) {
	for _, s := range []string{".SH no", "'so no", `a\fBb\n`, "`tcp!*!564'", "--flag -x", "~/.x ^a", "Bε, 9–10", `\&`} {
		var m manual
		m.line(".TH X 1")
		m.line(".SH NAME\nx \\- y\n.SH T")
		m.text(s)
		if got := rendered(t, string(m.b)); !strings.Contains(got, s) {
			t.Errorf("%q is shown as\n%s", s, got)
		}
	}
}

func TestManOfOneCommand(t *testing.T) {
	dir := t.TempDir()
	if out := must(t, "man", "auth", "newkey"); !regexp.MustCompile(`^\.TH GEFS9P-AUTH-NEWKEY 1 `).MatchString(out) {
		t.Errorf("%.100s", out)
	}
	if out := must(t, "man"); !strings.HasPrefix(out, ".TH GEFS9P 1 ") {
		t.Errorf("%.100s", out)
	}
	refused(t, dir, 2, []string{"frob"}, "man", "frob")
	refused(t, dir, 2, []string{"shrink"}, "man", "shrink")
	refused(t, dir, 2, []string{"serve"}, "man", "-o", filepath.Join(dir, "new"), "serve")
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, 1, []string{file}, "man", "-o", file)
	// Of what was begun nothing stays.
	half := filepath.Join(dir, "half")
	if err := os.MkdirAll(filepath.Join(half, "gefs9p-trim.1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := command("man", "-o", half); code != 1 || !strings.Contains(errs, "gefs9p-trim.1") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if left, err := os.ReadDir(half); err != nil || len(left) > 1 {
		t.Errorf("%d files are left: %v", len(left), err)
	}
}
