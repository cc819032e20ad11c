"""Plans as bytes: what comes out is what went in, and what stays the same object stays one."""

import dataclasses
import re
import tomllib
from enum import Enum
from pathlib import Path

import pytest

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.pickers import POLICIES
from twisted_lb.plan import plan_of
from twisted_lb.planned import Plan
from twisted_lb.workers.codec import Decoder, Encoder, dumped, loaded, unsendable

ROOT = Path(__file__).parents[2]


def documented() -> list[tuple[str, dict]]:
    """All configurations of the documentation that are one."""
    found = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for number, text in enumerate(re.findall(r"```toml\n(.*?)```", path.read_text(), re.DOTALL)):
            try:
                tables = tomllib.loads(text)
            except tomllib.TOMLDecodeError:
                continue
            if not {"backends", "pools", "listeners"} & tables.keys():
                tables["backends"] = ["127.0.0.1:1"]
            found.append((f"{path.name} {number}", tables))
    return found


def plans() -> list[tuple[str, Plan]]:
    found = []
    for name, tables in documented():
        try:
            found.append((name, plan_of(LoadBalancerConfig.model_validate(tables))))
        except Exception:  # of those that name files, or are parts of others
            continue
    return found


def there_and_back(plan: Plan) -> Plan:
    return Decoder().decode(Encoder().encode(plan).for_one_who_knows(set()))


def attributes_of(kind: type) -> tuple[str, ...]:
    """The attributes that an object of a class may have: those of a compiled one, of a dataclass, or its slots."""
    found: dict[str, None] = {}
    for one in reversed(kind.__mro__):
        names = one.__dict__.get("__mypyc_attrs__") or one.__dict__.get("__slots__") or ()
        found.update(dict.fromkeys((names,) if isinstance(names, str) else names))
        if "__dataclass_fields__" in one.__dict__:
            found.update(dict.fromkeys(field.name for field in dataclasses.fields(one)))
    return tuple(
        name if not name.startswith("__") or name.endswith("__") else f"_{kind.__name__}{name}"
        for name in found
        if name not in ("__dict__", "__weakref__")
    )


def names_of(one: object) -> list[str]:
    """The attributes of an object of the program; of others none."""
    if not type(one).__module__.startswith("twisted_lb.") or isinstance(one, (type, Enum)):
        return []
    return [*attributes_of(type(one)), *getattr(one, "__dict__", {})]


def same(one: object, other: object, path: str = "plan") -> None:
    """Fails where two objects of the program are not made of the same values."""
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert list(one) == list(other), path
        for key, value in one.items():
            same(value, other[key], f"{path}[{key!r}]")
    elif isinstance(one, (tuple, list)):
        assert len(one) == len(other), path
        for number, value in enumerate(one):
            same(value, other[number], f"{path}[{number}]")
    elif names := names_of(one):
        for name in names:
            if name in ("made_of", "addresses"):
                continue
            assert hasattr(one, name) == hasattr(other, name), f"{path}.{name}"
            if hasattr(one, name):
                same(getattr(one, name), getattr(other, name), f"{path}.{name}")
    elif callable(one):
        assert getattr(one, "__qualname__", one) == getattr(other, "__qualname__", other), path
    else:
        assert one == other, path


def test_policies_by_key_go_also_where_twisted_pickles_methods():
    from twisted.persisted import styles  # as twistd imports it

    assert styles
    for name in ("ring", "maglev", "rendezvous"):
        plan = plan_of(LoadBalancerConfig(backends=["a:80"], policy={"choose": name, "bound": 1.5}))
        same(plan, there_and_back(plan))


def test_there_are_many_plans_in_the_documentation():
    assert len(plans()) >= 50


@pytest.mark.parametrize(("name", "plan"), plans(), ids=lambda one: one if isinstance(one, str) else "")
def test_a_plan_comes_out_as_it_went_in(name, plan):
    same(plan, there_and_back(plan))


def test_what_it_is_made_of_does_not_go():
    plan = plan_of(LoadBalancerConfig(backends=["a:80"], listen={"port": 81}))
    [listener] = there_and_back(plan).listeners.values()
    [pool] = there_and_back(plan).pools.values()
    assert (listener.made_of, listener.addresses, pool.made_of) == ({}, (), {})


def test_what_is_the_same_object_in_two_generations_is_one_at_the_other_end():
    before = plan_of(LoadBalancerConfig(pools={"a": {"backends": ["a:80"]}, "b": {"backends": ["b:80"]}}))
    after = plan_of(LoadBalancerConfig(pools={"a": {"backends": ["a:80"]}, "b": {"backends": ["b:81"]}}), before)
    assert after.pools["a"] is before.pools["a"]
    encoder, decoder = Encoder(), Decoder()
    first, second = encoder.encode(before), encoder.encode(after)
    one = decoder.decode(first.for_one_who_knows(set()))
    other = decoder.decode(second.for_one_who_knows(first.numbers))
    assert other.pools["a"] is one.pools["a"]
    assert other.pools["b"] is not one.pools["b"]
    assert len(second.for_one_who_knows(first.numbers)) < len(second.for_one_who_knows(set()))


def test_a_part_that_is_gone_is_forgotten_and_may_come_again():
    encoder, decoder = Encoder(), Decoder()
    two = plan_of(LoadBalancerConfig(pools={"a": {"backends": ["a:80"]}, "b": {"backends": ["b:80"]}}))
    one = plan_of(LoadBalancerConfig(pools={"a": {"backends": ["a:80"]}}), two)
    known: set[int] = set()
    for plan in (two, one, two, one, two):
        encoded = encoder.encode(plan)
        assert list(decoder.decode(encoded.for_one_who_knows(known)).pools) == list(plan.pools)
        known = encoded.numbers


@pytest.mark.parametrize("name", list(POLICIES))
def test_a_policy_that_is_one_object_stays_that_object(name):
    assert loaded(dumped(POLICIES[name])) is POLICIES[name]


class Mine:
    def __init__(self, members, previous=None):
        self.members = members

    def pick(self, ask, now, rng, tried):
        return self.members[0]


def test_a_policy_of_ones_own_goes_by_its_name():
    plan = plan_of(LoadBalancerConfig(backends=["a:80"], policy=f"{__name__}:Mine"))
    [pool] = there_and_back(plan).pools.values()
    assert pool.policy.target is Mine


def test_what_is_no_data_is_told():
    plan = plan_of(LoadBalancerConfig(backends=["a:80"]))
    assert unsendable(plan) == ""
    [(name, pool)] = plan.pools.items()
    local = dataclasses.replace(pool, policy=lambda: None)
    assert "lambda" in unsendable(dataclasses.replace(plan, pools={name: local}))
