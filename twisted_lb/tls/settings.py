"""The settings of TLS: what a listener's configuration and its files come to, to be compared with what was before."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from twisted_lb.tls.certificate import SELF_SIGNED, Certificate, said
from twisted_lb.tls.flaws import Flaw, FlawKind
from twisted_lb.tls.names import covered, normal
from twisted_lb.tls.pem import BadCertificate, in_pem, read_cas, read_crls


@dataclass(frozen=True)
class PolicySettings:
    """The settings of a TLS policy. `name` is what messages call it: the hosts that it is for, empty for all others; two that
    differ in that alone are the same. `ciphers` empty: the preset's. `client_ca` and `crl` are PEM. `client_certificate`: `off`,
    `request` or `require`. `stale_at`: when the first of its revocation lists is past its next update, in seconds of the epoch.
    """

    name: str = field(default="", compare=False)
    preset: str = "intermediate"
    ciphers: str = ""
    client_certificate: str = "off"
    client_ca: bytes = field(default=b"", repr=False)
    crl: bytes = field(default=b"", repr=False)
    crl_file: str = field(default="", compare=False)
    stale_at: float = field(default=0.0, compare=False)

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

    def flaws_at(self, now: float) -> Iterator[Flaw]:
        """What is wrong with it at a moment, in seconds of the epoch."""
        for certificate in self.certificates:
            yield from certificate.flaws_at(now)
        for policy in dict.fromkeys((self.policy, *(one for _, one in self.hosts))):
            yield from policy.flaws_at(now)
        for pattern, _ in self.hosts:
            if not any(covered(pattern, name) for one in self.certificates for name in one.names):
                yield Flaw(FlawKind.UNSERVED, f"no certificate is for the host {normal(pattern)}")


def with_revocation(cas_path: str, cas: bytes, crl_path: str, crl: bytes) -> tuple[bytes, bytes, float]:
    """CAs and their revocation lists as PEM, and when the first of these is stale. BadCertificate for what is neither, and for
    lists of other CAs: with those nobody would get in.
    """
    authorities = read_cas(cas_path, cas)
    if not crl_path:
        return in_pem(authorities), b"", 0.0
    lists = read_crls(crl_path, crl)
    for one in lists:
        issuers = [ca for ca in authorities if ca.subject == one.issuer]
        if not any(one.is_signature_valid(ca.public_key()) for ca in issuers):  # type: ignore[arg-type]
            issuer = one.issuer.rfc4514_string()
            raise BadCertificate(f"{crl_path}: is the revocation list of {issuer}, which is not in {cas_path}")
    ends = [one.next_update_utc.timestamp() for one in lists if one.next_update_utc is not None]
    return in_pem(authorities), in_pem(lists), min(ends, default=float("inf"))
