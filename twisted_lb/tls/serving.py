"""Serving: by which context each handshake of a listener is made, by the host that the client names (SNI)."""

import ssl
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from twisted_lb.tls.certificate import Certificate
from twisted_lb.tls.contexts import context_of, hear_names
from twisted_lb.tls.flaws import Flaw
from twisted_lb.tls.names import ANY, above, covered, normal, wildcard_of
from twisted_lb.tls.peer import Peer, peer_of
from twisted_lb.tls.settings import PolicySettings, TlsSettings

# Tickets are as good as the key that they are made with, which lives as long as the first context: keys are to be changed.
TICKET_KEY_LASTS_S: Final = 24 * 3600.0
_REFUSED: Final = ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

# Certificates for the same names, one of each kind of key, and those of OpenSSL.
Group = tuple[Certificate, ...]


class Policy:
    """A TLS policy in force: what a client must be able to do and show. The same object over reloads while its settings are equal, so
    that two connections can be compared by it.
    """

    __slots__ = ("name", "settings")

    def __init__(self, settings: PolicySettings) -> None:
        self.settings: Final = settings
        self.name: Final = settings.name or "other hosts"

    @property
    def client_certificate(self) -> str:
        """`off`, `request` or `require`."""
        return self.settings.client_certificate

    def met_by(self, other: "Policy") -> bool:
        """Whether a connection that was made under another policy meets this one: under this one itself, or one of before a reload
        that asked for the same, with an older revocation list or other ciphers.
        """
        mine, theirs = self.settings, other.settings
        return self is other or (
            mine.client_certificate == theirs.client_certificate
            and mine.client_ca == theirs.client_ca
            and mine.preset == theirs.preset
        )

    def __repr__(self) -> str:
        asks = f", client certificate: {self.client_certificate}" if self.settings.asks else ""
        return f"<Policy {self.name}: {self.settings.preset}{asks}>"


class Chosen:
    """What was chosen for a handshake: the first context of a policy, to `wrap_bio` with, and that policy."""

    __slots__ = ("context", "policy")

    def __init__(self, context: ssl.SSLContext, policy: Policy) -> None:
        self.context: Final = context
        self.policy: Final = policy

    def __repr__(self) -> str:
        return f"<Chosen {self.policy!r}>"


class _First:
    """The first context of a policy. It has the keys of tickets, and says what is verified and which versions are spoken; the
    certificate comes from the contexts behind it, which are switched to by the name that OpenSSL has read. So tickets survive
    other certificates, and those of one policy are worth nothing in another one.
    """

    def __init__(self, policy: Policy, names: "_Names") -> None:
        self.policy: Final = policy
        self.names: _Names = names
        self.made_at: float | None = None
        self.context: ssl.SSLContext = context_of(policy.settings, names.default)
        self.chosen: Chosen = Chosen(self.context, policy)
        hear_names(self.context, self._switch)

    def _switch(self, connection: Any, server_name: str | None, _context: ssl.SSLContext) -> int | None:
        """Told by OpenSSL: show the certificate of this name. One of another policy is refused, whatever was chosen before: so
        nobody gets past a policy by a hello that we and OpenSSL read differently.
        """
        name = normal(server_name or "")
        names = self.names
        if names.policy_at(name) is not self.policy:
            return _REFUSED
        leaf = names.leaf(self.policy, name)
        if leaf is None:
            return _REFUSED
        connection.context = leaf
        return None


class _Names:
    """Which certificates and which policy are for a host. It never changes."""

    def __init__(
        self, settings: TlsSettings, policies: Mapping[PolicySettings, Policy], before: "_Names | None" = None
    ) -> None:
        self._strict: Final = settings.strict_sni
        self._groups: Final = _groups(settings.certificates)
        self.default: Final = _default(settings.certificates, self._groups)
        self._policy: Final = policies[settings.policy]
        self._exact: Final = {host: policies[one] for host, one in settings.hosts if not host.startswith(ANY)}
        self._below: Final = {host[2:]: policies[one] for host, one in settings.hosts if host.startswith(ANY)}
        known = {} if before is None else before.leaves
        self.leaves: Final[dict[tuple[Policy, Group], ssl.SSLContext]] = {}
        for policy, group in self._wanted(settings):
            key = policy, group
            if key not in self.leaves:
                self.leaves[key] = known.get(key) or context_of(policy.settings, group)

    def _wanted(self, settings: TlsSettings) -> Iterable[tuple[Policy, Group]]:
        """The contexts that some name may need."""
        groups = {self.default, *self._groups.values()}
        yield from ((self._policy, group) for group in groups)
        for pattern, policy in self._exact.items():
            yield policy, self.group(pattern) or self.default
        for below, policy in self._below.items():
            pattern = f"{ANY}{below}"
            found = {group for name, group in self._groups.items() if covered(pattern, name)}
            yield from ((policy, group) for group in {self.default, *found})

    def policy_at(self, name: str) -> Policy:
        """The policy of a host, whose name is normal: by itself, else of the nearest name above that has one."""
        found = self._exact.get(name)
        if found is None and self._below:
            found = next((self._below[one] for one in above(name) if one in self._below), None)
        return self._policy if found is None else found

    def group(self, name: str) -> Group | None:
        """The certificates for a host: by its name, else by a wildcard of one label."""
        found = self._groups.get(name)
        return self._groups.get(wildcard_of(name)) if found is None else found

    def serves(self, name: str) -> bool:
        """Whether a handshake for a name goes on."""
        return not self._strict or self.group(name) is not None

    def leaf(self, policy: Policy, name: str) -> ssl.SSLContext | None:
        """The context to switch to; None where the name is refused."""
        group = self.group(name)
        if group is None:
            if self._strict:
                return None
            group = self.default
        return self.leaves.get((policy, group))


class Serving:
    """What a listener serves TLS with: see `choose`. Made before it is in force; contexts that are in use are never changed."""

    def __init__(self, settings: TlsSettings, names: _Names, firsts: Sequence[_First]) -> None:
        self.settings: Final = settings
        self._names: Final = names
        self._firsts: Final = {one.policy: one for one in firsts}
        # Whether all hosts have one policy, so that nobody needs to ask.
        self.single: Final = len(firsts) == 1

    @classmethod
    def of(cls, settings: TlsSettings, previous: "Serving | None" = None) -> "Serving":
        """The serving of a listener by its settings. What is equal in `previous` is taken over: policies, with their first contexts
        and so their tickets, and contexts of equal certificates. Handshakes go on by `previous` until the new one is asked.
        """
        known = {} if previous is None else {one.settings: one for one in previous._firsts}
        wanted = dict.fromkeys((settings.policy, *(one for _, one in settings.hosts)))
        policies = {one: known.get(one) or Policy(one) for one in wanted}
        names = _Names(settings, policies, None if previous is None else previous._names)
        firsts = {} if previous is None else previous._firsts
        return cls(settings, names, [firsts.get(one) or _First(one, names) for one in policies.values()])

    def choose(self, server_name: str) -> Chosen | None:
        """The context for a client that names this host (empty: none), before a byte is given to OpenSSL; None where `strict_sni`
        refuses it (the alert is unrecognized_name).
        """
        name = normal(server_name)
        names = self._names
        if not names.serves(name):
            return None
        first = self._firsts[names.policy_at(name)]
        # A first context may be older than these certificates: whoever is asked is in force.
        first.names = names
        return first.chosen

    def policy_of(self, host: str) -> Policy:
        """The policy of the host that a request asks; a connection of another one must not carry it, unless it is `met_by` that."""
        return self._names.policy_at(normal(host))

    def peer(self, tls: Any) -> Peer | None:
        """What the certificate of this connection's client says; None where it has shown none."""
        return peer_of(tls.getpeercert(), tls.getpeercert(True))

    def age(self, now: float) -> None:
        """Let first contexts go that are a day old, in monotonic seconds, and the keys of tickets with them; to be told now and then."""
        for policy, first in self._firsts.items():
            if first.made_at is None:
                first.made_at = now
            elif now - first.made_at >= TICKET_KEY_LASTS_S:
                other = self._firsts[policy] = _First(policy, self._names)
                other.made_at = now

    def flaws(self, now: float) -> tuple[Flaw, ...]:
        """What is wrong with certificates and revocation lists in use, now in seconds of the epoch."""
        return tuple(self.settings.flaws_at(now))

    def expires(self) -> dict[str, float]:
        """When each certificate, or one of its chain, expires first, in seconds of the epoch, by what it is called and its kind of
        key; of several that are called the same the first that does.
        """
        found: dict[str, float] = {}
        for one in self.settings.certificates:
            name = f"{one.label} ({one.key_type})"
            found[name] = min(one.expires, found.get(name, one.expires))
        return found

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """What it serves, the default one first."""
        return self.settings.certificates

    def __repr__(self) -> str:
        return f"<Serving {len(self.certificates)} certificates, {len(self._firsts)} policies>"


def _groups(certificates: Iterable[Certificate]) -> dict[str, Group]:
    """By name the certificates for it, one of each kind of key: the one that lasts longest."""
    best: dict[str, dict[str, Certificate]] = {}
    for one in certificates:
        for name in one.names:
            kinds = best.setdefault(name, {})
            if one.key_type not in kinds or kinds[one.key_type].not_after < one.not_after:
                kinds[one.key_type] = one
    return {name: tuple(kinds.values()) for name, kinds in best.items()}


def _default(certificates: Sequence[Certificate], groups: Mapping[str, Group]) -> Group:
    """What is shown to who names no host, or one that no certificate is for: the first, with all that is for its first name."""
    first = certificates[0]
    return groups[first.names[0]] if first.names else (first,)
