"""Endpoints: what members follow from what is configured and from what names mean."""

import pytest

from twisted_lb.core.address import TcpAddress, UnixAddress
from twisted_lb.core.backend import AdminState, BackendSpec
from twisted_lb.core.endpoints import LEAVES_AFTER, MOST, Endpoints

APP = TcpAddress("app", 80)


class Made:
    """Endpoints, and who is a member by them."""

    def __init__(self, *given: str | BackendSpec, resolve: str = "auto", family: str = "auto") -> None:
        self.endpoints = Endpoints()
        self.have(*(given or ("app:80",)), resolve=resolve, family=family)

    def have(self, *given: str | BackendSpec, resolve: str = "auto", family: str = "auto") -> list[str]:
        wanted = [BackendSpec.parse(one) if isinstance(one, str) else one for one in given]
        self.endpoints.configure(wanted, resolve=resolve, family=family)
        return self.look()

    def look(self) -> list[str]:
        self.specs, self.succession = self.endpoints.members()
        return [spec.name for spec in self.specs]

    def hear(self, *hosts: str, address: TcpAddress = APP) -> list[str]:
        before = [spec.name for spec in self.specs]
        changed = self.endpoints.hear(address, hosts)
        now = self.look()
        assert changed is (now != before)
        return now


def spread(*hosts: str) -> list[str]:
    return [f"app:80@{host}:80" if ":" not in host else f"app:80@[{host}]:80" for host in hosts]


# What is spread, and what is one backend.


@pytest.mark.parametrize(
    ("hosts", "members"),
    [
        (["10.0.0.1"], ["app:80"]),
        (["10.0.0.1", "10.0.0.2"], spread("10.0.0.1", "10.0.0.2")),
        (["10.0.0.1", "fd00::1"], ["app:80"]),
        (["fd00::1", "10.0.0.1", "fd00::2"], ["app:80"]),
        (["fd00::1", "10.0.0.1", "10.0.0.2"], spread("10.0.0.1", "10.0.0.2")),
        (["fd00::1", "fd00::2"], spread("fd00::1", "fd00::2")),
        (["127.0.0.1", "::1"], ["app:80"]),
        (["127.0.0.2", "127.0.0.3"], ["app:80"]),
        (["127.0.0.1", "10.0.0.1"], spread("127.0.0.1", "10.0.0.1")),
    ],
)
def test_a_name_with_several_addresses_of_one_family_is_spread(hosts, members):
    assert Made().hear(*hosts) == members


def test_an_endpoint_is_at_its_address_has_the_weight_and_is_called_by_the_name():
    made = Made("app:80,weight=7")
    made.hear("10.0.0.1", "10.0.0.2")
    spec = made.specs[1]
    assert (spec.name, spec.weight, spec.address) == ("app:80@10.0.0.2:80", 7, TcpAddress("10.0.0.2", 80))
    assert spec.address.authority == "app:80"
    assert str(spec.address) == "10.0.0.2:80"


def test_an_endpoint_of_a_backend_that_was_given_a_name_has_that_name():
    made = Made(BackendSpec("web", TcpAddress("app", 80)))
    assert made.hear("fd00::1", "fd00::2") == ["web@[fd00::1]:80", "web@[fd00::2]:80"]


def test_with_first_a_name_is_one_backend_whatever_it_means():
    assert Made(resolve="first").hear("10.0.0.1", "10.0.0.2") == ["app:80"]


@pytest.mark.parametrize(("own", "pools", "count"), [("first", "auto", 1), ("auto", "first", 2), ("", "first", 1)])
def test_a_backend_says_it_for_itself(own, pools, count):
    made = Made(BackendSpec("app:80", APP, resolve=own), resolve=pools)
    assert len(made.hear("10.0.0.1", "10.0.0.2")) == count


@pytest.mark.parametrize(
    ("own", "pools", "family"), [("", "auto", ""), ("", "ipv6", "ipv6"), ("ipv4", "ipv6", "ipv4"), ("auto", "ipv6", "")]
)
def test_the_family_is_a_part_of_where_a_name_is(own, pools, family):
    made = Made(BackendSpec("app:80", APP, family=own), family=pools)
    assert made.endpoints.names == [TcpAddress("app", 80, family)]
    assert made.specs[0].address == TcpAddress("app", 80, family)


def test_addresses_and_sockets_are_not_resolved():
    made = Made("10.0.0.1:80", "[::1]:80", "unix:/run/app", family="ipv6")
    assert made.endpoints.names == []
    assert [spec.address for spec in made.specs] == [
        TcpAddress("10.0.0.1", 80),
        TcpAddress("::1", 80),
        UnixAddress("/run/app"),
    ]


def test_a_name_has_a_bound_of_endpoints():
    assert len(Made().hear(*(f"10.0.{i // 256}.{i % 256}" for i in range(MOST + 9)))) == MOST


def test_who_is_called_as_an_endpoint_would_be_is_left_alone():
    made = Made("app:80", BackendSpec("app:80@10.0.0.1:80", TcpAddress("elsewhere", 1)))
    assert made.hear("10.0.0.1", "10.0.0.2") == ["app:80@10.0.0.2:80", "app:80@10.0.0.1:80"]
    assert made.specs[1].address.host == "elsewhere"


def test_a_name_that_is_there_twice_changes_nothing():
    made = Made()
    with pytest.raises(ValueError, match="b:80 is there twice"):
        made.have("b:80", "b:80")
    assert made.look() == ["app:80"]


# Who comes, and who goes.


def test_a_new_address_joins_at_once_and_one_that_is_missing_leaves_after_three_answers():
    made = Made()
    made.hear("10.0.0.1", "10.0.0.2")
    both = spread("10.0.0.1", "10.0.0.2", "10.0.0.3")
    for _ in range(LEAVES_AFTER - 1):
        assert made.hear("10.0.0.3", "10.0.0.2") == both
    assert made.hear("10.0.0.3", "10.0.0.2") == both[1:]
    assert made.succession.resting == {"app:80@10.0.0.1:80": "app:80"}
    assert made.succession.reasons == {"app:80@10.0.0.1:80": "3 answers for app came without it"}


def test_one_that_is_seen_now_and_then_stays():
    made = Made()
    made.hear("10.0.0.1", "10.0.0.2")
    for _ in range(4):
        for _ in range(LEAVES_AFTER - 1):
            made.hear("10.0.0.2", "10.0.0.3")
        made.hear("10.0.0.1", "10.0.0.2")
    assert "app:80@10.0.0.1:80" in made.look()


def test_addresses_of_the_other_family_join_when_the_last_one_of_theirs_has_left():
    made = Made()
    made.hear("10.0.0.1", "10.0.0.2")
    for _ in range(LEAVES_AFTER - 1):
        assert made.hear("fd00::1", "fd00::2") == spread("10.0.0.1", "10.0.0.2")
    assert made.hear("fd00::1", "fd00::2") == spread("fd00::1", "fd00::2")


def test_other_backends_are_not_touched():
    made = Made("app:80", "db:80")
    assert made.hear("10.0.0.1", "10.0.0.2") == [*spread("10.0.0.1", "10.0.0.2"), "db:80"]
    assert made.have("db:80", "app:80") == ["db:80", *spread("10.0.0.1", "10.0.0.2")]
    assert made.have("db:80", "app:80,weight=3") == ["db:80", *spread("10.0.0.1", "10.0.0.2")]
    assert made.have("db:80") == ["db:80"]
    assert made.succession.resting == {}
    assert made.have("db:80", "app:80") == ["db:80", "app:80"]


def test_who_gets_another_address_begins_anew():
    made = Made(BackendSpec("web", TcpAddress("app", 80)))
    made.hear("10.0.0.1", "10.0.0.2")
    assert made.have(BackendSpec("web", TcpAddress("new", 80))) == ["web"]
    assert (made.succession.resting, made.succession.heirs, made.succession.reasons) == ({}, {}, {})


def test_who_is_given_another_name_is_resolved_already():
    made = Made()
    made.hear("10.0.0.1", "10.0.0.2")
    assert made.have(BackendSpec("web", TcpAddress("app", 80))) == ["web@10.0.0.1:80", "web@10.0.0.2:80"]
    assert made.succession.heirs == {}


def test_another_way_of_resolving_is_gone_by_at_once_and_records_are_kept():
    made = Made()
    made.hear("10.0.0.2", "10.0.0.1")
    assert made.have("app:80", resolve="first") == ["app:80"]
    assert made.succession.heirs == {"app:80": "app:80@10.0.0.2:80"}
    assert made.succession.resting == {}
    assert made.have("app:80") == spread("10.0.0.2", "10.0.0.1")
    assert made.succession.heirs == {"app:80@10.0.0.2:80": "app:80"}


# Between one and many.


def test_the_endpoint_at_the_address_that_the_one_had_is_its_heir():
    made = Made()
    made.hear("10.0.0.2")
    made.hear("10.0.0.1", "10.0.0.2")
    assert made.succession.heirs == {"app:80@10.0.0.2:80": "app:80"}
    assert made.succession.resting == {}
    assert made.succession.reasons["app:80"] == "app has several addresses"


def test_the_one_in_force_is_meant_where_it_had_two():
    made = Made()
    made.hear("fd00::1", "10.0.0.1")
    assert made.hear("10.0.0.2", "10.0.0.1", "fd00::1") == spread("10.0.0.2", "10.0.0.1")
    assert made.succession.heirs == {"app:80@10.0.0.1:80": "app:80"}


def test_who_serves_alone_stays_for_a_while_where_a_name_moves_to_many():
    made = Made()
    made.hear("10.0.0.9")
    assert made.hear("10.0.0.1", "10.0.0.2") == spread("10.0.0.9", "10.0.0.1", "10.0.0.2")
    assert made.succession.heirs == {"app:80@10.0.0.9:80": "app:80"}
    made.hear("10.0.0.1", "10.0.0.2")
    assert made.hear("10.0.0.1", "10.0.0.2") == spread("10.0.0.1", "10.0.0.2")


def test_the_first_answer_of_all_has_no_heir():
    made = Made()
    made.hear("10.0.0.1", "10.0.0.2")
    assert made.succession.heirs == {}


def test_the_last_one_that_is_left_is_the_one_backend_again():
    made = Made()
    made.hear("10.0.0.1", "10.0.0.2")
    for _ in range(LEAVES_AFTER):
        now = made.hear("10.0.0.2")
    assert now == ["app:80"]
    assert made.succession.heirs == {"app:80": "app:80@10.0.0.2:80"}
    assert made.succession.resting == {"app:80@10.0.0.1:80": "app:80"}
    assert made.endpoints.sole(APP) == "10.0.0.2"
    assert made.succession.reasons == {
        "app:80": "app has one address a family again",
        "app:80@10.0.0.1:80": "3 answers for app came without it",
        "app:80@10.0.0.2:80": "app has no other address",
    }


def test_many_that_become_this_machine_itself_are_one():
    made = Made()
    made.hear("10.0.0.1", "10.0.0.2")
    for _ in range(LEAVES_AFTER):
        now = made.hear("127.0.0.1", "127.0.0.2")
    assert now == ["app:80"]
    assert made.succession.heirs == {}


def test_one_that_moves_is_the_same_backend():
    made = Made()
    made.hear("10.0.0.1")
    assert made.hear("10.0.0.2") == ["app:80"]
    assert made.endpoints.singles(APP) == ["app:80"]


# Names of members.


def test_a_members_name_leads_back_to_what_was_resolved():
    made = Made("app:80", "10.0.0.7:80")
    assert made.endpoints.name_of("app:80") == APP
    made.hear("10.0.0.1", "10.0.0.2")
    assert made.endpoints.name_of("app:80@10.0.0.1:80") == APP
    assert made.endpoints.singles(APP) == []
    assert [made.endpoints.name_of(name) for name in ("10.0.0.7:80", "app:80", "x")] == [None] * 3


def test_what_the_operator_wants_of_a_name_holds_for_those_who_come():
    made = Made()
    assert made.endpoints.command("app:80", AdminState.DRAIN, "by alice") == ["app:80"]
    made.hear("10.0.0.1", "10.0.0.2")
    assert set(made.succession.admin.values()) == {(AdminState.DRAIN, "by alice")}
    assert made.endpoints.command("app:80", AdminState.MAINT) == spread("10.0.0.1", "10.0.0.2")
    made.hear("10.0.0.1", "10.0.0.2", "10.0.0.3")
    assert made.succession.admin == {"app:80@10.0.0.3:80": (AdminState.MAINT, "")}


def test_who_wanted_it_is_kept_where_the_same_is_wanted_again_by_nobody():
    """As a reload does, which sets again what was set."""
    made = Made()
    made.endpoints.command("app:80", AdminState.DRAIN, "by alice")
    made.endpoints.command("app:80", AdminState.DRAIN)
    made.hear("10.0.0.1", "10.0.0.2")
    assert set(made.succession.admin.values()) == {(AdminState.DRAIN, "by alice")}


def test_of_one_endpoint_it_is_wanted_of_that_one_alone():
    made = Made()
    made.hear("10.0.0.1", "10.0.0.2")
    assert made.endpoints.command("app:80@10.0.0.1:80", AdminState.DRAIN) == ["app:80@10.0.0.1:80"]
    made.hear("10.0.0.1", "10.0.0.2", "10.0.0.3")
    assert made.succession.admin == {}


def test_what_is_wanted_of_a_name_ends_with_it():
    made = Made()
    made.endpoints.command("app:80", AdminState.DRAIN)
    made.have("db:80")
    made.have("app:80")
    assert made.succession.admin == {}


def test_who_was_missing_is_still_missing_in_another_family_and_leaves_as_it_would():
    made = Made()
    made.hear("10.0.0.1", "10.0.0.2", "10.0.0.3")
    for _ in range(LEAVES_AFTER - 1):
        made.hear("10.0.0.1", "10.0.0.2")
    v4 = TcpAddress("app", 80, "ipv4")
    assert made.have("app:80", family="ipv4") == spread("10.0.0.1", "10.0.0.2", "10.0.0.3")
    assert made.hear("10.0.0.1", "10.0.0.2", address=v4) == spread("10.0.0.1", "10.0.0.2")


def test_a_name_that_was_not_found_in_the_family_that_is_wanted_may_be_taken_as_one():
    made = Made()
    made.hear("10.0.0.1", "10.0.0.2")
    made.hear("fd00::1")
    assert made.have("app:80", family="ipv4") == spread("10.0.0.1", "10.0.0.2")
    assert made.have("app:80", family="ipv4", resolve="first") == ["app:80"]
