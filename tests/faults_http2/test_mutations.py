"""That the fault network over HTTP/2 has teeth: each mutation is caught within a bounded number of seeds."""

import pytest
from faults.mutating import caught_at, check_that_it_applies, row_of
from faults_http2.mutations import MUTATIONS

MOST_SEEDS = 1000
each = pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)


@each
def test_what_a_mutation_changes_is_there(mutation):
    check_that_it_applies(mutation)


@pytest.mark.long
@each
def test_a_mutation_is_caught(mutation, tmp_path):
    seeds, said = caught_at(mutation, tmp_path, MOST_SEEDS, "faults_http2")
    print(row_of(mutation, seeds, said))
    assert seeds is not None, f"{MOST_SEEDS} seeds see nothing wrong: {said}"
