"""Doubts about certificates: what their files say, and probably is not meant; it is served all the same, as peers do."""

from collections.abc import Iterator
from typing import Final

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.base import KeyPath
from twisted_lb.config.doubts import Doubt
from twisted_lb.config.objects import home_of_listener
from twisted_lb.planned import Plan
from twisted_lb.tls.flaws import FlawKind

# Each kind of flaw by its code, and the key that it is said of.
_CODES: Final = {
    FlawKind.EXPIRED: ("W61", "certificates"),
    FlawKind.NOT_YET: ("W61", "certificates"),
    FlawKind.SOON: ("W61", "certificates"),
    FlawKind.NO_NAMES: ("W62", "certificates"),
    FlawKind.CHAIN: ("W63", "certificates"),
    FlawKind.READABLE: ("W64", "certificates"),
    FlawKind.STALE_CRL: ("W65", "crl"),
    FlawKind.UNSERVED: ("W66", "hosts"),
}
# What matters where we are the client: no backend looks for a host in our certificate.
_OF_CLIENTS: Final = (FlawKind.EXPIRED, FlawKind.NOT_YET, FlawKind.SOON, FlawKind.READABLE)


def certificate_doubts(config: LoadBalancerConfig, plan: Plan, now: float) -> Iterator[Doubt]:
    """What is doubtful about the certificates of a configuration's plan, now in seconds of the epoch; each once."""
    said: set[str] = set()
    for name, listener in plan.listeners.items():
        if listener.tls is None:
            continue
        for flaw in listener.tls.flaws_at(now):
            code, key = _CODES[flaw.kind]
            if flaw.text not in said:
                said.add(flaw.text)
                yield Doubt(code, _place(config, name, key), flaw.text)
    for name, pool in plan.pools.items():
        if pool.tls is not None and pool.tls.certificate is not None:
            for flaw in pool.tls.certificate.flaws_at(now):
                if flaw.kind in _OF_CLIENTS and flaw.text not in said:
                    said.add(flaw.text)
                    yield Doubt(_CODES[flaw.kind][0], ("pools", name, "tls", "certificate"), flaw.text)


def _place(config: LoadBalancerConfig, listener: str, key: str) -> KeyPath:
    """Where a key of a listener's TLS is said, or the table that it is in."""
    home = (*home_of_listener(config, listener), "tls")
    tls = config.listeners[listener].tls if listener in config.listeners else config.tls
    return (*home, key) if key in tls.model_fields_set else home
