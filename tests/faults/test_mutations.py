"""That the fault network has teeth: each mutation of the engine is caught within a bounded number of seeds."""

import re

import pytest
from faults.mutating import TESTS, Change, Mutation, broken, caught_at, check_that_it_applies, row_of
from faults.mutations import MUTATIONS

MOST_SEEDS = 1500
# | a POST is sent again | `IDEMPOTENT` | 1 | what the oracle said |
TABLE = re.findall(
    r"^\| ([^|]+) \| (`[^|]+`) \| (\d+) \|", (TESTS.parent / "docs" / "testing.md").read_text(), re.MULTILINE
)
SOURCE = """\
LIMIT: int = 1

class House:
    if LIMIT:
        def open(self):
            return 1

        def close(self):
            return 1
"""

each = pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)


def where(mutation: Mutation) -> str:
    return ", ".join(f"`{name}`" for name in mutation.where)


@pytest.fixture
def package(tmp_path):
    """A package of one file."""
    (tmp_path / "house.py").write_text(SOURCE)
    return tmp_path


@each
def test_what_a_mutation_changes_is_there(mutation):
    check_that_it_applies(mutation)


def test_a_mutation_changes_its_definition_and_nothing_else(package):
    files = broken(Mutation("closed", (Change("House.close", "1", "2"),)), package)
    assert files == {package / "house.py": SOURCE[::-1].replace("1", "2", 1)[::-1]}


def test_changes_of_one_file_are_made_one_upon_the_other(package):
    changes = (Change("LIMIT", "= 1", "= (\n    2\n)"), Change("House.open", "1", "2"), Change("House.close", "1", "2"))
    (source,) = broken(Mutation("all", changes), package).values()
    assert source == SOURCE.replace("= 1", "= (\n    2\n)").replace("return 1", "return 2")


@pytest.mark.parametrize(
    ("name", "old", "complaint"),
    [
        ("House.open", "no such text", "House.open has this 0 times, not once"),
        ("House", "return", "House has this 2 times, not once"),
        ("open", "return", "open is defined 0 times, not once"),
        ("House.lock", "return", "House.lock is defined 0 times, not once"),
    ],
)
def test_a_mutation_of_what_is_not_there_once_fails_loudly(package, name, old, complaint):
    with pytest.raises(LookupError, match=complaint):
        broken(Mutation("none", (Change(name, old, ""),)), package)


def test_a_mutation_of_what_is_defined_twice_fails_loudly(package):
    (package / "copy.py").write_text(SOURCE)
    with pytest.raises(LookupError, match=r"LIMIT is defined 2 times, not once: copy\.py, house\.py"):
        broken(Mutation("twice", (Change("LIMIT", "1", "2"),)), package)


def test_the_documentation_lists_them_all():
    assert [(name, names) for name, names, _ in TABLE] == [(one.name, where(one)) for one in MUTATIONS]
    assert all(int(seeds) <= MOST_SEEDS for _, _, seeds in TABLE)


@pytest.mark.long
@each
def test_a_mutation_is_caught(mutation, tmp_path):
    seeds, said = caught_at(mutation, tmp_path, MOST_SEEDS, "faults")
    print(row_of(mutation, seeds, said))
    assert seeds is not None, f"{MOST_SEEDS} seeds see nothing wrong: {said}"
