package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A completer completes lines in a real shell: each line's words, the one under the cursor last.
type completer func(t *testing.T, lines []string) [][]string

// asked runs a shell that answers to each line of its input with words and an empty line.
func asked(t *testing.T, lines []string, shell string, args ...string) [][]string {
	t.Helper()
	cmd := exec.Command(shell, args...)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"), "HOME="+t.TempDir(), "LC_ALL=C.UTF-8")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || errs.Len() > 0 {
		t.Fatalf("%s: %v\n%s", shell, err, errs.String())
	}
	blocks := strings.Split(strings.TrimSuffix(string(out), "\n\n"), "\n\n")
	if len(blocks) != len(lines) {
		t.Fatalf("%s: %d answers to %d lines:\n%s", shell, len(blocks), len(lines), out)
	}
	all := make([][]string, len(lines))
	for i, b := range blocks {
		for l := range strings.Lines(b) {
			word, _, _ := strings.Cut(strings.TrimSpace(l), " ") // a description comes behind
			word, _, _ = strings.Cut(word, "\t")
			if word != "-" { // the end of an empty answer
				all[i] = append(all[i], word)
			}
		}
	}
	return all
}

// bash has the file sourced before.
func bash(file string) completer {
	return func(t *testing.T, lines []string) [][]string {
		return asked(t, lines, "bash", "--norc", "--noprofile", "-c", `
set -eu
[ -z "$1" ] || { set +eu; source "$1"; set -eu; }
source <(gefs9p completion bash)
f=$(complete -p gefs9p | sed -n 's/.* -F \([^ ]*\) .*/\1/p')
compopt() { :; } # which is for a completion that a key has begun
set +eu
while IFS= read -r line; do
	COMP_LINE=$line COMP_POINT=${#line} COMP_TYPE=63 COMP_KEY=9
	read -ra COMP_WORDS <<<"$line"
	case $line in *' ') COMP_WORDS+=("") ;; esac
	COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
	COMPREPLY=()
	$f gefs9p "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" </dev/null
	printf '%s\n' "${COMPREPLY[@]:--}"
	echo
done
`, "bash", file)
	}
}

func fish(t *testing.T, lines []string) [][]string {
	return asked(t, lines, "fish", "--no-config", "-c", `
gefs9p completion fish | source
while read -l line
	set -l all (complete -C $line)
	test (count $all) -gt 0; and printf '%s\n' $all; or echo -
	echo
end
`)
}

// TestShellsCompleteEveryCommandAndFlag: what help says there is, a shell offers.
func TestShellsCompleteEveryCommandAndFlag(t *testing.T) {
	found := map[string]completer{}
	if _, err := exec.LookPath("bash"); err == nil {
		found["bash"] = bash("")
		const lib = "/usr/share/bash-completion/bash_completion"
		if _, err := os.Stat(lib); err == nil {
			found["bash with bash-completion"] = bash(lib)
		}
	}
	if _, err := exec.LookPath("fish"); err == nil {
		found["fish"] = fish
	}
	if len(found) == 0 {
		t.Skip("neither bash nor fish is installed")
	}
	// The lines, and what each must offer at least.
	var lines []string
	var want [][]string
	add := func(line string, words ...string) {
		lines, want = append(lines, line), append(want, words)
	}
	flag := regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z0-9-]+)`)
	command := regexp.MustCompile(`(?m)^  ([a-z0-9]+) +\S`)
	var visit func(path string)
	visit = func(path string) {
		help := mustRun(t, append(strings.Fields(path)[1:], "--help")...)
		var flags, commands []string
		for _, m := range flag.FindAllStringSubmatch(help, -1) {
			if m[1] != "help" && m[1] != "version" {
				flags = append(flags, "--"+m[1])
			}
		}
		if _, rest, ok := strings.Cut(help, "Available Commands:\n"); ok {
			rest, _, _ = strings.Cut(rest, "\n\n")
			for _, m := range command.FindAllStringSubmatch(rest, -1) {
				commands = append(commands, m[1])
			}
		}
		if len(flags) > 0 && path != "gefs9p auth try" { // of which one flag is wanted first
			add(path+" --", flags...)
		}
		if len(commands) > 0 {
			add(path+" ", commands...)
			for _, c := range commands {
				if c != "help" {
					visit(path + " " + c)
				}
			}
		}
	}
	visit("gefs9p")
	if len(lines) < 15 {
		t.Fatalf("help knows only of %q", lines)
	}
	add("gefs9p ser", "serve")
	add("gefs9p serve --peers ", "self", "any", "prove")
	add("gefs9p serve --log ", "debug", "info", "warn", "error")
	add("gefs9p ream --hash s", "siphash")
	add("gefs9p ctl sn", "snap")
	add("gefs9p completion ", "bash", "zsh", "fish")
	add("gefs9p auth try --", "--key")
	for name, complete := range found {
		t.Run(name, func(t *testing.T) {
			for i, got := range complete(t, lines) {
				for _, w := range want[i] {
					if !slices.Contains(got, w) {
						t.Errorf("%q: %s is not offered in %q", lines[i], w, got)
					}
				}
			}
		})
	}
}

// TestScriptsForShellsAreWellFormed where the shell is installed to say so.
func TestScriptsForShellsAreWellFormed(t *testing.T) {
	checked := 0
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script := mustRun(t, "completion", shell)
		if !strings.Contains(script, "__complete") {
			t.Errorf("%s: the script does not ask gefs9p:\n%.500s", shell, script)
		}
		if _, err := exec.LookPath(shell); err != nil {
			t.Logf("%s is not installed", shell)
			continue
		}
		file := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(shell, "-n", file).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s -n: %v\n%s", shell, err, out)
		}
		checked++
	}
	if _, errs, code := run(t, "completion", "rc"); code != 2 || !strings.Contains(errs, "zsh") {
		t.Errorf("a shell without completions: exit code %d, %s", code, errs)
	}
	t.Log(fmt.Sprint(checked, " scripts were read by their shells"))
}
