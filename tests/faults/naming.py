"""A name in front of the backends of a town, which moves: to another server, to several, and back, while its resolver answers
late, or not at all.

What members follow from its answers is worked out here once more.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted_lb.core.address import TcpAddress
from twisted_lb.core.backend import BackendSpec
from twisted_lb.testing import HeapClock, MemoryResolver

if TYPE_CHECKING:
    from faults.town import Town

NAME = "web"
BACKEND = f"{NAME}:80"
MORE_HOSTS = ("e", "f")
# So many good answers in a row have to come without an address before it leaves.
MISSED = 3
# Answers are five seconds apart, and it takes three of them for somebody to leave.
LASTS_S = 60.0
LONGEST_ANSWER_S = 2.0


class TownResolver(MemoryResolver):
    """A resolver whose answers for the name are told to `heard` first, which passes them on."""

    heard: Callable[[list[str], Callable[[], None]], None] | None = None

    def __init__(self, clock: HeapClock) -> None:
        super().__init__(clock)
        self.asked_at: list[float] = []  # when the name was looked up

    def resolveHostName(self, resolutionReceiver: Any, hostName: str, *words: Any, **named: Any) -> Any:
        if hostName == NAME:
            self.asked_at.append(self._clock.seconds())
        return super().resolveHostName(resolutionReceiver, hostName, *words, **named)

    def _answer(self, receiver: Any, name: str, port: int) -> None:
        if name == NAME and self.heard is not None:
            self.heard(self.table[name], lambda: MemoryResolver._answer(self, receiver, name, port))
        else:
            super()._answer(receiver, name, port)


class Naming:
    """The name of one town, and what its answers mean. `on`: whether there is one."""

    def __init__(self, seed: int, *, wanted: bool) -> None:
        self.rng = rng = random.Random(f"{seed}/names")
        self.on = wanted and rng.random() < 0.4
        self.more_hosts = MORE_HOSTS[: rng.choice([0, 1, 2])] if self.on else ()
        self._sizes = rng.choice([[1], [1], [1, 1, 2, 3], [1, 2, 2, 3]])
        self.over = not self.on
        self._missed: dict[str, int] = {}  # by address: how many answers came without it; one alone: the one backend

    def begin(self, town: "Town", hosts: list[str]) -> None:
        """The name means some of these hosts from the start."""
        self._town, self._hosts = town, hosts
        town.network.name(NAME, *self._some())
        self.hear(town.network.resolver.table[NAME])

    def live(self) -> None:
        """Let it move."""
        town, rng = self._town, self.rng
        town.network.resolver.heard = self._heard
        for _ in range(rng.choice([3, 6, 9])):
            town.clock.callLater(rng.uniform(0.1, LASTS_S - 10), self._move)
        town.clock.callLater(LASTS_S, self._rest)

    def _some(self) -> list[str]:
        return self.rng.sample(self._hosts, min(len(self._hosts), self.rng.choice(self._sizes)))

    def _move(self) -> None:
        town, rng = self._town, self.rng
        hosts = [] if rng.random() < 0.15 else self._some()
        town.network.resolver.delay_s = rng.choice([0.0, 0.0, 0.3, LONGEST_ANSWER_S])
        town.network.name(NAME, *hosts)
        town.operator.done["lets the name mean somebody else"] += 1
        town.note("name server", f"{NAME} is {', '.join(hosts) or 'unknown'}")

    def _rest(self) -> None:
        self.over = True

    def _heard(self, hosts: list[str], tell: Callable[[], None]) -> None:
        """The balancer is about to hear this answer."""
        town = self._town
        if town.closed is not None:
            tell()
            return
        before = list(self._missed)
        self.hear(hosts)
        now = list(self._missed)
        if before == now:
            town.members.stay(tell)
            return
        town.operator.done[f"sees the name go from {min(len(before), 2)} to {min(len(now), 2)}"] += 1
        town.members.rename(self.specs(), tell, self._origins(before, now))
        town.note_usable()

    def hear(self, hosts: list[str]) -> None:
        missed = self._missed
        if not hosts:
            return
        if len(missed) < 2:
            alone = [host for host in missed if host not in hosts and len(hosts) > 1]
            self._missed = {**dict.fromkeys(alone, 1), **dict.fromkeys(hosts, 0)}
            return
        for host in [*missed, *hosts]:
            missed[host] = 0 if host in hosts else missed[host] + 1
        self._missed = {host: count for host, count in missed.items() if count < MISSED}

    def specs(self) -> list[BackendSpec]:
        """Who should be a member now, and where: also of the one backend, of which the balancer knows the name."""
        if len(self._missed) == 1:
            return [BackendSpec(BACKEND, TcpAddress(host, 80)) for host in self._missed]
        return [BackendSpec(f"{BACKEND}@{host}:80", TcpAddress(host, 80)) for host in self._missed]

    def _origins(self, before: list[str], now: list[str]) -> dict[str, tuple[str, str]]:
        """How new members begin: as the heir of another one, or as the one that has moved."""
        if len(before) == len(now) == 1:
            return {BACKEND: ("moves", BACKEND)}
        if len(before) == 1:
            return {f"{BACKEND}@{before[0]}:80": ("inherits", BACKEND)}
        if len(now) == 1:
            return {BACKEND: ("inherits", f"{BACKEND}@{now[0]}:80")}
        return {}
