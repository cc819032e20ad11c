"""Target lists that tell what a test says."""

from typing import Final

from twisted.internet.interfaces import IReactorTime

from twisted_lb.core.backend import BackendSpec
from twisted_lb.discovery.provider import ListRules, State, Update


class ScriptedList:
    """A provider (service discovery) in the hands of a test, from its `start` to its `stop`: it looks nowhere, and tells at once
    what it is told. `where` and `rules` are those that the configuration gives it.
    """

    def __init__(self, where: str, rules: ListRules, time: IReactorTime) -> None:
        self.where: Final = where
        self.rules: Final = rules
        self.state: State = State()
        self.stopped: bool = False
        self._time: Final = time
        self._update: Update | None = None

    def start(self, update: Update) -> None:
        """See Provider."""
        assert self._update is None, "started twice"
        self._update = update

    def stop(self) -> None:
        """See Provider."""
        self.stopped = True

    def tell(self, *backends: str | BackendSpec) -> None:
        """These are in the list from now on, as specs or as texts, `"app:80,weight=2"`. ValueError if they are refused."""
        assert self._update is not None, "not started"
        assert not self.stopped, "stopped"
        specs = [BackendSpec.parse(one) if isinstance(one, str) else one for one in backends]
        self._update(specs)
        self.state = State(len(specs), self._time.seconds(), self.state.failed_at, self.state.error)

    def fail(self, error: str) -> None:
        """A look has failed."""
        self.state = State(self.state.backends, self.state.succeeded_at, self._time.seconds(), error)

    def __repr__(self) -> str:
        return f"<ScriptedList {self.where}{', stopped' if self.stopped else ''}>"
