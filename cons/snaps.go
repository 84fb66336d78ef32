package cons

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gefs9p/blkfmt"
	"gefs9p/gefs"
	"gefs9p/ninep"
	"gefs9p/snap"
)

func snapCommands() []Command {
	return []Command{
		{Name: "snap", Args: "-l [-s] | [-m] old new | [-n] -d name... | rollback [-f] label old [keep]",
			min: 1, max: -1, run: (*call).snap,
			Help: "list, make and delete snapshots, and go back to one",
			Long: "snap -l                    list the labels; with -s the space that deleting each would free\n" +
				"snap old new               give what old is now the name new; it does not change\n" +
				"snap -m old new            fork: new begins as old and can be written\n" +
				"snap -d name...            delete labels, all or none; their space comes back in the background\n" +
				"snap -n -d name...         only say how much space that would be\n" +
				"snap rollback label old [keep]\n" +
				"                           make label what old is, for everybody who has it mounted; what it\n" +
				"                           was keeps the name keep, label" + beforeTag + "TIME if there is none. Refused\n" +
				"                           while files are open, unless -f is given\n" +
				"A -- ends the flags, for names that begin with -."},
		{Name: "set", Args: "[snap] key value", min: 2, max: 3, run: (*call).set,
			Help: "store a configuration value, of a snapshot or of the whole disk",
			Long: "The key that means something is retain: which automatic snapshots are made and kept, like\n" +
				"'60@m 24@h @d'; '' makes none."},
		{Name: "clear", Args: "[snap] key", min: 1, max: 2, run: (*call).clear,
			Help: "remove a configuration value"},
		{Name: "clr", Args: "[snap] key", min: 1, max: 2, run: (*call).clear,
			Help: "the same"},
	}
}

// beforeTag is between a label and the time in the name that a rollback gives what it replaced.
const (
	beforeTag   = "@before."
	beforeStamp = "2006.01.02_15:04:05"
)

// flags takes the flags out of args: letters of known after a '-', until "--" or the first word that
// is no flag.
func flags(args []string, known string) (set string, rest []string, ok bool) {
	for i, a := range args {
		switch {
		case a == "--":
			return set, args[i+1:], true
		case len(a) < 2 || a[0] != '-':
			return set, args[i:], true
		case strings.Trim(a[1:], known) != "":
			return "", nil, false
		}
		set += a[1:]
	}
	return set, nil, true
}

func (k *call) snap() error {
	if k.args[0] == "rollback" && len(k.args) > 2 {
		return k.rollback(k.args[1:])
	}
	set, args, ok := flags(k.args, "lsmdn")
	if !ok {
		return k.misuse()
	}
	has := func(letter string) bool { return strings.Contains(set, letter) }
	only := func(letters string) bool { return strings.Trim(set, letters) == "" }
	switch {
	case has("l") && only("ls") && len(args) == 0:
		return k.snapList(has("s"))
	case has("d") && only("dn") && len(args) > 0:
		if has("n") {
			return k.snapSpace(args)
		}
		return k.snapDelete(args)
	case only("m") && len(args) == 2:
		return k.snapMake(args[0], args[1], has("m"))
	}
	return k.misuse()
}

type snapEntry struct {
	Name    string     `json:"name"`
	Gen     blkfmt.Gen `json:"gen"`
	Mutable bool       `json:"mutable"`
	Mounted bool       `json:"mounted"`
	Alone   *int64     `json:"alone,omitempty"` // bytes that only it holds
}

// snapList lists the labels, with space also what deleting each of them alone would free.
func (k *call) snapList(space bool) error {
	list := []snapEntry{}
	var b strings.Builder
	for _, l := range k.FS.Labels() {
		e := snapEntry{Name: l.Name, Gen: l.Gen, Mutable: l.Mutable, Mounted: l.Open}
		if space {
			if err := k.ctx.Err(); err != nil {
				return err
			}
			n, err := k.space(l.Name)
			if errors.Is(err, snap.ErrNoLabel) {
				continue // deleted meanwhile
			}
			if err != nil {
				return err
			}
			e.Alone = &n
		}
		list = append(list, e)
		fmt.Fprintf(&b, "snap %s", l.Name)
		if l.Mutable {
			b.WriteString(" [mutable]")
		}
		if e.Alone != nil {
			fmt.Fprintf(&b, " %d (%s)", *e.Alone, scaled(*e.Alone))
		}
		b.WriteByte('\n')
	}
	return k.answer(map[string]any{"snapshots": list}, "%s", b.String())
}

// space returns how many bytes deleting all the labels would free.
func (k *call) space(names ...string) (n int64, err error) {
	err = k.inside(func(c *ninep.Ctx) (err error) {
		n, err = k.FS.Space(k.ctx, c, names...)
		return err
	})
	return n * blkfmt.BlkSize, err
}

// deletable says why the labels could not be deleted now, nil if they could.
func (k *call) deletable(names []string) error {
	labels := k.FS.Labels()
	for i, name := range names {
		j := slices.IndexFunc(labels, func(l snap.LabelInfo) bool { return l.Name == name })
		switch {
		case name == snap.Adm || name == snap.Empty || name == snap.Dump:
			return fmt.Errorf("snap: '%s': %w", name, snap.ErrReserved)
		case j < 0 || slices.Contains(names[:i], name):
			return fmt.Errorf("snap: open '%s': %w", name, snap.ErrNoLabel)
		case labels[j].Open:
			return fmt.Errorf("snap: %w: '%s'", snap.ErrMounted, name)
		}
	}
	return nil
}

func (k *call) snapSpace(names []string) error {
	if err := k.deletable(names); err != nil {
		return err
	}
	n, err := k.space(names...)
	if err != nil {
		return err
	}
	return k.answer(map[string]any{"labels": names, "bytes": n}, "would free: %d (%s)\n", n, scaled(n))
}

func (k *call) snapDelete(names []string) error {
	if err := k.FS.Err(); err != nil {
		return err
	}
	if err := k.deletable(names); err != nil {
		return err
	}
	var deleted []string
	var failed error
	for _, name := range names {
		if failed = k.ctx.Err(); failed != nil {
			break
		}
		if failed = k.inside(func(c *ninep.Ctx) error { return k.FS.DeleteLabel(c, name) }); failed != nil {
			break
		}
		deleted = append(deleted, name)
	}
	if len(deleted) == 0 {
		return failed
	}
	if err := k.commit("deleted " + strings.Join(deleted, ", ")); err != nil {
		return errors.Join(failed, err)
	}
	err := k.answer(map[string]any{"deleted": deleted}, "deleted: %s\n", strings.Join(deleted, "\ndeleted: "))
	return errors.Join(failed, err)
}

func (k *call) snapMake(old, name string, mutable bool) error {
	err := k.inside(func(c *ninep.Ctx) error { return k.FS.Label(c, old, name, mutable) })
	switch {
	case errors.Is(err, snap.ErrReserved) || errors.Is(err, snap.ErrName):
		return fmt.Errorf("snap: taking %w", err)
	case err != nil:
		return err
	}
	what := "labeled"
	if mutable {
		what = "forked"
	}
	if err := k.commit(fmt.Sprintf("%s %s", what, name)); err != nil {
		return err
	}
	return k.answer(map[string]string{what: name, "from": old}, "%s: %s from %s\n", what, name, old)
}

// rollback makes a label what an older snapshot is.
func (k *call) rollback(args []string) error {
	set, args, ok := flags(args, "f")
	if !ok || len(args) < 2 || len(args) > 3 {
		return k.misuse()
	}
	label, old := args[0], args[1]
	keep := label + beforeTag + k.Now().UTC().Format(beforeStamp)
	if len(args) == 3 {
		keep = args[2]
	}
	err := k.inside(func(c *ninep.Ctx) error { return k.FS.Rollback(c, label, old, keep, set != "") })
	if errors.Is(err, gefs.ErrOpenFiles) {
		return fmt.Errorf("%w; -f goes back all the same", err)
	}
	if err != nil {
		return err
	}
	if err := k.commit(fmt.Sprintf("%s is what %s is", label, old)); err != nil {
		return err
	}
	return k.answer(map[string]string{"label": label, "old": old, "keep": keep},
		"rolled back: %s to %s\nlabeled: %s from %s\n", label, old, keep, label)
}

func (k *call) set() error {
	label, args := "", k.args
	if len(args) == 3 {
		label, args = args[0], args[1:]
	}
	return k.setConf(label, args[0], args[1])
}

func (k *call) setConf(label, key, value string) error {
	err := k.inside(func(c *ninep.Ctx) error { return k.FS.SetConf(c, label, key, value) })
	if err != nil {
		return err
	}
	if err := k.commit("set " + key); err != nil {
		return err
	}
	return k.answer(map[string]string{"snap": label, "key": key, "value": value}, "")
}

func (k *call) clear() error {
	label, args := "", k.args
	if len(args) == 2 {
		label, args = args[0], args[1:]
	}
	return k.clearConf(label, args[0])
}

func (k *call) clearConf(label, key string) error {
	err := k.inside(func(c *ninep.Ctx) error { return k.FS.ClearConf(c, label, key) })
	if err != nil {
		return err
	}
	if err := k.commit("cleared " + key); err != nil {
		return err
	}
	return k.answer(map[string]string{"snap": label, "key": key}, "")
}
