"""That the fault network over HTTP/2 has teeth: each mutation is caught within a bounded number of seeds."""

import pytest
from faults.mutations import PACKAGE, broken
from faults_http2.mutations import MUTATIONS, caught_at

MOST_SEEDS = 1000
each = pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)


@each
def test_what_a_mutation_changes_is_there(mutation):
    files = broken(mutation, PACKAGE)
    assert files
    for path, source in files.items():
        compile(source, path, "exec")
        assert source != path.read_text()


@pytest.mark.long
@each
def test_a_mutation_is_caught(mutation, tmp_path):
    seeds, said = caught_at(mutation, tmp_path, MOST_SEEDS)
    assert seeds is not None, f"{MOST_SEEDS} seeds see nothing wrong: {said}"
