"""The disk: how files of certificates are read, so that whoever reads them knows which they were."""

from collections.abc import Sequence
from typing import Protocol


class Disk(Protocol):
    """Where files are read. OSError or ValueError for what cannot be."""

    def contents(self, path: str) -> bytes:
        """What is in a file."""

    def entries(self, path: str) -> Sequence[str] | None:
        """The names in a folder, sorted; None where there is none."""

    def readers(self, path: str) -> str:
        """Who may read a file beside its owner: `others`, `group`, or nobody."""
