"""The subjects under pytest-benchmark: `scripts/bench --micro`."""

import pytest
from subjects import SUBJECTS


@pytest.mark.parametrize("name", SUBJECTS)
def test_time(benchmark, name):  # noqa: ANN001, ANN201, pytest gives them
    """One call."""
    benchmark(SUBJECTS[name]())
