package cons

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"

	"gefs9p/check"
)

func adminCommands() []Command {
	return []Command{
		{Name: "help", Args: "[command]", max: 1, run: (*call).help,
			Help: "show what commands there are, or all about one"},
		{Name: "check", run: (*call).check,
			Help: "check the whole disk while it is served; the last line is ok or broken",
			Long: "Reads every block in use and compares everything with everything, as gefs9p check does. The\n" +
				"state that is checked is committed first. Clients go on reading, writing and syncing meanwhile;\n" +
				"what they free of that state is theirs again when the check has ended. On a disk that gets too\n" +
				"full for that the check is given up. Space that is lost (leaks) is reported and is not broken."},
		{Name: "df", run: (*call).df,
			Help: "show how much of each arena and of the disk is used"},
		{Name: "sync", run: (*call).sync,
			Help: "write everything to the disk; says so when it is there"},
		{Name: "halt", run: (*call).halt,
			Help: "write everything to the disk and end the server"},
		{Name: "permit", Args: "on|off", min: 1, max: 1, run: (*call).permit,
			Help: "let every user attach with %, which switches permissions off, or only group adm"},
		{Name: "reserve", Args: "[on|off]", max: 1, run: (*call).reserve,
			Help: "off: let requests use the space that is kept for removals on a full disk"},
		{Name: "debug", Args: "[n]", max: 1, run: (*call).debug,
			Help: "log more (1) or as usual (0); without a number the other of them"},
	}
}

func (k *call) help() error {
	all := Commands()
	if len(k.args) == 1 {
		for _, cmd := range all {
			if cmd.Name == k.args[0] {
				text := fmt.Sprintf("%s\n\t%s\n", cmd.usageLine(), cmd.Help)
				if cmd.Long != "" {
					text += "\t" + strings.ReplaceAll(cmd.Long, "\n", "\n\t") + "\n"
				}
				return k.answer(helpOf(cmd), "%s", text)
			}
		}
		return fmt.Errorf("no command '%s'", k.args[0])
	}
	var list []helpEntry
	var b strings.Builder
	for _, cmd := range all {
		list = append(list, helpOf(cmd))
		fmt.Fprintf(&b, "%s\n\t%s\n", cmd.usageLine(), cmd.Help)
	}
	return k.answer(map[string]any{"commands": list}, "%s", b.String())
}

type helpEntry struct {
	Name string `json:"name"`
	Args string `json:"args"`
	Help string `json:"help"`
	Long string `json:"long,omitempty"`
}

func helpOf(cmd Command) helpEntry { return helpEntry{cmd.Name, cmd.Args, cmd.Help, cmd.Long} }

func (k *call) check() error {
	select {
	case k.checking <- struct{}{}:
		defer func() { <-k.checking }()
	case <-k.ctx.Done():
		return k.ctx.Err()
	}
	// A client that does not take what is said any more is not worth the reading.
	ctx, cancel := context.WithCancelCause(k.ctx)
	defer cancel(nil)
	pass := ""
	opt := check.Options{Key: k.Key, Progress: func(p check.Progress) {
		if p.Pass == pass || k.json {
			return
		}
		pass = p.Pass
		if _, err := fmt.Fprintf(k.out, "checking %s\n", pass); err != nil {
			cancel(err)
		}
	}}
	var rep *check.Report
	err := k.FS.Examine(ctx, func(ctx context.Context, r io.ReaderAt, size int64) (err error) {
		rep, err = check.Run(ctx, r, size, opt)
		return err
	})
	if err != nil {
		return err
	}
	clean := rep.Clean(false)
	if k.json {
		err = k.answer(struct {
			*check.Report
			Clean bool `json:"clean"`
		}{rep, clean}, "")
	} else if err = rep.WriteText(k.out); err == nil {
		_, err = fmt.Fprintln(k.out, map[bool]string{true: "ok", false: "broken"}[clean])
	}
	if err == nil && !clean {
		return ErrReported
	}
	return err
}

// dfArena and dfDisk are the JSON form of df.
type dfArena struct {
	Arena int   `json:"arena"`
	Used  int64 `json:"used"`
	Size  int64 `json:"size"`
}

type dfDisk struct {
	Arenas  []dfArena `json:"arenas"`
	Fill    float64   `json:"fill"` // percent
	Used    int64     `json:"used"`
	Size    int64     `json:"size"`
	Free    int64     `json:"free"`
	Waiting int64     `json:"waiting"` // of used, free after the next commits
	Reserve int64     `json:"reserve"` // of free, kept for removals
}

func (k *call) df() error {
	var d dfDisk
	var b strings.Builder
	for i, a := range k.FS.Arenas() {
		d.Arenas = append(d.Arenas, dfArena{i, a.Used, a.Size})
		d.Used += a.Used
		d.Size += a.Size
		d.Waiting += a.Waiting
		d.Reserve += a.Reserve
		fmt.Fprintf(&b, "arena %d: %x/%x (%.2f%%)\n", i, a.Used, a.Size, percent(a.Used, a.Size))
	}
	d.Free = d.Size - d.Used
	d.Fill = percent(d.Used, d.Size)
	fmt.Fprintf(&b, "fill:\t%.2f%%\n", d.Fill)
	fmt.Fprintf(&b, "used:\t%d (%s)\n", d.Used, scaled(d.Used))
	fmt.Fprintf(&b, "size:\t%d (%s)\n", d.Size, scaled(d.Size))
	fmt.Fprintf(&b, "free:\t%d (%s)\n", d.Free, scaled(d.Free))
	return k.answer(d, "%s", b.String())
}

func percent(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}

// scaled is a number of bytes in the unit in which it is less than 500.
func scaled(n int64) string {
	v, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for v >= 500 && len(units) > 1 {
		v /= 1024
		units = units[1:]
	}
	return fmt.Sprintf("%.2f %s", v, units[0])
}

func (k *call) sync() error {
	if err := k.FS.Store().Err(); err != nil {
		return err
	}
	if err := k.FS.Sync(k.ctx); err != nil {
		return err
	}
	return k.answer(map[string]bool{"synced": true}, "synced\n")
}

func (k *call) halt() error {
	if k.Halt == nil {
		return fmt.Errorf("this server cannot be ended from here")
	}
	if err := k.FS.Sync(k.ctx); err != nil {
		return fmt.Errorf("the server goes on, because what was written could not be committed: %w", err)
	}
	// Told before the server knows, so that the answer is on its way when it ends. Whether anybody
	// hears it does not matter.
	k.did = true
	k.answer(map[string]bool{"ending": true}, "gefs: ending...\n")
	k.Halt()
	return nil
}

// onOff reads the argument of a switch.
func (k *call) onOff() (on bool, err error) {
	switch k.args[0] {
	case "on":
		return true, nil
	case "off":
		return false, nil
	}
	return false, k.misuse()
}

func (k *call) permit() error {
	on, err := k.onOff()
	if err != nil {
		return err
	}
	return k.switched("permissive", k.FS.Permit(on), on)
}

func (k *call) reserve() error {
	if len(k.args) == 0 {
		on := k.FS.Reserved()
		return k.answer(map[string]bool{"reserve": on}, "reserve: %d\n", bit(on))
	}
	on, err := k.onOff()
	if err != nil {
		return err
	}
	return k.switched("reserve", k.FS.Reserve(on), on)
}

// switched says what a switch was before and is now.
func (k *call) switched(what string, was, is bool) error {
	k.did = true
	return k.answer(map[string]bool{what: is, "was": was}, "%s: %d → %d\n", what, bit(was), bit(is))
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (k *call) debug() error {
	if k.Level == nil {
		return fmt.Errorf("this server's log cannot be changed from here")
	}
	k.debugMu.Lock()
	defer k.debugMu.Unlock()
	n := 1 - bit(k.Level.Level() <= slog.LevelDebug)
	if len(k.args) == 1 {
		u, err := strconv.ParseUint(k.args[0], 10, 16)
		if err != nil {
			return k.misuse()
		}
		n = int(u)
	}
	if n > 0 {
		k.Level.Set(slog.LevelDebug)
	} else {
		k.Level.Set(k.normal)
	}
	return k.answer(map[string]int{"debug": n}, "debug → %d\n", n)
}
