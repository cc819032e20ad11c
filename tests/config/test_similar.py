"""What is taken for a mistyped name, and of which."""

import pytest

from twisted_lb.config.similar import similar


@pytest.mark.parametrize(
    ("name", "names", "meant"),
    [
        ("wieght", ["weight", "name"], "weight"),
        ("API", ["api", "web"], "api"),
        ("API-v2", ["web", "API-v1"], "API-v1"),
        ("--health_check", ["health-check"], "health-check"),
        ("canary", ["api", "web"], None),
        ("api", [], None),
    ],
    ids=["letters", "case", "capitals", "hyphens", "nothing alike", "nothing"],
)
def test_a_name_is_taken_for_one_that_is_alike(name, names, meant):
    assert similar(name, names) == meant
