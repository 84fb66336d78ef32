#!/bin/sh
# caches.sh - the same tree through mounts with each of the kernel's caches; of none, which is what the kernel does if not
# told otherwise, only what is not tried elsewhere. Run by v9fs.sh in the VM, with -n -r and smoke.sh, fsx and mapped.py
# as FILEs. The last line is "caches: ok"; those before it say what each did.
bad=0
chmod +x "$FILES/fsx"
kit=$PATH                                                    # with mount9p
alone=$(echo "$PATH" | sed 's,/tmp/\.p9:,,')                 # without: no second connection
for c in none mmap loose; do
	m=/tmp/m.$c
	mkdir -p $m && mount9p $m cache=$c || { echo "caches: FAIL no mount with cache=$c"; exit 1; }
	did=
	if [ $c != none ]; then
		# What another connection does is not seen with cache=loose, and that is what it is for.
		[ $c = loose ] && PATH=$alone || PATH=$kit
		(cd $m && MNT=$m sh "$FILES/smoke.sh") >/tmp/smoke 2>&1 || { grep FAIL /tmp/smoke; bad=1; }
		PATH=$kit
		"$FILES/fsx" -over -seed 1 -n 150 -j 3 -d 300s $m >/tmp/fsx 2>&1 || { cat /tmp/fsx; bad=1; }
		did="$(sed -n 's/^smoke: //p' /tmp/smoke); fsx: $(sed -n 's/^fsx: ok \([0-9]* operations\).*/\1/p' /tmp/fsx); "
	fi
	mapped="no python3 for mapped files"
	if command -v python3 >/dev/null; then
		mapped=$(python3 "$FILES/mapped.py" $m $c /tmp/m.none) || bad=1
	fi
	echo "cache=$c: $did$mapped"
done
for c in none mmap loose; do umount /tmp/m.$c || bad=1; done
[ $bad = 0 ] && echo "caches: ok"
