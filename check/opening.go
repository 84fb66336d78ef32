package check

import (
	"fmt"
	"strings"
)

// opening says in the report what a server will do that opens the disk. whole says that all trees and
// deadlists can be read.
//
// A log that cannot be believed is fatal to who writes by it. It need not be to who opens the disk with
// this server: that asks the trees what is in use (arena.Load, gefs.Open), and its next commit writes the
// log anew.
func (x *run) opening(whole bool) {
	var suspects, missing []string
	for i, a := range x.arenas {
		switch {
		case a.hdr == nil:
			missing = append(missing, fmt.Sprint(i))
		case !a.loaded || !a.barrier || a.used != a.hdr.Used:
			suspects = append(suspects, fmt.Sprint(i))
		}
	}
	list := func(nos []string) string {
		if len(nos) == 1 {
			return "arena " + nos[0]
		}
		return "arenas " + strings.Join(nos, ", ")
	}
	healed := 0
	for _, k := range []Kind{SuperBad, SuperStale, HeaderStale} {
		healed += x.rep.ByKind[k]
	}
	var says []string
	switch {
	case len(missing) > 0 || len(x.arenas) < len(x.super.Arenas):
		says = append(says, "fails, as there are arenas without a header; salvage copies what can be read")
	case len(suspects) > 0 && whole:
		says = append(says, "the free ranges of "+list(suspects)+" are found again from all trees, and the next commit writes new logs")
	case len(suspects) > 0:
		says = append(says, "the free ranges of "+list(suspects)+" must be found again from all trees, and not all of those can be read; if it fails, salvage copies what can be read")
	}
	if healed > 0 && len(missing) == 0 {
		says = append(says, "the next commit makes both copies of superblocks and headers the same")
	}
	x.rep.Opening = strings.Join(says, "; ")
}
