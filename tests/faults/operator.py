"""Whoever runs the balancer: takes backends in and out, has other settings, and stops it, all while it works.

What is done is drawn from streams of its own: a town without any of it is as it would be without an operator.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from faults.climate import other_settings
from faults.ledger import Moment
from faults.reader import read_both
from faults.tape import ENDS, PUT, TOOK, Tape

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.address import parse_address
from twisted_lb.core.backend import BackendSpec
from twisted_lb.plan import DEFAULT, plan_of

if TYPE_CHECKING:
    from faults.town import Town

# Whoever comes while it runs comes from here, or from those who went.
MORE_ADDRESSES = ("e:80", "f:80", "g:80")
# What a change may wait for.
ASKED = "a backend is asked"
ENDED = "a request ends"
# Where settings change, somebody has to be waited for.
SLOW = {"answer late": 8, "never": 4, "stall in the body": 15}


@dataclass
class Stop:
    """A stop in the middle, and how it went. `idle` are the clients' connections on which nothing was under way when it
    began, `standing` those that were still there when it ended.
    """

    most_s: float
    began: Moment | None = None
    hurried: Moment | None = None
    ended: Moment | None = None
    idle: list[Tape] = field(default_factory=list)
    standing: list[Tape] = field(default_factory=list)


class Operator:
    """The operator of one town. `web`: whether clients come to a resource in twisted.web, and `bulky`: for large answers;
    `members`, `settings`: whether those are changed; `reloads`: whether listeners, routes and pools come and go beside what
    everybody uses; `logins`: chance, where clients log in (NTLM); `stop` is None where the balancer runs to the end.
    """

    def __init__(self, seed: int) -> None:
        rng = random.Random(f"{seed}/side")
        self.web = rng.random() < 0.25
        self.bulky = self.web and rng.random() < 0.5
        self._members_rng = rng = random.Random(f"{seed}/membership")
        self.members = rng.random() < 0.35
        self.more_addresses = MORE_ADDRESSES[: rng.choice([1, 2, 3])] if self.members else ()
        # A target list that flaps: as many changes in one second.
        self._bursts_rng = rng = random.Random(f"{seed}/bursts")
        self.burst = 1000 if self.members and rng.random() < 0.03 else 0
        self._settings_rng = rng = random.Random(f"{seed}/settings")
        self.settings = rng.random() < 0.25
        self.treatments = SLOW if self.settings else {}
        self._stop_rng = rng = random.Random(f"{seed}/stop")
        self.stop: Stop | None = None
        self._closing = False
        if rng.random() < (0.5 if self.web else 0.3):
            # What a resource serves does not wait for its clients, and is soon over.
            self.stop = Stop(rng.choice([0.05, 0.1, 0.3] if self.web else [0.05, 0.3, 1.0, 3.0, 10.0]))
        self._reloads_rng = rng = random.Random(f"{seed}/reloads")
        self.reloads = rng.random() < 0.35
        self._beside: dict[str, object] = {}  # what there is beside what is called default
        rng = random.Random(f"{seed}/logins")
        self.logins = rng if rng.random() < 0.2 else None
        self._heard: Counter[str] = Counter()
        self._waiting: dict[tuple[str, int], list[tuple[float, Callable[[], None]]]] = defaultdict(list)
        self.done: Counter[str] = Counter()  # what was done, and how often

    @property
    def over(self) -> bool:
        """Whether no stop is to come any more."""
        return self.stop is None or self.stop.ended is not None

    def first_specs(self, addresses: list[str]) -> list[BackendSpec]:
        """Mostly called as their addresses; always, where nobody comes or goes."""
        return [self._spec(address) for address in addresses]

    def _spec(self, address: str) -> BackendSpec:
        rng = self._members_rng
        if not self.members or rng.random() < 0.8:
            return BackendSpec.parse(address)
        return BackendSpec(f"app-{address[0]}", parse_address(address), rng.choice([1, 1, 3]))

    def begin(self, town: "Town") -> None:
        """Do all of it in its time."""
        self._town = town
        self._planned: tuple[BackendSpec, ...] = town.generations.now.backends
        if self.members:
            rng = self._members_rng
            for _ in range(rng.choice([2, 3, 4, 8])):
                self._sometime(rng, rng.choice([4.0, 12.0]), self._change_members)
        if self.burst:
            self._did("has a list that flaps")
            begins_s = self._bursts_rng.uniform(0.5, 5.0)
            for number in range(self.burst):
                town.clock.callLater(begins_s + number / self.burst, town.process.run, self._change_members)
        if self.settings:
            rng = self._settings_rng
            town.clock.callLater(0.0, self._change_settings)  # before anybody asks
            for _ in range(rng.choice([1, 2, 3, 5])):
                self._sometime(rng, 9.0, self._change_settings)
        if self.reloads:
            rng = self._reloads_rng
            for _ in range(rng.choice([2, 5, 10, 20])):
                self._sometime(rng, 9.0, self._reload)
        if self.stop is not None:
            self._sometime(self._stop_rng, 7.0, self._close_the_door)
            town.clock.callLater(8.0, town.process.run, self._close_the_door)

    def _sometime(self, rng: random.Random, by_s: float, do: Callable[[], None]) -> None:
        """At any moment; or soon after a backend was asked, or a request has ended, for there the trouble is."""
        how = rng.choice(["at a moment", ASKED, ENDED])
        do = partial(self._town.process.run, do)  # a process that is held hears nothing
        if how == "at a moment":
            self._town.clock.callLater(rng.uniform(0.1, by_s), do)
        else:
            pause_s = rng.choice([0.0, rng.uniform(0, 0.5)])
            self._waiting[how, rng.randrange(1, 6)].append((pause_s, do))

    def hears(self, what: str) -> None:
        """A backend was asked, or a request has ended."""
        self._heard[what] += 1
        for pause_s, do in self._waiting.pop((what, self._heard[what]), []):
            self._town.clock.callLater(pause_s, do)

    def _did(self, what: str, details: str = "") -> None:
        self.done[what] += 1
        self._town.note("operator", what + details)

    # Members.

    def _change_members(self) -> None:
        town, rng = self._town, self._members_rng
        if town.closed is not None:
            return
        specs = [member.spec for member in town.members.now.values()]
        free = sorted({server.address for server in town.servers} - {str(spec.address) for spec in specs})
        how = rng.choice([self._remove, self._remove, self._add, self._add, self._weigh, self._move, self._replace])
        specs, what = how(specs, free)
        if rng.random() < 0.2:
            rng.shuffle(specs)
        self._did(what, ": " + ", ".join(f"{spec.name} at {spec.address}" for spec in specs))
        # A plan with the backends of the plan before says nothing new of them, whatever an update has changed.
        if specs and rng.random() < 0.3 and tuple(specs) != self._planned:
            tell: Callable[[], None] = partial(self._apply, backends=tuple(specs))
        else:
            tell = partial(town.balanced.data_plane.update, DEFAULT, specs)
        town.members.change(specs, tell)
        town.note_usable()

    def _remove(self, specs: list[BackendSpec], free: list[str]) -> tuple[list[BackendSpec], str]:
        if not specs or (len(specs) == 1 and self._members_rng.random() < 0.7):
            return self._add(specs, free)
        gone = self._members_rng.choice(specs)
        return [spec for spec in specs if spec is not gone], "removes"

    def _add(self, specs: list[BackendSpec], free: list[str]) -> tuple[list[BackendSpec], str]:
        if not free:
            return specs, "changes nothing"
        address = self._members_rng.choice(free)
        back = any(member.address == address for member in self._town.members.all)
        return [*_unlike(specs, one := self._spec(address)), one], "takes back" if back else "adds"

    def _weigh(self, specs: list[BackendSpec], free: list[str]) -> tuple[list[BackendSpec], str]:
        rng = self._members_rng
        return [replace(spec, weight=rng.choice([spec.weight, 1, 2, 256])) for spec in specs], "weighs"

    def _move(self, specs: list[BackendSpec], free: list[str]) -> tuple[list[BackendSpec], str]:
        """One name, or two, get other addresses."""
        rng = self._members_rng
        if len(specs) > 1 and (not free or rng.random() < 0.3):
            one, other = rng.sample(specs, 2)
            addresses = {one.name: other.address, other.name: one.address}
        elif specs and free:
            addresses = {rng.choice(specs).name: parse_address(rng.choice(free))}
        else:
            return specs, "changes nothing"
        return [replace(s, address=addresses.get(s.name, s.address)) for s in specs], "moves"

    def _replace(self, specs: list[BackendSpec], free: list[str]) -> tuple[list[BackendSpec], str]:
        return ([self._spec(self._members_rng.choice(free))], "replaces") if free else (specs, "changes nothing")

    # Settings.

    def _change_settings(self) -> None:
        town = self._town
        if town.closed is not None:
            return
        generation = other_settings(self._settings_rng, town.generations.now)
        self._did("changes settings")
        town.generations.add(town.moment(), generation)
        if town.naming.on:
            town.members.stay(partial(self._apply, backends=self._planned))
            return
        specs = [member.spec for member in town.members.now.values()]
        backends = self._planned if not specs or self._settings_rng.random() < 0.5 else tuple(specs)
        town.members.change(specs, partial(self._apply, backends=backends))

    def _apply(self, *, backends: tuple[BackendSpec, ...]) -> None:
        """As a service does: a whole configuration, whatever is new in it."""
        town = self._town
        self._planned = backends
        plane = town.balanced.data_plane
        config = town.generations.now.model_copy(update={"backends": backends, **self._beside})
        plane.apply(plan_of(town.configured(config), plane.plan))
        town.follow()

    def _reload(self) -> None:
        """What is beside is another thing from now on: listeners, routes, pools, in any order, with who is there already."""
        town, rng = self._town, self._reloads_rng
        if town.closed is not None:
            return
        pools = rng.sample(["one", "two", "three"], rng.choice([0, 1, 2, 3]))
        servers = [server.address for server in town.servers]
        values = {
            "backends": servers[:1],
            "listen": {"port": 8080},
            "pools": {
                pool: {
                    "backends": rng.sample(servers, rng.randrange(1, len(servers) + 1)),
                    "policy": rng.choice(["rr", "rand"]),
                    "health_check": {"interval_s": 0.0},
                }
                for pool in pools
            },
            "routes": [{"name": f"to-{pool}", "path_prefix": f"/beside/{pool}", "pool": pool} for pool in pools],
            "listeners": {
                f"for-{pool}": {"address": f"127.0.0.1:{port}", "default_pool": pool}
                for port, pool in enumerate(pools, 90)
                if rng.random() < 0.7
            },
        }
        other = LoadBalancerConfig.model_validate(values)
        self._beside = {key: getattr(other, key) for key in ("listen", "pools", "routes", "listeners")}
        self._did("reloads", f": {', '.join(pools) or 'nothing'} beside")
        town.members.stay(partial(self._apply, backends=self._planned))

    # The stop.

    def _close_the_door(self) -> None:
        """Nobody can connect any more; who has is let in first."""
        if self._closing:
            return
        self._closing = True
        self._town.network.refuse(self._town.listener.address)
        self._town.clock.callLater(0, self._town.process.run, self._drain)

    def _drain(self) -> None:
        town, stop, rng = self._town, self.stop, self._stop_rng
        assert stop is not None
        town.listener.stop()
        self._did("stops", f" within {stop.most_s} s")
        stop.began = town.moment()
        stop.idle = [tape for tape in town.client_tapes if _idle(tape)]
        town.balanced.data_plane.drain(stop.most_s).addCallback(self._drained)
        if rng.random() < 0.5 and stop.ended is None:
            town.clock.callLater(rng.uniform(0, stop.most_s), town.process.run, self._hurry)

    def _hurry(self) -> None:
        stop = self.stop
        assert stop is not None
        if stop.ended is None:
            self._did("is in a hurry")
            stop.hurried = self._town.moment()
        self._town.balanced.data_plane.hurry()

    def _drained(self, _: None) -> None:
        stop = self.stop
        assert stop is not None
        self._did("has stopped it")
        stop.ended = self._town.moment()
        stop.standing = [tape for tape in self._town.client_tapes if tape.end is not None and tape.end.connected]
        self._town.close()


def _unlike(specs: list[BackendSpec], one: BackendSpec) -> list[BackendSpec]:
    """Those of another name."""
    return [spec for spec in specs if spec.name != one.name]


def _idle(tape: Tape) -> bool:
    """Whether all that the client of this connection asked was answered, and has left; who is on the way to us is not idle."""
    if not tape.arrived:
        return False
    if tape.end is None or not tape.end.connected or tape.first(*ENDS):
        return False
    if tape.end.unsent or tape.outgoing.queued or tape.incoming.bytes:
        return False
    asked, answered = read_both(tape.all(TOOK), tape.all(PUT))
    whole = all(message.complete for message in (*asked.messages, *answered.messages)) and not asked.unread
    return whole and len(asked.messages) == len(answered.messages) and answered.tunnel is None
