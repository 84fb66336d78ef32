package cons

import (
	"fmt"
	"strconv"
	"strings"

	"gefs9p/gefs"
	"gefs9p/ninep"
)

func quotaCommands() []Command {
	return []Command{
		{Name: "quota", Args: "[label] | set label[/user] size|none [files|none] | clear label[/user] | count label",
			max: 4, run: (*call).quota,
			Help: "limit what the files of a label, or of a user in it, may use; show what they use",
			Long: "quota [label]                    what is used, of how much\n" +
				"quota set label size [files]     limit all files of the label together\n" +
				"quota set label/user size [files]  limit those that a user owns there; user * is each one who has no\n" +
				"                                 limit of their own\n" +
				"quota clear label/user           take a limit back\n" +
				"quota clear label                take all limits of the label back, and do not count any more\n" +
				"quota count label                count anew, in the background\n" +
				"A size is in bytes, with K, M, G or T behind it. What counts is the length of each file, in whole blocks\n" +
				"of 16 KiB, holes included; files are files and directories. What snapshots hold does not count. Who\n" +
				"would go beyond a limit is told \"disk quota exceeded\"; what does not grow is not refused. Limits are\n" +
				"in force at once, but for a label that is still being counted: after its first limit, after a\n" +
				"rollback, and when a server has changed it that does not count."},
	}
}

func (k *call) quota() error {
	n := len(k.args)
	if n == 0 {
		return k.quotaShow("")
	}
	switch verb, args := k.args[0], k.args[1:]; {
	case verb == "set" && (n == 3 || n == 4):
		return k.quotaSet(args)
	case verb == "clear" && n == 2:
		return k.quotaClear(args[0])
	case verb == "count" && n == 2:
		return k.quotaCount(args[0])
	case n == 1:
		return k.quotaShow(verb)
	}
	return k.misuse()
}

// quotaOf cuts label/user. ok is false if there is a slash, and nothing on one of its sides.
func quotaOf(arg string) (label, user string, ok bool) {
	label, user, slash := strings.Cut(arg, "/")
	return label, user, label != "" && (user != "" || !slash)
}

// quotas returns those of the label, or all if it is "".
func (k *call) quotas(label string) ([]gefs.Quota, error) {
	all := k.FS.Quotas(true)
	if label == "" {
		return all, nil
	}
	for _, q := range all {
		if q.Label == label {
			return []gefs.Quota{q}, nil
		}
	}
	return nil, fmt.Errorf("'%s': %w", label, gefs.ErrNoQuota)
}

func (k *call) quotaShow(label string) error {
	list, err := k.quotas(label)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, q := range list {
		state := ""
		switch q.State {
		case gefs.QuotaCounting:
			state = ", being counted: limits are not in force"
		case gefs.QuotaFailed:
			state = ", cannot be counted: limits are not in force: " + oneLine(q.Why)
		}
		fmt.Fprintf(&b, "quota %s %s%s\n", q.Label, usageText(q.Used, q.Removed, q.Limit), state)
		if q.Each != nil {
			fmt.Fprintf(&b, "quota %s/%s %s\n", q.Label, gefs.EachUser, limitText(*q.Each))
		}
		for _, u := range q.Users {
			fmt.Fprintf(&b, "quota %s/%s %s\n", q.Label, u.User, usageText(u.Used, u.Removed, u.Limit))
		}
	}
	return k.answer(map[string]any{"quotas": list}, "%s", b.String())
}

// usageText says what is used, and of how much.
func usageText(used gefs.Usage, removed int64, limit gefs.Usage) string {
	used.Bytes += removed
	s := fmt.Sprintf("%d (%s)", used.Bytes, scaled(used.Bytes))
	if limit.Bytes > 0 {
		s += fmt.Sprintf(" of %d (%s) %.2f%%", limit.Bytes, scaled(limit.Bytes), percent(used.Bytes, limit.Bytes))
	}
	s += fmt.Sprintf(", %d files", used.Files)
	if limit.Files > 0 {
		s += fmt.Sprintf(" of %d", limit.Files)
	}
	return s
}

// limitText says what a limit is.
func limitText(limit gefs.Usage) string {
	bytes, files := "no limit of bytes", "no limit of files"
	if limit.Bytes > 0 {
		bytes = fmt.Sprintf("%d (%s)", limit.Bytes, scaled(limit.Bytes))
	}
	if limit.Files > 0 {
		files = fmt.Sprintf("%d files", limit.Files)
	}
	return bytes + ", " + files
}

func (k *call) quotaSet(args []string) error {
	label, user, ok := quotaOf(args[0])
	if !ok {
		return k.misuse()
	}
	var limit gefs.Usage
	if args[1] != "none" {
		if limit.Bytes, ok = parseBytes(args[1]); !ok {
			return k.misuse()
		}
	}
	if len(args) == 3 && args[2] != "none" {
		n, err := strconv.ParseInt(args[2], 10, 64)
		if err != nil || n < 1 {
			return k.misuse()
		}
		limit.Files = n
	}
	if err := k.inside(func(c *ninep.Ctx) error { return k.FS.SetQuota(c, label, user, limit) }); err != nil {
		return err
	}
	if err := k.commit("limited " + args[0]); err != nil {
		return err
	}
	list, err := k.quotas(label)
	if err != nil {
		return err
	}
	state := ""
	if list[0].State != gefs.QuotaCounted {
		state = "; in force when the files are counted"
	}
	return k.answer(map[string]any{"quota": args[0], "limit": limit, "state": list[0].State},
		"limited: %s to %s%s\n", args[0], limitText(limit), state)
}

func (k *call) quotaClear(arg string) error {
	label, user, ok := quotaOf(arg)
	if !ok {
		return k.misuse()
	}
	if err := k.inside(func(c *ninep.Ctx) error { return k.FS.ClearQuota(c, label, user) }); err != nil {
		return err
	}
	if err := k.commit("cleared " + arg); err != nil {
		return err
	}
	return k.answer(map[string]string{"cleared": arg}, "cleared: %s\n", arg)
}

func (k *call) quotaCount(label string) error {
	if err := k.inside(func(c *ninep.Ctx) error { return k.FS.CountQuota(c, label) }); err != nil {
		return err
	}
	k.did = true
	return k.answer(map[string]string{"counting": label}, "counting: %s\n", label)
}
