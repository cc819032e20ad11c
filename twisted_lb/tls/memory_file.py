"""A file in memory: OpenSSL's functions take paths alone, and a key that was read is not to be on a disk again."""

import contextlib
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def memory_file(data: bytes) -> Iterator[str]:
    """The path of a file with this in it, while somebody reads it. Where the kernel has no such files, it is one of ours alone."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        fd = os.memfd_create("twisted_lb")
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(data)
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file.name
