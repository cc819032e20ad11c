"""The lease: a claim on a backend, settled exactly once."""

from collections.abc import Sequence
from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.core.backend import Backend
from twisted_lb.core.load import Load
from twisted_lb.core.scene import Scene


@mypyc_attr(acyclic=True, free_list_len=1)
class Lease:
    """One attempt's claim on a backend, from `Pool.claim` to `Pool.settle`. `trial`: a trial of an ejected backend,
    until it is known whether somebody listens there.

    `scene`, `mark`, `loads` and `tried` are what the pick went by, so that `decision.recalled` can tell it later: all of it
    is shared, or small, and was there anyway. `loads` are by slot, this claim among them; empty where they are not kept.

    `spared`: its failure is counted with another lease's: both were on one connection, which was lost.
    """

    __slots__ = ("backend", "loads", "mark", "open", "opened_at", "scene", "spared", "trial", "tried")

    def __init__(
        self, backend: Backend, opened_at: float, scene: Scene, mark: object, loads: tuple[int, ...] = ()
    ) -> None:
        self.backend: Final = backend
        self.opened_at: Final = opened_at
        self.scene: Final = scene
        self.mark: object = mark
        self.loads: Final = loads
        self.tried: Sequence[Backend] = ()
        self.trial: bool = False
        self.spared: bool = False
        self.open: bool = True

    def __repr__(self) -> str:
        return f"<Lease {self.backend.name} {'open' if self.open else 'settled'}>"


@mypyc_attr(acyclic=True, free_list_len=1)
class LoadLease(Lease):
    """A lease that a load was told of, which is told its end too, and gets back the `note` that it gave: see `Load`."""

    __slots__ = ("load", "note")

    def __init__(
        self,
        backend: Backend,
        opened_at: float,
        scene: Scene,
        mark: object,
        loads: tuple[int, ...],
        load: Load,
        note: int,
    ) -> None:
        super().__init__(backend, opened_at, scene, mark, loads)
        self.load: Final = load
        self.note: Final = note
