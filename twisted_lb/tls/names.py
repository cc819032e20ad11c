"""Names of hosts in TLS: which certificate is for which (RFC 6125), and which policy."""

from collections.abc import Iterator

# A certificate's `*` stands for one label.
ANY = "*."


def normal(name: str) -> str:
    """A host as it is compared: in lower case, without port and without one dot at its end, as routes match it. The case of ASCII alone
    is no matter, as it is there: another host than routes see must not be found.
    """
    lower = (
        name.lower()
        if name.isascii()
        else name.encode("utf-8", "surrogateescape").lower().decode("utf-8", "surrogateescape")
    )
    if lower[:1] == "[":
        return lower[: lower.find("]") + 1]
    return lower.partition(":")[0].removesuffix(".")


def wildcard_of(name: str) -> str:
    """The wildcard that is for a host: `*.example.com` for `www.example.com`; empty where none is."""
    label, dot, rest = name.partition(".")
    return f"{ANY}{rest}" if label and dot and rest else ""


def above(name: str) -> Iterator[str]:
    """The names that a host is below, the nearest one first: `example.com` and `com` for `www.example.com`."""
    while "." in name:
        name = name.partition(".")[2]
        yield name


def covered(pattern: str, name: str) -> bool:
    """Whether a certificate's name is for a host that a pattern of hosts means: `*.example.com` means all below."""
    if not pattern.startswith(ANY):
        return name in (pattern, wildcard_of(pattern))
    suffix = pattern[1:]
    return name.endswith(suffix)
