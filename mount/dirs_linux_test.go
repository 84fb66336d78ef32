package mount

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"gefs9p/client"
	"gefs9p/ninep/ninetest"
)

var seed = flag.Uint64("seed", 0, "of the random tests; 0 is another one each time")

// TestDirectoriesAreHeldWhileUsedAndNotTooMany has goroutines use and drop directories at random. That a fid is
// that of the directory it is asked for, and is there, the server says.
func TestDirectoriesAreHeldWhileUsedAndNotTooMany(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed=%d", *seed)
	const most, users, count = 5, 6, 20
	mem := ninetest.New()
	for i := range count {
		mem.Put(fmt.Sprintf("d%d/f", i), nil)
	}
	_, root := connect(t, mem)
	d := dirs{most: most}
	all := make([]held, count)
	use := func(i int) (*client.Fid, error) {
		if fid := d.take(&all[i]); fid != nil {
			return fid, nil
		}
		fid, err := root.Walk(fmt.Sprintf("d%d", i))
		if err != nil {
			return nil, err
		}
		return d.put(&all[i], fid), nil
	}
	var wg sync.WaitGroup
	for u := range users {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(*seed, uint64(u)))
			for range 300 {
				i := r.IntN(count)
				fid, err := use(i)
				if err != nil {
					t.Error(err)
					return
				}
				if r.IntN(8) == 0 {
					d.drop(&all[i])
				}
				st, err := fid.Stat()
				if want := fmt.Sprintf("d%d", i); err != nil || st.Name != want {
					t.Errorf("%s: %q, %v", want, st.Name, err)
				}
				d.give(&all[i])
			}
		})
	}
	wg.Wait()
	if n := d.order.Len(); n > most {
		t.Errorf("%d directories are held, most is %d", n, most)
	}
	if n := mem.Live(); n != 1+d.order.Len() {
		t.Errorf("the server has %d fids, %d are held", n, d.order.Len())
	}
	for i := range all {
		d.drop(&all[i])
	}
	if n := mem.Live(); n != 1 || d.order.Len() != 0 {
		t.Errorf("%d fids are left, %d in order", n, d.order.Len())
	}
}
