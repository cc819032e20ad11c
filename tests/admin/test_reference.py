"""The reference of the API is that of the API."""

from pathlib import Path

from twisted_lb.admin.endpoints import ENDPOINTS
from twisted_lb.admin.reference import reference
from twisted_lb.admin.site import STATUS_OF

DOCS = Path(__file__).parents[2] / "docs"


def test_the_published_reference_is_up_to_date():
    published = (DOCS / "admin-api.md").read_text()
    assert published == reference(), "python -m twisted_lb.admin.reference >docs/admin-api.md"


def test_it_has_each_endpoint_with_all_that_may_be_said_there_and_each_error():
    text = reference()
    for one in ENDPOINTS:
        _, _, rest = text.partition(f"### `{one.method} {one.path}`\n")
        part = rest.partition("\n### ")[0]
        assert one.summary in part
        for name, value in {**one.query, **(one.body or {})}.items():
            assert f"| `{name}` |" in part
            assert value.meaning in part
    for code in STATUS_OF:
        assert f"`{code}`" in text
