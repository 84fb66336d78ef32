package cli

import (
	"context"
	"fmt"
	"io"
	"net"

	"gefs9p/auth"
	"gefs9p/dial"
)

// proving proves to the server at the other end of rw that the client is user.
type proving func(ctx context.Context, rw io.ReadWriter, user string) error

// provingWith proves with the key in a file, in which it is the only one for its protocol. owner is whose it
// is.
func provingWith(keyFile, as string, sk1 bool) (p proving, owner string, err error) {
	if sk1 {
		keys, err := readDESKeys(keyFile)
		if err != nil {
			return nil, "", err
		}
		k, err := theOne(keyFile, keys)
		if err != nil {
			return nil, "", err
		}
		p, err = provingDES(k, as)
		return p, k.User, err
	}
	keys, err := readAuthKeys(keyFile)
	if err != nil {
		return nil, "", err
	}
	k, err := theOne(keyFile, keys)
	if err != nil {
		return nil, "", err
	}
	p, err = provingKey(k, as)
	return p, k.User, err
}

func theOne[K any](path string, keys []*K) (*K, error) {
	if len(keys) != 1 {
		return nil, fmt.Errorf("%s: there are %d keys in it; one is wanted", path, len(keys))
	}
	return keys[0], nil
}

// provingKey proves with tickets for dp9ik, from the authentication server at the address as, for the user whose
// key k is; without an address, tickets are made of k, the file server's own.
func provingKey(k *auth.Key, as string) (proving, error) {
	var from auth.TicketSource = auth.ServerKey{Key: k}
	if as != "" {
		dialer, err := dialing(as)
		if err != nil {
			return nil, err
		}
		from = &auth.AuthServer{Key: k, Dial: dialer}
	}
	return func(ctx context.Context, rw io.ReadWriter, user string) error { return auth.Prove(ctx, rw, user, from) }, nil
}

// provingDES is provingKey with p9sk1.
func provingDES(k *auth.DESKey, as string) (proving, error) {
	var from auth.DESTicketSource = auth.DESServerKey{Key: k}
	if as != "" {
		dialer, err := dialing(as)
		if err != nil {
			return nil, err
		}
		from = &auth.DESAuthServer{Key: k, Dial: dialer}
	}
	return func(ctx context.Context, rw io.ReadWriter, user string) error {
		return auth.ProveDES(ctx, rw, user, from)
	}, nil
}

// dialing connects to an address.
func dialing(addr string) (func(context.Context) (net.Conn, error), error) {
	network, address, err := dial.Parse(addr)
	if err != nil {
		return nil, &usageError{err}
	}
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}, nil
}
