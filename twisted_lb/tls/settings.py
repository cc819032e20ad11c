"""The settings of TLS: what a listener's configuration and its files come to, to be compared with what was before."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from twisted_lb.tls.certificate import SELF_SIGNED, Certificate, said
from twisted_lb.tls.flaws import Flaw, FlawKind
from twisted_lb.tls.names import covered, normal


@dataclass(frozen=True)
class PolicySettings:
    """The settings of a TLS policy. `name` is what messages call it: the hosts that it is for, empty for all others; two that
    differ in that alone are the same. `ciphers` empty: the preset's. `client_ca` and `crl` are PEM. `client_certificate`: `off`,
    `request` or `require`. `stale_at`: when the first of its revocation lists is past its next update, in seconds of the epoch. `protocols` are offered by ALPN, the preferred one first; empty: nothing is.
    """

    name: str = field(default="", compare=False)
    preset: str = "intermediate"
    ciphers: str = ""
    client_certificate: str = "off"
    client_ca: bytes = field(default=b"", repr=False)
    crl: bytes = field(default=b"", repr=False)
    crl_file: str = field(default="", compare=False)
    stale_at: float = field(default=0.0, compare=False)
    protocols: tuple[str, ...] = ("http/1.1",)

    @property
    def asks(self) -> bool:
        """Whether clients are asked for a certificate."""
        return self.client_certificate != "off"

    def flaws_at(self, now: float) -> Iterator[Flaw]:
        """What is wrong with it at a moment."""
        if self.crl and now >= self.stale_at:
            text = (
                f"{self.crl_file}: is past its next update on {said(self.stale_at)}: no client certificate is accepted"
            )
            yield Flaw(FlawKind.STALE_CRL, text)


@dataclass(frozen=True)
class TlsSettings:
    """The settings of a listener's TLS: its certificates, the default one first; the policy that holds for all hosts but those
    that have their own, by pattern (`admin.example.com`; `*.example.com`: all below); and whether other names are refused.
    """

    certificates: tuple[Certificate, ...]
    policy: PolicySettings = PolicySettings()
    hosts: tuple[tuple[str, PolicySettings], ...] = ()
    strict_sni: bool = False

    def __str__(self) -> str:
        """In a few words: `localhost, self-signed until 2027-02-25`, `www.example.com until 2026-12-24 and 3 more`."""
        first, *others = self.certificates
        own = f", {SELF_SIGNED}" if first.where == SELF_SIGNED else ""
        more = f" and {len(others)} more" if others else ""
        return f"{first.label}{own} until {said(first.expires)}{more}"

    @property
    def policies(self) -> Iterable[PolicySettings]:
        """Its policies, each once."""
        return dict.fromkeys((self.policy, *(one for _, one in self.hosts)))

    def flaws_at(self, now: float) -> Iterator[Flaw]:
        """What is wrong with it at a moment, in seconds of the epoch."""
        for certificate in self.certificates:
            yield from certificate.flaws_at(now)
        for policy in self.policies:
            yield from policy.flaws_at(now)
        for pattern, _ in self.hosts:
            if not any(covered(pattern, name) for one in self.certificates for name in one.names):
                yield Flaw(FlawKind.UNSERVED, f"no certificate is for the host {normal(pattern)}")
