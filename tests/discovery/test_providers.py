"""Which provider follows a place."""

import random

import pytest
from discovering import RULES, means

from twisted_lb.discovery import providers
from twisted_lb.discovery.provider import ListRules, Means, Provider, text_of
from twisted_lb.discovery.providers import PROVIDERS, make_provider
from twisted_lb.testing import HeapClock

RULES_OF_A_LIST = ListRules(**RULES)


@pytest.mark.parametrize(
    ("where", "called"),
    [
        ("file:/etc/lb/api.json", "file /etc/lb/api.json"),
        ("http://registry:8500/api", "http://registry:8500/api"),
        ("https://registry/api", "https://registry/api"),
        ("srv:_http._tcp.app.internal", "srv:_http._tcp.app.internal"),
    ],
)
def test_a_provider_is_found_by_its_scheme(where, called):
    provider: Provider = make_provider(where, RULES_OF_A_LIST, means(HeapClock()))
    assert repr(provider) == f"<Following {called}: no list yet>"
    provider.stop()


@pytest.mark.parametrize("where", ["consul:api", "/etc/lb/api.json", ""])
def test_a_place_that_nobody_knows_is_an_error_in_one_line(where):
    with pytest.raises(ValueError, match="no provider for that, there are file, http, https, srv") as refused:
        make_provider(where, RULES_OF_A_LIST, means(HeapClock()))
    assert repr(where) in str(refused.value)


def test_a_package_may_bring_another_one(monkeypatch):
    class Entry:
        def load(self):
            return lambda where, rules, means: (where, rules, means)

    asked = []
    monkeypatch.setattr(providers, "entry_points", lambda **words: asked.append(words) or [Entry()])
    given = Means(HeapClock(), random.Random(1), None)
    assert make_provider("consul:api", RULES_OF_A_LIST, given) == ("consul:api", RULES_OF_A_LIST, given)
    assert asked == [{"group": "twisted_lb.providers", "name": "consul"}]


def test_a_package_that_is_broken_is_named(monkeypatch):
    class Entry:
        value = "lb_consul:make"

        def load(self):
            raise ModuleNotFoundError("No module named 'consul'")

    monkeypatch.setattr(providers, "entry_points", lambda **words: [Entry()])
    with pytest.raises(ValueError) as refused:
        make_provider("consul:api", RULES_OF_A_LIST, means(HeapClock()))
    assert str(refused.value) == "the provider consul (lb_consul:make) cannot be loaded: No module named 'consul'"


def test_packages_are_not_looked_for_where_the_scheme_is_one_of_ours(monkeypatch):
    monkeypatch.setattr(providers, "entry_points", lambda **words: pytest.fail("looked for"))
    for scheme in PROVIDERS:
        make_provider(f"{scheme}://x/y", RULES_OF_A_LIST, means(HeapClock())).stop()


def test_a_failure_is_said_in_one_line_by_its_name_where_it_has_no_words():
    assert text_of(ValueError("  two\nlines. ")) == "two lines"
    assert text_of(KeyError()) == "KeyError"
