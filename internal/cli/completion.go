package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gefs9p/cons"
)

// words are what the flags of these names can be, in whatever command.
func words() map[string][]string {
	return map[string][]string{
		"log":   {"debug", "info", "warn", "error"},
		"peers": {string(peersSelf), string(peersAny), string(peersProve)},
		"hash":  {"metro", "siphash"},
	}
}

// shells are those for which there are completions.
func shells() map[string]func(root *cobra.Command, w io.Writer) error {
	return map[string]func(*cobra.Command, io.Writer) error{
		"bash":       bashCompletion,
		"zsh":        func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) },
		"fish":       func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
		"powershell": func(root *cobra.Command, w io.Writer) error { return root.GenPowerShellCompletionWithDesc(w) },
	}
}

func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "print what makes a shell complete the words of gefs9p",
		Long: `Completion prints a script for the shell. When Tab is pressed the script asks gefs9p itself, so it
does not grow old: commands, flags and their values are those of the program that is installed.`,
		Example: `  gefs9p completion bash > /etc/bash_completion.d/gefs9p
  gefs9p completion zsh > "${fpath[1]}/_gefs9p"
  gefs9p completion fish > ~/.config/fish/completions/gefs9p.fish
  source <(gefs9p completion bash)`,
		DisableFlagsInUseLine: true,
		ValidArgs:             []string{"bash", "zsh", "fish", "powershell"},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || shells()[args[0]] == nil {
				return fmt.Errorf("one shell is wanted: %s", strings.Join(cmd.ValidArgs, ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return shells()[args[0]](cmd.Root(), cmd.OutOrStdout())
		},
	}
}

// bashCompletion writes the script for bash. What cobra makes leans on the package bash-completion; where that is
// not installed the words are found in the line, at its blanks.
func bashCompletion(root *cobra.Command, w io.Writer) error {
	if err := root.GenBashCompletionV2(w, true); err != nil {
		return err
	}
	_, err := io.WriteString(w, `
if ! declare -F _get_comp_words_by_ref >/dev/null; then
    __gefs9p_init_completion()
    {
        local line=${COMP_LINE:0:COMP_POINT}
        COMPREPLY=()
        read -ra words <<<"$line"
        [[ $line != *[[:blank:]] ]] || words+=("")
        cword=$((${#words[@]} - 1))
        cur=${words[cword]}
        prev=${words[cword > 0 ? cword - 1 : 0]}
    }
fi
`)
	return err
}

// addCompletions says what values flags and arguments can have.
func addCompletions(cmd *cobra.Command) error {
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if vals := words()[f.Name]; vals != nil && err == nil {
			err = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(vals, cobra.ShellCompDirectiveNoFileComp))
		}
	})
	for _, c := range cmd.Commands() {
		if err == nil {
			err = addCompletions(c)
		}
	}
	return err
}

// completeConsole completes the first word of a command for the console.
func completeConsole(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, c := range cons.Commands() {
		names = append(names, cobra.CompletionWithDesc(c.Name, c.Help))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
