"""The one table: the code and docs/architecture.md cannot part."""

import re
from pathlib import Path

import pytest

from twisted_lb.core.outcome import CONSEQUENCE, Blame, Outcome, Retry

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "architecture.md"

RETRY = {
    "never": Retry.NEVER,
    "always, another backend": Retry.ALWAYS,
    "if idempotent": Retry.IF_IDEMPOTENT,
    "always, new connection": Retry.ALWAYS,
    "if idempotent, new connection": Retry.IF_IDEMPOTENT,
    "if configured and nothing relayed": Retry.IF_CONFIGURED,
}
BLAME = {"no": Blame.NONE, "yes": Blame.FAILURE, "one failure": Blame.FAILURE, "ejects at once": Blame.EJECT}
ALIVE = {"yes": True, "no": False, "unknown": None}


def documented() -> dict[str, list[str]]:
    text = DOCUMENT.read_text().partition("## Outcomes")[2]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if re.match(r"\| [A-Z_]+ ", line)
    ]
    return {row[0]: row[1:] for row in rows}


def test_every_outcome_has_its_row_and_nothing_else_has():
    assert list(documented()) == [outcome.name for outcome in Outcome]
    assert set(CONSEQUENCE) == set(Outcome)


@pytest.mark.parametrize("outcome", Outcome, ids=lambda outcome: outcome.name)
def test_a_row_says_what_the_code_does(outcome):
    _, retry, blame, in_a_row, alive, seen = documented()[outcome.name]
    consequence = CONSEQUENCE[outcome]
    assert consequence.retry is RETRY[retry]
    assert consequence.blame is BLAME[blame]
    assert consequence.new_connection == ("new connection" in retry)
    assert consequence.in_a_row is ALIVE[in_a_row]
    assert consequence.alive is ALIVE[alive]
    assert consequence.status == (int(seen) if re.fullmatch(r"\d+", seen) else None)


def test_outcomes_index_a_list():
    assert [int(outcome) for outcome in Outcome] == list(range(len(Outcome)))
