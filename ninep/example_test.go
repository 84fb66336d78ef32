package ninep_test

import (
	"context"
	"fmt"
	"net"

	"9fans.net/go/plan9"
	"9fans.net/go/plan9/client"

	"gefs9p/ninep"
	"gefs9p/ninep/ninetest"
)

func ExampleServer() {
	fs := ninetest.New()
	fs.Put("usr/glenda/greeting", []byte("hello\n"))
	s := &ninep.Server{FS: fs}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	served := make(chan error)
	go func() { served <- s.Serve(context.Background(), l) }()

	c, err := client.Dial("tcp", l.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	root, err := c.Attach(nil, "glenda", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	f, err := root.Open("usr/glenda/greeting", plan9.OREAD)
	if err != nil {
		fmt.Println(err)
		return
	}
	b := make([]byte, 100)
	n, err := f.Read(b)
	fmt.Printf("%q %v\n", b[:n], err)
	c.Close()

	fmt.Println(s.Shutdown(context.Background()), <-served)
	// Output:
	// "hello\n" <nil>
	// <nil> <nil>
}
