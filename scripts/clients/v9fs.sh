#!/usr/bin/env bash
# v9fs.sh - the Linux kernel's own 9P client (v9fs) against a real gefs9p, in a throw-away VM.
#
#   scripts/clients/v9fs.sh [TREE]
#
# 1. a functional check of the mounted file system, asked for as 9p2000, 9p2000.u and 9p2000.L; in the last
#    also programs: git, tar, gcc, sqlite, as far as this machine has them;
# 2. TREE (default: net of the Go source) copied into the mount, fsynced, the server killed, another
#    one started: every byte, name, mode and time has to be there;
# 3. gefs9p check --strict finds the disk sound, and SIGTERM ends the server with 0.
#
# Needs the client kit in ../shared/clients beside the repository (or in $CLIENTS), and of Debian
# busybox-static cpio kmod user-mode-linux slirp. Exit status: 0 passed, 1 failed, 77 cannot run here.
set -euo pipefail
cd "$(dirname "$0")/../.."

clients=${CLIENTS:-$PWD/../shared/clients}
vm=$clients/v9fs-vm.sh
skip() { echo "v9fs: skipped: $*"; exit 77; }
fail() { echo "v9fs: FAIL: $*"; exit 1; }
[ -f "$vm" ] || skip "no client kit: $vm is not there"
PATH=$PATH:/usr/sbin:/sbin
for c in busybox cpio modprobe linux.uml slirp; do
	command -v "$c" >/dev/null || skip "no program $c (Debian packages: busybox-static cpio kmod user-mode-linux slirp)"
done
tree=$(realpath "${1:-$(go env GOROOT)/src/net}")

work=$(mktemp -d "${TMPDIR:-/tmp}/gefs9p-v9fs.XXXXXX")
server=
cleanup() {
	[ -z "$server" ] || kill -KILL "$server" 2>/dev/null || :
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

go build -o "$work/gefs9p" ./cmd/gefs9p
disk=$work/disk
"$work/gefs9p" ream -u glenda --size 1G "$disk" 2>"$work/log"

# start serves the disk; server and port say who and where.
start() {
	: >"$work/out"
	"$work/gefs9p" serve -A -a 'tcp!127.0.0.1!0' -m 128M "$disk" >"$work/out" 2>>"$work/log" &
	server=$!
	for _ in $(seq 300); do
		port=$(sed -n 's/^listening .*://p' "$work/out")
		[ -z "$port" ] || return 0
		kill -0 "$server" 2>/dev/null || break
		sleep .1
	done
	cat "$work/log"
	fail "the server does not listen"
}

# mount runs a script with the file system mounted: mount VERSION [-r] SCRIPT FILE...
mount() {
	local version=$1 opts=(-t 400)
	shift
	if [ "$1" = -r ]; then opts+=(-r); shift; fi
	"$vm" "${opts[@]}" -v "$version" 127.0.0.1 "$port" glenda '' "$@"
}

start
for version in 9p2000 9p2000.u 9p2000.L; do
	rc=0
	mount $version "$clients/v9fs/smoke.sh" >"$work/smoke" 2>&1 || rc=$?
	[ $rc -lt 124 ] || { cat "$work/smoke"; fail "no mount with version=$version (status $rc)"; }
	# gefs says "create/wstat -- file exists", which the kernel knows no number for: programs see
	# error 526 instead of EEXIST. The text is kept for the sake of Plan 9.
	known='^FAIL nothing unknown so far: 9pnet: p9_errstr2errno: server reported unknown error create/wstat -- file exists$'
	grep -q '^smoke: ' "$work/smoke" || { cat "$work/smoke"; fail "the check did not come to its end"; }
	! grep '^FAIL' "$work/smoke" | grep -v "$known" || fail "see above: version=$version"
	echo "v9fs: version=$version: $(sed -n 's/^smoke: //p' "$work/smoke")$(! grep -q "$known" "$work/smoke" || echo ', that one known: the text of EEXIST is Plan 9'"'"'s')"
done

# With 9p2000.L a rename replaces files, and programs that count on it count.
(echo 'OVERWRITE=1'; cat "$clients/v9fs/apps.sh") >"$work/apps.sh"
mount 9p2000.L -r "$work/apps.sh" >"$work/apps" 2>&1 || { cat "$work/apps"; fail "programs with version=9p2000.L"; }
echo "v9fs: version=9p2000.L: $(sed -n 's/^ok   \([^ ]*\) (.*/\1/p' "$work/apps" | tr '\n' ' ')work"

# what the tree holds: names, modes, sizes and seconds, and the sums of all bytes
list() { find . \( -type f -printf 'f %p %m %s %Ts\n' -o -type d -printf 'd %p %m %Ts\n' \) | LC_ALL=C sort; }
(cd "$tree" && list >"$work/list" && find . -type f -exec sha256sum {} + >"$work/sums")
# one fsync of any file commits everything; the kernel has none for folders
cat >"$work/copy.sh" <<E2
cp -a '$tree' tree && : >synced && sync synced && echo copied
E2
cat >"$work/compare.sh" <<E2
$(declare -f list)
cd tree && list >/tmp/list && diff /tmp/list "\$FILES/list" && sha256sum --quiet -c "\$FILES/sums" && echo same
E2
mount 9p2000 -r "$work/copy.sh" >"$work/vm" 2>&1 || { cat "$work/vm"; fail "copy of $tree"; }
{ kill -KILL "$server" && wait "$server" || :; } 2>/dev/null
"$work/gefs9p" check --strict "$disk" >"$work/vm" || { cat "$work/vm"; fail "the disk after the kill"; }
start
mount 9p2000 -r "$work/compare.sh" "$work/list" "$work/sums" >"$work/vm" 2>&1 || { cat "$work/vm"; fail "after the kill $tree is not as it was"; }
kill -TERM "$server"
rc=0
wait "$server" || rc=$?
server=
[ $rc = 0 ] || { cat "$work/log"; fail "exit status $rc after SIGTERM"; }
"$work/gefs9p" check --strict "$disk" >"$work/vm" || { cat "$work/vm"; fail "the disk at the end"; }
echo "v9fs: passed: $(grep -c ^f "$work/list") files and $(grep -c ^d "$work/list") folders, $(($(du -sk "$tree" | cut -f1) / 1024)) MiB, survive a kill"
