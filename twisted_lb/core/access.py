"""Access rules: who is allowed and who denied by network, for the client and for the peer (IP allow list, deny list)."""

import enum
from collections.abc import Sequence
from typing import Final

from twisted_lb.core.networks import Networks


class AccessRule:
    """One rule: it allows, or denies, whom its networks cover."""

    __slots__ = ("allow", "networks")

    def __init__(self, networks: Networks, *, allow: bool) -> None:
        self.networks: Final = networks
        self.allow: Final = allow

    def __repr__(self) -> str:
        return f"<AccessRule {'allow' if self.allow else 'deny'} {len(self.networks.networks)}>"


class AccessRules:
    """An access list: of the rules in their order the first whose networks cover an address decides; where none does, it is
    `otherwise`: True allows. Text that is no address (a client of a unix socket) is covered by none.
    """

    __slots__ = ("_runs", "otherwise")

    def __init__(self, rules: Sequence[AccessRule], *, otherwise: bool) -> None:
        self.otherwise: Final = otherwise
        self._runs: Final = _runs(rules)

    def allows(self, address: str) -> bool:
        """Whether the address may come in."""
        for rule in self._runs:
            if rule.networks.covers(address):
                return rule.allow
        return self.otherwise

    def __repr__(self) -> str:
        return f"<AccessRules {self._runs}, otherwise {'allow' if self.otherwise else 'deny'}>"


def _runs(rules: Sequence[AccessRule]) -> list[AccessRule]:
    """Neighbours that say the same are one rule: in a list that only allows, or only denies, one look decides."""
    runs: list[AccessRule] = []
    for rule in rules:
        if runs and runs[-1].allow == rule.allow:
            both = Networks([*runs[-1].networks.networks, *rule.networks.networks])
            runs[-1] = AccessRule(both, allow=rule.allow)
        else:
            runs.append(rule)
    return runs


class Denied(enum.Enum):
    """By which rules somebody is denied access."""

    PEER = "peer"
    CLIENT = "client"


class Access:
    """Access to a listener or a route: rules on the peer, who is connected, and rules on the client, who asks, after trusted
    proxies. Both have to allow; None stands for no rules.

    A client's address is only as true as the proxies that name it: to let in nothing but those proxies is a rule on the peer.
    The peer can be asked once, when it connects; the client at each request.
    """

    __slots__ = ("client", "peer")

    def __init__(self, client: AccessRules | None = None, peer: AccessRules | None = None) -> None:
        self.client: Final = client
        self.peer: Final = peer

    def denies(self, client: str, peer: str) -> Denied | None:
        """By which rules a request of this client over a connection of this peer is denied; None: it is allowed."""
        if self.peer is not None and not self.peer.allows(peer):
            return Denied.PEER
        if self.client is not None and not self.client.allows(client):
            return Denied.CLIENT
        return None
