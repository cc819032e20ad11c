"""Similar names: what was probably meant by one that nothing has (did you mean)."""

from collections.abc import Iterable
from difflib import get_close_matches


def similar(name: str, names: Iterable[str]) -> str | None:
    """The one of some names that was probably meant, if any was; case counts for nothing, nor what hyphens are."""
    by_letters = {_letters(one): one for one in names}
    found = get_close_matches(_letters(name), by_letters, n=1)
    return by_letters[found[0]] if found else None


def _letters(name: str) -> str:
    return name.strip("-").replace("-", "_").lower()
