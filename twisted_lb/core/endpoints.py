"""Endpoints: the members of a pool by what is configured and by what names mean (DNS, headless service, scaled container).

A name with two or more addresses of one family is spread: each address is a backend of its own, called NAME@ADDRESS. Any other
name is one backend, whose addresses are tried within one attempt.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from twisted_lb.core.address import Address, TcpAddress, is_name
from twisted_lb.core.backend import AdminState, BackendSpec
from twisted_lb.core.succession import Succession

# An endpoint leaves after so many good answers in a row without it: a resolver's answer may be a part of the truth.
LEAVES_AFTER: Final = 3
# So many endpoints a name has at most: an answer of more is a mistake, or somebody's attack.
MOST: Final = 256
# `resolve`: a name with several addresses is spread over them.
AUTO: Final = "auto"


class _Member:
    """One configured backend, and what its name means, if it has one."""

    def __init__(self, spec: BackendSpec, address: Address) -> None:
        self.spec: BackendSpec = spec
        self.address: Final = address
        self.spreads: bool = False
        # The addresses of the last good answer, the one in force first.
        self.hosts: list[str] = []
        # While it is spread: its endpoints, and how many good answers in a row there were without each.
        self.absent: dict[str, int] = {}
        # The address that the one backend had before it was spread, or has since; empty when it is not known.
        self.sole: str = ""

    def begin_as(self, other: "_Member", family: str) -> None:
        """Begin with what is known of the same name where all its addresses, or those of another family, were wanted."""
        self.hosts = [host for host in other.hosts if _of_family(host, family)]
        absent = {host: times for host, times in other.absent.items() if _of_family(host, family)}
        if len(absent) > 1:
            self.spreads = True
            self.absent = absent

    def go_by(self, spec: BackendSpec, *, spreads: bool) -> None:
        """Follow another configuration of the same name or address."""
        self.spec = spec
        if spreads is self.spreads:
            return
        self.spreads = spreads
        if spreads:
            self._spread(self.hosts)
        elif self.absent:
            self.sole = self.hosts[0] if self.hosts and self.hosts[0] in self.absent else ""
            self.absent.clear()

    def hear(self, hosts: Sequence[str]) -> bool:
        """Take a good answer, the address in force first; True if other endpoints follow from it."""
        before = list(self.absent)
        if self.absent:
            self._count(hosts)
        if not self.absent and self.spreads:
            self._spread(hosts)
        self.hosts = list(hosts)
        return list(self.absent) != before

    def _spread(self, hosts: Sequence[str]) -> None:
        """Spread the name over its addresses if it has several of one family that are not this machine itself."""
        found = _of_one_family(hosts, hosts)
        if len(found) < 2 or all(_loopback(host) for host in found):
            return
        known = _of_one_family(self.hosts, found)
        self.sole = next((host for host in known if host in found), known[0] if known else "")
        if self.sole and self.sole not in found:
            self.absent[self.sole] = 1  # it serves alone so far, and leaves as any other
        self._join(found)

    def _count(self, hosts: Sequence[str]) -> None:
        """Count a good answer: who is in it stays or joins, who is missing too often leaves."""
        found = _of_one_family(hosts, [*hosts, *self.absent])
        for host in list(self.absent):
            self.absent[host] = 0 if host in found else self.absent[host] + 1
            if self.absent[host] >= LEAVES_AFTER:
                del self.absent[host]
        self._join(found)
        if len(self.absent) < 2 or all(_loopback(host) for host in self.absent):
            self.sole = next(iter(self.absent)) if len(self.absent) == 1 else ""
            self.absent.clear()

    def _join(self, found: Sequence[str]) -> None:
        for host in found:
            if len(self.absent) < MOST:
                self.absent.setdefault(host, 0)

    def specs(self) -> Iterator[BackendSpec]:
        """The backends that it is now."""
        if not self.absent:
            yield replace(self.spec, address=self.address)
        for host in self.absent:
            yield replace(self.spec, name=self.endpoint(host), address=self._where(host))

    def endpoint(self, host: str) -> str:
        """What an endpoint is called."""
        return f"{self.spec.name}@{self._where(host)}"

    def _where(self, host: str) -> TcpAddress:
        assert isinstance(self.address, TcpAddress)
        return TcpAddress(host, self.address.port, name=self.address.host)


def _of_one_family(hosts: Sequence[str], by: Sequence[str]) -> list[str]:
    """The addresses of one family: IPv4 if any of `by` is, else IPv6."""
    old = any(":" not in host for host in by)
    return [host for host in hosts if (":" not in host) is old]


def _of_family(host: str, family: str) -> bool:
    """Whether an address is of this family; empty: any will do."""
    return not family or (":" in host) is (family == "ipv6")


def _loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"


class Endpoints:
    """What a pool's members are, as the configuration and the answers of name servers have it. It knows no records: what
    becomes of those says a `Succession`.
    """

    def __init__(self) -> None:
        self.by: tuple[str, str] = ("", "")  # the pool's `resolve` and `family`
        self._configured: dict[str, _Member] = {}
        self._at: dict[Address, list[_Member]] = {}
        self._admin: dict[str, tuple[AdminState, str]] = {}  # and who has said so
        self._present: dict[str, _Member] = {}  # what each member is, or is an endpoint of

    def configure(self, specs: Sequence[BackendSpec], *, resolve: str, family: str) -> None:
        """Have these backends; whoever stays as it is keeps its endpoints. `resolve` and `family` are the pool's. ValueError,
        and nothing changed, when a name is there twice.
        """
        configured: dict[str, _Member] = {}
        known = {one.address: one.hosts for one in self._configured.values()}
        for spec in specs:
            if spec.name in configured:
                raise ValueError(f"{spec.name} is there twice")
            address = address_of_spec(spec, family)
            member = before = self._configured.get(spec.name)
            if member is None or member.address != address:
                member = _Member(spec, address)
                member.hosts = list(known.get(address, ()))
                if before is not None and isinstance(address, TcpAddress) and _same_name(before.address, address):
                    member.begin_as(before, address.family)
            configured[spec.name] = member
        for spec in specs:
            spreads = (spec.resolve or resolve) == AUTO and is_name(spec.address)
            configured[spec.name].go_by(spec, spreads=spreads)
        self._configured = configured
        self._at = {}
        for one in configured.values():
            self._at.setdefault(one.address, []).append(one)
        self.by = resolve, family
        self._admin = {
            name: admin for name, admin in self._admin.items() if name in configured or _name_of(name) in configured
        }

    @property
    def names(self) -> list[TcpAddress]:
        """The addresses whose names are to be resolved."""
        return [address for address in self._at if isinstance(address, TcpAddress) and is_name(address)]

    def hear(self, address: TcpAddress, hosts: Sequence[str]) -> bool:
        """Take the addresses of a name, the one in force first: a good answer, which has some. True if other members follow."""
        heard = [one.hear(hosts) for one in self._at.get(address, ())]
        return any(heard)

    def singles(self, address: TcpAddress) -> list[str]:
        """The members that are this name, and not an endpoint of it."""
        return [one.spec.name for one in self._at.get(address, ()) if not one.absent]

    def sole(self, address: TcpAddress) -> str:
        """The address that is left of a name which was spread and is one backend again; else empty."""
        return next((one.sole for one in self._at.get(address, ()) if not one.absent), "")

    def address_of(self, name: str) -> Address | None:
        """Where a configured backend is, as it is configured; None for other names."""
        one = self._configured.get(name)
        return None if one is None else one.address

    def name_of(self, member: str) -> TcpAddress | None:
        """The address whose name leads to a member; None where nothing was resolved for it."""
        one = self._present.get(member)
        address = None if one is None else one.address
        return address if isinstance(address, TcpAddress) and is_name(address) else None

    def knows(self, name: str) -> bool:
        """Whether somebody is called so: what is configured, or a member."""
        return name in self._configured or name in self._present

    def command(self, name: str, admin: AdminState, by: str = "") -> list[str]:
        """The members that a command for this name is for; it also holds for endpoints that come later: those of this name, or
        the one that is called so. `by`: see `Pool.command`; the same again, by nobody, is still whose it was.
        """
        before, who = self._admin.get(name, (AdminState.READY, ""))
        if name in self._configured:
            self._admin = {one: state for one, state in self._admin.items() if _name_of(one) != name}
        self._admin[name] = admin, by or (who if before is admin else "")
        return self.members_of(name)

    def members_of(self, name: str) -> list[str]:
        """The members of this name: those that are called so, and the endpoints of a backend that is."""
        return [member for member, one in self._present.items() if name in (member, one.spec.name)]

    def members(self) -> tuple[list[BackendSpec], Succession]:
        """The members from now on, and what becomes of the records of those who were there at the last call."""
        before, self._present = self._present, {}
        succession = Succession(self._configured)
        specs: list[BackendSpec] = []
        for name, one in self._configured.items():
            for spec in one.specs():
                # Somebody may have called a backend of theirs as we call an endpoint: theirs it is.
                if spec.name == name or spec.name not in self._configured:
                    self._present[spec.name] = one
                    specs.append(spec)
                    self._tell_new(succession, one, spec, before)
        for member, one in before.items():
            if member not in self._present and self._configured.get(one.spec.name) is one:
                _tell_gone(succession, one, member)
        return specs, succession

    def _tell_new(self, succession: Succession, one: _Member, spec: BackendSpec, before: dict[str, _Member]) -> None:
        name = one.spec.name
        if spec.name in before:
            return
        admin = self._admin.get(spec.name) or self._admin.get(name)
        if admin is not None:
            succession.admin[spec.name] = admin
        if one.sole:
            other = name if one.absent else one.endpoint(one.sole)
            if before.get(other) is one and (not one.absent or spec.name == one.endpoint(one.sole)):
                succession.heirs[spec.name] = other
        if one in before.values() and one.spreads:
            succession.reasons[spec.name] = _why_new(spec.address)


def _name_of(endpoint: str) -> str:
    """The configured backend that a member is an endpoint of, by the name of the member; empty for others."""
    return endpoint.rpartition("@")[0]


def _why_new(address: Address) -> str:
    """Why there is a new member at this address: one of its name's, or the name itself."""
    assert isinstance(address, TcpAddress)
    if address.name:
        return f"{address.host} is an address of {address.name}"
    return f"{address.host} has one address a family again"


def _tell_gone(succession: Succession, one: _Member, member: str) -> None:
    """A member has gone, because its name has other addresses."""
    assert isinstance(one.address, TcpAddress)
    host = one.address.host
    if member == one.spec.name:
        succession.reasons[member] = f"{host} has several addresses"
    elif not one.absent and one.sole and member == one.endpoint(one.sole):
        succession.reasons[member] = f"{host} has no other address"
    elif one.spreads:
        succession.resting[member] = one.spec.name
        succession.reasons[member] = f"{LEAVES_AFTER} answers for {host} came without it"


def address_of_spec(spec: BackendSpec, family: str) -> Address:
    """Where a configured backend is, and in which family; a literal address has one already."""
    wanted = spec.family or family
    if wanted == AUTO or not isinstance(spec.address, TcpAddress) or not is_name(spec.address):
        return spec.address
    return replace(spec.address, family=wanted)


def _same_name(one: Address, other: TcpAddress) -> bool:
    """Whether two addresses differ in the family that is wanted alone."""
    return isinstance(one, TcpAddress) and replace(one, family=other.family) == other
