"""The front door of the core."""

import pytest
from builders import make_pool, specs

from twisted_lb.core.backend import AdminState
from twisted_lb.core.balancer import Balancer
from twisted_lb.core.events import BackendAdded
from twisted_lb.core.lease import Lease
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.retry import RetryRules
from twisted_lb.core.snapshot import BackendSnapshot, PoolSnapshot


def make(*texts: str, percent: int = 20, per_s: int = 10, checked: bool = True):
    pool, told = make_pool(*texts, checked=checked, budget_percent=percent, budget_per_s=per_s)
    return Balancer(pool, RetryRules(2, frozenset())), told


def refused_retry(balancer: Balancer) -> bool:
    return balancer.permits_retry(Outcome.REFUSED, 1, idempotent=False, held=True, relayed=False, now=1.0)


def test_each_request_pays_into_the_budget_once_and_its_other_attempts_do_not():
    balancer, _ = make("a:1", "b:1", percent=100, per_s=0)
    first = balancer.admit(None, 1.0)
    assert isinstance(first, Lease)
    second = balancer.readmit(None, 1.0, (first.backend,))
    assert isinstance(second, Lease)
    assert second.backend is not first.backend
    assert [refused_retry(balancer), refused_retry(balancer)] == [True, False]


def test_a_request_that_finds_nobody_pays_in_too():
    balancer, _ = make(percent=100, per_s=0)
    assert balancer.admit(None, 1.0) is Refusal.NO_BACKEND
    assert refused_retry(balancer)


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.TIMED_OUT], ids=lambda outcome: outcome.name)
def test_what_cannot_be_sent_again_or_was_relayed_is_not_retried(outcome):
    balancer, _ = make("a:1")
    assert balancer.permits_retry(outcome, 1, idempotent=True, held=True, relayed=False, now=1.0)
    assert not balancer.permits_retry(outcome, 1, idempotent=True, held=False, relayed=False, now=1.0)
    assert not balancer.permits_retry(outcome, 1, idempotent=True, held=True, relayed=True, now=1.0)


def test_attempts_end():
    balancer, _ = make("a:1")
    permitted = [
        balancer.permits_retry(Outcome.REFUSED, attempt, idempotent=True, held=True, relayed=False, now=1.0)
        for attempt in (1, 2, 3, 4)
    ]
    assert permitted == [True, True, False, False]


@pytest.mark.parametrize("outcome", Outcome, ids=lambda outcome: outcome.name)
def test_only_a_yes_is_paid_for(outcome):
    balancer, _ = make("a:1", percent=0, per_s=1)
    granted = sum(
        balancer.permits_retry(outcome, 1, idempotent=False, held=True, relayed=False, now=1.0) for _ in range(30)
    )
    assert granted in (0, 10)
    assert sum(balancer.pool.budget.withdraw(1.0) for _ in range(30)) == 10 - granted


def test_settling_tells_the_reason_on():
    balancer, told = make("a:1")
    lease = balancer.admit(None, 1.0)
    assert isinstance(lease, Lease)
    balancer.settle(lease, Outcome.REFUSED, 2.0, "connection refused")
    assert str(told[0]) == "p/a:1 is ejected until checks pass: connection refused"


def test_probes_and_commands_find_their_backend_by_name():
    balancer, told = make("a:1", "b:1")
    balancer.observe_probe("a:1", False, "status 500", 1.0)
    balancer.command("b:1", AdminState.MAINT, 2.0)
    assert [str(event) for event in told] == [
        "p/a:1 is down: status 500",
        "p/b:1 is set to maint",
        "pool p has no usable backend",
    ]


def test_a_late_probe_of_a_removed_backend_is_no_news_and_a_command_for_a_stranger_is_a_mistake():
    balancer, told = make("a:1")
    balancer.observe_probe("stranger", False, "x", 1.0)
    with pytest.raises(KeyError, match="no backend is called stranger"):
        balancer.command("stranger", AdminState.DRAIN, 1.0)
    assert told == []


def test_an_update_goes_through():
    balancer, told = make("a:1")
    balancer.update(specs("a:1", "b:1"), 3.0)
    assert told == [BackendAdded("p", "b:1", 3.0)]
    assert repr(balancer) == "<Balancer of <Pool p: 2 usable of 2, 0 in flight>>"


def test_time_alone_brings_a_trial():
    balancer, _ = make("a:1", checked=False)
    lease = balancer.admit(None, 0.0)
    assert isinstance(lease, Lease)
    balancer.settle(lease, Outcome.REFUSED, 0.0)
    assert balancer.admit(None, 0.0) is Refusal.NO_BACKEND
    balancer.tick(0.9)
    assert balancer.admit(None, 0.9) is Refusal.NO_BACKEND
    balancer.tick(1.0)
    trial = balancer.admit(None, 1.0)
    assert isinstance(trial, Lease)
    assert trial.trial


def test_a_snapshot_says_how_everything_stands_and_stays_as_it_is():
    balancer, _ = make("a:1", "b:1,weight=2")
    lease = balancer.readmit(None, 1.0, (balancer.pool.backends["a:1"],))
    assert isinstance(lease, Lease)
    balancer.observe_probe("a:1", False, "x", 1.0)
    balancer.command("a:1", AdminState.DRAIN, 1.0)
    shot = balancer.snapshot()
    balancer.settle(lease, Outcome.TIMED_OUT, 2.0, "slow")
    common = {"ejected": False}
    assert shot == PoolSnapshot(
        "p",
        (
            BackendSnapshot(
                "a:1",
                "a:1",
                1,
                AdminState.DRAIN,
                up=False,
                known=True,
                usable=False,
                available=False,
                in_flight=0,
                requests=0,
                failures=0,
                outcomes={},
                **common,
            ),
            BackendSnapshot(
                "b:1",
                "b:1",
                2,
                AdminState.READY,
                up=True,
                known=False,
                usable=True,
                available=True,
                in_flight=1,
                requests=1,
                failures=0,
                outcomes={},
                **common,
            ),
        ),
        waiting=0,
    )
    after = balancer.snapshot().backends[1]
    assert (after.outcomes, after.failures) == ({"TIMED_OUT": 1}, 1)
