// Vminit is the first process in the virtual machine of TestPowerLossOfARealKernel. It checks the disk, has it
// served, and connects each serial line that it is given to the server. It ends only with the machine.
//
// The kernel's command line says how, in words of the form vm.name=value:
//
//	vm.disk=raw     the disk is /dev/ubda; ext4: a sparse file on the ext4 there
//	vm.lines=N      so many serial lines, from the first
//	vm.expire=N     centiseconds after which the kernel writes dirty pages of its own accord
//
// On the console it reports lines that begin with "vm: "; "vm: ready" comes last.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

const (
	server = "/gefs9p"
	socket = "/tmp/9p"
)

func main() {
	err := run()
	fmt.Printf("vm: end: %v\n", err)
	syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	for dir, kind := range map[string]string{"/dev": "devtmpfs", "/proc": "proc", "/tmp": "tmpfs"} {
		if err := syscall.Mount(kind, dir, kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	words, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	options := make(map[string]string)
	for _, w := range strings.Fields(string(words)) {
		if name, value, ok := strings.Cut(w, "="); ok {
			options[name] = value
		}
	}
	for _, name := range []string{"dirty_expire_centisecs", "dirty_writeback_centisecs"} {
		if err := os.WriteFile("/proc/sys/vm/"+name, []byte(options["vm.expire"]), 0); err != nil {
			return err
		}
	}
	disk := "/dev/ubda"
	if options["vm.disk"] == "ext4" {
		if err := syscall.Mount(disk, "/disk", "ext4", 0, ""); err != nil {
			return fmt.Errorf("mount the disk: %w", err)
		}
		disk = "/disk/gefs"
	}
	if _, err := os.Stat(disk); errors.Is(err, os.ErrNotExist) {
		if out, err := exec.Command(server, "ream", "-u", "glenda", "--size", "131088K", disk).CombinedOutput(); err != nil {
			return fmt.Errorf("ream: %w\n%s", err, out)
		}
	}
	if out, err := exec.Command(server, "check", "--strict", disk).CombinedOutput(); err != nil {
		return fmt.Errorf("check: %w\n%s", err, out)
	}
	fmt.Println("vm: checked")

	cmd := exec.Command(server, "serve", "-m", "32M", "--no-snapshots", "--ctl", "none", "-a", "unix!"+socket, disk)
	cmd.Stderr = os.Stdout
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return fmt.Errorf("the server says %q: %w", line, errors.Join(err, cmd.Wait()))
	}
	n, err := strconv.Atoi(options["vm.lines"])
	if err != nil {
		return err
	}
	for i := range n {
		if err := connect(fmt.Sprintf("/dev/ttyS%d", i)); err != nil {
			return err
		}
	}
	fmt.Println("vm: ready")
	return fmt.Errorf("the server: %w", cmd.Wait())
}

// connect makes a connection to the server of a serial line, for good.
func connect(line string) error {
	tty, err := os.OpenFile(line, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	if err := raw(tty); err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	var mu sync.Mutex // one piece at a time
	go receive(c, tty, &mu)
	go send(tty, c, &mu)
	return nil
}

// What goes out on a line is in pieces behind two bytes that say how long they are, big-endian; grant
// added to a number says that so many more bytes may come in. See type line in the tests.
const (
	grant   = 1 << 15
	longest = 4096
)

// receive passes on what comes in on a line, and grants as much again.
func receive(c net.Conn, tty *os.File, mu *sync.Mutex) {
	buf := make([]byte, longest)
	for {
		n, err := tty.Read(buf)
		if err != nil {
			return
		}
		mu.Lock()
		_, err = tty.Write(binary.BigEndian.AppendUint16(nil, uint16(grant+n)))
		mu.Unlock()
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// send sends what the server says.
func send(tty *os.File, c net.Conn, mu *sync.Mutex) {
	buf := make([]byte, 2+longest)
	for {
		n, err := c.Read(buf[2:])
		if err != nil {
			return
		}
		binary.BigEndian.PutUint16(buf, uint16(n))
		mu.Lock()
		_, err = tty.Write(buf[:2+n])
		mu.Unlock()
		if err != nil {
			return
		}
	}
}

// raw makes the kernel pass on all bytes as they come.
func raw(tty *os.File) error {
	var t syscall.Termios
	if err := ioctl(tty, syscall.TCGETS, &t); err != nil {
		return err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = t.Cflag&^(syscall.CSIZE|syscall.PARENB) | syscall.CS8 | syscall.CREAD | syscall.CLOCAL
	t.Cc[syscall.VMIN], t.Cc[syscall.VTIME] = 1, 0
	return ioctl(tty, syscall.TCSETS, &t)
}

func ioctl(tty *os.File, request uintptr, t *syscall.Termios) error {
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, tty.Fd(), request, uintptr(unsafe.Pointer(t))); e != 0 {
		return e
	}
	return nil
}
