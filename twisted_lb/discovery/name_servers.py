"""Name servers: SRV records by twisted.names, from the servers of resolv.conf(5), one after the other."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred, TimeoutError  # noqa: A004, Twisted's, not the builtin one
from twisted.internet.interfaces import IReactorTime
from twisted.names import dns, error
from twisted.names.client import Resolver

from twisted_lb.discovery.provider import NoList, text_of
from twisted_lb.discovery.srv import Records

RESOLV_CONF: Final = "/etc/resolv.conf"
# As in glibc's MAXNS.
_MOST_SERVERS: Final = 3
# How long a datagram is waited for, each time it is sent: three silent servers are asked within a look's 10 s.
_TRIES_S: Final = (1, 2)

_LONGEST_DATAGRAM: Final = 65536

_ANSWERS: Final[dict[type[Exception], str]] = {
    error.DNSFormatError: "FORMERR",
    error.DNSServerError: "SERVFAIL",
    error.DNSNotImplementedError: "NOTIMP",
    error.DNSQueryRefusedError: "REFUSED",
}

# Host and port.
Server = tuple[str, int]


class NameServers:
    """The name servers that `servers` lists, anew for each look-up. A server that is silent, or says that it cannot answer, is
    followed by the next one, as in glibc; twisted.names alone goes on only after silence.
    """

    def __init__(self, reactor: Any, time: IReactorTime, servers: Callable[[], Sequence[Server]]) -> None:
        self._reactor: Final = reactor
        self._time: Final = time
        self._servers: Final = servers

    def lookup_service(self, name: str) -> Deferred[Records]:
        """The SRV records of a name. DNSNameError where there is none; NoList where nobody can say."""
        return Deferred.fromCoroutine(self._lookup(name))

    async def _lookup(self, name: str) -> Records:
        complaints = []
        for server in self._servers():
            try:
                return await self._ask(server, name)
            except (CancelledError, error.DNSNameError):
                raise
            except Exception as problem:
                complaints.append(f"name server {server[0]}: {_words(problem)}")
        raise NoList("; ".join(complaints))

    async def _ask(self, server: Server, name: str) -> Records:
        held = _Held(self._reactor, self._time)
        try:
            records: Records = await Resolver(servers=[server], timeout=_TRIES_S, reactor=held).lookupService(name)
            return records
        finally:
            held.release()


def servers_of(path: str = RESOLV_CONF) -> list[Server]:
    """The name servers that resolv.conf names; this machine's own where it names none, or is not there."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            words = [line.split() for line in file.read(65536).splitlines()]
    except FileNotFoundError:
        words = []
    except OSError as problem:
        raise NoList(f"{path}: {(problem.strerror or text_of(problem)).lower()}") from None
    named = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
    hosts = [host for host in named if isIPAddress(host) or isIPv6Address(re.sub("%.*", "", host))]
    return [(host, dns.PORT) for host in (hosts or ["127.0.0.1"])[:_MOST_SERVERS]]


def _words(problem: Exception) -> str:
    if isinstance(problem, TimeoutError):
        return "no answer"
    return _ANSWERS.get(type(problem)) or text_of(problem)


class _Held:
    """A reactor for one look-up: what it made there is undone by `release`, and its timers are those of `time`."""

    def __init__(self, reactor: Any, time: IReactorTime) -> None:
        self._reactor: Final = reactor
        self._time: Final = time
        self._calls: list[Any] = []
        self._connectors: list[Any] = []

    def callLater(self, *words: Any) -> Any:
        """See IReactorTime."""
        call = self._time.callLater(*words)
        self._calls.append(call)
        return call

    def listenUDP(self, *words: Any, **options: Any) -> Any:
        """See IReactorUDP. Twisted closes these itself, whatever the end is."""
        # Of a datagram beyond Twisted's 8,192 bytes the rest would be lost in silence, and so would be the records in it.
        return self._reactor.listenUDP(*words, maxPacketSize=_LONGEST_DATAGRAM, **options)

    def connectTCP(self, *words: Any, **options: Any) -> Any:
        """See IReactorTCP: for an answer that is too long for a datagram."""
        connector = self._reactor.connectTCP(*words, **options)
        self._connectors.append(connector)
        return connector

    def release(self) -> None:
        for call in self._calls:
            if call.active():
                call.cancel()
        for connector in self._connectors:
            connector.disconnect()
