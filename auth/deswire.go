package auth

// Sizes of what p9sk1 seals, which has neither a nonce nor a sum: a type, and what was encrypted with DES.
const (
	desTicketSize = 1 + chalSize + 2*nameField + desKeySize
	desProofSize  = 1 + chalSize + 4
)

// A desTicket is what a ticket is, for p9sk1:
//
//	type[1] chal[8] cuid[28] suid[28] kn[7]
type desTicket struct {
	chal       [chalSize]byte
	cuid, suid string
	kn         [desKeySize]byte
}

// seal encrypts a ticket of type typ.
func (t *desTicket) seal(typ byte, key *[desKeySize]byte) []byte {
	b := make([]byte, 0, desTicketSize)
	b = append(append(b, typ), t.chal[:]...)
	b = appendField(b, t.cuid, nameField)
	b = appendField(b, t.suid, nameField)
	b = append(b, t.kn[:]...)
	desSeal(key, b)
	return b
}

// openDESTicket decrypts and reads the ticket of type typ for the challenge, of which b has the bytes. Every
// error is ErrProtocol. It is by type and challenge that a ticket shows to be one.
func openDESTicket(typ byte, key *[desKeySize]byte, chal *[chalSize]byte, b []byte) (*desTicket, error) {
	if len(b) != desTicketSize {
		return nil, ErrProtocol
	}
	p := append(make([]byte, 0, desTicketSize), b...)
	defer clear(p)
	desOpen(key, p)
	if !equal(p[:1+chalSize], append([]byte{typ}, chal[:]...)) {
		return nil, ErrProtocol
	}
	t := &desTicket{chal: *chal}
	rest := p[1+chalSize:]
	cuid, err1 := parseField(rest[:nameField])
	suid, err2 := parseField(rest[nameField : 2*nameField])
	if err1 != nil || err2 != nil || suid == "" {
		return nil, ErrProtocol
	}
	t.cuid, t.suid = cuid, suid
	copy(t.kn[:], rest[2*nameField:])
	return t, nil
}

// A desProof is an authenticator of p9sk1:
//
//	type[1] chal[8] id[4]
//
// chal is the other side's, id is 0.
func desProof(typ byte, kn *[desKeySize]byte, chal *[chalSize]byte) []byte {
	b := make([]byte, desProofSize)
	b[0] = typ
	copy(b[1:], chal[:])
	desSeal(kn, b)
	return b
}

// checkDESProof compares an authenticator with the one that is wanted. The error is ErrProtocol.
func checkDESProof(typ byte, kn *[desKeySize]byte, chal *[chalSize]byte, b []byte) error {
	if !equal(b, desProof(typ, kn, chal)) {
		return ErrProtocol
	}
	return nil
}
