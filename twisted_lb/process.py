"""Tuning of a process: its descriptors; and, of one that only balances, Python's collector of cycles and the C library's memory."""

import ctypes
import gc
import os
import resource
from math import ceil
from pathlib import Path
from typing import Final

from twisted.logger import Logger

# What the process has open beside connections (about 12: logs, epolls, listeners, the reactor's waker) or opens for a
# moment: /etc/hosts, an error page.
_OWN_DESCRIPTORS: Final = 32
# What bulk goes through may take a 64th of them, and no more than this: pipes (net/pipes.py).
_PIPE_SHARE: Final = 64
_PIPE_DESCRIPTORS: Final = 128

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

_log = Logger()


def room_for_clients(descriptors: int, backends: int) -> int:
    """How many clients may be connected when each may need a connection to a backend, and each backend a probe."""
    pipes = min(descriptors // _PIPE_SHARE, _PIPE_DESCRIPTORS)
    return max(1, (descriptors - _OWN_DESCRIPTORS - pipes - backends) // 2)


def descriptor_limit() -> int:
    """How many descriptors the process may open once `raise_descriptor_limit` was called, as far as that can be said."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def raise_descriptor_limit() -> int:
    """Raise the soft limit of descriptors, often 1,024, to the hard one, far above it; returns what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            _log.warn("the limit of {soft} descriptors cannot be raised: {error}", soft=soft, error=error)
            return soft
    return hard


def cpus(root: str = "/sys/fs/cgroup") -> int:
    """How many CPUs this process may use: those of its affinity mask, as far as the quotas of its cgroup (v2) and of those around it go."""
    most = float(len(os.sched_getaffinity(0)))
    for folder in _cgroups(root):
        try:
            quota, period = Path(folder, "cpu.max").read_text().split()
            most = min(most, int(quota) / int(period))
        except (OSError, ValueError):
            continue  # there is none, or no bound ("max")
    return max(1, ceil(most))


def _cgroups(root: str) -> list[str]:
    try:
        line = next(one for one in Path("/proc/self/cgroup").read_text().splitlines() if one.startswith("0::"))
    except (OSError, StopIteration):
        return []
    own = line[3:].strip("/")
    parts = own.split("/") if own else []
    return [str(Path(root, *parts[:length])) for length in range(len(parts) + 1)]


def tune() -> None:
    """Tune the process, once, when everything that stays has been made. Only for one that does nothing else."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # another C library has its own ways
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
