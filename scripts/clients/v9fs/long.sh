#!/bin/sh
# long.sh - fsx or stress.sh, whichever the FILE what says, over mounts with each of the kernel's caches, again and again
# for as many minutes as the FILE minutes says. Run by v9fs.sh in the VM, with -n -r and the programs as FILEs. The
# last line is "long: ok ...".
what=$(cat "$FILES/what")
minutes=$(cat "$FILES/minutes")
from=$(date +%s)
end=$((from + 60 * minutes))
chmod +x "$FILES/fsx"
for c in none mmap loose; do
	mkdir -p /tmp/m.$c && mount9p /tmp/m.$c cache=$c || { echo "long: FAIL no mount with cache=$c"; exit 1; }
done
n=0 ops=0
# fails_anywhere SEED: with -over, fsx renames a file onto itself now and then, and then takes it for gone. A
# seed that does so fails on any file system.
fails_anywhere() {
	mkdir -p /tmp/any
	! "$FILES/fsx" -over -seed $1 -n 500 -j 4 -d 200s /tmp/any >/tmp/any.out 2>&1
	r=$?
	rm -rf /tmp/any
	[ $r = 0 ] && grep -q "$(grep -o 'seed.*operation [0-9]*: [a-z]*' /tmp/out | head -n 1)" /tmp/any.out
}
while [ $(date +%s) -lt $end ]; do
	for c in none mmap loose; do
		[ $(date +%s) -lt $end ] || break
		n=$((n + 1))
		m=/tmp/m.$c
		case $what in
		fsx)
			if ! "$FILES/fsx" -over -seed $n -n 500 -j 4 -d 200s $m >/tmp/out 2>&1; then
				fails_anywhere $n || { echo "long: FAIL cache=$c seed $n"; cat /tmp/out; exit 1; }
				echo "seed $n fails on tmpfs too: not counted"
				continue
			fi
			ops=$((ops + $(sed -n 's/^fsx: ok \([0-9]*\) .*/\1/p' /tmp/out)))
			;;
		stress)
			(cd $m && MNT=$m sh "$FILES/stress.sh") >/tmp/out 2>&1 || { echo "long: FAIL cache=$c"; cat /tmp/out; exit 1; }
			ops=$((ops + $(grep -c '^ok ' /tmp/out)))
			grep '^info' /tmp/out | cut -c1-100 | sort -u >>/tmp/info
			;;
		esac
	done
done
for c in none mmap loose; do umount /tmp/m.$c || { echo "long: FAIL in use at the end"; exit 1; }; done
[ ! -f /tmp/info ] || sed 's/-[0-9].*//' /tmp/info | sort | uniq -c
echo "long: ok $what, $n rounds, $ops $([ $what = fsx ] && echo operations || echo stressors), $(($(date +%s) - from)) s"
