package blkdev_test

import (
	"fmt"
	"iter"

	"gefs9p/blkdev"
)

// A counter that is written, synced and only then acknowledged must never be found older than the
// last acknowledgement, wherever the power goes.
func ExampleCrash() {
	disk := blkdev.NewCrash(blkdev.NewMem(1 << 20))
	for n := byte(1); n <= 3; n++ {
		if _, err := disk.WriteAt([]byte{n}, 4096); err != nil {
			fmt.Println(err)
		}
		if err := disk.Sync(); err != nil {
			fmt.Println(err)
		}
		disk.Mark(n) // acknowledged
	}

	trace := disk.Trace()
	states := 0
	for _, cuts := range []iter.Seq[blkdev.Cut]{trace.Boundaries(), trace.Subsets(3), trace.Tears()} {
		for cut := range cuts {
			found, err := trace.State(cut) // a *Mem: start the server on it
			if err != nil {
				fmt.Println(err)
				return
			}
			got := make([]byte, 1)
			if _, err := found.ReadAt(got, 4096); err != nil {
				fmt.Println(err)
			}
			if acked := trace.Marks(cut.At); len(acked) > 0 && got[0] < acked[len(acked)-1].(byte) {
				fmt.Printf("%v: found %d, acknowledged %d\n", cut, got[0], acked[len(acked)-1])
			}
			states++
		}
	}
	fmt.Println(states, "states")
	// Output: 10 states
}

func ExampleFault() {
	disk := blkdev.NewFault(blkdev.NewMem(1 << 20))
	disk.Fail(blkdev.Rule{Op: blkdev.OpSync, Nth: 2})
	fmt.Println(disk.Sync())
	fmt.Println(disk.Sync())
	// Output:
	// <nil>
	// sync fault: injected fault
}
