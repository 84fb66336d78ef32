# mapped.py MOUNT CACHE OTHER - a file mapped shared, written there, and read on another mount of the same server.
import errno
import mmap
import os
import sys

where, cache, other = sys.argv[1:]
name = "mapped-%d" % os.getpid()
path = os.path.join(where, name)
size = 300000
with open(path, "wb") as f:
    f.write(b"a" * size)
fd = os.open(path, os.O_RDWR)
try:
    m = mmap.mmap(fd, size)
except OSError as e:
    # The kernel has no pages of its own to map for writing, and refuses.
    if cache != "none" or e.errno not in (errno.EINVAL, errno.ENODEV):
        print("FAIL mapping a file: %s" % e)
        sys.exit(1)
    os.close(fd)
    os.unlink(path)
    print("mapping a file for writing is refused")
    sys.exit(0)
want = bytearray(b"a" * size)
for at in (0, 1, 4095, 4096, 16383, 131072, 200000, size - 1):
    n = min(3, size - at)
    want[at : at + n] = m[at : at + n] = b"xyz"[:n]
m.flush()
m.close()
os.fsync(fd)
os.close(fd)
for p in (path, os.path.join(other, name)):
    with open(p, "rb") as f:
        got = f.read()
    if got != bytes(want):
        bad = [i for i in range(min(len(got), size)) if got[i] != want[i]]
        print("FAIL %s: %d bytes of %d, %d differ, from %s on" % (p, len(got), size, len(bad), bad[:1]))
        sys.exit(1)
os.unlink(path)
print("mapped files are written")
