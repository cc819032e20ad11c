"""What is known of files of certificates: whatever says what it did is not parsed again, nor tried out with OpenSSL (2 ms each)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from twisted_lb.tls.certificate import Certificate
from twisted_lb.tls.disk import Disk

# How a file is read, and what came of that: its content, None where there is none.
_Asked = tuple[str, str, object]


@dataclass(frozen=True)
class _Read:
    """One reading: all that was asked of the disk, and the certificates that came of it."""

    asked: tuple[_Asked, ...]
    certificates: tuple[Certificate, ...]


class _Noting:
    """A disk that notes what is asked of it."""

    def __init__(self, disk: Disk) -> None:
        self._disk: Final = disk
        self.asked: Final[list[_Asked]] = []

    def contents(self, path: str) -> bytes:
        """See Disk."""
        try:
            found = self._disk.contents(path)
        except FileNotFoundError:
            self.asked.append(("contents", path, None))
            raise
        self.asked.append(("contents", path, found))
        return found

    def entries(self, path: str) -> Sequence[str] | None:
        """See Disk."""
        return self._disk.entries(path)

    def readers(self, path: str) -> str:
        """See Disk."""
        found = self._disk.readers(path)
        self.asked.append(("readers", path, found))
        return found


class Known:
    """The certificates that were read, by the file that their search began with; it outlives reloads. Only what was good is known."""

    def __init__(self) -> None:
        self._read: Final[dict[str, _Read]] = {}

    def of(
        self, path: str, disk: Disk, read: Callable[[str, Disk], tuple[Certificate, ...]]
    ) -> tuple[Certificate, ...]:
        """What `read` makes of a file, or has made of it while all that it has looked at was the same."""
        known = self._read.get(path)
        if known is not None and all(_says(disk, one) for one in known.asked):
            return known.certificates
        noting = _Noting(disk)
        found = read(path, noting)
        self._read[path] = _Read(tuple(noting.asked), found)
        return found


def _says(disk: Disk, asked: _Asked) -> bool:
    how, path, before = asked
    try:
        return (disk.readers(path) if how == "readers" else disk.contents(path)) == before
    except FileNotFoundError:
        return before is None
    except (OSError, ValueError):
        return False  # as whoever reads it again will say
