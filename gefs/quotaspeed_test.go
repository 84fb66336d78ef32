package gefs_test

import (
	"fmt"
	"testing"
	"time"

	"gefs9p/gefs"
	"gefs9p/ninep"
)

// BenchmarkQuotas is what quotas cost: a write that makes a file longer, one in place, and a file that is made and
// removed, on a label without quotas, on one whose files are counted, and on one with limits of 1000 users.
func BenchmarkQuotas(b *testing.B) {
	for _, with := range []string{"none", "counted", "limits"} {
		prepare := func(b *testing.B) *bare {
			r := newBare(b)
			if with == "none" {
				return r
			}
			r.must("limit", r.fs.SetQuota(r.c, "main", "", gefs.Usage{}))
			if with == "limits" {
				r.must("limit", r.fs.SetQuota(r.c, "main", "", gefs.Usage{Bytes: 1 << 50, Files: 1 << 40}))
				for i := range 1000 {
					r.must("limit", r.fs.SetQuota(r.c, "main", fmt.Sprint(i+10), gefs.Usage{Bytes: 1 << 50, Files: 1 << 40}))
				}
				r.must("limit", r.fs.SetQuota(r.c, "main", gefs.EachUser, gefs.Usage{Bytes: 1 << 50, Files: 1 << 40}))
			}
			r.c.Sleep(func() {
				for r.fs.Quotas(false)[0].State != gefs.QuotaCounted {
					time.Sleep(time.Millisecond)
				}
			})
			return r
		}
		p := make([]byte, 4096)
		b.Run("append/"+with, func(b *testing.B) {
			r := prepare(b)
			f := r.file(0)
			b.ReportAllocs()
			off := uint64(0)
			for b.Loop() {
				_, err := f.Write(r.c, p, off)
				r.must("write", err)
				r.step()
				if off += uint64(len(p)); off == 512<<20 {
					off = 0
					st := ninep.NullDir()
					st.Length = 0
					r.must("truncate", f.Wstat(r.c, &st))
				}
			}
		})
		b.Run("overwrite/"+with, func(b *testing.B) {
			r := prepare(b)
			f := r.file(16 << 20)
			b.ReportAllocs()
			off := uint64(0)
			for b.Loop() {
				_, err := f.Write(r.c, p, off)
				r.must("write", err)
				r.step()
				off = (off + uint64(len(p))) % (16 << 20)
			}
		})
		b.Run("create/"+with, func(b *testing.B) {
			r := prepare(b)
			b.ReportAllocs()
			for b.Loop() {
				f := r.walk()
				_, _, err := f.Create(r.c, "new", 0644, ninep.OWRITE)
				r.must("create", err)
				r.must("remove", f.Remove(r.c))
				r.step()
			}
		})
	}
}
