#!/usr/bin/env bash
# fuse.sh - gefs9p mount, with this machine's kernel, on a real gefs9p.
#
#   scripts/clients/fuse.sh [TREE]
#
# 1. a functional check of the mounted tree, random operations (fsx), and programs: git (clone and fsck), tar, gcc,
#    sqlite, and a project that is built and changed with make (project.sh), as far as this machine has them;
# 2. TREE (default: net/http of the Go source) copied in by two programs at a time, fsynced, edited, renamed and removed
#    in one of the copies; the server killed, another one started: the other copy has every byte, name, mode
#    and time;
# 3. gefs9p check --strict finds the disk sound, and everything ends with 0.
#
# Needs /dev/fuse and root, and the client kit in ../shared/clients beside the repository (or in $CLIENTS). Exit
# status: 0 passed, 1 failed, 77 cannot run here.
set -euo pipefail
cd "$(dirname "$0")/../.."

clients=${CLIENTS:-$PWD/../shared/clients}
skip() { echo "fuse: skipped: $*"; exit 77; }
fail() { echo "fuse: FAIL: $*"; exit 1; }
[ "$(uname)" = Linux ] || skip "not Linux"
[ "$(id -u)" = 0 ] || skip "not root"
[ -c /dev/fuse ] && : 2>/dev/null <>/dev/fuse || skip "no /dev/fuse here"
[ -f "$clients/v9fs/smoke.sh" ] || skip "no client kit: $clients/v9fs/smoke.sh is not there"
tree=$(realpath "${1:-$(go env GOROOT)/src/net/http}")

work=$(mktemp -d "${TMPDIR:-/tmp}/gefs9p-fuse.XXXXXX")
server= mounted=
cleanup() {
	[ -z "$mounted" ] || kill -TERM "$mounted" 2>/dev/null || :
	[ -z "$server" ] || kill -KILL "$server" 2>/dev/null || :
	wait
	! mountpoint -q "$work/mnt" || umount -l "$work/mnt"
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

go build -o "$work/gefs9p" ./cmd/gefs9p
(cd "$clients/fsx" && go build -buildvcs=false -o "$work/fsx" .)
disk=$work/disk
mkdir "$work/mnt"
"$work/gefs9p" ream -u glenda --size 512M "$disk" 2>"$work/log"

# until_says FILE WORD waits until a process that writes FILE says WORD.
until_says() {
	for _ in $(seq 300); do
		! grep -q "^$2" "$1" || return 0
		sleep .1
	done
	cat "$work/log"
	fail "nobody says '$2' in time"
}
start() {
	: >"$work/out" >"$work/mount.out"
	"$work/gefs9p" serve -m 64M "$disk" >"$work/out" 2>>"$work/log" &
	server=$!
	until_says "$work/out" listening
	"$work/gefs9p" mount -u glenda "$disk.sock" "$work/mnt" >"$work/mount.out" 2>>"$work/log" &
	mounted=$!
	for _ in $(seq 300); do
		! grep -q '^mounted' "$work/mount.out" || return 0
		if ! kill -0 "$mounted" 2>/dev/null; then
			mounted=
			grep -q 'operation not permitted' "$work/log" && skip "mounting is not allowed here"
			break
		fi
		sleep .1
	done
	cat "$work/log"
	fail "no mount"
}
# ended PID WHAT wants the process to end with 0.
ended() {
	local rc=0
	wait "$1" || rc=$?
	[ $rc = 0 ] || { cat "$work/log"; fail "exit status $rc of $2"; }
}

start
(cd "$work/mnt" && MNT=$work/mnt sh "$clients/v9fs/smoke.sh") >"$work/smoke" 2>&1 || { cat "$work/smoke"; fail "the check"; }
"$work/fsx" -over -seed 1 -n 300 -j 3 -d 100s "$work/mnt" >"$work/fsx.out" 2>&1 || { cat "$work/fsx.out"; fail "fsx"; }
echo "fuse: $(sed -n 's/^smoke: //p' "$work/smoke"); $(sed -n 's/^fsx: ok \([0-9]* operations\).*/fsx: \1/p' "$work/fsx.out")"
# The programs write what they say to files with fixed names in /tmp, so they get a /tmp of their own, which hides
# where the tree is mounted.
cp "$clients/v9fs/apps.sh" "$work/mnt/apps.sh"
HOME=/tmp FILES=/tmp/files OVERWRITE=1 MNT=/mnt unshare -m sh -c \
	'mount --bind "$1" /mnt && mount -t tmpfs none /tmp && cd /mnt && sh /mnt/apps.sh' sh "$work/mnt" \
	>"$work/apps" 2>&1 || { cat "$work/apps"; fail "programs"; }
rm "$work/mnt/apps.sh"
sed -n 's/^skip \(.*\)/fuse: left out: \1 here/p' "$work/apps"
echo "fuse: $(sed -n 's/^ok   \([^ ]*\) (.*/\1/p' "$work/apps" | tr '\n' ' ')work"
rc=0
(cd "$work/mnt" && sh "$OLDPWD/scripts/clients/project.sh") >"$work/project" 2>&1 || rc=$?
case $rc in
0) echo "fuse: make: $(sed -n 's/^project: ok, //p' "$work/project")" ;;
77) sed -n 's/^project: skipped/fuse: left out: a project with make/p' "$work/project" ;;
*) cat "$work/project"; fail "a project that is built and changed with make" ;;
esac

list() { find . \( -type f -printf 'f %p %m %s %Ts\n' -o -type d -printf 'd %p %m %Ts\n' \) | LC_ALL=C sort; }
(cd "$tree" && list >"$work/list" && find . -type f -exec sha256sum {} + >"$work/sums")
cat >"$work/use.sh" <<'E'
	set -eux
	tree=$1
	cp -r --preserve=mode,timestamps "$tree" one &
	cp -r --preserve=mode,timestamps "$tree" two
	wait $! # with the other one's status
	diff -r one two
	f=$(find two -type f | LC_ALL=C sort | head -n 1)
	echo changed >>"$f"
	if cmp "$f" "one${f#two}"; then exit 1; fi
	mv "$f" two/another
	mkdir two/deep
	mv two/another two/deep
	tail -n 1 two/deep/another | grep '^changed$'
	test ! -e two/another
	: >synced
	rm -r two
	test ! -e two
	sync synced
E
(cd "$work/mnt" && bash "$work/use.sh" "$tree") >"$work/copied" 2>&1 || { cat "$work/copied"; fail "copying, editing, renaming and removing $tree"; }
{ kill -KILL "$server" && wait "$server" || :; } 2>/dev/null
server=
! ls "$work/mnt" >/dev/null 2>&1 || fail "without a server the tree can still be listed"
kill -TERM "$mounted"
ended "$mounted" "mount, whose server was killed"
mounted=
"$work/gefs9p" check --strict "$disk" >"$work/vm" || { cat "$work/vm"; fail "the disk after the kill"; }
start
(cd "$work/mnt/one" && list | diff "$work/list" - && sha256sum --quiet -c "$work/sums" && ! test -e ../two) >"$work/compared" 2>&1 ||
	{ cat "$work/compared"; fail "after the kill $tree is not as it was"; }
umount "$work/mnt"
ended "$mounted" "mount, after umount"
mounted=
kill -TERM "$server"
ended "$server" "the server"
server=
"$work/gefs9p" check --strict "$disk" >"$work/vm" || { cat "$work/vm"; fail "the disk at the end"; }
echo "fuse: passed: $(grep -c ^f "$work/list") files and $(grep -c ^d "$work/list") folders survive a kill"
