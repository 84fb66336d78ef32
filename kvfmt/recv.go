package kvfmt

import "bytes"

// ownPrefix begins the configuration keys that gefs9p keeps for itself in the tree of a snapshot. The
// reference does not know them and leaves them alone.
const ownPrefix = "gefs9p."

// recvName is the configuration key that stands in a tree as long as it is being received from a stream.
// Its value says how far that has come (stream.Mark); until it is gone the tree is not whole.
const recvName = ownPrefix + "recv"

// AppendRecvKey appends the key that a tree has while it is being received.
func AppendRecvKey(p []byte) []byte { return AppendConfKey(p, recvName) }

// IsRecv reports whether key is that of a tree being received.
func IsRecv(key []byte) bool {
	return len(key) > 0 && key[0] == Kconf && string(key[1:]) == recvName
}

// IsOwn reports whether key is one that gefs9p keeps for itself, which is not part of what a snapshot holds.
func IsOwn(key []byte) bool {
	return len(key) > 0 && key[0] == Kconf && bytes.HasPrefix(key[1:], []byte(ownPrefix))
}
