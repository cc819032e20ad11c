"""What docs/tls.md shows is so: its files are configurations, and its lines are those that are said."""

import re
from pathlib import Path

import pytest
from authority import Authority, chain_of, key_of

from twisted_lb.certificate_doubts import certificate_doubts
from twisted_lb.check import check
from twisted_lb.config.doubts import CODES
from twisted_lb.config.load import Source
from twisted_lb.plan import plan_of
from twisted_lb.tls.contexts import PRESETS

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "tls.md").read_text()
FILES = re.findall(r"^```toml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path):
    """The folders that the document names, below a folder of the test."""
    own = Authority(tmp_path / "etc" / "twisted-lb", "clients")
    own.write("clients.crl", own.crl())
    for name in ("www.example.com", "admin.example.com"):
        leaf = own.leaf(name)
        own.write(f"tls/{name}.pem", chain_of(leaf), key_of(leaf))
        own.write(f"../letsencrypt/live/{name}/fullchain.pem", chain_of(leaf))
        own.write(f"../letsencrypt/live/{name}/privkey.pem", key_of(leaf))
    (tmp_path / "var" / "lib" / "acme").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("text", FILES)
def test_its_files_are_configurations_without_a_doubt(folder, text):
    file = folder / "lb.toml"
    file.write_text(text.replace("/etc/", f"{folder}/etc/").replace("/var/", f"{folder}/var/"))
    source = Source({}, file)
    config = source.load()
    plan = plan_of(config)
    found = plan.listeners["web"].tls
    assert [one.label for one in found.certificates] == ["admin.example.com", "www.example.com"]
    assert list(certificate_doubts(config, plan, found.certificates[0].not_before + 1)) == []
    assert check(source)[0] == 0


def test_there_are_files_in_it():
    assert len(FILES) == 3


def test_the_line_of_a_wrong_key_is_what_is_said(folder):
    own = Authority(folder / "other")
    path = folder / "etc" / "twisted-lb" / "tls" / "www.pem"
    path.write_bytes(chain_of(own.leaf("a.test")) + key_of(own.leaf("b.test")))
    file = folder / "lb.toml"
    file.write_text(f'backends = ["127.0.0.1:1"]\n\n\ntls = "{path}"\n')
    said = check(Source({}, file))[1].splitlines()[0].replace(f"{folder}/lb.toml", "lb.toml").replace(str(folder), "")
    assert said in TEXT


def test_each_code_that_it_names_is_one():
    named = set(re.findall(r"\bW\d\d\b", TEXT))
    assert named <= CODES.keys()
    assert named >= {"W61", "W62", "W63", "W64", "W65", "W67"}


def test_its_presets_are_those_that_there_are():
    named = re.findall(r"^\| `(\w+)`(?: \(default\))? \| 1", TEXT, re.MULTILINE)
    assert set(named) == set(PRESETS)
