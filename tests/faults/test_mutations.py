"""That the fault network has teeth: each mutation of the engine is caught within a bounded number of seeds."""

import re

import pytest
from faults.mutations import MUTATIONS, PACKAGE, TESTS, Mutation, caught_at

MOST_SEEDS = 1500
TABLE = re.findall(
    r"^\| ([^|]+) \| `([a-z_/]+\.py)` \| (\d+) \|", (TESTS.parent / "docs" / "testing.md").read_text(), re.MULTILINE
)

each = pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)


@each
def test_what_a_mutation_changes_is_there(mutation):
    source = (PACKAGE / mutation.path).read_text()
    assert mutation.applied(source) != source


def test_a_mutation_of_what_is_not_there_fails_loudly():
    with pytest.raises(LookupError, match="this 0 times, not once"):
        Mutation("none", "net/exchange.py", (("no such text", ""),)).applied("something else")


def test_the_documentation_lists_them_all():
    assert [(name, path) for name, path, _ in TABLE] == [(one.name, one.path) for one in MUTATIONS]
    assert all(int(seeds) <= MOST_SEEDS for _, _, seeds in TABLE)


@pytest.mark.long
@each
def test_a_mutation_is_caught(mutation, tmp_path):
    seeds, said = caught_at(mutation, tmp_path, MOST_SEEDS)
    print(f"| {mutation.name} | `{mutation.path}` | {seeds} | {said.splitlines()[1].strip() if seeds else ''} |")
    assert seeds is not None, f"{MOST_SEEDS} seeds see nothing wrong: {said}"
