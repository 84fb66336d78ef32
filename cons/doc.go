// Package cons is the administration console of a gefs disk that is being served: one table of
// commands, and the ways in which people and programs give them.
//
//	cons.go     Console, Exec, the table
//	split.go    a line to words and back
//	scrub.go    scrub
//	grow.go     grow, trim, shrink
//	admin.go    help, check, df, halt, sync, permit, reserve, debug
//	snaps.go    snap, set, clear
//	quota.go    quota
//	users.go    users, user
//	show.go     show, save
//	ctlwords.go the newer words for some of them
//	line.go     a socket: people type lines, programs send requests
//	client.go   the program's side of it
//	file.go     a 9P tree with one file, cmd
//
// Sizes are bytes, also where the layers below count blocks.
//
// The hard rule: when a command has returned, what it says is so. One that changes the disk returns when
// the change is on the disk; one that is refused has changed nothing and says why.
//
// Commands run in parallel, except that one check waits for the other. They wait for commits, so
// they are never inside an epoch but around a single call of the file system; see inside.
//
// Grammar and texts are those of the console of 9front's gefs where it has the command, so that hands
// and scripts find what they know. Source: cons.c, gefs(8).
package cons
