package arena

import (
	"errors"
	"flag"
	"math/rand/v2"
	"sync"
	"testing"

	"gefs9p/blkfmt"
)

// TestConcurrentUse lets several goroutines take and give back blocks while commits go on, and checks
// that no block has two owners at a time and none is lost.
func TestConcurrentUse(t *testing.T) {
	rnd := newRand(t)
	const workers, steps = 6, 2500
	r := reamed(t, 4, 1500)
	var owner sync.Map // of blocks in use
	held := make([][]blkfmt.Addr, workers)
	var gate sync.RWMutex // what a store has to keep Seal from blocks not yet linked
	var wg sync.WaitGroup
	for w := range workers {
		rnd := rand.New(rand.NewPCG(rnd.Uint64(), uint64(w)))
		wg.Go(func() {
			var mine, retired []blkfmt.Addr
			defer func() {
				held[w] = mine
				for _, b := range retired {
					if err := r.set.Give(b); err != nil {
						t.Error(err)
					}
				}
			}()
			for range steps {
				if rnd.IntN(5) < 3 {
					gate.RLock()
					b, err := r.set.Alloc(uint64(w), rnd.IntN(2) == 0)
					if err == nil {
						if o, taken := owner.LoadOrStore(b, w); taken {
							t.Errorf("block %v was handed out to %d and to %d", b, o, w)
						}
						mine = append(mine, b)
					} else if !errors.Is(err, ErrFull) {
						t.Error(err)
					}
					gate.RUnlock()
				} else if len(mine) > 0 {
					i := rnd.IntN(len(mine))
					b := mine[i]
					mine[i] = mine[len(mine)-1]
					mine = mine[:len(mine)-1]
					owner.Delete(b)
					// Nobody but us can make it old, and Seal cannot come between here.
					gate.RLock()
					var err error
					switch fresh := r.set.Fresh(b); {
					case fresh && rnd.IntN(2) == 0:
						err = r.set.Free(b)
					case fresh:
						if err = r.set.Retire(b); err == nil {
							retired = append(retired, b)
						}
					default:
						err = r.set.FreeLater(b)
					}
					gate.RUnlock()
					if len(retired) > 10 && err == nil {
						err = r.set.Give(retired[0]) // at any time
						retired = retired[1:]
					}
					if err != nil {
						t.Error(err)
					}
				}
				r.set.Room()
				r.set.LogPressure()
			}
		})
	}
	stop := make(chan struct{})
	done := make(chan int64)
	go func() {
		q := int64(0)
		defer func() { done <- q }()
		for {
			q++
			gate.Lock()
			s, err := r.set.Seal(q)
			gate.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			r.disk.apply(s.Log)
			r.disk.apply(s.Headers)
			r.disk.apply(s.Footers)
			r.now = state{refs: s.Refs, qgen: q}
			for _, st := range r.set.Stat() {
				if st.Used+st.Free != st.Size {
					t.Errorf("%+v", st)
				}
			}
			if err := r.set.Release(s); err != nil {
				t.Error(err)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	wg.Wait()
	close(stop)
	q := <-done
	for _, list := range held {
		for _, b := range list {
			r.live[b] = true
		}
	}
	r.limbo, r.later = map[blkfmt.Addr]bool{}, map[blkfmt.Addr]bool{}
	r.commit(q + 1)
	r.commit(q + 2)
	r.check()
	r.checkLoad(r.disk, r.now)
	room := int64(0)
	for _, a := range r.set.list() {
		room += max(0, (a.free.total-a.reserve)/blk)
	}
	if r.set.Room() != room {
		t.Errorf("Room is %d, want %d", r.set.Room(), room)
	}
	t.Logf("%d commits", q)
}

func benchSet(b *testing.B) *Set {
	g, err := blkfmt.ReamGeometry(1 << 40)
	if err != nil {
		b.Fatal(err)
	}
	s, err := Format(g, blkfmt.Metro{})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

var staleFlag = flag.Bool("stale", false, "benchmark with what becomes free noted, as for discarding it")

// BenchmarkAllocFree takes a block and gives it back, with everything else free or in fragments.
func BenchmarkAllocFree(b *testing.B) {
	for _, seq := range []bool{false, true} {
		for _, ranges := range []int{0, 100_000} {
			name := "high"
			if seq {
				name = "seq"
			}
			if ranges > 0 {
				name += "/fragmented"
			}
			b.Run(name, func(b *testing.B) {
				s := benchSet(b)
				if *staleFlag {
					s.NoteStale()
				}
				list := make([]blkfmt.Addr, 2*ranges)
				for i := range list {
					list[i], _ = s.Alloc(Meta, false)
				}
				for i := 0; i < len(list); i += 2 {
					s.Free(list[i])
				}
				b.ResetTimer()
				for b.Loop() {
					a, err := s.Alloc(7, seq)
					if err != nil {
						b.Fatal(err)
					}
					if err := s.Free(a); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkSeal commits 1000 changed blocks on a device with many free ranges.
func BenchmarkSeal(b *testing.B) {
	s := benchSet(b)
	q := int64(0)
	var list []blkfmt.Addr
	for b.Loop() {
		for range 500 {
			a, err := s.Alloc(7, false)
			if err != nil {
				b.Fatal(err)
			}
			list = append(list, a)
		}
		for i := 0; i < 500 && len(list) > 10000; i++ {
			j := int(uint64(q*7919+int64(i)*104729) % uint64(len(list)))
			if err := s.FreeLater(list[j]); err != nil {
				b.Fatal(err)
			}
			list[j] = list[len(list)-1]
			list = list[:len(list)-1]
		}
		sealed, err := s.Seal(q)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Release(sealed); err != nil {
			b.Fatal(err)
		}
		q++
	}
}

// BenchmarkSealSmall commits one changed block.
func BenchmarkSealSmall(b *testing.B) {
	s := benchSet(b)
	b.ReportAllocs()
	for q := int64(0); b.Loop(); q++ {
		if _, err := s.Alloc(7, false); err != nil {
			b.Fatal(err)
		}
		sealed, err := s.Seal(q)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Release(sealed); err != nil {
			b.Fatal(err)
		}
	}
}
