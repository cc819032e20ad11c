"""Tuning of a process that only balances: Python's collector of cycles and the C library's memory."""

import ctypes
import gc
from typing import Final

# Objects that came and did not go before the young ones are looked through. What serves a connection is freed when the
# connection ends, by its reference counts (there are no cycles), so looking finds nothing; 700 looks every 70 connections.
_YOUNG: Final = 20_000
_MIDDLE: Final = 50
_OLD: Final = 100
# glibc's mallopt(3). Buffers of a receive come and go; by default memory is given back to the kernel, and faulted in
# anew, whenever 128 KiB at the end of the heap are free.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_TRIM_BYTES: Final = 16 << 20
_MMAP_BYTES: Final = 4 << 20


def tune() -> None:
    """Tune the process, once, when everything that stays has been made. Only for one that does nothing else."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # another C library has its own ways
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
