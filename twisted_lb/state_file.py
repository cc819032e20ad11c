"""The state file: runtime changes that outlive a restart. Written whole, in place of the old one (atomic rename, fsync)."""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_lb.core.overlay import Overlay

# Changes within this time are written once.
_QUIET_S: Final = 0.5
# The key of who has made the changes; files of older versions have none.
SIGNATURES: Final = "by"

_log = Logger()


def load_state(path: str) -> tuple[Overlay, Any]:
    """The runtime changes in a state file, and what it says of who has made them; none where there is no file, or a broken one,
    which is a warning: a balancer starts by its configuration all the same.
    """
    try:
        values = json.loads(Path(path).read_bytes())
        return Overlay.of_values(values), values.get(SIGNATURES)
    except FileNotFoundError:
        return Overlay(), None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        _log.warn("state_file {path}: {reason}; nothing of it is taken over", path=path, reason=reason)
        return Overlay(), None


def state_of(values: Any, whence: str) -> tuple[Overlay, Any]:
    """The same, of plain values that were written elsewhere (`whence`)."""
    try:
        return Overlay.of_values(values), values.get(SIGNATURES)
    except ValueError as error:
        _log.warn("runtime changes {whence}: {error}; nothing of them is taken over", whence=whence, error=error)
        return Overlay(), None


class StateFile:
    """The state file of a balancer. `overlay` gives what is to be written, and `signatures` who has made those changes, as plain
    values: soon after `changed`, and at `close`.
    """

    def __init__(
        self,
        path: str,
        overlay: Callable[[], Overlay],
        time: IReactorTime,
        signatures: Callable[[Overlay], dict[str, Any]] = lambda _overlay: {},
    ) -> None:
        self.path: Final = path
        self._overlay: Final = overlay
        self._signatures: Final = signatures
        self._time: Final = time
        self._due: IDelayedCall | None = None
        self._failed: bool = False

    def changed(self) -> None:
        """There is another state, to be written before long."""
        if self._due is None:
            self._due = self._time.callLater(_QUIET_S, self._write)

    def close(self, *, write: bool = True) -> None:
        """Write what was to be written, unless it is another instance's to `write` by now."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
            if write:
                self._write()

    def _write(self) -> None:
        self._due = None
        try:
            overlay = self._overlay()
            write_atomically(self.path, {**overlay.values(), SIGNATURES: self._signatures(overlay)})
            self._failed = False
        except OSError as error:
            if not self._failed:
                self._failed = True
                _log.error(
                    "state_file {path}: {reason}; runtime changes are lost at a restart",
                    path=self.path,
                    reason=error.strerror,
                )


def write_atomically(path: str, values: dict[str, Any]) -> None:
    """Write values as JSON in place of a file: whoever reads it finds the old one or the new one, also after a crash. Its
    mode is 0600. OSError, and the old one stays, where that cannot be.
    """
    folder = os.path.dirname(os.path.abspath(path))
    descriptor, new = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(path)}.")  # of mode 0600
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(values, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
