"""What docs/target-lists.md says: its recipes and its list can be read, and its bounds are those of the code."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest

from twisted_lb.config.targets import TargetsConfig
from twisted_lb.discovery import file, following, prometheus, providers, srv
from twisted_lb.discovery.prometheus import Malformed, read_targets

DOC = (Path(__file__).parent.parent / "docs" / "target-lists.md").read_text()
TOML = re.findall(r"```toml\n(.*?)```", DOC, re.DOTALL)


@pytest.mark.parametrize("text", TOML, ids=range(len(TOML)))
def test_a_recipe_can_be_read(text):
    config = TargetsConfig.model_validate(tomllib.loads(text)["pools"]["api"]["targets"])
    assert config.where.partition(":")[0] in providers.PROVIDERS


def test_the_recipes_show_each_place():
    assert [re.findall("^(file|url|srv) = ", text, re.MULTILINE) for text in TOML] == [["file"], ["url"], ["srv"]]


def test_the_list_is_one():
    [text] = re.findall(r"```json\n(.*?)```", DOC, re.DOTALL)
    found = read_targets(text.encode(), sockets=False)
    assert [(spec.name, spec.weight) for spec in found] == [("10.0.0.1:8000", 2), ("10.0.0.2:8000", 2), ("old-one", 1)]


def test_the_message_is_the_one_that_is_shown():
    with pytest.raises(Malformed) as refused:
        read_targets(b'[{"targets": ["a:1"]}, {"targets": ["b"]}]', sockets=True)
    assert f"`file /etc/lb/api.json: {refused.value}; what is known stays: 3 backends`" in DOC


def test_its_numbers_are_those_of_the_code():
    assert f"At most {prometheus.MOST_TARGETS:,} targets and {prometheus.MOST_BYTES // 2**20} MiB" in DOC
    assert f"stays for {srv.GONE_AFTER_S / 60:g} minutes" in DOC
    assert f"within {srv.SOONEST_S:g} to {srv.LATEST_S:g} s" in DOC
    assert f"no answer in {following.LOOK_S:g} s" in DOC
    assert f"comes within {following.FIRST_S:g} s" in DOC
    assert f"stood still for {file.SETTLE_S:g} s" in DOC
    assert f"every {TargetsConfig(file='a').pause_s:g} s (`refresh_s`)" in DOC
    assert f"every {TargetsConfig(url='http://a').pause_s:g} s (`refresh_s`)" in DOC
    assert providers.GROUP in DOC


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(twisted_lb\.[\w.]+\.[A-Z]\w*)`", DOC))))
def test_a_name_exists(name):
    module, _, what = name.rpartition(".")
    assert hasattr(importlib.import_module(module), what)
