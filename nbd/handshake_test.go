package nbd_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"gefs9p/blkdev"
	"gefs9p/nbd"
	"gefs9p/nbd/nbdtest"
)

// refused wants Open to fail soon, with words that contain want.
func refused(t *testing.T, a nbd.Address, opt nbd.Options, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	d, err := nbd.Open(ctx, a, opt)
	if err == nil {
		d.Close()
		t.Fatalf("opened; want %q", want)
	}
	var op *blkdev.OpError
	if !strings.Contains(err.Error(), want) || !errors.As(err, &op) || op.Path != a.String() {
		t.Errorf("%v (%T); want %q", err, err, want)
	}
}

func TestParseReadsAddressesOfTheProject(t *testing.T) {
	for _, c := range []struct {
		text string
		want nbd.Address
	}{
		{"nbd://host", nbd.Address{Network: "tcp", Host: "host:10809"}},
		{"nbd://host/", nbd.Address{Network: "tcp", Host: "host:10809"}},
		{"nbd://host:1/export", nbd.Address{Network: "tcp", Host: "host:1", Export: "export"}},
		{"nbd://[::1]:1/a/b", nbd.Address{Network: "tcp", Host: "[::1]:1", Export: "a/b"}},
		{"nbd://host//a%20%C3%A4", nbd.Address{Network: "tcp", Host: "host:10809", Export: "/a ä"}},
		{"nbd+unix:///?socket=/run/s", nbd.Address{Network: "unix", Host: "/run/s"}},
		{"nbd+unix:///e?socket=a%3Fb", nbd.Address{Network: "unix", Host: "a?b", Export: "e"}},
		{"nbds://host/e", nbd.Address{Network: "tcp", Host: "host:10809", Export: "e", TLS: true, Hostname: "host"}},
		{"nbds://10.0.0.1/e?tls-hostname=h&tls-certificates=/etc/pki", nbd.Address{Network: "tcp", Host: "10.0.0.1:10809", Export: "e", TLS: true, Hostname: "h", Certificates: "/etc/pki"}},
		{"nbds+unix:///e?socket=s", nbd.Address{Network: "unix", Host: "s", Export: "e", TLS: true, Hostname: "localhost"}},
	} {
		a, err := nbd.Parse(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if a.String() != c.text || !nbd.IsAddress(c.text) {
			t.Errorf("%s: is %q, an address: %v", c.text, a, nbd.IsAddress(c.text))
		}
		if a.Network != c.want.Network || a.Host != c.want.Host || a.Export != c.want.Export || a.TLS != c.want.TLS || a.Hostname != c.want.Hostname || a.Certificates != c.want.Certificates {
			t.Errorf("%s: %#v; want %#v", c.text, a, c.want)
		}
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"nbd://":                        "no host",
		"nbd:///export":                 "no host",
		"nbd://host:x/":                 "port",
		"nbd://host/?socket=/s":         "nbd+unix",
		"nbd://host/?colour=red":        `unknown parameter "colour"`,
		"nbd://host/?tls-hostname=h":    "nbds",
		"nbds://u@host/":                "users",
		"nbds://h/?tls-psk-file=x":      "not supported",
		"nbds://h/?tls-hostname=":       "one value",
		"nbd+unix://host/e?socket=/s":   "no host: write nbd+unix:///host",
		"nbd+unix:///e":                 "no socket",
		"nbd+unix:///e?socket=a%00b":    "NUL",
		"nbd+vsock://1/":                `unknown scheme "nbd+vsock"`,
		"nbd://host/e#f":                "form",
		"nbd://host/%zz":                "escape",
		"nbd://h/a%00b":                 "NUL",
		"nbd://h/" + manyX:              "too long",
		"nbds://h/?tls-hostname=a;b":    "semicolon",
		"nbd+unix:///?socket=a&socket=": "one value",
	} {
		if _, err := nbd.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v; want %q", text, err, want)
		}
	}
	for _, text := range []string{"disk.img", "/dev/nbd0", "nbd", "nbd:/x", "nbdx://", "tcp!host!564", "http://host"} {
		if nbd.IsAddress(text) {
			t.Errorf("%s is taken for an address", text)
		}
	}
}

var manyX = strings.Repeat("x", 4097)

// scripted is a server that says these bytes to each client, whatever it is asked, and then nothing.
func scripted(t testing.TB, say []byte) nbd.Options {
	return nbd.Options{Dial: func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() { io.Copy(io.Discard, theirs); close(done) }()
		go func() { theirs.Write(say); <-done; theirs.Close() }()
		t.Cleanup(func() { ours.Close(); theirs.Close(); <-done })
		return ours, nil
	}, Stall: 100 * time.Millisecond, Patience: 100 * time.Millisecond}
}

const hello = "NBDMAGICIHAVEOPT\x00\x03"

// optReply is the reply of a server to NBD_OPT_GO.
func optReply(kind uint32, data string) string {
	b := binary.BigEndian.AppendUint64(nil, 0x0003e889045565a9)
	b = binary.BigEndian.AppendUint32(b, 7)
	b = binary.BigEndian.AppendUint32(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return string(b) + data
}

func exportInfo(size uint64, flags uint16) string {
	b := binary.BigEndian.AppendUint64([]byte{0, 0}, size)
	return optReply(3, string(binary.BigEndian.AppendUint16(b, flags)))
}

func blockInfo(least, most uint32) string {
	b := binary.BigEndian.AppendUint32([]byte{0, 3}, least)
	b = binary.BigEndian.AppendUint32(b, 4096)
	return optReply(3, string(binary.BigEndian.AppendUint32(b, most)))
}

func TestNegotiationThatIsNoneIsRefused(t *testing.T) {
	const refusal = 1 << 31
	for _, c := range []struct{ name, say, want string }{
		{"another protocol", "SSH-2.0-OpenSSH_9.2p1 Debian\r\n", `no NBD server: it begins with "SSH-2.0-"`},
		{"the old negotiation", "NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53\x00\x00\x00\x00", "old negotiation"},
		{"neither", "NBDMAGICxxxxxxxx\x00\x03", "does not keep"},
		{"not fixed", "NBDMAGICIHAVEOPT\x00\x00", "fixed newstyle"},
		{"a reply that is none", hello + strings.Repeat("x", 20), "does not keep"},
		{"a reply to another option", hello + strings.Replace(optReply(1, ""), "\x00\x00\x00\x07", "\x00\x00\x00\x03", 1), "reply to option 3"},
		{"a very long reply", hello + optReply(3, "")[:16] + "\xff\xff\xff\xff", "4294967295 bytes"},
		{"a kind that there is not", hello + optReply(77, ""), "kind 77"},
		{"no size", hello + optReply(1, ""), "how large"},
		{"information of one byte", hello + optReply(3, "\x00"), "1 bytes"},
		{"a short size", hello + optReply(3, "\x00\x00\x00"), "in 1 bytes"},
		{"more than there can be", hello + exportInfo(1<<63, 5) + optReply(1, ""), "9223372036854775808 bytes"},
		{"no flags", hello + exportInfo(1<<20, 4) + optReply(1, ""), "flags 0x4"},
		{"read-only", hello + exportInfo(1<<20, 7) + optReply(1, ""), "read-only"},
		{"nothing is ever safe", hello + exportInfo(1<<20, 1) + optReply(1, ""), "neither flush"},
		{"short block sizes", hello + optReply(3, "\x00\x03\x00"), "in 1 bytes"},
		{"blocks of 0 bytes", hello + blockInfo(0, 4096), "blocks of 0"},
		{"blocks of 1000 bytes", hello + blockInfo(1000, 4000), "blocks of 1000"},
		{"very large blocks", hello + blockInfo(1<<17, 1<<20), "blocks of 131072"},
		{"the largest below the smallest", hello + blockInfo(512, 256), "to 256"},
		{"the largest no multiple", hello + blockInfo(512, 1000), "to 1000"},
		{"no end", hello + strings.Repeat(optReply(3, "\x00\x01name"), 100), "no end"},
		{"no such export", hello + optReply(refusal|6, "what\nis\x1b[31m that?"), "no such export (it says: what is [31m that?)"},
		{"policy", hello + optReply(refusal|2, ""), "forbid"},
		{"too old", hello + optReply(refusal|1, ""), "too old"},
		{"TLS", hello + optReply(refusal|5, ""), "nbds://"},
		{"an error without a name", hello + optReply(refusal|999, ""), "refuses"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, address(t, "nbd://host/disk"), scripted(t, []byte(c.say)), c.want) })
	}
}

func TestServerThatHangsUpOrKeepsSilentIsNotWaitedForLong(t *testing.T) {
	whole := hello + exportInfo(1<<20, 5) + blockInfo(1, 1<<20) + optReply(1, "")
	for n := range len(whole) {
		opt := scripted(t, nil)
		opt.Dial = func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go io.Copy(io.Discard, theirs)
			go func() { theirs.Write([]byte(whole[:n])); theirs.Close() }()
			return ours, nil
		}
		refused(t, address(t, "nbd://host/disk"), opt, "")
	}
	for _, n := range []int{0, 5, 18, 30, len(whole) - 1, len(whole)} {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		began := time.Now()
		d, err := nbd.Open(ctx, address(t, "nbd://host/disk"), scripted(t, []byte(whole[:n])))
		cancel()
		if err == nil {
			d.Close()
			t.Errorf("opened after %d bytes of a negotiation of %d and no reply", n, len(whole))
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("after %d bytes: gave up after %v: %v", n, took, err)
		}
	}
}

func TestNobodyThereIsSaidAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	refused(t, address(t, "nbd://"+l.Addr().String()+"/disk"), nbd.Options{}, "refused")
	_, err = nbd.Open(context.Background(), address(t, "nbd+unix:///disk?socket="+t.TempDir()+"/none"), nbd.Options{})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a socket that is not there: %v", err)
	}
}

func TestReadOnlyExportIsRead(t *testing.T) {
	disk := blkdev.NewMem(1 << 20)
	if _, err := disk.WriteAt([]byte("here"), 1000); err != nil {
		t.Fatal(err)
	}
	a := serve(t, &nbdtest.Server{Dev: disk, ReadOnly: true, NoFlush: true, NoFUA: true})
	refused(t, a, nbd.Options{}, "read-only")
	d := open(t, a, nbd.Options{ReadOnly: true})
	p := make([]byte, 4)
	if _, err := d.ReadAt(p, 1000); err != nil || string(p) != "here" {
		t.Errorf("read %q, %v", p, err)
	}
	if _, err := d.WriteAt(p, 0); !errors.Is(err, blkdev.ErrReadOnly) {
		t.Errorf("write: %v", err)
	}
	if err := d.WriteVec([][]byte{p}, 0); !errors.Is(err, blkdev.ErrReadOnly) {
		t.Errorf("write: %v", err)
	}
	if err := d.Discard(0, 512); !errors.Is(err, blkdev.ErrReadOnly) {
		t.Errorf("discard: %v", err)
	}
	if err := d.Sync(); err != nil {
		t.Errorf("sync: %v", err)
	}
}

func TestExportThatIsNotThereIsNamed(t *testing.T) {
	s := &nbdtest.Server{Dev: blkdev.NewMem(1 << 20)}
	s.Start(t)
	refused(t, address(t, "nbd://"+s.Addr()+"/none"), nbd.Options{}, `export "none": there is no such export (it says: try another)`)
}
