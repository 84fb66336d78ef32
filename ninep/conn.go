package ninep

import "net"

// A Conn is one client's connection.
type Conn struct {
	remote, local net.Addr
}
