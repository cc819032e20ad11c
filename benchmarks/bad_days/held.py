"""What this process holds: bytes in use, whatever its allocators keep beside them for later (fragmentation)."""

import ctypes
import gc
import os
import re
import sys
import tempfile
from typing import Final

_IN_BLOCKS: Final = re.compile(rb"# bytes in allocated blocks *= *([\d,]+)")
_FIELDS: Final = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class _Mallinfo(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS.split()]


def held_kib() -> int:
    """After a collection: what Python's objects have, and what malloc has given out, of all its arenas.

    Unlike resident memory it is as small again as it was once everything is freed, and exact: a leak shows in it at once.
    """
    gc.collect()
    return (_of_python() + _of_malloc()) // 1024


def _of_python() -> int:
    """Objects of 512 bytes at most, for which Python has an allocator of its own. Only its report on stderr knows the bytes."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as report:
        try:
            os.dup2(report.fileno(), 2)
            sys._debugmallocstats()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        report.seek(0)
        found = _IN_BLOCKS.search(report.read())
    return 0 if found is None else int(found[1].replace(b",", b""))


def _of_malloc() -> int:
    """Everything else; nothing where malloc is not glibc's (2.33), and does not tell."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return 0
    mallinfo.restype = _Mallinfo
    told = mallinfo()
    return told.uordblks + told.hblkhd
