#!/bin/sh
# unix.sh - the server's Unix socket, as the kernel's trans=unix sees it. A VM has no way to a socket of its host, so
# a relay in it offers one, and leads to the socket by way of the VM's network. Run by v9fs.sh in the VM, with -n -r
# and apps.sh, project.sh and smoke.sh as FILEs; the last line is "unix: ok".
cat >/tmp/relay.pl <<'PERL'
use strict; use Socket;
my ($path, $host, $port) = @ARGV;
$SIG{CHLD} = 'IGNORE';
socket(my $l, PF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
bind($l, sockaddr_un($path)) && listen($l, 8) or die "listen: $!";
sub copy {
	my ($from, $to) = @_;
	while (my $n = sysread($from, my $b, 1 << 18)) {
		for (my $done = 0; $done < $n;) {
			my $k = syswrite($to, $b, $n - $done, $done);
			exit 1 unless $k;
			$done += $k;
		}
	}
	shutdown($to, 1);
	exit 0;
}
while (accept(my $c, $l)) {
	socket(my $s, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
	connect($s, sockaddr_in($port, inet_aton($host))) or die "connect: $!";
	setsockopt($s, 6, 1, 1);
	for my $way ([$c, $s], [$s, $c]) {
		my $pid = fork;
		die "fork: $!" unless defined $pid;
		copy(@$way) if !$pid;
	}
}
PERL
perl /tmp/relay.pl /tmp/sock "$P9HOST" "$P9PORT" 2>/tmp/relay.err &
i=0
while [ ! -S /tmp/sock ] && [ $i -lt 100 ]; do sleep .1; i=$((i + 1)); done
[ -S /tmp/sock ] || { echo "unix: FAIL no relay: $(cat /tmp/relay.err)"; exit 1; }
bad=0
# mounted VERSION goes there, or ends.
mounted() {
	mount -i -t 9p -o trans=unix,version=$1,uname="$P9UNAME",access=any,msize=131072 /tmp/sock /mnt || { echo "unix: FAIL no mount with trans=unix,version=$1"; exit 1; }
	said=$(grep ' /mnt 9p ' /proc/mounts)
	case $1,$said in # the kernel's names for what was agreed on
	9p2000,*noextend* | 9p2000.u,*version=9p2000.u* | 9p2000.L,*) ;;
	*) said= ;;
	esac
	case $said in
	*trans=unix*) ;;
	*) echo "unix: FAIL asked for $1, /proc/mounts says $(grep ' /mnt ' /proc/mounts)"; exit 1 ;;
	esac
	cd /mnt || exit 1
}
alone() { PATH=$(echo "$PATH" | sed 's,/tmp/\.p9:,,') MNT=/mnt sh "$FILES/smoke.sh"; } # without a second connection over TCP
mounted 9p2000.L
alone || bad=1
T=240 MNT=/mnt OVERWRITE=1 sh "$FILES/apps.sh" || bad=1
sh "$FILES/project.sh" || [ $? = 77 ] || bad=1
cd /
umount /mnt || bad=1
for v in 9p2000.u 9p2000; do # in this order, as the check reads what the kernel has said since it began
	mounted $v
	alone >/tmp/smoke
	cd /
	umount /mnt || bad=1
	grep '^FAIL' /tmp/smoke >/tmp/failed
	[ $v != 9p2000 ] || sed -i '/server reported unknown error create\/wstat -- file exists$/d' /tmp/failed # see v9fs.sh
	if [ -s /tmp/failed ] || ! grep '^smoke: ' /tmp/smoke >/dev/null; then
		cat /tmp/smoke
		bad=1
	fi
	echo "version=$v: $(sed -n 's/^smoke: //p' /tmp/smoke)$(! grep '^FAIL' /tmp/smoke >/dev/null || echo ', that one known')"
done
[ $bad = 0 ] && echo "unix: ok"
