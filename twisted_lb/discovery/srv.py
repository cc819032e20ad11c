"""SRV records (RFC 2782) as a list: the targets of the lowest priority, by their names, looked up again when they expire."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.names import dns
from twisted.names.error import DNSNameError

from twisted_lb.core.address import parse_address
from twisted_lb.core.backend import HEAVIEST, BackendSpec
from twisted_lb.discovery.prometheus import MOST_TARGETS
from twisted_lb.discovery.provider import NoList

# Records are looked up again when the first of them expires, within these bounds: 0 is not seldom, and a day is too long for
# what a service's instances are.
SOONEST_S: Final = 5.0
LATEST_S: Final = 60.0
# A name that is gone (NXDOMAIN), or has no such records any more, is more often a mistake than a service without servers: for
# so long the last good answer is better.
GONE_AFTER_S: Final = 300.0

# Answers, authority and additional records.
Records = tuple[Sequence[Any], Sequence[Any], Sequence[Any]]

# Looks up the SRV records of a name, as an IResolver: DNSNameError where there is no such name, NoList for anything else.
Lookup = Callable[[str], Deferred[Records]]


class SrvSource:
    """The servers that a name's SRV records list. The name is complete, without search domains."""

    def __init__(self, name: str, lookup: Lookup, time: IReactorTime) -> None:
        self.where: Final = f"srv:{name}"
        self.pause_s: float = SOONEST_S
        self._name: Final = name.removesuffix(".").lower()
        self._lookup: Final = lookup
        self._time: Final = time
        self._known = False
        # Since when answers say that there is nothing.
        self._gone_since: float | None = None

    def look(self) -> Deferred[list[BackendSpec] | None]:
        """See Source."""
        return Deferred.fromCoroutine(self._look())

    def close(self) -> None:
        """See Source: each look-up ends with its answer."""

    async def _look(self) -> list[BackendSpec]:
        self.pause_s = SOONEST_S
        try:
            answers, _, _ = await self._lookup(self._name)
        except (CancelledError, NoList):
            raise
        except DNSNameError:
            return self._gone("there is no such name (NXDOMAIN)")
        records, ttl_s = _chain(self._name, answers)
        if not records:
            return self._gone("the name has no SRV records")
        specs = specs_of_records(records)
        self._known = True
        self._gone_since = None
        self.pause_s = min(max(ttl_s, SOONEST_S), LATEST_S)
        return specs

    def _gone(self, what: str) -> list[BackendSpec]:
        """Nothing is there: not believed before it has been so for long, nor where nothing else was known."""
        now = self._time.seconds()
        if self._gone_since is None:
            self._gone_since = now
        if not self._known or now - self._gone_since < GONE_AFTER_S:
            raise NoList(what)
        return []


def _chain(name: str, answers: Iterable[Any]) -> tuple[list[Any], float]:
    """The SRV records that a name leads to, by way of its aliases (CNAME), and the lowest TTL on that way."""
    aliases: dict[str, Any] = {}
    found: dict[str, list[Any]] = {}
    for header in answers:
        owner = _text(header.name)
        if header.type == dns.CNAME:
            aliases.setdefault(owner, header)
        elif header.type == dns.SRV:
            found.setdefault(owner, []).append(header)
    ttls = []
    while name not in found and name in aliases:
        alias = aliases.pop(name)  # each is followed once: no circle
        ttls.append(alias.ttl)
        name = _text(alias.payload.name)
    headers = found.get(name, [])
    ttls += [header.ttl for header in headers]
    return [header.payload for header in headers], float(min((ttl or 0 for ttl in ttls), default=0))


def specs_of_records(records: Iterable[Any]) -> list[BackendSpec]:
    """The backends of SRV records; NoList for one that names no server. Only the lowest priority counts: it is what all
    clients must use as long as they can. A record without a target (`.`) says that the service is not offered.
    """
    records = [record for record in records if _text(record.target)]
    lowest = min((record.priority for record in records), default=0)
    weights: dict[str, int] = {}
    for record in records:
        if record.priority == lowest:
            where = f"{_text(record.target)}:{record.port}"
            weights[where] = max(weights.get(where, 0), record.weight)
    if len(weights) > MOST_TARGETS:
        raise NoList(f"{len(weights)} targets, {MOST_TARGETS} are the most")
    heaviest = max(weights.values(), default=0)
    return [_spec(where, weight, heaviest) for where, weight in weights.items()]


def _spec(where: str, weight: int, heaviest: int) -> BackendSpec:
    try:
        # Several addresses of one target are one server, says who wrote its record.
        return BackendSpec(where, parse_address(where), scaled(weight, heaviest), resolve="first")
    except ValueError as error:
        raise NoList(f"a record is not a server's: {error}") from None


def scaled(weight: int, heaviest: int) -> int:
    """An SRV record's weight, 0 to 65535, as ours, 1 to 256. Weights are proportions (RFC 2782): they are what they are
    unless one is too heavy, and then all are made lighter alike. 0 is the lightest: "a very small chance of being selected".

    HAProxy divides by 256 and rounds up whatever they are, so that 10 and 200 are the same, and 0 gets nothing at all.
    """
    if heaviest > HEAVIEST:
        weight = round(weight * HEAVIEST / heaviest)
    return max(weight, 1)


def _text(name: Any) -> str:
    """A name of Twisted's; its case says nothing, and may change from answer to answer (RFC 4343)."""
    # Whatever is not ASCII is no host name, and is refused with the text that shows it.
    return str(name.name.decode("ascii", "backslashreplace")).removesuffix(".").lower()
