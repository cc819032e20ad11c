"""Rate limits of requests: several, each with a key of its own, that admit a request together or refuse it (429)."""

import enum
from collections.abc import Sequence
from math import ceil
from typing import Final

from twisted_lb.core.rate import Hashes, Rate, Rates


class RateKey(enum.Enum):
    """Whose requests a limit counts together.

    Danger: whoever may invent the value of a header or a cookie has as many bursts as values. Where nobody has checked it
    before, a limit by client belongs beside that one.
    """

    CLIENT = "client"  # one client's, an IPv6 site's /64 as one
    HEADER = "header"  # those with the same value of a field
    COOKIE = "cookie"  # those with the same value of a cookie
    QUERY = "query"  # those with the same value of a parameter of the query
    ROUTE = "route"  # all of the route
    PATH = "path"  # those for the same path, without its query: no limit's, but a policy's key


class RateLimit:
    """A rate limit as it is configured. `name` is its identity: over a reload, what was spent in a limit stays spent in the one
    of the same name, whatever its rate and burst are by then; two routes that name the same limit share it.

    `field`: the name of the header, the cookie or the parameter. `cost`: what a request spends of the burst; ValueError where that is more
    than the burst, since it would never be admitted. `dry_run`: requests over the limit are counted, and admitted.
    """

    __slots__ = ("cost", "dry_run", "field", "key", "name", "rate")

    def __init__(
        self, name: str, rate: Rate, key: RateKey, *, field: bytes = b"", cost: int = 1, dry_run: bool = False
    ) -> None:
        if not 1 <= cost <= rate.burst:
            raise ValueError(f"{name}: a cost of {cost} is not between 1 and the burst, {rate.burst}")
        if bool(field) != (key in (RateKey.HEADER, RateKey.COOKIE, RateKey.QUERY)):
            raise ValueError(f"{name}: by {key.value} it has {'no' if field else 'to have the'} name of a field")
        self.name: Final = name
        self.rate: Final = rate
        self.key: Final = key
        self.field: Final = field
        self.cost: Final = cost
        self.dry_run: Final = dry_run

    def key_of(self, client: str, value: bytes | None) -> bytes:
        """The key of a request: `client` is its client's (`gate.client_key`), `value` that of the header, the cookie or the
        parameter, None where it has none.

        Who leaves it out is counted as a client: otherwise that would be the way around the limit.
        Nobody can name a value that counts as somebody's address. Empty, and without a limit, where the client has no IP
        address (a unix socket).
        """
        if self.key is RateKey.ROUTE:
            return b"*"
        if value is not None and self.key is not RateKey.CLIENT:
            return b"=" + value
        return b"@" + client.encode() if client else b""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RateLimit) and self._all() == other._all()

    def __hash__(self) -> int:
        return hash(self._all())

    def _all(self) -> tuple[str, Rate, RateKey, bytes, int, bool]:
        return (self.name, self.rate, self.key, self.field, self.cost, self.dry_run)

    def __repr__(self) -> str:
        return f"<RateLimit {self.name}: {self.rate!r} by {self.key.value}{', dry run' if self.dry_run else ''}>"


class Tally:
    """What became of the requests of a route for the sake of one limit: `refused`, or `spared` because it is a dry run."""

    __slots__ = ("refused", "spared")

    def __init__(self) -> None:
        self.refused: int = 0
        self.spared: int = 0


class Verdict:
    """What limits say of a request: admitted, or how long it is to wait and for the sake of which limit. `spared`: the limit that
    would have refused it and is a dry run.
    """

    __slots__ = ("limit", "spared", "wait_s")

    def __init__(self, wait_s: float, limit: RateLimit | None, spared: RateLimit | None) -> None:
        self.wait_s: Final = wait_s
        self.limit: Final = limit
        self.spared: Final = spared

    @property
    def admitted(self) -> bool:
        """Whether the request may go on; then it is paid for."""
        return self.limit is None

    @property
    def retry_after_s(self) -> int:
        """The value of Retry-After (RFC 9110 10.2.3): whole seconds after which the client may be admitted, at least 1."""
        return max(ceil(self.wait_s), 1)

    def __repr__(self) -> str:
        if self.limit is not None:
            return f"<Verdict refused by {self.limit.name}, wait {self.wait_s:g} s>"
        return "<Verdict admitted>" if self.spared is None else f"<Verdict admitted, spared by {self.spared.name}>"


_ADMITTED: Final = Verdict(0.0, None, None)


class RateLimits:
    """The rate limits of a route, over a table that all routes share.

    A process makes one `Rates` and one secret of random bytes, and keeps both over reloads; each route that has limits has a
    `RateLimits`, which takes the tallies over from `previous`, the one in its place before. A request is asked for once, when
    its route is known and before it waits in any queue, not for each of its attempts:

        keys = [limit.key_of(client_key(address), value) for limit in route_limits.limits]
        verdict = route_limits.admit(keys, now)

    Where `verdict.admitted` is false the answer is 429 with `Retry-After: verdict.retry_after_s`. A bound of requests at a
    time (`Running.full`) is looked at before that, and claimed after it: who is refused spends nothing.
    """

    __slots__ = ("_hashes", "_rates", "limits", "tallies")

    def __init__(
        self, limits: Sequence[RateLimit], rates: Rates, secret: bytes, previous: "RateLimits | None" = None
    ) -> None:
        names = [limit.name for limit in limits]
        if len(set(names)) < len(names):
            raise ValueError(f"a route has each limit once: {', '.join(names)}")
        before = previous.tallies if previous is not None else {}
        self.limits: Final = tuple(limits)
        self.tallies: Final[dict[str, Tally]] = {name: before.get(name) or Tally() for name in names}
        self._rates: Final = rates
        self._hashes: Final = [Hashes(name, secret) for name in names]

    def admit(self, keys: Sequence[bytes], now: float) -> Verdict:
        """Whether a request with these keys, one for each limit in their order, is admitted. All limits are looked at first;
        it is charged to each if none refuses it, and else to none. The verdict names the one that it waits longest for.

        A limit whose key is empty does not count. One in dry run refuses nobody, and is charged where it would not.
        """
        charges: list[tuple[int, RateLimit]] = []
        spared: list[RateLimit] = []
        verdict = self._look(keys, now, charges, spared)
        if verdict.limit is not None:
            self.tallies[verdict.limit.name].refused += 1
            return verdict
        for slot_hash, limit in charges:
            self._rates.charge(slot_hash, limit.rate, limit.cost, now)
        return self._spared(spared) if spared else verdict

    def foreseen(self, keys: Sequence[bytes], now: float) -> Verdict:
        """What `admit` would say, for somebody who only asks: nothing is counted or charged."""
        return self._look(keys, now, [], [])

    def _look(
        self, keys: Sequence[bytes], now: float, charges: list[tuple[int, RateLimit]], spared: list[RateLimit]
    ) -> Verdict:
        """Look at all limits: which one refuses, if any does, what is to be charged else, and what only counts."""
        refused: RateLimit | None = None
        wait_s = 0.0
        for limit, hashes, key in zip(self.limits, self._hashes, keys, strict=True):
            if not key:
                continue
            slot_hash = hashes.of(key)
            one_s = self._rates.look(slot_hash, limit.rate, limit.cost, now)
            if not one_s:
                charges.append((slot_hash, limit))
            elif limit.dry_run:
                spared.append(limit)
            elif one_s > wait_s:
                wait_s, refused = one_s, limit
        return _ADMITTED if refused is None else Verdict(wait_s, refused, None)

    def _spared(self, limits: list[RateLimit]) -> Verdict:
        for limit in limits:
            self.tallies[limit.name].spared += 1
        return Verdict(0.0, None, limits[0])

    def __repr__(self) -> str:
        return f"<RateLimits {list(self.limits)}>"
