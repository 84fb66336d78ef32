// Package auth proves to a 9P server who its client is, as Plan 9 does: the negotiation p9any and
// the protocol dp9ik, or p9sk1 where somebody asks for it, on the server's side (Conv), on the client's
// (Prove), and on that of the authentication server, which knows everybody's key and hands out tickets
// (TicketServer).
//
//	client                      server                     authentication server
//	                      ←     v.2 dp9ik@dom
//	dp9ik dom             →
//	                      ←     OK
//	CHc                   →
//	                      ←     AuthPAK authid dom CHs YAs
//	AuthPAK … YAs YAc     ——————————————————————————→
//	                      ←——————————————————————————      YBs YBc
//	AuthTreq …            ——————————————————————————→
//	                      ←——————————————————————————      Kc{ticket} Ks{ticket}
//	YBs Ks{ticket} Kn{CHs}→
//	                      ←     Kn{CHc}
//
// Client and server each share a key with the authentication server, made from a password or at
// random. Y… are the two exchanges in which each of them turns that key into a fresh one (Kc, Ks) that
// nobody can guess from what was on the wire; see pak. Both tickets hold the same fresh Kn and the
// name of the user. The server needs nothing but its own key. A client that has the server's key
// needs no authentication server: see ServerKey.
//
// Lengths are bytes. Names of users have at most MaxName, domains at most MaxDom.
//
// p9sk1 is the same without the points: tickets are sealed with DES under keys that hang on passwords alone, so
// that everybody who hears one can try passwords on it. Its keys and functions are apart, with DES in
// their names, and nothing uses them unless it is told to.
//
// The hard rule: keys, and what is made of them, are compared and computed in constant time, are
// never part of an error, and have no String that shows them. Whatever comes from the other
// side is a fixed number of bytes or ends at a NUL; nothing it says makes room for more.
//
// Nothing here waits, logs or retries, but for what the caller's connections do: how long a wrong key
// takes is for the caller to say.
//
// Sources: authsrv(6), auth(2), authsrv(2) of 9front; libauthsrv (authpak.c, form1.c,
// passtokey.c, encrypt(2) of libc) and factotum's p9sk1.c and p9any.c for what the pages leave open.
package auth
