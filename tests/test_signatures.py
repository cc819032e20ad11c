"""Who has changed what at run time, as a state file keeps it: said after a restart, and never a reason not to start."""

import json

import pytest
from operated import ALICE, DRAIN, Operated, at_once

from twisted_lb.admin.operator import Actor, By, Command
from twisted_lb.core.overlay import Overlay
from twisted_lb.operating.signatures import signature_values, signatures_of

BOB = Actor("bob", "later")


@pytest.fixture
def operate():
    """Makes operated balancers, which are closed behind the test."""
    made = []

    def one(*names, **options):
        made.append(Operated(*names, **options))
        return made[-1]

    yield one
    for operated in made:
        operated.close()


def kept(operated) -> tuple[Overlay, object]:
    """What a state file has of it, read again."""
    values = {**operated.plane.overlay.values(), "by": operated.operating.signatures(operated.plane.overlay)}
    values = json.loads(json.dumps(values))
    return Overlay.of_values(values), values["by"]


def test_who_when_and_why_are_known_after_a_restart(operate):
    before = operate("a:80", "b:80")
    before.operating.command(Command("app", "a:80", DRAIN), ALICE)
    before.operating.command(Command("app", "b:80", weight=0, force=True), BOB)
    overlay, signatures = kept(before)
    after = operate("a:80", "b:80", overlay=overlay, signatures=signatures)
    assert after.view("app/a:80").by == By("alice", 1_000_000.0, "deploy") == before.view("app/a:80").by
    assert after.view("app/a:80").reason == "alice: “deploy”"
    skipped = {one["backend"]: one["reason"] for one in at_once(after.operating.explain_next("app"))["candidates"]}
    assert skipped == {"app/a:80": "by alice: “deploy”", "app/b:80": "by bob: “later”"}
    assert kept(after)[1] == signatures


def test_who_has_changed_what_does_not_hold_any_more_is_forgotten(operate):
    before = operate("a:80", "b:80")
    before.operating.command(Command("app", "a:80", DRAIN), ALICE)
    _, signatures = kept(before)
    after = operate("a:80", "b:80", overlay=Overlay(), signatures=signatures)
    assert after.view("app/a:80").by is None
    before.operating.reset("app", "a:80", BOB)
    assert kept(before)[1] == {}


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        "x",
        {"app": None},
        {"app": {"a:80": None}},
        {"app": {"a:80": {"actor": "alice", "at": 1.0}}},
        {"app": {"a:80": {"actor": 1, "at": 1.0, "reason": ""}}},
        {"app": {"a:80": {"actor": "alice", "at": float("nan"), "reason": ""}}},
        {"app": {"a:80": {"actor": "alice", "at": "now", "reason": ""}}},
    ],
)
def test_what_is_no_signature_is_left_out(values):
    assert signatures_of(values) == {}


def test_a_signature_is_one_line_and_not_longer_than_a_reason(operate):
    overlay = Overlay()
    overlay.command("app", "a:80", DRAIN)
    values = signature_values({("app", "a:80"): By("alice\n", 1.0, "x" * 1000)}, overlay)
    assert values == {"app": {"a:80": {"actor": "alice ", "at": 1.0, "reason": "x" * 200}}}
    assert signatures_of({"app": {"a:80": {"actor": "a\x1b[2J", "at": 1, "reason": "y" * 1000}}}) == {
        ("app", "a:80"): By("a [2J", 1.0, "y" * 200)
    }
