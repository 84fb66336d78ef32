#!/usr/bin/env bash
# others.sh - diod's clients, plan9port's and hosted Inferno against a real gefs9p, as far as they are installed here. Debian
# has a package of the first (diod) and none of the others.
#
#   scripts/clients/others.sh
#
# - diodls and diodcat of diod, which speak 9P2000.L: a tree listed and read, over TCP, and what is not there;
# - 9p of plan9port, in $PATH or $PLAN9/bin: ls, write, read, stat, rm over a Unix socket;
# - 9pfuse of plan9port, as root where there is /dev/fuse: a tree copied, edited, renamed, removed;
# - Inferno: $EMU is an emu executable and $INFERNO its file tree; the client kit's inferno/smoke.sh runs there.
#
# Exit status: 0 what is installed has passed, 1 failed, 77 nothing is installed. A line says what is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

clients=${CLIENTS:-$PWD/../shared/clients}
[ -z "${PLAN9-}" ] || PATH=$PATH:$PLAN9/bin
fail() { echo "others: FAIL: $*"; exit 1; }
PATH=$PATH:/usr/sbin
todo=()
if command -v diodls >/dev/null && command -v diodcat >/dev/null; then
	todo+=(diod)
else
	echo "others: no diodls and diodcat here (Debian package diod): left out"
fi
if command -v 9p >/dev/null; then todo+=(9p); else echo "others: no 9p of plan9port here (\$PLAN9/bin): left out"; fi
if ! command -v 9pfuse >/dev/null; then
	echo "others: no 9pfuse of plan9port here: left out"
elif [ "$(id -u)" != 0 ] || ! [ -c /dev/fuse ]; then
	echo "others: 9pfuse needs root and /dev/fuse here: left out"
else
	todo+=(9pfuse)
fi
if [ -x "${EMU-}" ] && [ -f "${INFERNO-}/dis/sh.dis" ] && [ -f "$clients/inferno.sh" ]; then
	todo+=(inferno)
else
	echo "others: no hosted Inferno here (\$EMU and \$INFERNO), or no client kit: left out"
fi
[ ${#todo[@]} -gt 0 ] || { echo "others: skipped: nothing of it is installed"; exit 77; }

work=$(mktemp -d "${TMPDIR:-/tmp}/gefs9p-others.XXXXXX")
server=
cleanup() {
	! mountpoint -q "$work/mnt" || umount -l "$work/mnt"
	[ -z "$server" ] || kill -KILL "$server" 2>/dev/null || :
	wait
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
go build -o "$work/gefs9p" ./cmd/gefs9p
disk=$work/disk
"$work/gefs9p" ream -u glenda --size 256M "$disk" 2>"$work/log"
"$work/gefs9p" import --into tree "$disk" docs >>"$work/log" 2>&1 || { cat "$work/log"; fail "import"; }
"$work/gefs9p" serve -A -a "unix!$work/sock" -a 'tcp!127.0.0.1!0' -m 32M "$disk" >"$work/out" 2>>"$work/log" &
server=$!
for _ in $(seq 300); do
	[ "$(grep -c ^listening "$work/out")" -lt 2 ] || break
	sleep .1
done
port=$(sed -n 's/^listening .*:\([0-9]*\)$/\1/p' "$work/out")
[ -n "$port" ] || { cat "$work/log"; fail "the server does not listen"; }

# 9p and 9pfuse attach as $USER.
export USER=glenda
do_9p() {
	local a="unix!$work/sock"
	head -c 300000 /dev/urandom >"$work/data"
	9p -a "$a" create file &&
		9p -a "$a" write file <"$work/data" &&
		9p -a "$a" read file | cmp - "$work/data" &&
		9p -a "$a" stat file | grep -q glenda &&
		9p -a "$a" ls -l / | grep -q 300000 &&
		9p -a "$a" rm file &&
		[ "$(9p -a "$a" ls /)" = tree ] &&
		! 9p -a "$a" read file 2>/dev/null
}
# diod's programs say who they are by number only; glenda's on a new disk is 1.
do_diod() (
	set -e
	d() { local c=$1; shift; "$c" -s "127.0.0.1:$port" -u 1 -a "$aname" "$@"; }
	aname=main
	d diodls tree | sort >"$work/names"
	ls docs | sort | diff - "$work/names"
	[ "$(d diodls)" = tree ]
	for f in docs/*; do
		[ -f "$f" ] || continue
		d diodcat "tree/${f#docs/}" | cmp - "$f"
	done
	d diodls -l tree | grep 'README.md$' | grep -qw "$(stat -c %s docs/README.md)"
	for f in tree/nothing nothing/README.md tree/README.md/x; do
		! d diodcat "$f" 2>"$work/err" || { echo "$f can be read"; exit 1; }
		grep -iq 'no such file\|not a directory' "$work/err" || { cat "$work/err"; exit 1; }
	done
	aname=nothing
	! d diodls 2>"$work/err" || { echo "a tree that there is not can be listed"; exit 1; }
)
do_9pfuse() {
	mkdir "$work/mnt" && 9pfuse "unix!$work/sock" "$work/mnt" &&
		cp -r docs "$work/mnt/docs" && diff -r docs "$work/mnt/docs" &&
		echo changed >>"$work/mnt/docs/README.md" && tail -n 1 "$work/mnt/docs/README.md" | grep -q '^changed$' &&
		mv "$work/mnt/docs/README.md" "$work/mnt/docs/another" && test -f "$work/mnt/docs/another" &&
		rm -r "$work/mnt/docs" && ! test -e "$work/mnt/docs" && umount "$work/mnt"
}
do_inferno() {
	cp -r "$INFERNO" "$work/inferno" && # inferno.sh writes there
		bash "$clients/inferno.sh" "$EMU" "$work/inferno" 127.0.0.1 "$port" glenda '' "$clients/inferno/smoke.sh"
}
for what in "${todo[@]}"; do
	"do_$what" >"$work/said" 2>&1 &
	wait $! || { cat "$work/said"; fail "$what"; }
	echo "others: $what: passed"
done
kill -TERM "$server"
rc=0
wait "$server" || rc=$?
server=
[ $rc = 0 ] || { cat "$work/log"; fail "exit status $rc after SIGTERM"; }
"$work/gefs9p" check --strict "$disk" >"$work/said" || { cat "$work/said"; fail "the disk at the end"; }
