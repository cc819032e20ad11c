"""Who owns the data plane that is operated."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from twisted_lb.admin.operator import Reloaded
from twisted_lb.admin.readiness import Verdict


class Owner(Protocol):
    """The service whose data plane is operated."""

    @property
    def operated_name(self) -> str:
        """What this balancer is called."""

    @property
    def stopping(self) -> bool:
        """Whether it stops: nothing is changed any more."""

    @property
    def log_dropped(self) -> int:
        """How many lines of the access log were dropped."""

    @property
    def spans_sent(self) -> int:
        """How many spans a collector of traces has taken."""

    @property
    def spans_dropped(self) -> int:
        """How many it has not."""

    @property
    def warnings(self) -> Sequence[str]:
        """What is doubtful about the configuration in force, one line each."""

    def readiness(self) -> Verdict:
        """Whether traffic is wanted, and why not."""

    def add_backend(self, pool: str, backend: str | Mapping[str, Any]) -> None:
        """Add a backend, as the file has it."""

    def reload_now(self, *, dry_run: bool) -> "Deferred[Reloaded]":
        """Read the configuration anew, and go by it unless it is a dry run."""

    def upgrade_now(self) -> "Deferred[int]":
        """Become another program soon; fires with its number."""

    def values_in_force(self) -> Iterable[tuple[str, object, str]]:
        """All values of the configuration in force: key, value, source."""

    def changed_file(self) -> tuple[str, float | None, str] | None:
        """The configuration file; for how many seconds it, or a file that it names, has said something else than what is in force, and
        which of them.
        """

    def source_of(self, path: tuple[str | int, ...]) -> str:
        """Where what is in force at a path of the configuration comes from; empty where nobody knows."""
