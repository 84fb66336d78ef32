package cons

import (
	"errors"
	"fmt"
	"strings"

	"gefs9p/gefs"
	"gefs9p/ninep"
)

// ctlCommands are the words that newer versions of the reference take on /adm/ctl, for scripts that use
// them. Source: gefs(8).
func ctlCommands() []Command {
	return []Command{
		{Name: "fork", Args: "base new", min: 2, max: 2,
			run:  func(k *call) error { return k.snapMake(k.args[0], k.args[1], true) },
			Help: "snap -m base new"},
		{Name: "delsnap", Args: "name", min: 1, max: 1,
			run:  func(k *call) error { return k.snapDelete(k.args) },
			Help: "snap -d name"},
		{Name: "retain", Args: "snap|- timespec", min: 2, max: -1, run: (*call).retain,
			Help: "set the automatic snapshots of snap, or of the whole disk; none or default instead of a timespec"},
		{Name: "usereserve", Args: "0|1", min: 1, max: 1, run: (*call).useReserve,
			Help: "1: reserve off, 0: reserve on"},
	}
}

func (k *call) retain() error {
	label, spec := k.args[0], strings.Join(k.args[1:], " ")
	if label == "-" {
		label = ""
	}
	switch spec {
	case "none":
		spec = ""
	case "default":
		var set bool
		err := k.inside(func(c *ninep.Ctx) (err error) {
			_, set, err = k.FS.Conf(c, label, gefs.RetainKey)
			return err
		})
		if err != nil {
			return err
		}
		if !set {
			return k.answer(map[string]string{"snap": label, "key": gefs.RetainKey}, "")
		}
		return k.clearConf(label, gefs.RetainKey)
	}
	return k.setConf(label, gefs.RetainKey, spec)
}

func (k *call) useReserve() error {
	switch k.args[0] {
	case "0", "1":
		on := k.args[0] == "0"
		return k.switched("reserve", k.FS.Reserve(on), on)
	}
	return k.misuse()
}

var errNoJSON = errors.New("there is no JSON form of that")

// noJSON refuses a dump that is for people only.
func (k *call) noJSON() error {
	if k.json {
		return fmt.Errorf("%s %s: %w", k.cmd.Name, strings.Join(k.args, " "), errNoJSON)
	}
	return nil
}
