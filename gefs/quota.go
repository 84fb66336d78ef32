package gefs

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"gefs9p/betree"
	"gefs9p/blkfmt"
	"gefs9p/epoch"
	"gefs9p/kvfmt"
	"gefs9p/ninep"
	"gefs9p/snap"
	"gefs9p/users"
)

// ErrNoQuota says that there is no such quota.
var ErrNoQuota = errors.New("there is no such quota")

// EachUser stands for the users who have no limit of their own.
const EachUser = kvfmt.EachUser

// QuotaMin is the smallest limit, in bytes: one block.
const QuotaMin = blkfmt.BlkSize

// A Usage is an amount of bytes and files. As a limit, 0 is none.
type Usage struct {
	Bytes int64 `json:"bytes"`
	Files int64 `json:"files"`
}

// A Quota is what the files of a label may use and do use.
type Quota struct {
	Label   string      `json:"label"`
	State   QuotaState  `json:"state"`
	Why     string      `json:"why,omitempty"` // the state is QuotaFailed
	Limit   Usage       `json:"limit"`
	Used    Usage       `json:"used"`
	Removed int64       `json:"removed"` // bytes of removed files that are still open; they count too
	Each    *Usage      `json:"each,omitempty"`
	Users   []UserQuota `json:"users"` // who have files or a limit, in the order of their ids
}

// A UserQuota is what one user may use and does use in a label.
type UserQuota struct {
	ID      int32  `json:"id"`
	User    string `json:"user"`  // the name, or the id if nobody has it
	Limit   Usage  `json:"limit"` // in force
	Own     bool   `json:"own"`   // and not that of each user
	Used    Usage  `json:"used"`
	Removed int64  `json:"removed"`
}

// A QuotaState says what the numbers of a Quota are worth.
type QuotaState string

// The states. Limits are looked at in the first only.
const (
	QuotaCounted  QuotaState = "counted"
	QuotaCounting QuotaState = "counting"
	QuotaFailed   QuotaState = "failed" // the files could not be counted
)

// quotas are those of all labels.
type quotas struct {
	tallies map[string]*tally // guarded by the mutation lock
	kick    chan struct{}     // a token when there is something to count
}

func (q *quotas) init() {
	q.tallies = make(map[string]*tally)
	q.kick = make(chan struct{}, 1)
}

// count has the count loop look for what is to be counted.
func (q *quotas) count() {
	select {
	case q.kick <- struct{}{}:
	default:
	}
}

// limit is a limit as it is kept, in whole blocks.
func (u Usage) limit() (kvfmt.Use, error) {
	if u.Bytes < 0 || u.Files < 0 || u.Bytes > 0 && u.Bytes < QuotaMin {
		return kvfmt.Use{}, fmt.Errorf("a limit of %d bytes and %d files: at least %d bytes and 1 file are needed, or 0 for none", u.Bytes, u.Files, QuotaMin)
	}
	return kvfmt.Use{Blocks: u.Bytes / blkfmt.BlkSize, Files: u.Files}, nil
}

// usage is what is kept, in bytes.
func usage(u kvfmt.Use) Usage { return Usage{bytesOf(u.Blocks), u.Files} }

func bytesOf(blocks int64) int64 {
	if blocks > math.MaxInt64/blkfmt.BlkSize {
		return math.MaxInt64
	}
	return blocks * blkfmt.BlkSize
}

// who finds out for whom a limit is: "" for the label, EachUser, or a user's name or id.
func (fs *FS) who(user string) (string, error) {
	if user == "" || user == EachUser {
		return user, nil
	}
	if id, ok := fs.Users().ID(user); ok {
		return kvfmt.UserWho(id), nil
	}
	// Whoever was deleted still owns files.
	if id, ok := (kvfmt.Quota{Who: user}).Uid(); ok {
		return kvfmt.UserWho(id), nil
	}
	return "", fmt.Errorf("'%s': %w", user, errNoUser)
}

// SetQuota limits what the files of the mutable label may use: all of them together if user is "", those that
// user owns, or, with EachUser, those of each user who has no limit of his own. It is in force when SetQuota
// returns, but for a label that has no quotas yet, whose files are counted first. A zero Usage is no limit,
// and says so. It is durable after the next Sync. Errors: one that says what is wrong with the limit or the user,
// snap.ErrNoLabel, snap.ErrNotMutable, errReadOnly, errFull.
func (fs *FS) SetQuota(c *ninep.Ctx, label, user string, limit Usage) error {
	use, err := limit.limit()
	if err != nil {
		return err
	}
	who, err := fs.who(user)
	if err != nil {
		return err
	}
	if err := fs.begin(c, 1); err != nil {
		return err
	}
	defer fs.end(c)
	if err := fs.mayHaveQuota(label); err != nil {
		return err
	}
	q := kvfmt.Quota{Label: label, Who: who, Limit: use}
	err = fs.forest.SetConf(guard(c), kvfmt.Msg{Op: kvfmt.Insert, Key: q.AppendKey(nil), Val: q.AppendValue(nil)})
	if err != nil {
		return err
	}
	t := fs.quotas.tallies[label]
	if t == nil {
		t = newTally(label)
		fs.quotas.tallies[label] = t
		fs.mountMu.Lock()
		m := fs.mounts[label]
		fs.mountMu.Unlock()
		if m != nil {
			t.addOpen(m)
			m.tally.Store(t)
		}
		fs.quotas.count()
	}
	t.setLimit(q, &use)
	return nil
}

// mayHaveQuota says whether the files of the label can be limited. The mutation lock is held.
func (fs *FS) mayHaveQuota(label string) error {
	for _, l := range fs.forest.Labels() {
		switch {
		case l.Name != label:
			continue
		case isReceiving(label):
			return fmt.Errorf("snap: '%s': it %w", label, ErrReceiving)
		case !l.Mutable || strings.Contains(label, "/"):
			return fmt.Errorf("snap: '%s': %w", label, snap.ErrNotMutable)
		}
		return nil
	}
	return fmt.Errorf("snap: open '%s': %w", label, snap.ErrNoLabel)
}

// ClearQuota takes back the limit of a user, or of EachUser; with user "" all that was said of the label, whose
// files are not counted any more then. It is durable after the next Sync. Errors: ErrNoQuota, a user that
// does not exist, errReadOnly.
func (fs *FS) ClearQuota(c *ninep.Ctx, label, user string) error {
	who, err := fs.who(user)
	if err != nil {
		return err
	}
	if err := fs.begin(c, 0); err != nil {
		return err
	}
	defer fs.end(c)
	g := guard(c)
	t := fs.quotas.tallies[label]
	if t == nil {
		return fmt.Errorf("'%s': %w", label, ErrNoQuota)
	}
	if who == "" {
		return fs.forgetQuotas(g, label)
	}
	q := kvfmt.Quota{Label: label, Who: who}
	key := q.AppendKey(nil)
	if _, err := fs.forest.Conf(g, string(key[1:])); err != nil {
		if errors.Is(err, betree.ErrNotFound) {
			return fmt.Errorf("'%s/%s': %w", label, user, ErrNoQuota)
		}
		return err
	}
	if err := fs.forest.SetConf(g, kvfmt.Msg{Op: kvfmt.Delete, Key: key}); err != nil {
		return err
	}
	t.setLimit(q, nil)
	return nil
}

// CountQuota has the files of the label counted anew, in the background. Errors: ErrNoQuota, errReadOnly.
func (fs *FS) CountQuota(c *ninep.Ctx, label string) error {
	if err := fs.begin(c, 0); err != nil {
		return err
	}
	defer fs.end(c)
	if fs.quotas.tallies[label] == nil {
		return fmt.Errorf("'%s': %w", label, ErrNoQuota)
	}
	fs.recount(label)
	return nil
}

// Quotas returns what is known of all labels that have quotas, in the order of their names, as it is between
// two changes; what is known of users only with users. It waits for the mutation lock; the caller has none, and is
// outside any epoch.
func (fs *FS) Quotas(withUsers bool) []Quota {
	fs.mutMu.Lock()
	defer fs.mutMu.Unlock()
	list := []Quota{}
	for _, t := range fs.quotas.tallies {
		q := Quota{
			Label: t.label, State: QuotaCounting, Limit: usage(t.limit), Used: usage(t.total.Use),
			Removed: bytesOf(t.total.open), Users: []UserQuota{},
		}
		switch {
		case t.counted:
			q.State = QuotaCounted
		case t.err != nil:
			q.State, q.Why = QuotaFailed, t.err.Error()
		}
		if t.each != nil {
			each := usage(*t.each)
			q.Each = &each
		}
		if withUsers {
			q.Users = t.userQuotas(fs.Users())
		}
		list = append(list, q)
	}
	slices.SortFunc(list, func(a, b Quota) int { return strings.Compare(a.Label, b.Label) })
	return list
}

// userQuotas returns what is known of users. The mutation lock is held.
func (t *tally) userQuotas(names *users.Table) []UserQuota {
	all := make(map[int32]account, len(t.users))
	for id := range t.own {
		all[id] = account{}
	}
	for id, a := range t.users {
		all[id] = *a
	}
	list := make([]UserQuota, 0, len(all))
	for id, a := range all {
		u := UserQuota{ID: id, User: kvfmt.UserWho(id), Limit: usage(t.limitOf(id)), Used: usage(a.Use), Removed: bytesOf(a.open)}
		if name, ok := names.Name(id); ok {
			u.User = name
		}
		_, u.Own = t.own[id]
		list = append(list, u)
	}
	slices.SortFunc(list, func(a, b UserQuota) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// recount has the files of the label counted anew if it has quotas: it has become another tree. The mutation
// lock is held.
func (fs *FS) recount(label string) {
	if t := fs.quotas.tallies[label]; t != nil {
		t.restart()
		fs.quotas.count()
	}
}

// dropQuotas forgets the quotas of a label that is deleted. The mutation lock is held.
func (fs *FS) dropQuotas(g *epoch.Guard, label string) {
	if fs.quotas.tallies[label] == nil {
		return
	}
	if err := fs.forgetQuotas(g, label); err != nil {
		fs.log.Warn("the quotas of a deleted label stay, for who makes it again", "label", label, "err", err)
	}
}

// forgetQuotas removes all records about a label, and stops to count. The mutation lock is held.
func (fs *FS) forgetQuotas(g *epoch.Guard, label string) error {
	var msgs []kvfmt.Msg
	add := func(key []byte) { msgs = append(msgs, kvfmt.Msg{Op: kvfmt.Delete, Key: key}) }
	err := fs.scanQuotas(g, func(q kvfmt.Quota) {
		if q.Label == label {
			add(q.AppendKey(nil))
		}
	}, func(k kvfmt.UsedKey, _ []byte) {
		if k.Label == label {
			add(k.AppendKey(nil))
		}
	})
	if err == nil {
		err = fs.forest.SetConfs(g, msgs)
	}
	if err != nil {
		return err
	}
	delete(fs.quotas.tallies, label)
	fs.mountMu.Lock()
	if m := fs.mounts[label]; m != nil {
		m.tally.Store(nil)
	}
	fs.mountMu.Unlock()
	return nil
}

// statfs makes of what is said of the disk what there is for the label. The mutation lock is held.
func (t *tally) statfs(s *ninep.Statfs) {
	if !t.counted {
		return
	}
	used := t.total.Blocks + t.total.open
	if limit := t.limit.Blocks; limit > 0 && uint64(limit) < s.Blocks {
		left := uint64(max(0, limit-used))
		s.Blocks, s.Bfree, s.Bavail = uint64(limit), left, min(s.Bavail, left)
	}
	if limit := t.limit.Files; limit > 0 {
		s.Files, s.Ffree = uint64(limit), uint64(max(0, limit-t.total.Files))
	}
}
