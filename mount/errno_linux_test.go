package mount

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"syscall"
	"testing"

	"gefs9p/client"
	"gefs9p/ninep"
)

func TestErrorsHaveTheNumberOfTheirText(t *testing.T) {
	for _, c := range []struct {
		err  error
		want syscall.Errno
	}{
		{nil, 0},
		{syscall.EXDEV, syscall.EXDEV},
		{client.ErrNotFound, syscall.ENOENT},
		{fmt.Errorf("walk a/b: %w", client.ErrNotFound), syscall.ENOENT}, // a partial walk
		{ninep.Error("file system full"), syscall.ENOSPC},
		{ninep.Error("something new"), syscall.EIO},
		{fmt.Errorf("message of 70000 bytes: %w", ninep.ErrTooLong), syscall.ENAMETOOLONG},
		{net.ErrClosed, syscall.EIO},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, syscall.EIO},
		{errors.New("whatever"), syscall.EIO},
	} {
		if got := errnoOf(c.err); got != c.want {
			t.Errorf("%v: %d (%v), want %d", c.err, got, got, c.want)
		}
	}
}

// TestEveryErrorOfGefsHasANumber reads the texts where the server has them.
func TestEveryErrorOfGefsHasANumber(t *testing.T) {
	b, err := os.ReadFile("../gefs/errors.go")
	if err != nil {
		t.Fatal(err)
	}
	texts := regexp.MustCompile(`ninep\.Error\("(.*)"\)`).FindAllSubmatch(b, -1)
	if len(texts) < 20 {
		t.Fatalf("%d texts in gefs/errors.go: is it still where they are?", len(texts))
	}
	for _, m := range texts {
		if text := ninep.Error(m[1]); errnos[text] == 0 {
			t.Errorf("%q has no number", text)
		}
	}
}
