#!/bin/sh
# dump.sh - snapshots beside each other in the dump directory: first has the tree, second has it with one file
# changed. Run by v9fs.sh in the VM, with -n -r and a FILE changed that names it; the last line is "dump: ok".
bad=0
fail() { echo "FAIL cache=$c: $*"; bad=1; }
f=$(cat "$FILES/changed")
dir=$(dirname "$f")
for c in none mmap loose; do
	m=/tmp/dump.$c
	mkdir -p $m && mount9p $m aname=dump,cache=$c || { echo "dump: FAIL no mount with cache=$c"; exit 1; }
	# The order in which the kernel meets the two must not matter.
	for order in 'first second' 'second first'; do
		for s in $order; do ls -l "$m/$s/$dir" >/dev/null && cat "$m/$s/$f" >/dev/null || fail "$s cannot be read"; done
		said=$(diff -rq "$m/first/$dir" "$m/second/$dir")
		[ "$said" = "Files $m/first/$f and $m/second/$f differ" ] || fail "diff says '$said'"
	done
	tail -n 1 "$m/second/$f" | grep -q '^changed$' || fail "second has not the change"
	! tail -n 1 "$m/first/$f" | grep -q '^changed$' || fail "first has the change of second"
	[ "$(stat -c %i "$m/first/$f")" != "$(stat -c %i "$m/second/$f")" ] || fail "both files have one number"
	[ "$(stat -c %i "$m/first/$dir")" != "$(stat -c %i "$m/second/$dir")" ] || fail "both directories have one number"
	! touch "$m/first/$f" 2>/dev/null || fail "a snapshot can be changed"
	# main is among them, and can be changed there. What it was does not.
	echo more >>"$m/main/$f" || fail "main cannot be changed"
	sync "$m/main/$f"
	tail -n 1 "$m/second/$f" | grep -q '^changed$' || fail "a change of main is in a snapshot"
	cp "$m/second/$f" "$m/main/$f" && cmp -s "$m/second/$f" "$m/main/$f" || fail "a file cannot be taken back from a snapshot"
	umount $m || fail "in use at the end"
done
[ $bad = 0 ] && echo "dump: ok"
