package gefs_test

import (
	"fmt"
	"testing"

	"gefs9p/ninep"
)

// TestPermissions opens files of every mode for every class of user, and compares with the rules:
// one class has to grant all that is wanted; none is only ever one of the others; members of nogroup
// are not even that.
func TestPermissions(t *testing.T) {
	w := newWorld(t)
	top := w.as("glenda", "%")
	top.chmod("/", ninep.DMDIR|0777)
	classes := map[string]struct{ owner, group, other bool }{
		"alice":   {true, true, true},   // owner, and leads staff
		"bob":     {false, true, true},  // in staff
		"glenda":  {false, false, true}, // neither
		"none":    {false, false, true},
		"mallory": {false, false, false},
		"adm":     {false, false, true},
	}
	sessions := make(map[string]*session)
	for who := range classes {
		sessions[who] = w.as(who, "")
	}
	wants := map[uint8]uint32{
		ninep.OREAD: 4, ninep.OWRITE: 2, ninep.ORDWR: 6, ninep.OEXEC: 5,
		ninep.OREAD | ninep.OTRUNC: 6, ninep.OEXEC | ninep.OTRUNC: 7,
	}
	top.put("f", 0644, "")
	top.wstat("f", func(d *ninep.Dir) { d.Uid, d.Gid = "alice", "staff" })
	for _, others := range []uint32{0, 7} {
		for shift := 0; shift <= 6; shift += 3 {
			for bits := range uint32(8) {
				mode := (others * 0111 &^ (7 << shift)) | bits<<shift
				top.chmod("f", mode)
				for who, c := range classes {
					for open, want := range wants {
						ok := c.owner && mode>>6&want == want || c.group && mode>>3&want == want || c.other && mode&want == want
						f, err := sessions[who].openErr("f", open)
						if ok != (err == nil) {
							t.Errorf("mode %03o opened with %#x by %s: %v", mode, open, who, err)
						}
						if err == nil {
							f.clunk()
						} else if err.Error() != eperm {
							t.Errorf("mode %03o opened with %#x by %s: %v", mode, open, who, err)
						}
					}
				}
			}
		}
	}
	// To walk through a directory is the one thing that members of nogroup may as others.
	top.mkdir("d", 0711)
	top.mkdir("d/e", 0755)
	top.mkdir("closed", 0700)
	top.put("closed/f", 0666, "")
	for _, who := range []string{"mallory", "none", "bob"} {
		if _, err := sessions[who].walkErr("d/e"); err != nil {
			t.Errorf("%s walks to d/e: %v", who, err)
		}
		_, err := sessions[who].walkErr("closed/f")
		refused(t, who+" walks to closed/f", err, enotfound)
	}
	_, err := sessions["mallory"].openErr("d/e", ninep.OREAD)
	refused(t, "mallory lists d/e", err, eperm)
	if got := sessions["none"].list("d/e"); len(got) != 0 {
		t.Errorf("none sees %q", got)
	}
	w.end()
}

// TestWhoMayWstat has everybody change every field, of a file of alice's in staff, which alice leads.
func TestWhoMayWstat(t *testing.T) {
	const (
		eowner = "wstat -- not owner or group leader"
		euid   = "wstat -- not owner"
		egroup = "wstat -- not in group"
	)
	w := newWorld(t)
	top := w.as("glenda", "%")
	top.mkdir("d", 0755) // glenda's
	changes := map[string]func(*ninep.Dir){
		"length":         func(d *ninep.Dir) { d.Length = 3 },
		"same length":    func(d *ninep.Dir) { d.Length = 5 },
		"mode":           func(d *ninep.Dir) { d.Mode = 0640 },
		"same mode":      func(d *ninep.Dir) { d.Mode = 0644 },
		"mtime":          func(d *ninep.Dir) { d.Mtime = 77 },
		"uid":            func(d *ninep.Dir) { d.Uid = "bob" },
		"same uid":       func(d *ninep.Dir) { d.Uid = "alice" },
		"gid":            func(d *ninep.Dir) { d.Gid = "alice" },
		"gid of another": func(d *ninep.Dir) { d.Gid = "carol" },
		"gid sys":        func(d *ninep.Dir) { d.Gid = "sys" },
		"same gid":       func(d *ninep.Dir) { d.Gid = "staff" },
		"name":           func(d *ninep.Dir) { d.Name = "g" },
		"same name":      func(d *ninep.Dir) { d.Name = "f" },
	}
	// Who is refused what; the rest is done.
	none := map[string]string{
		"length": eperm, "mode": eowner, "mtime": eowner, "uid": euid,
		"gid": egroup, "gid of another": egroup, "gid sys": egroup, "name": eperm,
	}
	for who, no := range map[string]map[string]string{
		"alice":   {"uid": euid, "gid of another": egroup, "name": eperm},
		"bob":     none,
		"none":    none,
		"mallory": none,
		"glenda":  {"length": eperm, "mode": eowner, "mtime": eowner, "uid": euid, "gid": egroup, "gid of another": egroup, "gid sys": egroup},
		"%glenda": {},
	} {
		for what, change := range changes {
			top.put("d/f", 0644, "12345")
			top.wstat("d/f", func(d *ninep.Dir) { d.Uid, d.Gid = "alice", "staff" })
			before := top.stat("d/f")
			s := w.as(map[bool]string{true: "glenda", false: who}[who == "%glenda"], map[bool]string{true: "%"}[who == "%glenda"])
			err := s.wstatErr("d/f", change)
			if want := no[what]; want != "" {
				refused(t, fmt.Sprintf("%s changes the %s", who, what), err, want)
				if got := top.stat("d/f"); got != before {
					t.Errorf("%s was refused the %s, and it is %+v", who, what, got)
				}
			} else if err != nil {
				t.Errorf("%s may not change the %s: %v", who, what, err)
			}
			s.hangUp()
			if what == "name" && err == nil {
				top.remove("d/g")
			} else {
				top.remove("d/f")
			}
		}
	}
	// The leader of both groups may change the group of what belongs to somebody else.
	top.put("d/f", 0644, "")
	top.wstat("d/f", func(d *ninep.Dir) { d.Uid, d.Gid = "bob", "staff" })
	alice := w.as("alice", "")
	alice.wstat("d/f", func(d *ninep.Dir) { d.Gid = "alice"; d.Mode = 0664 })
	if d := top.stat("d/f"); d.Gid != "alice" || d.Uid != "bob" || d.Muid != "alice" || d.Mode != 0664 {
		t.Errorf("the file is %+v", d)
	}
	// In a group without a leader every member leads.
	top.wstat("d/f", func(d *ninep.Dir) { d.Gid = "sys" })
	w.as("glenda", "").chmod("d/f", 0600)
	refused(t, "bob's file, in a group that bob is not in", w.as("carol", "").wstatErr("d/f", func(d *ninep.Dir) { d.Mode = 0666 }), eowner)
	w.end()
}

// TestAttachWithoutPermissionChecks is for members of adm, or for everybody if the server says so.
func TestAttachWithoutPermissionChecks(t *testing.T) {
	w := newWorld(t)
	w.as("glenda", "%main").put("secret", 0000, "secret")
	_, err := w.as("glenda", "").openErr("secret", ninep.OREAD)
	refused(t, "open", err, eperm)
	if got := w.as("glenda", "%").get("secret"); got != "secret" {
		t.Errorf("read %q", got)
	}
	_, err = w.srv.Dial().Attach("bob", "%")
	refused(t, "attach", err, eperm)
	_, err = w.srv.Dial().Attach("glenda", "%dump")
	refused(t, "attach", err, espec)
	w.stop()
	w.opt.Permissive = true
	w.start()
	s := w.as("bob", "%")
	if got := s.get("secret"); got != "secret" {
		t.Errorf("read %q", got)
	}
	s.wstat("secret", func(d *ninep.Dir) { d.Uid, d.Gid, d.Mode = "carol", "nogroup", 0600 })
	if d := s.stat("secret"); d.Uid != "carol" || d.Gid != "nogroup" || d.Muid != "bob" {
		t.Errorf("the file is %+v", d)
	}
	// adm is everybody's then.
	w.as("bob", "adm").put("new", 0600, "")
	if d := w.as("glenda", "adm").stat("new"); d.Uid != "adm" {
		t.Errorf("a file made in adm belongs to %s", d.Uid)
	}
	w.end()
}

// TestPitfall79AttachNeedsProof refuses whoever is not trusted and proves nothing.
func TestPitfall79AttachNeedsProof(t *testing.T) {
	w := newWorld(t)
	w.stop()
	trusted := true
	w.opt.Trust = func(*ninep.Ctx, string) bool { return trusted }
	w.start()
	w.as("glenda", "")
	trusted = false
	for _, who := range []string{"glenda", "adm", "bob", "none", "0"} {
		for _, name := range []string{"", "%", "adm", "main", "dump"} {
			if _, err := w.srv.Dial().Attach(who, name); err == nil {
				t.Errorf("%s may attach to %q", who, name)
			}
		}
	}
	w.end()
}

func TestPitfall80NoneDoesNotSeeTheDump(t *testing.T) {
	w := newWorld(t)
	w.as("none", "")
	_, err := w.srv.Dial().Attach("none", "dump")
	refused(t, "attach", err, eperm)
	_, err = w.srv.Dial().Attach("nobody", "")
	refused(t, "attach", err, "user does not exist")
	w.end()
}
