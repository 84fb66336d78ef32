package check

import (
	"fmt"

	"gefs9p/kvfmt"
)

// A used is what the snapshot tree says of what the files of a label use.
type used struct {
	kvfmt.Used
	head  bool // Used was found
	users map[int32]kvfmt.Use
	bad   error // a record makes no sense
}

// quotaRecord takes in a configuration value of the snapshot tree.
func (f *forest) quotaRecord(x *run, k, v []byte) {
	if kvfmt.IsQuota(k) {
		if _, err := kvfmt.GetQuota(k, v); err != nil {
			x.say(QuotaBad, Note, "%v", err)
		}
		return
	}
	key, ok := kvfmt.GetUsedKey(k)
	if !ok {
		return
	}
	u := f.used[key.Label]
	if u == nil {
		u = &used{users: map[int32]kvfmt.Use{}}
		f.used[key.Label] = u
	}
	var err error
	if key.Users {
		var list []kvfmt.UserUse
		list, err = kvfmt.GetUsers(key.Page, v)
		for _, e := range list {
			u.users[e.Uid] = e.Use
		}
	} else {
		u.head = true
		u.Used, err = kvfmt.GetUsed(v)
	}
	if u.bad == nil {
		u.bad = err
	}
}

// count keeps in step what each user's files use. Nobody asks on a disk without quotas.
func (c *content) count(key []byte, d *kvfmt.Dir, n int32) {
	if c.use == nil || kvfmt.IsRoot(key) {
		return
	}
	u := kvfmt.UseOf(d)
	if n < 0 {
		u = u.Neg()
	}
	sum := c.use[d.Uid]
	sum.Add(u)
	if c.use[d.Uid] = sum; sum.IsZero() {
		delete(c.use, d.Uid)
	}
}

// checkUsed compares what was recorded of the snapshot's labels with what it holds.
func (c *content) checkUsed(s *snapshot) {
	for _, label := range s.labels {
		u := c.x.forest.used[label]
		switch {
		case u == nil || c.receiving:
		case u.bad != nil:
			c.x.say(QuotaBad, Note, "label %.100q: what its files use will be counted anew: %v", label, u.bad)
		case !u.head || u.Root != s.root || int(u.Ht) != s.ht:
			c.x.say(QuotaStale, Note, "label %.100q: what its files use was counted for another state, and will be counted anew", label)
		default:
			c.compareUsed(label, u)
		}
	}
}

func (c *content) compareUsed(label string, u *used) {
	var total kvfmt.Use
	wrong := func(who string, is, said kvfmt.Use) {
		if is != said {
			c.x.say(QuotaWrong, Error, "label %.100q: %s %d blocks and %d files, recorded for the quotas are %d and %d",
				label, who, is.Blocks, is.Files, said.Blocks, said.Files)
		}
	}
	for uid, is := range c.use {
		total.Add(is)
		wrong(fmt.Sprintf("the user %d has", uid), is, u.users[uid])
	}
	for uid, said := range u.users {
		if _, ok := c.use[uid]; !ok {
			wrong(fmt.Sprintf("the user %d has", uid), kvfmt.Use{}, said)
		}
	}
	wrong("there are", total, u.Total)
}
