//go:build !linux && !darwin

package mount

import (
	"context"

	"gefs9p/client"
)

// A Server is a mounted tree; there are none on this system.
type Server struct{}

// New fails with ErrUnsupported.
func New(*client.Conn, *client.Fid, Options) (*Server, error) { return nil, ErrUnsupported }

// Run has nothing to wait for.
func (*Server) Run(context.Context) error { return ErrUnsupported }
