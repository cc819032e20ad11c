"""The JSON Schema for editors, and the examples, which it and the balancer both take."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from twisted_lb.check import check
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.base import names_of
from twisted_lb.config.load import Source
from twisted_lb.config.schema import PACKAGED, as_text, schema
from twisted_lb.config.shape import tables

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = sorted((ROOT / "docs" / "examples").rglob("*.toml"))
WHOLE = [path for path in EXAMPLES if path.parent.name != "conf.d"]
TAPLO = shutil.which("taplo", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def short(path: Path) -> str:
    return str(path.relative_to(ROOT / "docs" / "examples"))


def test_the_packaged_schema_is_up_to_date():
    assert PACKAGED.read_text(encoding="utf-8") == as_text(), "scripts/docs renews it"


def test_every_key_of_every_table_is_in_the_schema_under_all_its_names():
    made = schema()
    assert {name for key in LoadBalancerConfig.model_fields for name in names_of(LoadBalancerConfig, key)} | {
        "include"
    } == set(made["properties"])
    for header, model in tables(LoadBalancerConfig):
        if header == "[status]":  # one string
            continue
        found = made["definitions"][model.__name__]
        table = next((one for one in found.get("anyOf", ()) if one.get("type") == "object"), found)
        assert set(table["properties"]) == {name for key in model.model_fields for name in names_of(model, key)}
        assert table["additionalProperties"] is False


def test_what_may_be_one_or_several_or_a_text_or_a_table_is_so_in_the_schema():
    made = schema()["definitions"]
    assert [one.get("type") for one in made["RouteConfig"]["properties"]["host"]["anyOf"]] == ["string", "array"]
    assert [one["type"] for one in made["BackendTable"]["anyOf"]] == ["string", "object"]
    assert made["ListenerConfig"]["properties"]["address"]["anyOf"][0] == {"$ref": "#/definitions/AddressTable"}
    assert schema()["properties"]["status"]["anyOf"][0] == {"type": "string"}


@pytest.mark.parametrize("path", WHOLE, ids=short)
def test_an_example_is_loaded_and_nothing_about_it_is_doubtful(path):
    status, said = check(Source({}, path, {}), strict=True)
    assert (status, said) == (0, f"no problem; {path} can be loaded\n")


@pytest.mark.parametrize("path", EXAMPLES, ids=short)
def test_an_example_names_the_schema_first_and_says_what_it_is_for(path):
    first, second = path.read_text().splitlines()[:2]
    named = re.fullmatch(r"#:schema (\S+)", first)
    assert named
    # The checkout's, also where the tests run over another build: it is the packaged one.
    assert (path.parent / named[1]).read_bytes() == PACKAGED.read_bytes()
    assert second.startswith("# ") or path.parent.name == "conf.d"


def linted(path: Path) -> subprocess.CompletedProcess[str]:
    command = [str(TAPLO), "lint", "--no-auto-config", "--schema", PACKAGED.as_uri(), str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(TAPLO is None, reason="no taplo")
@pytest.mark.parametrize("path", EXAMPLES, ids=short)
def test_an_editor_finds_nothing_wrong_with_an_example(path):
    done = linted(path)
    assert done.returncode == 0, done.stderr


WRONG = [
    "polcy = 'rr'\n",
    "policy = 'best'\n",
    "[listen]\nport = 'x'\n",
    "[listen]\nport = 70000\n",
    "[pools.api]\nbackends = [5]\n",
    "[pools.api]\nbackends = [{ adress = 'a:80' }]\n",
    "[pools.api.health_check]\ninterval_s = -1\n",
    "[[routes]]\npool = ['a']\n",
    "[[routes]]\nclients = [{ fil = 'x' }]\n",
    "[[routes]]\nredirect = { status = 200, to = '/' }\n",
    "[timeouts]\nhead_s = 0\n",
]


@pytest.mark.skipif(TAPLO is None, reason="no taplo")
@pytest.mark.parametrize("text", WRONG)
def test_an_editor_finds_what_the_balancer_refuses(tmp_path, text):
    file = tmp_path / "lb.toml"
    file.write_text(text)
    assert linted(file).returncode != 0
    assert check(Source({}, file, {}))[0] == 1
