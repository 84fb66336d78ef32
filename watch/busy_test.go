package watch_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"gefs9p/client"
	"gefs9p/gefs"
	"gefs9p/internal/gefstest"
	"gefs9p/ninep"
)

// past fills the disk and makes snapshots as a schedule would have made them during the last days, and some by
// hand, so that there is something to look at.
func past(r *rig, rng *rand.Rand) {
	r.t.Helper()
	_, root := r.attach(gefstest.User, "main")
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	change := func(files, most int) {
		for range files {
			f, err := root.Walk(fmt.Sprintf("file%02d", rng.IntN(24)))
			if err != nil {
				r.t.Fatal(err)
			}
			if err := f.Open(ninep.OWRITE); err != nil {
				r.t.Fatal(err)
			}
			at := rng.IntN(2 << 20)
			if _, err := f.WriteAt(data[:1+rng.IntN(most)], int64(at)); err != nil {
				r.t.Fatal(err)
			}
			f.Clunk()
		}
	}
	for i := range 24 {
		r.put(root, fmt.Sprintf("file%02d", i), data)
	}
	now := time.Now().UTC()
	at := func(tag string, ago time.Duration, round time.Duration) {
		r.label("main", "main@"+tag+"."+now.Add(-ago).Truncate(round).Format("2006.01.02_15:04:05"), false)
	}
	for d := 14; d > 0; d-- {
		change(6, 512<<10)
		at("day", time.Duration(d)*24*time.Hour, 24*time.Hour)
		if d == 9 {
			r.label("main", "before the upgrade", false)
		}
	}
	for h := 24; h > 0; h-- {
		change(3, 256<<10)
		at("hour", time.Duration(h)*time.Hour, time.Hour)
	}
	r.label("main", "experiment", true)
	for m := 40; m > 0; m-- {
		change(1, 128<<10)
		at("minute", time.Duration(m)*time.Minute, time.Minute)
	}
	change(8, 512<<10)
	for i := range 6 { // holes, so that the map has something to show
		f, err := root.Walk(fmt.Sprintf("file%02d", i*4))
		if err == nil {
			f.Remove()
		}
	}
}

// incidents has things happen that are logged: a scrub, a hangup, and users who may not.
func incidents(r *rig) {
	r.t.Helper()
	if _, err := r.fs.StartScrub(1 << 30); err != nil {
		r.t.Fatal(err)
	}
	r.until("the scrub comes to its end", func() bool { return r.fs.Scrub().State == gefs.ScrubIdle })
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	defer nc.Close()
	c, err := client.New(r.t.Context(), nc, 8192)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := c.Attach("none", "%main"); err == nil {
		r.t.Error("none attaches without permission checks")
	}
	if _, err := nc.Write([]byte{7, 0, 0, 0, ninep.Rstat, 1, 0}); err != nil {
		r.t.Fatal(err)
	}
	<-c.Done()
}

// busy has clients at work until stop is closed; wait waits for them.
func busy(r *rig, clients int, seed uint64, stop <-chan struct{}) (wait func()) {
	var wg sync.WaitGroup
	for i := range clients {
		_, root := r.attach(gefstest.User, "main")
		wg.Go(func() { work(r.t, root, i, rand.New(rand.NewPCG(seed, uint64(i))), stop) })
	}
	return wg.Wait
}

// work reads and writes one file, walks and stats, now more and now less.
func work(t testing.TB, root *client.Fid, i int, rng *rand.Rand, stop <-chan struct{}) {
	f, err := root.Walk()
	if err == nil {
		err = f.Create(fmt.Sprintf("busy%d", i), 0o664, ninep.ORDWR)
	}
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Clunk()
	const size = 2 << 20
	buf := make([]byte, 32<<10)
	pace := 2 * time.Millisecond
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(pace):
		}
		if n%400 == 0 {
			pace = time.Duration(1+rng.IntN(12)) * time.Millisecond
		}
		at := int64(rng.IntN(size))
		switch k := rng.IntN(100); {
		case k < 25:
			_, err = f.WriteAt(buf[:1+rng.IntN(16<<10)], at)
		case k < 75:
			f.ReadAt(buf, at) // also behind the end
		case k < 99:
			var g *client.Fid
			if g, err = root.Walk(fmt.Sprintf("busy%d", i)); err == nil {
				_, err = g.Stat()
				g.Clunk()
			}
		default:
			err = f.Fsync()
		}
		if err != nil {
			t.Errorf("client %d: %v", i, err)
			return
		}
	}
}
