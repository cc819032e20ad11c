"""Flaws: what is wrong with certificates and revocation lists that are in use all the same; peers serve them too, and loudly."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

_DAY_S: Final = 86400
# Let's Encrypt renews after two thirds of its 90 days: whoever has 21 left has missed it for a week.
SOON_S: Final = 21 * _DAY_S


class BadCertificate(ValueError):
    """What is wrong with a file of certificates, keys or revocation lists, in one line that names it."""


class FlawKind(Enum):
    """What kind of flaw it is."""

    EXPIRED = "expired"
    NOT_YET = "not yet valid"
    SOON = "expires soon"
    NO_NAMES = "no names"
    CHAIN = "chain"
    READABLE = "readable"
    STALE_CRL = "stale revocation list"
    UNSERVED = "no certificate"

    @property
    def grave(self) -> bool:
        """Whether peers refuse what has it, or are refused by it."""
        return self in (FlawKind.EXPIRED, FlawKind.NOT_YET, FlawKind.NO_NAMES, FlawKind.STALE_CRL)


@dataclass(frozen=True)
class Flaw:
    """One flaw: its kind, and what is wrong with which file."""

    kind: FlawKind
    text: str

    def __str__(self) -> str:
        return self.text


def days(seconds: float) -> str:
    """A time in days as messages say it: `3 days`, `1 day`, `less than a day`."""
    whole = int(seconds // _DAY_S)
    return "less than a day" if whole < 1 else "1 day" if whole == 1 else f"{whole} days"
