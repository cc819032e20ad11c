"""The lease: a claim on a backend, settled exactly once."""

from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.core.backend import Backend


@mypyc_attr(acyclic=True, free_list_len=1)
class Lease:
    """One attempt's claim on a backend, from `Pool.claim` to `Pool.settle`. `trial`: a trial of an ejected backend,
    until it is known whether somebody listens there.
    """

    __slots__ = ("backend", "open", "opened_at", "trial")

    def __init__(self, backend: Backend, opened_at: float, *, trial: bool) -> None:
        self.backend: Final = backend
        self.opened_at: Final = opened_at
        self.trial: bool = trial
        self.open: bool = True

    def __repr__(self) -> str:
        return f"<Lease {self.backend.name} {'open' if self.open else 'settled'}>"
