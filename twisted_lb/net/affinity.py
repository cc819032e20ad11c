"""Affinity (sticky sessions) in the words of HTTP: by what requests are bound to backends, and what clients are told of it."""

import enum
import secrets as chance
from collections.abc import Sequence
from typing import Final

from twisted_lb.core.affinity import Bond, Home
from twisted_lb.core.ask import Ask, key_of
from twisted_lb.core.backend import Backend
from twisted_lb.core.gate import client_key
from twisted_lb.core.held import Held
from twisted_lb.core.pool import Pool
from twisted_lb.core.rate_limits import RateKey
from twisted_lb.core.seal import Seals
from twisted_lb.net.request_keys import RequestKey
from twisted_lb.wire.cookies import cookie_set, cookies_in
from twisted_lb.wire.response import ResponseHead

_SECRET_BYTES: Final = 32
# Cookies of one name are tried up to so many: each costs a MAC, and who sends more has made them up.
_MOST_COOKIES: Final = 4
# A cookie is renewed when a tenth of its time is over.
_RENEW_PART: Final = 10
# One from the future is ours, and was sealed by a clock that was ahead: beyond this it is renewed.
_AHEAD_S: Final = 300
# What ends a session of MCP, where it succeeds (2xx), and what says that it has ended (its transport, streamable HTTP: session management).
_DELETE: Final = b"DELETE"
_REDIRECT: Final = 300
_GONE: Final = 404
_BAD: Final = 500
_KEPT: Final = Held.KEPT
_FULL: Final = Held.FULL


class By(enum.Enum):
    """What binds requests."""

    COOKIE = "cookie"  # one of the balancer's own, sealed
    KEY = "key"  # something that requests bring themselves
    LEARNED = "learned"  # something that answers give, and requests bring back


class CookieForm:
    """The form of the cookie: its name, its other attributes, and whether it says `Secure` and which `SameSite`; None: as the scheme
    that the client came by wants it.
    """

    __slots__ = ("_attributes", "_same_site", "_secure", "name")

    def __init__(
        self,
        name: bytes,
        *,
        max_age_s: float,
        path: bytes = b"/",
        domain: bytes = b"",
        secure: bool | None = None,
        same_site: bytes | None = None,
    ) -> None:
        self.name: Final = name
        where = b"; Domain=" + domain if domain else b""
        self._attributes: Final = b"; Path=%b%b; Max-Age=%d; HttpOnly" % (path, where, max(int(max_age_s), 1))
        self._secure: Final = secure
        self._same_site: Final = same_site

    def line(self, value: bytes, *, tls: bool) -> bytes:
        """The field line that sets it, ended by CRLF. `tls`: the client came by https."""
        secure = tls if self._secure is None else self._secure
        # A browser takes `None` from who says `Secure` alone, and with `Lax` who comes from another site loses his server.
        same_site = (b"None" if secure else b"Lax") if self._same_site is None else self._same_site
        end = b"; SameSite=%b%b\r\n" % (same_site, b"; Secure" if secure else b"")
        return b"Set-Cookie: %b=%b" % (self.name, value) + self._attributes + end


class Affinity:
    """By what a pool's requests are bound to its backends, as it is configured. `secrets` seal the cookie, the first of them, and open
    it, all of them; without any, one that is made up. `key` is what requests bring, or, learned, what answers give too. `ends`: a
    DELETE ends a session, and a 404 says that it has ended (MCP).
    """

    __slots__ = ("by", "cookie", "ends", "key", "secrets")

    def __init__(
        self,
        by: By,
        *,
        cookie: CookieForm | None = None,
        secrets: Sequence[bytes] = (),
        key: RequestKey | None = None,
        ends: bool = False,
    ) -> None:
        self.by: Final = by
        self.cookie: Final = cookie
        self.secrets: Final = tuple(secrets)
        self.key: Final = key
        self.ends: Final = ends

    @property
    def label(self) -> str:
        """What it is called in explanations: `the cookie lb_1`, `the client`, `the header x-user`."""
        if self.cookie is not None:
            return f"the cookie {self.cookie.name.decode('ascii')}"
        if self.key is None:
            return "nothing"
        return f"the {'learned ' if self.by is By.LEARNED else ''}{self.key.label}"


class Bonds:
    """What binds the requests of one pool, at work: it reads what they bring, and answers what is to be told.

    `own_secret` seals where none is configured: what it has sealed is nothing to the next process; it is the `secret` that processes
    share which balance together, if they do.
    """

    __slots__ = ("_homes", "_ids", "_pool", "_seals", "affinity", "own_secret")

    def __init__(self, affinity: Affinity, pool: Pool, before: "Bonds | None" = None, secret: bytes = b"") -> None:
        self.affinity: Final = affinity
        self.own_secret: Final[bytes] = (
            secret or chance.token_bytes(_SECRET_BYTES) if before is None else before.own_secret
        )
        self._pool: Final = pool
        self._seals: Final = Seals(affinity.secrets or (self.own_secret,), pool.name)
        self._ids: dict[Backend, list[bytes]] = {}
        # By secret, which backend has which id.
        self._homes: list[dict[bytes, Home]] = []
        self.follow()

    def follow(self) -> None:
        """Follow a change of the pool's members. O(members), and an HMAC for each new one and secret."""
        bindings = self._pool.bindings
        if self.affinity.cookie is None or bindings is None:
            return
        members, known = self._pool.backends.values(), self._ids
        self._ids = {one: known.get(one) or self._seals.ids_of(str(one.address)) for one in members}
        homes: list[dict[bytes, Home]] = [{} for _ in self.affinity.secrets or (self.own_secret,)]
        for backend, ids in self._ids.items():
            home = bindings.home_of(backend)
            for number, backend_id in enumerate(ids):
                homes[number].setdefault(backend_id, home)
        self._homes = homes

    # Requests.

    @property
    def by_client(self) -> bool:
        """Whether it goes by the address of the client."""
        key = self.affinity.key
        return key is not None and key.kind is RateKey.CLIENT

    def ask(self, asked: Ask, lines: bytes, address: str, now: float, wall: float, *, touch: bool = True) -> Ask:
        """The ask of a request with these field lines, bound by what it brings. `address` is its client's, where it goes by that;
        `wall` the time in seconds since 1970. Without `touch` nothing counts as used by it.
        """
        if self.affinity.cookie is not None:
            return asked.bound_by(self._by_cookie(cookies_in(lines, self.affinity.cookie.name), wall))
        bindings, key = self._pool.bindings, self.affinity.key
        if bindings is None or key is None:
            return asked
        value = client_key(address).encode("ascii") if key.kind is RateKey.CLIENT else key.value(b"", lines)
        learned = self.affinity.by is By.LEARNED
        if not value:
            return asked.bound_by(Bond(None, Held.NEW)) if learned else asked
        number = key_of(value)
        home = bindings.find(number, now, touch=touch)
        return asked.bound_by(Bond(home, Held.UNKNOWN if learned else Held.NEW, number, early=not learned))

    def _by_cookie(self, values: Sequence[bytes], wall: float) -> Bond:
        held = Held.UNKNOWN if values else Held.NEW
        max_age_s = self._max_age_s
        for value in values[:_MOST_COOKIES]:
            opened = self._seals.open(value)
            if opened is None:
                continue
            age_s = wall - opened.sealed_at
            if age_s >= max_age_s:
                continue
            home = self._homes[opened.secret].get(opened.backend_id)
            if home is None:
                held = Held.REMOVED
                continue
            renew = opened.secret > 0 or age_s >= max_age_s / _RENEW_PART or age_s < -_AHEAD_S
            return Bond(home, held, renew=renew)
        return Bond(None, held)

    @property
    def _max_age_s(self) -> float:
        bindings = self._pool.bindings
        return 0.0 if bindings is None else bindings.max_age_s

    # Answers.

    def answered(self, bond: Bond, backend: Backend, method: bytes, head: ResponseHead, now: float) -> bool:
        """Take an answer of a backend: what it teaches is learned, and the client may have to be told where it is bound now (True). A
        binding does not move where its own backend was just full, nor by an answer that says that something is wrong (5xx).
        """
        bindings = self._pool.bindings
        if bindings is None or head.status >= _BAD:
            return False
        by = self.affinity.by
        if by is By.COOKIE:
            return bond.renew if bond.backend is backend else bond.held is not _FULL
        if by is By.LEARNED:
            self._learn(bond, backend, method, head, now)
        return False

    def _learn(self, bond: Bond, backend: Backend, method: bytes, head: ResponseHead, now: float) -> None:
        bindings, key = self._pool.bindings, self.affinity.key
        if bindings is None or key is None:
            return
        if key.kind is RateKey.COOKIE:
            given = cookie_set(head.lines, key.name)
            ended = given == b""
        else:
            given = key.value(b"", head.lines)
            ended = self.affinity.ends and (head.status == _GONE or (method == _DELETE and head.status < _REDIRECT))
        if ended and bond.key:
            if bond.held is not _FULL:  # else who says so does not have the session
                bindings.forget(bond.key)
        elif given:
            bindings.bind(key_of(given), backend, now)
        elif bond.home is not None and bond.held is not _KEPT and bond.held is not _FULL:
            bindings.bind(bond.key, backend, now)

    def cookie_line(self, backend: Backend, wall: float, *, tls: bool) -> bytes:
        """The line that binds the client to this backend, ended by CRLF; nothing where it is no member any more."""
        ids, cookie = self._ids.get(backend), self.affinity.cookie
        if ids is None or cookie is None:
            return b""
        return cookie.line(self._seals.seal(ids[0], wall), tls=tls)

    def __repr__(self) -> str:
        return f"<Bonds of {self._pool.name} by {self.affinity.by.value}>"
