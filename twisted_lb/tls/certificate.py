"""A certificate: what it is for, until when, and its chain and key as OpenSSL takes them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from twisted_lb.tls.flaws import SOON_S, Flaw, FlawKind, days

# Where one was read that was read nowhere.
SELF_SIGNED: Final = "self-signed"


@dataclass(frozen=True)
class Certificate:
    """A certificate with its chain and key. `names` are the hosts and addresses that it is for, in lower case, `*.example.com` among
    them. `not_before` and `not_after` are its own, in seconds of the epoch; `expires` is when the first of the chain does.
    `sources` are the files that it was read from; `flaws` what is wrong with them whatever time it is.
    """

    names: tuple[str, ...]
    chain_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)
    not_before: float
    not_after: float
    expires: float
    key_type: str
    fingerprint: str
    serial: str
    issuer: str
    sources: tuple[str, ...] = ()
    flaws: tuple[Flaw, ...] = ()

    @property
    def label(self) -> str:
        """What messages and metrics call it: its first name, or where it was read."""
        return self.names[0] if self.names else self.where

    @property
    def where(self) -> str:
        """The file that it was read from."""
        return self.sources[0] if self.sources else "the certificate"

    def flaws_at(self, now: float) -> Iterator[Flaw]:
        """What is wrong with it at a moment, in seconds of the epoch."""
        yield from self.flaws
        if now < self.not_before:
            yield Flaw(FlawKind.NOT_YET, f"{self.where}: is not valid before {said(self.not_before)}")
        if now >= self.expires:
            whose = "" if self.expires == self.not_after else "a certificate of the chain "
            yield Flaw(FlawKind.EXPIRED, f"{self.where}: {whose}has expired on {said(self.expires)}: clients refuse it")
        elif self.expires - now < SOON_S:
            left = days(self.expires - now)
            yield Flaw(FlawKind.SOON, f"{self.where}: expires in {left}, on {said(self.expires)}")

    def __str__(self) -> str:
        return f"{self.label} ({self.key_type}, until {said(self.not_after)}, {self.fingerprint[:16]})"


def said(moment: float) -> str:
    """A moment of the epoch as messages say it: `2026-11-27`."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")
