package golden_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gefs9p/blkfmt"
	"gefs9p/internal/golden"
	"gefs9p/kvfmt"
)

// TestFormatsReadGoldenDisks reads everything that is reachable on the reference's disks with the
// format packages alone, writes it again, and compares what it says with what the reference served.
func TestFormatsReadGoldenDisks(t *testing.T) {
	for _, name := range disks() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := golden.Manifest(t, name)
			r := newReader(t, golden.Image(t, name))
			s := r.super
			for key, got := range map[string]string{
				"snaptree":  fmt.Sprintf("(%x,%x,%d)", int64(s.Snap.Addr), s.Snap.Hash, int64(s.Snap.Gen)),
				"narenas":   strconv.Itoa(len(s.Arenas)),
				"features":  strconv.FormatUint(s.Flag, 10),
				"nextqid":   strconv.FormatUint(s.NextQid, 10),
				"lastqgen":  strconv.FormatInt(s.Qgen, 10),
				"nextgen":   strconv.FormatInt(int64(s.NextGen)+1, 10), // loading took one
				"blocksize": strconv.Itoa(blkfmt.BlkSize),
			} {
				if want := m.Load(t, key); got != want {
					t.Errorf("%s: %s, the reference says %s", key, got, want)
				}
			}

			free := make(freeSet)
			barriers, current := 0, 0
			for i, ref := range s.Arenas {
				h, n := r.header(i)
				current += n
				f, barrier := r.replay(h)
				if barrier {
					barriers++
				}
				maps.Copy(free, f)
				if used := h.Size - int64(len(f))*blkfmt.BlkSize; used != h.Used {
					t.Errorf("arena %d: the log says %d bytes are used, the header %d", i, used, h.Used)
				}
				for a := range f {
					if a < ref.Addr+blkfmt.ArenaOverhead || a >= ref.Addr+blkfmt.Addr(h.Size) {
						t.Errorf("arena %d: %v is free, it is not in the usable part of the body", i, a)
					}
				}
			}

			snaps := r.pairs(s.Snap, s.SnapHt)
			r.snapshots(m, snaps)
			lists, dead := 0, 0
			for k, v := range snaps {
				if k[0] != kvfmt.Kdlist {
					continue
				}
				lists++
				d, err := kvfmt.GetDlist(v)
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range r.deadlist(d) {
					dead++
					if free[a] {
						t.Errorf("deadlist %x: %v is free", k, a)
					}
				}
			}
			for a := range r.seen {
				if free[a] {
					t.Errorf("node at %v is free", a)
				}
			}
			if r.nodes < 3 || len(free) < 1000 {
				t.Errorf("only %d nodes read, %d blocks free", r.nodes, len(free))
			}
			t.Logf("qgen %d, %d barriers, %d of %d headers current, %d nodes, %d messages, %d deadlists of %d blocks",
				s.Qgen, barriers, current, 2*len(s.Arenas), r.nodes, r.msgs, lists, dead)
		})
	}
}

// snapshots compares every label with the manifest.
func (r *reader) snapshots(m *golden.Contents, snaps map[string][]byte) {
	t := r.t
	names := make(map[string]bool)
	for k, v := range snaps {
		if k[0] != kvfmt.Klabel {
			continue
		}
		label, err := kvfmt.GetLabel(v)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := kvfmt.GetTree(snaps[string(kvfmt.AppendSnapKey(nil, label.Gen))])
		if err != nil {
			t.Fatalf("label %s: snapshot %d: %v", k[1:], label.Gen, err)
		}
		want, ok := m.Snapshots[k[1:]]
		if !ok {
			t.Errorf("the manifest has no label %q", k[1:])
			continue
		}
		names[k[1:]] = true
		if mutable := label.Flags&kvfmt.LabelMutable != 0; mutable != want.Mutable || tree.Gen != label.Gen {
			t.Errorf("label %s: %+v of %+v, the manifest says mutable %v", k[1:], label, tree, want.Mutable)
		}
		r.files(k[1:], r.pairs(tree.Root, int(tree.Ht)), want.Files, m.Users)
	}
	for name := range m.Snapshots {
		if !names[name] {
			t.Errorf("the disk has no label %q", name)
		}
	}
}

// files compares the files of a snapshot with the manifest.
func (r *reader) files(label string, tree map[string][]byte, want map[string]golden.File, users string) {
	t := r.t
	names := make(map[int32]string)
	for line := range strings.Lines(users) {
		f := strings.SplitN(line, ":", 3)
		id, err := strconv.ParseInt(f[0], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		names[int32(id)] = f[1]
	}
	children := make(map[uint64][]kvfmt.Ent)
	for _, k := range slices.Sorted(maps.Keys(tree)) {
		if k[0] == kvfmt.Kent {
			e, err := kvfmt.GetEnt([]byte(k))
			if err != nil {
				t.Fatal(err)
			}
			children[e.Pqid] = append(children[e.Pqid], e)
		}
	}
	got := 0
	var visit func(path string, e kvfmt.Ent)
	visit = func(path string, e kvfmt.Ent) {
		got++
		key := kvfmt.AppendEntKey(nil, e.Pqid, e.Name)
		d, err := kvfmt.GetDir(tree[string(key)])
		if err != nil {
			t.Fatal(err)
		}
		f := golden.File{
			Dir: d.Mode>>31 == 1, Mode: d.Mode, Uid: names[d.Uid], Gid: names[d.Gid], Muid: names[d.Muid],
			Atime: (d.Atime + 5e8) / 1e9, Mtime: (d.Mtime + 5e8) / 1e9, Length: d.Length,
			QidType: d.Qid.Type, QidPath: d.Qid.Path, QidVers: d.Qid.Vers,
		}
		w, ok := want[path]
		if !f.Dir {
			h := sha256.New()
			sparse := d.Length > 64<<20 && !*full
			r.content(h, tree, d.Qid.Path, d.Length, sparse)
			if f.SHA256 = hex.EncodeToString(h.Sum(nil)); sparse {
				f.SHA256 = w.SHA256
			}
		} else if up := tree[string(kvfmt.AppendUpKey(nil, d.Qid.Path))]; !bytes.Equal(up, key) {
			t.Errorf("%s:%s: key %x, the way up says %x", label, path, key, up)
		}
		if !ok || f != w {
			t.Errorf("%s:%s is\n%+v, the manifest says\n%+v", label, path, f, w)
		}
		if path == "/users" && label == "adm" {
			var p bytes.Buffer
			r.content(&p, tree, d.Qid.Path, d.Length, false)
			if p.String() != users {
				t.Errorf("users file:\n%s\nthe manifest says\n%s", p.String(), users)
			}
		}
		for _, c := range children[d.Qid.Path] {
			visit(strings.TrimSuffix(path, "/")+"/"+c.Name, c)
		}
	}
	visit("/", kvfmt.Ent{Pqid: kvfmt.RootPqid})
	if got != len(want) {
		t.Errorf("%s: %d files, the manifest has %d", label, got, len(want))
	}
}
