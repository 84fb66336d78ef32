package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gefs9p/cons"
)

func newMan() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "man [-o DIR | COMMAND...]",
		Short: "print the manual pages",
		Long: `Man prints the manual page of a command, without one that of gefs9p itself, in the language of man(7).
With -o it writes the pages of all commands into DIR, which is made if there is none.

The pages say what help says. Their date is that of the program's last commit, or of the environment's
SOURCE_DATE_EPOCH.`,
		Example: `  gefs9p man serve | man -l -
  gefs9p man -o /usr/local/share/man/man1`,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if dir != "" && len(args) > 0 {
				return usagef("-o is for the pages of all commands: leave %q out", args[0])
			} else if err != nil || len(rest) > 0 || of.Hidden {
				return usagef("there is no command %q", strings.Join(args, " "))
			}
			at := manDate(os.Getenv)
			if dir == "" {
				_, err := cmd.OutOrStdout().Write(manPage(of, at))
				return err
			}
			return writeManPages(dir, cmd.Root(), at)
		},
	}
	cmd.Flags().StringVarP(&dir, "output", "o", "", "write the pages of all commands into `DIR`")
	return cmd
}

// manDate is what the pages have for a date, the zero time if nobody knows.
func manDate(env func(string) string) time.Time {
	if sec, err := strconv.ParseInt(env("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		return time.Unix(sec, 0).UTC()
	}
	at, err := time.Parse(time.RFC3339, buildSetting("vcs.time"))
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}

// manned returns the command and all below it that have pages.
func manned(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		if !c.Hidden && c.Name() != "help" {
			all = append(all, manned(c)...)
		}
	}
	return all
}

// manName is the name of a command's page.
func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// writeManPages writes all pages into dir. What it has made it removes if it fails.
func writeManPages(dir string, root *cobra.Command, at time.Time) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return pathError(err)
	}
	var made []string
	defer func() {
		if err != nil {
			for _, name := range made {
				os.Remove(name)
			}
		}
	}()
	for _, cmd := range manned(root) {
		name := filepath.Join(dir, manName(cmd)+".1")
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			made = append(made, name)
		}
		if err := os.WriteFile(name, manPage(cmd, at), 0o644); err != nil {
			return pathError(err)
		}
	}
	return nil
}

// A manual is a page of man(7) being written.
type manual struct{ b []byte }

// line adds a line as it is: a macro, or text that has been escaped.
func (m *manual) line(format string, args ...any) { m.b = fmt.Appendf(m.b, format+"\n", args...) }

// roff escapes text so that it comes out as it is: quotes and hyphens are for shells, and stay what they are.
func roff(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r == '`':
			b.WriteString(`\(ga`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r > 0x7e:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// text adds lines of text, none of which is taken for a macro.
func (m *manual) text(s string) {
	for l := range strings.Lines(s) {
		l = roff(strings.TrimRight(l, " \n"))
		if strings.HasPrefix(l, ".") {
			l = `\&` + l // the other one that can begin a macro, a quote, is escaped already
		}
		m.line("%s", l)
	}
}

// prose adds paragraphs, which are divided by empty lines. Lines that are indented stay lines.
func (m *manual) prose(s string) {
	for i, par := range strings.Split(strings.TrimSpace(s), "\n\n") {
		if i > 0 {
			m.line(".PP")
		}
		literal := false
		for l := range strings.Lines(par) {
			indented := strings.HasPrefix(l, " ") || strings.HasPrefix(l, "\t")
			switch {
			case indented && !literal:
				m.line(".RS 4\n.nf")
			case !indented && literal:
				m.line(".fi\n.RE")
			}
			literal = indented
			m.text(strings.TrimLeft(l, " \t"))
		}
		if literal {
			m.line(".fi\n.RE")
		}
	}
}

// manPage is the page of a command.
func manPage(cmd *cobra.Command, at time.Time) []byte {
	var m manual
	date := ""
	if !at.IsZero() {
		date = at.Format(time.DateOnly)
	}
	number, _, _ := strings.Cut(version(), " ")
	m.line(`.TH %s 1 "%s" "gefs9p %s" "gefs9p"`, strings.ToUpper(manName(cmd)), date, roff(number))
	m.line(".nh") // words of commands stay whole
	m.line(".SH NAME\n%s \\- %s", roff(manName(cmd)), roff(cmd.Short))
	m.line(".SH SYNOPSIS\n.nf")
	for _, use := range uses(cmd) {
		m.line(`\fB%s\fR%s`, roff(cmd.CommandPath()), roff(use))
	}
	m.line(".fi\n.SH DESCRIPTION")
	m.prose(cmd.Long)
	if cs := manned(cmd)[1:]; len(cs) > 0 {
		m.line(".SH COMMANDS")
		for _, c := range cmd.Commands() {
			if slices.Contains(cs, c) {
				m.line(".TP\n.BR %s (1)", roff(manName(c)))
				m.text(c.Short)
			}
		}
	}
	m.options(cmd)
	if cmd.Name() == "ctl" {
		m.console()
	}
	if cmd.Example != "" {
		m.line(".SH EXAMPLES\n.nf")
		for l := range strings.Lines(cmd.Example) {
			m.text(strings.TrimPrefix(l, "  "))
		}
		m.line(".fi")
	}
	if cmd.Name() != "check" && cmd.Name() != "salvage" { // which have their own, and say so
		m.line(".SH EXIT STATUS")
		m.text(fmt.Sprintf("%d if all went well, %d for a failure, which a line on standard error names, %d for wrong use.", exitOK, exitFail, exitUsage))
	}
	m.line(".SH SEE ALSO")
	m.seeAlso(cmd)
	return m.b
}

// uses are the ways to call the command, without its name.
func uses(cmd *cobra.Command) []string {
	name := cmd.Name()
	var all []string
	for _, u := range strings.Split(cmd.Use, " | "+name+" ") {
		u = strings.TrimPrefix(u, name)
		if cmd.HasAvailableLocalFlags() && !cmd.DisableFlagsInUseLine {
			u = " [flags]" + " " + strings.TrimSpace(u)
		} else if u = strings.TrimSpace(u); u != "" {
			u = " " + u
		}
		if cmd.HasAvailableSubCommands() {
			u += " COMMAND"
		}
		all = append(all, strings.TrimRight(u, " "))
	}
	return all
}

// options adds the flags.
func (m *manual) options(cmd *cobra.Command) {
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	m.line(".SH OPTIONS")
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		arg, usage := pflag.UnquoteUsage(f)
		m.line(".TP")
		name := fmt.Sprintf(`\fB%s\fR`, roff("--"+f.Name))
		if f.Shorthand != "" {
			name = fmt.Sprintf(`\fB%s\fR, %s`, roff("-"+f.Shorthand), name)
		}
		if arg != "" {
			name += fmt.Sprintf(` \fI%s\fR`, roff(arg))
		}
		m.line("%s", name)
		if d := f.DefValue; !slices.Contains([]string{"", "0", "0s", "false", "[]", "none"}, d) && !strings.Contains(usage, "default") {
			usage += fmt.Sprintf(" (default %s)", d)
		}
		m.text(usage)
	})
}

// console adds the commands of the console.
func (m *manual) console() {
	m.line(".SH CONSOLE COMMANDS")
	for _, c := range cons.Commands() {
		m.line(".TP\n\\fB%s\\fR %s", roff(c.Name), roff(c.Args))
		m.text(c.Help)
		if c.Long != "" {
			m.line(".IP")
			m.text(c.Long)
		}
	}
}

// seeAlso names the pages above and beside the command's.
func (m *manual) seeAlso(cmd *cobra.Command) {
	top := cmp.Or(cmd.Parent(), cmd)
	var names []string
	for _, c := range manned(top) {
		if c != cmd && (c == top || c.Parent() == top) {
			names = append(names, manName(c))
		}
	}
	if !slices.Contains(names, top.Root().Name()) && cmd.HasParent() {
		names = append([]string{top.Root().Name()}, names...)
	}
	for i, n := range names {
		comma := ","
		if i == len(names)-1 {
			comma = ""
		}
		m.line(".BR %s (1)%s", roff(n), comma)
	}
}
