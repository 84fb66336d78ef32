package cli

import (
	"errors"
	"net"
	"os"
	"testing"

	"gefs9p/ninep"
)

// TestPeersAttachAsThemselves with a kernel that says who they are.
func TestPeersAttachAsThemselves(t *testing.T) {
	uid, known := 0, true
	names := map[int]string{1001: "glenda", 1002: ""}
	for _, tt := range []struct {
		peers  peersFlag
		uid    int
		known  bool
		uname  string
		letsIn bool
	}{
		{peersSelf, os.Geteuid(), true, "glenda", true},
		{peersSelf, 0, true, "glenda", true},
		{peersSelf, 1001, true, "glenda", true},
		{peersSelf, 1001, true, "adm", false},
		{peersSelf, 1001, true, "none", false},
		{peersSelf, 1001, true, "", false},
		{peersSelf, 1002, true, "", false},
		{peersSelf, 1003, true, "glenda", false},
		{peersSelf, 1001, false, "glenda", false},
		{peersSelf, 0, false, "glenda", false},
		{peersAny, 1003, true, "glenda", true},
		{peersAny, 0, false, "glenda", true},
		{peersProve, 0, true, "glenda", false},
		{peersProve, 1001, true, "glenda", false},
	} {
		uid, known = tt.uid, tt.known
		tr := newTrust(tt.peers)
		tr.peerID = func(net.Conn) (int, bool) { return uid, known }
		tr.name = func(uid int) (string, error) {
			if n, ok := names[uid]; ok {
				return n, nil
			}
			return "", errors.New("nobody")
		}
		if got := tr.unix(&ninep.Ctx{}, nil, tt.uname); got != tt.letsIn {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

func TestNobodyIsTrustedOnOtherTransports(t *testing.T) {
	if newTrust(peersAny).attach(&ninep.Ctx{}, "glenda") {
		t.Error("a caller without a connection is trusted")
	}
}
