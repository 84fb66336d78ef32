#!/bin/sh
# project.sh - a project in C is made, built and changed with make in the working directory. What make does hangs on
# names, times and lengths that the file system tells, so what it builds again after each change is compared with what
# hangs on the change.
#
#	cd DIR && sh project.sh
#
# Run by v9fs.sh in the VM (-r) and by fuse.sh. It leaves nothing behind. The last line is "project: ok ..."; exit
# status 0 passed, 1 failed, 77 make or a compiler is missing.
set -eu
for c in make cc ar; do
	command -v $c >/dev/null || { echo "project: skipped: no $c here (Debian packages: make gcc libc6-dev)"; exit 77; }
done
export LC_ALL=C
notes=$(mktemp -d)
w=project-$$
from=$(date +%s)
trap 'rm -rf "$notes"' EXIT
fail() { echo "project: FAIL: $*"; tail -n 15 "$notes/said" 2>/dev/null; exit 1; }
mkdir $w && cd $w || fail "no directory to work in"

# 14 modules in a ring: each calls the next one's header, every fourth header includes base.h. 14 sources and as many
# headers, base.h, main.c, a header that is made of config.in, a library, a program.
n=14
mkdir src include
echo '#define BASE 100' >include/base.h
echo 'answer 42' >config.in
i=0
while [ $i -lt $n ]; do
	next=$(((i + 1) % n))
	{
		echo "#ifndef M$i"
		echo "#define M$i $i"
		[ $((i % 4)) != 0 ] || echo '#include "base.h"'
		echo "int m$i(int);"
		echo '#endif'
	} >include/m$i.h
	{
		echo "#include \"m$i.h\""
		echo "#include \"m$next.h\""
		base=0
		[ $((i % 4)) != 0 ] || base=BASE
		echo "int m$i(int a) { return a + M$i * 2 + M$next + $base; }"
	} >src/m$i.c
	i=$((i + 1))
done
{
	echo '#include <stdio.h>'
	echo '#include "config.h"'
	i=0 sum=answer
	while [ $i -lt $n ]; do
		echo "int m$i(int);"
		sum="m$i($sum)"
		i=$((i + 1))
	done
	printf 'int main(void) { printf("%%d\\n", %s); return 0; }\n' "$sum"
} >src/main.c
cat >Makefile <<'E'
OBJ := $(patsubst src/%.c,obj/%.o,$(wildcard src/m[0-9]*.c))
CFLAGS := -O1 -Wall -Werror -Iinclude -Iobj -Isrc

prog: obj/main.o obj/libm.a
	@echo LINK $@
	@$(CC) -o $@ $^

obj/libm.a: $(OBJ)
	@echo LIB $@
	@rm -f $@
	@ar rc $@ $^

obj/config.h: config.in | obj
	@echo MAKE $@
	@awk '{ print "enum { " $$1 " = " $$2 " };" }' $< >$@.new
	@mv $@.new $@

obj/main.o: obj/config.h

obj/%.o: src/%.c | obj
	@echo CC $<
	@$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

obj:
	mkdir $@

clean:
	rm -rf obj prog

.PHONY: clean
-include $(wildcard obj/*.d)
E
find . | sort >"$notes/clean"

# builds WHAT WANT... has make build, and compares what it says it does with WANT, in whatever order.
builds() {
	what=$1
	shift
	make -j2 >"$notes/said" 2>&1 || fail "$what: make ends with $?"
	sed -n 's/^\(CC\|LIB\|LINK\|MAKE\) //p' "$notes/said" | sort >"$notes/did"
	for f in "$@"; do echo "$f"; done | sort >"$notes/want"
	cmp -s "$notes/did" "$notes/want" || {
		echo "--- wanted, and done:"
		diff "$notes/want" "$notes/did" || :
		fail "$what: make has built something else"
	}
	make -q || fail "$what: make has built it, and it is not up to date"
	got=$(./prog) || fail "$what: the program does not run"
	[ "$got" = $sum ] || fail "$what: the program says $got, want $sum"
}
# later waits until a change has a later time than all before, also where times are seconds, to the nearest.
later() { sleep 1.6; }
# changed wants make to say that there is something to do.
changed() {
	rc=0
	make -q >"$notes/said" 2>&1 || rc=$?
	[ $rc = 1 ] || fail "$1, and make -q ends with $rc"
}
stamps() { # of what is built, but for the files named
	for f in obj/*.o; do
		case " $* " in *" $f "*) continue ;; esac
		stat -c '%n %y %s' "$f"
	done
}

# 42, twice 0 to 13, 0 to 13, and 100 for each of 0, 4, 8 and 12
sum=$((42 + 3 * 91 + 4 * 100))
all=
i=0
while [ $i -lt $n ]; do all="$all src/m$i.c"; i=$((i + 1)); done
builds "the first time" $all src/main.c obj/config.h obj/libm.a prog
builds "again, with nothing changed"

later
stamps obj/m4.o obj/m5.o >"$notes/before"
touch include/m5.h
changed "a header is touched"
builds "a header is touched" src/m4.c src/m5.c obj/libm.a prog
stamps obj/m4.o obj/m5.o >"$notes/after"
cmp -s "$notes/before" "$notes/after" || { diff "$notes/before" "$notes/after" || :; fail "files that were not built again have other times"; }
for f in prog obj/m4.o obj/m5.o; do
	! [ include/m5.h -nt $f ] || fail "$f is older than what it was built of"
done

later
sed -i 's/100/1000/' include/base.h
sum=$((42 + 3 * 91 + 4 * 1000))
changed "a header that others include is edited"
builds "a header that others include is edited" src/m0.c src/m3.c src/m4.c src/m7.c src/m8.c src/m11.c src/m12.c src/m13.c obj/libm.a prog

later
echo 'answer 43' >config.in
sum=$((sum + 1))
changed "what a header is made of is written"
builds "what a header is made of is written" obj/config.h src/main.c prog

later
mv include/m6.h src/m6.h
changed "a header is moved to another directory"
builds "a header is moved to another directory" src/m5.c src/m6.c obj/libm.a prog

later
echo 'int broken' >>src/m9.c
if make -k -j2 >"$notes/said" 2>&1; then fail "a source that cannot be compiled, and make is content"; fi
[ ! -e obj/m9.o ] || [ src/m9.c -nt obj/m9.o ] || fail "of a source that cannot be compiled there is an object"
sed -i '$d' src/m9.c
builds "it is mended" src/m9.c obj/libm.a prog

make clean >"$notes/said" 2>&1 || fail "make clean"
mv src/m6.h include/m6.h
find . | sort >"$notes/after"
diff "$notes/clean" "$notes/after" || fail "after make clean there is something else than before the first build"
cd ..
rm -r $w
[ ! -e $w ] || fail "it is still there"
echo "project: ok, $((2 * n + 5)) files, built 7 times, $(($(date +%s) - from)) s"
