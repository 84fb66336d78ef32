package gefs

import (
	"maps"
	"math"
	"slices"

	"gefs9p/blkfmt"
	"gefs9p/kvfmt"
)

// A tally counts what the files of a mutable label use, for a label that has quotas: as a whole, and what each
// user owns of it. It changes together with the tree, so a request that would go beyond a limit is refused
// before it has changed anything, whoever else writes at the same time.
//
// What it counts is the lengths of files, in whole blocks, and their number: what a change of an entry adds
// can be told from the entry alone. Removed files that are still open are counted apart, as they have
// no entry any more, and none after a crash.
//
// It is guarded by the mutation lock.
type tally struct {
	label string

	limit kvfmt.Use  // of the label; 0 is none, here and below
	each  *kvfmt.Use // of every user who is not in own; nil if there is none
	own   map[int32]kvfmt.Use

	total account
	users map[int32]*account // those that have something

	// While it is not counted, total and users are what was added since run began: nothing, or what the tree
	// holds is still missing, and no limit is looked at.
	counted bool
	run     uint64 // grows with every count that is begun
	err     error  // why counting failed; it is not tried again by itself

	// What stands in the snapshot tree.
	saved kvfmt.Used
	pages map[uint32]bool // records of users there
	dirty map[uint32]bool // those that differ
}

// An account is what somebody uses.
type account struct {
	kvfmt.Use
	open int64 // blocks of removed files that are still open
}

func newTally(label string) *tally {
	return &tally{
		label: label,
		own:   make(map[int32]kvfmt.Use),
		users: make(map[int32]*account),
		pages: make(map[uint32]bool),
		dirty: make(map[uint32]bool),
	}
}

// setLimit puts a limit in force, or with nil takes it back.
func (t *tally) setLimit(q kvfmt.Quota, limit *kvfmt.Use) {
	uid, isUser := q.Uid()
	switch {
	case isUser && limit == nil:
		delete(t.own, uid)
	case isUser:
		t.own[uid] = *limit
	case q.Who == kvfmt.EachUser:
		t.each = limit
	case limit == nil:
		t.limit = kvfmt.Use{}
	default:
		t.limit = *limit
	}
}

// limitOf returns the limit of a user.
func (t *tally) limitOf(uid int32) kvfmt.Use {
	if l, ok := t.own[uid]; ok {
		return l
	}
	if t.each != nil {
		return *t.each
	}
	return kvfmt.Use{}
}

// A charge is what a change adds to what a user has.
type charge struct {
	uid int32
	account
}

// blocksMax is more than any use may become, so that sums stay numbers: sparse files can be very long.
const blocksMax = math.MaxInt64 / 4

// over reports whether it would go beyond the limit to add what to a. What is beyond already may become less.
func (a account) over(limit kvfmt.Use, what account) bool {
	if n := what.Blocks + what.open; n > 0 {
		sum := a.Blocks + a.open + n
		if sum < 0 || sum > blocksMax || limit.Blocks > 0 && sum > limit.Blocks {
			return true
		}
	}
	return what.Files > 0 && limit.Files > 0 && a.Files+what.Files > limit.Files
}

// allows says whether the charges stay within the limits: nil, or errQuota.
func (t *tally) allows(list []charge) error {
	if !t.counted {
		return nil
	}
	var sum account
	for _, c := range list {
		sum.add(c.account, 1)
		var has account
		if a := t.users[c.uid]; a != nil {
			has = *a
		}
		if has.over(t.limitOf(c.uid), c.account) {
			return errQuota
		}
	}
	if t.total.over(t.limit, sum) {
		return errQuota
	}
	return nil
}

// take adds the charges.
func (t *tally) take(list []charge) {
	for _, c := range list {
		a := t.users[c.uid]
		if a == nil {
			a = new(account)
			t.users[c.uid] = a
		}
		a.add(c.account, 1)
		t.total.add(c.account, 1)
		if !c.Use.IsZero() {
			t.dirty[kvfmt.PageOf(c.uid)] = true
		}
		if *a == (account{}) {
			delete(t.users, c.uid)
		}
	}
}

func (a *account) add(o account, sign int64) {
	a.Blocks += sign * o.Blocks
	a.Files += sign * o.Files
	a.open += sign * o.open
}

// restart forgets what was counted. What is open stays, as nobody else knows of it.
func (t *tally) restart() {
	t.counted, t.err = false, nil
	t.run++
	t.total.Use = kvfmt.Use{}
	for uid, a := range t.users {
		if a.Use = (kvfmt.Use{}); a.open == 0 {
			delete(t.users, uid)
		}
	}
	for page := range t.pages {
		t.dirty[page] = true
	}
}

// noneOpen says that removed files which are open are nobody's any more.
func (t *tally) noneOpen() {
	t.total.open = 0
	for _, a := range t.users {
		a.open = 0
	}
}

// complete adds what the tree held when the count began.
func (t *tally) complete(sums map[int32]kvfmt.Use) {
	for uid, u := range sums {
		t.take([]charge{{uid, account{Use: u}}})
	}
	for page := range t.pages {
		t.dirty[page] = true
	}
	t.counted = true
}

// records returns the messages that bring what is saved up to date, given the label's root now; nil if it is.
func (t *tally) records(root blkfmt.Bptr, ht int32) (msgs []kvfmt.Msg, saved kvfmt.Used) {
	saved = kvfmt.Used{Root: root, Ht: ht, Total: t.total.Use}
	if saved == t.saved && len(t.dirty) == 0 {
		return nil, saved
	}
	byPage := make(map[uint32][]kvfmt.UserUse, len(t.dirty))
	if len(t.dirty) > 0 {
		for uid, a := range t.users {
			if page := kvfmt.PageOf(uid); t.dirty[page] && !a.IsZero() {
				byPage[page] = append(byPage[page], kvfmt.UserUse{Uid: uid, Use: a.Use})
			}
		}
	}
	for _, page := range slices.Sorted(maps.Keys(t.dirty)) {
		key := kvfmt.UsedKey{Label: t.label, Users: true, Page: page}.AppendKey(nil)
		list := byPage[page]
		slices.SortFunc(list, func(a, b kvfmt.UserUse) int { return int(int64(uint32(a.Uid)) - int64(uint32(b.Uid))) })
		switch {
		case len(list) > 0:
			msgs = append(msgs, kvfmt.Msg{Op: kvfmt.Insert, Key: key, Val: kvfmt.AppendUsers(nil, list)})
		case t.pages[page]:
			msgs = append(msgs, kvfmt.Msg{Op: kvfmt.Delete, Key: key})
		}
	}
	msgs = append(msgs, kvfmt.Msg{Op: kvfmt.Insert, Key: kvfmt.UsedKey{Label: t.label}.AppendKey(nil), Val: saved.Append(nil)})
	return msgs, saved
}

// wrote notes that the messages of records were applied.
func (t *tally) wrote(msgs []kvfmt.Msg, saved kvfmt.Used) {
	for _, m := range msgs {
		if k, ok := kvfmt.GetUsedKey(m.Key); ok && k.Users {
			if m.Op == kvfmt.Insert {
				t.pages[k.Page] = true
			} else {
				delete(t.pages, k.Page)
			}
		}
	}
	t.saved = saved
	clear(t.dirty)
}

// charge notes that the change adds to what a user has.
func (ch *change) charge(uid int32, a account) {
	for i := range ch.charges {
		if ch.charges[i].uid == uid {
			ch.charges[i].add(a, 1)
			return
		}
	}
	ch.charges = append(ch.charges, charge{uid, a})
}

// counts reports whether somebody counts what the change adds.
func (ch *change) counts() bool { return ch.m.tally.Load() != nil }

// replaces notes that the change makes the entry before into after. With open the file is removed and still
// open.
func (ch *change) replaces(before, after *kvfmt.Dir, open bool) {
	if before.Uid == after.Uid && before.Length == after.Length || !ch.counts() {
		return
	}
	was, is := account{Use: kvfmt.UseOf(before)}, account{Use: kvfmt.UseOf(after)}
	if open {
		was, is = account{open: was.Blocks}, account{open: is.Blocks}
	}
	ch.charge(after.Uid, is)
	was.negate()
	ch.charge(before.Uid, was)
}

// enters notes that the change makes an entry.
func (ch *change) enters(d *kvfmt.Dir) {
	if ch.counts() {
		ch.charge(d.Uid, account{Use: kvfmt.UseOf(d)})
	}
}

// removes notes that the change removes an entry. With open somebody goes on using the file.
func (ch *change) removes(d *kvfmt.Dir, open bool) {
	if !ch.counts() {
		return
	}
	a := account{Use: kvfmt.UseOf(d)}
	blocks := a.Blocks
	a.negate()
	if open {
		a.open = blocks
	}
	ch.charge(d.Uid, a)
}

func (a *account) negate() { *a = account{a.Use.Neg(), -a.open} }

// allowed says whether quotas allow what the change adds.
func (ch *change) allowed() error {
	if len(ch.charges) == 0 {
		return nil
	}
	if t := ch.m.tally.Load(); t != nil {
		return t.allows(ch.charges)
	}
	return nil
}

// mayBecome says whether quotas allow that the file of the label grows to length, before its data is written.
// The mutation lock is held.
func (m *Mount) mayBecome(d *kvfmt.Dir, length uint64, open bool) error {
	t := m.tally.Load()
	if t == nil {
		return nil
	}
	after := *d
	after.Length = length
	a := account{Use: kvfmt.Use{Blocks: kvfmt.UseOf(&after).Blocks - kvfmt.UseOf(d).Blocks}}
	if open {
		a = account{open: a.Blocks}
	}
	return t.allows([]charge{{d.Uid, a}})
}

// closed notes that a removed file that was open is closed. The mutation lock is held.
func (t *tally) closed(d *kvfmt.Dir) {
	t.take([]charge{{d.Uid, account{open: -kvfmt.UseOf(d).Blocks}}})
}

// addOpen takes in the files of the mount that are removed and still open. The mutation lock is held.
func (t *tally) addOpen(m *Mount) {
	dents := m.lockDents()
	defer m.unlockDents(dents)
	for _, de := range dents {
		if de.orphan {
			t.take([]charge{{de.dir.Uid, account{open: kvfmt.UseOf(&de.dir).Blocks}}})
		}
	}
}
