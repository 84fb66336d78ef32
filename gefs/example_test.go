package gefs_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"gefs9p/blkdev"
	"gefs9p/client"
	"gefs9p/gefs"
	"gefs9p/ninep"
)

// A new disk in memory is served to a client at the other end of a pipe.
func Example() {
	dev := blkdev.NewMem(200 << 20)
	if err := gefs.Ream(dev, gefs.ReamOptions{User: "glenda"}); err != nil {
		log.Fatal(err)
	}
	fs, err := gefs.Open(dev, gefs.Options{})
	if err != nil {
		log.Fatal(err)
	}
	srv := &ninep.Server{FS: fs, NewWorker: fs.NewWorker, FreeWorker: fs.FreeWorker}
	here, there := net.Pipe()
	go srv.ServeConn(context.Background(), there)

	conn, err := client.New(context.Background(), here, 1<<20)
	if err != nil {
		log.Fatal(err)
	}
	f, err := conn.Attach("glenda", "main")
	if err != nil {
		log.Fatal(err)
	}
	if err := f.Create("hello", 0644, ninep.ORDWR); err != nil {
		log.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("hello, world"), 0); err != nil {
		log.Fatal(err)
	}
	if err := f.Fsync(); err != nil { // on stable storage now
		log.Fatal(err)
	}
	d, err := f.Stat()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.Name, d.Length, d.Uid, d.Gid)

	conn.Close()
	srv.Shutdown(context.Background())
	if err := fs.Close(); err != nil {
		log.Fatal(err)
	}
	// Output: hello 12 glenda adm
}
