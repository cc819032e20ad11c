"""Watching certificates grow old: what comes to its end while the process runs is said in the log, in time and again."""

from collections.abc import Callable, Iterator
from typing import Final

from twisted.logger import Logger

from twisted_lb.core.never import NEVER
from twisted_lb.planned import Plan
from twisted_lb.tls.certificate import Certificate
from twisted_lb.tls.flaws import FlawKind
from twisted_lb.tls.settings import PolicySettings

# So often they are looked at, in seconds: it is about days.
LOOK_S: Final = 60.0
# And so often at most each of them is spoken of.
AGAIN_S: Final = 86_400.0
# What time alone brings about; all else is said when the configuration is read.
_OF_AGE: Final = (FlawKind.SOON, FlawKind.EXPIRED, FlawKind.STALE_CRL)

_log = Logger()


class CertificateWatch:
    """A watch over the certificates and revocation lists of a plan. What comes within 21 days of its end is a warning, once a day for each;
    when it is past that, another one at once. `wall` reads the time in seconds of the epoch.

    What was so when its configuration was applied has been said then (W61, W65), and is said again after a day.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall: Final = wall
        self._looked_at: float = -NEVER
        self._known: set[str] = set()
        # By what it is and its kind of flaw: when that was said, in monotonic seconds.
        self._said: dict[tuple[str, FlawKind], float] = {}

    def tick(self, now: float, plan: Plan) -> None:
        """Look at the certificates of the plan in force, unless that was just done; in monotonic seconds. To be called now and then."""
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        wall, said, known = self._wall(), self._said, self._known
        self._said, self._known = {}, set()
        for whose, name, one in _aging(plan):
            for flaw in one.flaws_at(wall):
                key = name, flaw.kind
                if flaw.kind not in _OF_AGE or key in self._said:
                    continue
                last = said.get(key, -NEVER if name in known else now)
                if now - last >= AGAIN_S:
                    last = now
                    _log.warn("{whose}: {flaw}", whose=whose, flaw=flaw.text, kind=flaw.kind.value)
                self._said[key] = last
            self._known.add(name)


def _aging(plan: Plan) -> Iterator[tuple[str, str, Certificate | PolicySettings]]:
    """What grows old in a plan: whose it is, a name that tells it from others, and itself."""
    for name, listener in plan.listeners.items():
        if listener.tls is not None:
            for certificate in listener.tls.certificates:
                yield f"listener {name}", f"{certificate.where} {certificate.fingerprint}", certificate
            for policy in listener.tls.policies:
                # A list that was renewed is another one, under the same name.
                yield f"listener {name}", f"{policy.crl_file} {policy.stale_at}", policy
    for name, pool in plan.pools.items():
        if pool.tls is not None and pool.tls.certificate is not None:
            own = pool.tls.certificate
            yield f"pool {name}", f"{own.where} {own.fingerprint}", own
