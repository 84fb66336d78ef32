package gefs

import (
	"context"
	"testing"

	"gefs9p/blkdev"
	"gefs9p/check"
	"gefs9p/ninep"
)

func TestSmoke(t *testing.T) {
	dev := blkdev.NewMem(200 << 20)
	if err := Ream(dev, ReamOptions{User: "glenda"}); err != nil {
		t.Fatal(err)
	}
	size, _ := dev.Size()
	rep, err := check.Run(context.Background(), dev, size, check.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rep.WriteText(testWriter{t})
	t.Log("clean:", rep.Clean(true))
	fs, err := Open(dev, Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, end := fs.Background()
	f, q, err := fs.Attach(c, ninep.AttachArgs{Uname: "glenda"})
	t.Log(q, err)
	n, _, err := f.Walk(c, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = n.Create(c, "hello", 0664, ninep.ORDWR)
	t.Log(err)
	buf := make([]byte, 100000)
	for i := range buf {
		buf[i] = byte(i)
	}
	_, err = n.Write(c, buf, 5)
	t.Log(err)
	got := make([]byte, 200000)
	k, err := n.Read(c, got, 0)
	t.Log(k, err, string(got[:k]) == string(make([]byte, 5))+string(buf))
	n.Clunk(c)
	f.Clunk(c)
	end()
	if err := fs.Close(); err != nil {
		t.Fatal(err)
	}
	rep, err = check.Run(context.Background(), dev, size, check.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rep.WriteText(testWriter{t})
	t.Log("clean:", rep.Clean(true))
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) { w.t.Log(string(p)); return len(p), nil }
