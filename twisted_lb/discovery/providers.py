"""The providers that there are, by the scheme of what they follow: `file:/etc/lb/api.json`, `https://registry/api`,
`srv:_http._tcp.app.internal`. Others come from packages, by their entry points in the group `twisted_lb.providers`.
"""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Final

from twisted_lb.discovery.file import FileSource
from twisted_lb.discovery.following import Following
from twisted_lb.discovery.name_servers import NameServers, servers_of
from twisted_lb.discovery.provider import ListRules, Means, Provider, text_of
from twisted_lb.discovery.srv import SrvSource

GROUP: Final = "twisted_lb.providers"

# Makes the provider of a place, which is given whole.
Maker = Callable[[str, ListRules, Means], Provider]


def _file(where: str, rules: ListRules, means: Means) -> Provider:
    source = FileSource(where.removeprefix("file:"), means.time, rules.refresh_s, weight=rules.weight)
    return Following(source, rules, means)


def _url(where: str, rules: ListRules, means: Means) -> Provider:
    # Late: with Twisted's HTTP client comes its parser of `systemd:` addresses, which takes the sockets of a service manager
    # (LISTEN_FDS) out of the environment as soon as it is imported.
    from twisted_lb.discovery.url import UrlSource
    from twisted_lb.outgoing_http import OneOffClient

    source = UrlSource(where, OneOffClient(means.reactor), rules.refresh_s, weight=rules.weight)
    return Following(source, rules, means)


def _srv(where: str, rules: ListRules, means: Means) -> Provider:
    servers = NameServers(means.reactor, means.time, servers_of)
    return Following(SrvSource(where.removeprefix("srv:"), servers.lookup_service, means.time), rules, means)


PROVIDERS: Final[dict[str, Maker]] = {"file": _file, "http": _url, "https": _url, "srv": _srv}


def make_provider(where: str, rules: ListRules, means: Means) -> Provider:
    """The provider for a place; ValueError, in one line, where nobody knows its scheme."""
    scheme, colon, _ = where.partition(":")
    maker = (PROVIDERS.get(scheme) or _of_a_package(scheme)) if colon else None
    if maker is None:
        raise ValueError(f"{where!r}: no provider for that, there are {', '.join(PROVIDERS)}")
    return maker(where, rules, means)


def _of_a_package(scheme: str) -> Maker | None:
    """What an installed package offers; looked for only where it is needed."""
    for one in entry_points(group=GROUP, name=scheme):
        try:
            maker: Maker = one.load()
            return maker
        except Exception as error:
            raise ValueError(f"the provider {scheme} ({one.value}) cannot be loaded: {text_of(error)}") from None
    return None
