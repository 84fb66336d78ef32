// Package users is the table of users and groups of a gefs file system: users(6) as gefs reads it.
//
// A table is text. Every line is a user, and every user is a group as well:
//
//	id:name:leader:member,member,…
//
// The id is a signed decimal number of 32 bits, because that is what a directory entry on disk
// holds. Leader and members are names; both may be empty. Lines that are empty or start with # say
// nothing. A line may name users that stand further down, so a text is read twice: first every id and
// name, then leaders and members.
//
// The hard rule: a Table never changes. A reload parses the new text into a new Table and swaps one
// pointer; whoever still works with the old table keeps a whole and consistent one. So there are no
// locks here, and everything is safe for concurrent use.
//
// The package reads no files: where the text lives, what to do when it does not parse, and who may
// do what with a file is decided by its callers. Source: user.c, users(6).
package users
