"""Policies of one's own: whatever they do, the pool has a pick, and says what was wrong."""

import random

import pytest
from builders import Told, claim, make_pool, specs

from twisted_lb.core.ask import ANY, Ask
from twisted_lb.core.backend import BackendSpec
from twisted_lb.core.decision import recalled
from twisted_lb.core.events import PolicyHandedOver, PolicyTakenBack
from twisted_lb.core.lease import Lease
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.pickers.minding import HANDED_OVER_S, MOST_LATE
from twisted_lb.core.pickers.own import own_policy
from twisted_lb.core.pool import Pool
from twisted_lb.core.settings import PoolSettings


class Fewest:
    """The ten lines."""

    def __init__(self, members, previous=None):
        self.members = members

    def pick(self, ask, now, rng, tried):
        return min((one for one in self.members if one.open_to(tried)), key=lambda one: one.in_flight, default=None)


class Naming(Fewest):
    """Picks whom it is told to."""

    def __init__(self, members, previous=None):
        super().__init__(members)
        self.by_name = {one.name: one for one in members}

    def pick(self, ask, now, rng, tried):
        return self.does(tried)


@pytest.fixture
def picks(monkeypatch):
    """Sets what a Naming picks."""
    return lambda call: monkeypatch.setattr(Naming, "does", call, raising=False)


def pool_of(target, *texts, budget_s=0.0005, stopwatch=None, seed=1, backends=(), **settings):
    told = Told()
    pool = Pool(
        "p",
        own_policy(target, target.__name__, budget_s),
        PoolSettings(2, 3, **{"checked": False, **settings}),
        random.Random(seed),
        told.append,
        stopwatch=stopwatch,
    )
    pool.update([*specs(*texts), *backends], 0.0)
    told.clear()
    return pool, told


def told_by(pool, told, now=0.0):
    pool.tick(now)
    return [str(event) for event in told.take()]


def test_ten_lines_pick_and_see_what_is_in_flight():
    pool, told = pool_of(Fewest, "a:80", "b:80", "c:80")
    leases = [claim(pool) for _ in range(6)]
    assert [one.backend.name for one in leases] == ["a:80", "b:80", "c:80"] * 2
    pool.settle(leases[4], Outcome.OK, 1.0)
    assert claim(pool).backend.name == "b:80"
    assert told_by(pool, told) == []
    assert pool.minded.own["policy"].faults == ()


def test_it_sees_what_a_member_is():
    seen = []

    class Curious(Fewest):
        def __init__(self, members, previous=None):
            super().__init__(members)
            seen.extend(members)

    [spec] = specs("a:80,weight=7")
    labelled = BackendSpec("a", spec.address, 7, labels=(("zone", "x"),), limit=3)
    pool, _ = pool_of(Curious, backends=[labelled])
    lease = claim(pool)
    [one] = seen
    assert (one.name, one.address, one.weight, one.labels, one.in_flight, one.limit, one.available) == (
        "a", "a:80", 7, {"zone": "x"}, 1, 3, True
    )  # fmt: skip
    assert (one.open_to(()), one.open_to((one,)), repr(one)) == (True, False, "<Member a, 1 in flight>")
    pool.settle(lease, Outcome.OK, 0.0)
    pool.update([], 0.0)
    assert (one.in_flight, one.available) == (0, False)


def test_labels_follow_an_update_and_the_member_stays_the_same():
    seen = []

    class Curious(Fewest):
        def __init__(self, members, previous=None):
            super().__init__(members)
            seen.append(members[0])

    [spec] = specs("a:80")
    pool, _ = pool_of(Curious, backends=[BackendSpec("a", spec.address, labels=(("zone", "x"),))])
    claim(pool)
    pool.update([BackendSpec("a", spec.address, labels=(("zone", "y"),))], 1.0)
    claim(pool)
    first, second = seen
    assert first == second
    assert hash(first) == hash(second)
    assert second.labels == {"zone": "y"}


def test_what_it_is_handed_cannot_be_written():
    pool, _ = pool_of(Fewest, "a:80")
    claim(pool)
    made = pool._selection.picker._made
    [one] = made.members
    for name in ("name", "weight", "available", "in_flight", "labels"):
        with pytest.raises(AttributeError):
            setattr(one, name, 5)
    one.labels["zone"] = "mine"
    assert one.labels == {}


@pytest.mark.parametrize(
    ("does", "said", "reason"),
    [
        (lambda policy, tried: 1 / 0, "raised ZeroDivisionError: division by zero (test_own_policies.py:", "raised"),
        (lambda policy, tried: exit(1), "raised SystemExit: 1 (", "raised"),
        (lambda policy, tried: "a:80", "returned 'a:80', which is no member; ", "no_member"),
        (lambda policy, tried: 7, "returned 7, which is no member; ", "no_member"),
        (lambda policy, tried: policy, "which is no member; ", "no_member"),
        (lambda policy, tried: None, "returned None while somebody was open; ", "nobody"),
        (lambda policy, tried: policy.by_name["b:80"], "returned b:80, which is not available; ", "unavailable"),
    ],
)  # fmt: skip
def test_where_it_picks_nobody_who_is_open_p2c_does(picks, does, said, reason):
    picks(does)
    pool, told = pool_of(Naming, "a:80", "b:80", "c:80")
    for _ in range(3):
        pool.observe_probe(pool.backends["b:80"], False, "no", 0.0)
    told.clear()
    lease = claim(pool)
    assert lease.backend.name in ("a:80", "c:80")
    [line] = told_by(pool, told)
    assert line.startswith("pool p: policy Naming ")
    assert said in line
    assert line.endswith("; p2c picked instead")
    assert dict(pool.minded.own["policy"].faults) == {reason: 1}
    rule = recalled(lease).rule
    assert rule.startswith("policy Naming ")
    assert said.rstrip("; ") in rule
    assert "picked by p2c instead: two choices: " in rule


def test_who_was_tried_is_not_asked_again(picks):
    picks(lambda policy, tried: policy.by_name["a:80"])
    pool, told = pool_of(Naming, "a:80", "b:80")
    assert claim(pool, tried=(pool.backends["a:80"],)).backend.name == "b:80"
    assert told_by(pool, told) == ["pool p: policy Naming returned a:80, which was tried before; p2c picked instead"]


def test_a_member_that_has_left_is_none(picks):
    old = []

    def remembers(policy, tried):
        old.append(policy.by_name.get("a:80"))
        return old[0]

    picks(remembers)
    pool, told = pool_of(Naming, "a:80", "b:80")
    claim(pool)
    pool.update(specs("b:80"), 1.0)
    assert claim(pool).backend.name == "b:80"
    assert told_by(pool, told, 1.0)[-1].startswith(
        "pool p: policy Naming returned <Member a:80, 1 in flight>, which is no member"
    )


def test_what_it_hears_as_tried_are_members(picks):
    heard = []
    picks(lambda policy, tried: heard.append(tried) or policy.by_name["b:80"])
    pool, _ = pool_of(Naming, "a:80", "b:80")
    claim(pool, tried=(pool.backends["a:80"],))
    [[one]] = heard
    assert one.name == "a:80"


def test_nobody_is_no_fault_where_nobody_is_open():
    pool, told = pool_of(Fewest, "a:80")
    pool.settle(claim(pool), Outcome.REFUSED, 0.0, "refused")
    told.clear()
    assert pool.claim(ANY, 0.1) is Refusal.NO_BACKEND
    assert told_by(pool, told) == []
    assert pool.minded.own["policy"].faults == ()


def test_a_trial_that_is_due_comes_before_what_the_policy_says():
    class Avoiding(Fewest):
        """Never picks b."""

        def pick(self, ask, now, rng, tried):
            return next(one for one in self.members if one.name != "b:80")

    pool, _ = pool_of(Avoiding, "a:80", "b:80")
    claim(pool)
    refused = pool.claim(ANY, 0.0, (pool.backends["a:80"],))
    pool.settle(refused, Outcome.REFUSED, 0.0, "refused")
    assert [claim(pool, now).backend.name for now in (0.5, 0.9)] == ["a:80"] * 2
    trial = claim(pool, 1.5)
    assert (trial.backend.name, trial.trial) == ("b:80", True)
    assert recalled(trial).rule == "a trial was due: one request finds out whether it is back, whatever the policy says"
    assert claim(pool, 1.6).backend.name == "a:80"


def test_the_same_is_said_once_a_minute_with_how_often_it_was(picks):
    picks(lambda policy, tried: 1 / 0)
    pool, told = pool_of(Naming, "a:80", "b:80")
    for _ in range(50):
        claim(pool)
    assert len(told_by(pool, told, 1.0)) == 1
    claim(pool, 2.0)
    assert told_by(pool, told, 59.0) == []
    [line] = told_by(pool, told, 61.0)
    assert line.endswith("p2c picked instead (49 more since it was said last)")
    assert dict(pool.minded.own["policy"].faults) == {"raised": 51}


def test_what_cannot_tell_what_went_wrong_harms_nobody(picks):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    def fails(policy, tried):
        raise Mute

    class Silent:
        def __repr__(self):
            raise RuntimeError

    pool, told = pool_of(Naming, "a:80")
    for does in (fails, lambda policy, tried: Silent()):
        picks(does)
        claim(pool)
    first, second = told_by(pool, told)
    assert "raised Mute: <Mute>" in first
    assert "returned a Silent, which is no member" in second


@pytest.mark.parametrize("leaving", [SystemExit, GeneratorExit, RuntimeError])
def test_whatever_cannot_be_shown_is_passed_over_even_where_it_leaves(picks, leaving):
    class Mute(Exception):
        def __str__(self):
            raise leaving

    class Silent:
        def __repr__(self):
            raise leaving

    def fails(policy, tried):
        raise Mute

    pool, told = pool_of(Naming, "a:80")
    for does in (fails, lambda policy, tried: Silent()):
        picks(does)
        claim(pool)
    first, second = told_by(pool, told)
    assert "raised Mute: <Mute>" in first
    assert "returned a Silent, which is no member" in second


@pytest.mark.parametrize("leaving", [SystemExit, GeneratorExit, RuntimeError])
def test_a_why_that_raises_costs_no_request(leaving):
    class Unsaid(Fewest):
        looked = 0

        @property
        def why(self):
            Unsaid.looked += 1
            if Unsaid.looked > 1:  # not when it is made
                raise leaving("no")
            return ""

    pool, _ = pool_of(Unsaid, "a:80")
    assert f"its why raised {leaving.__name__}: no" in recalled([claim(pool) for _ in range(2)][1]).rule


@pytest.mark.parametrize("leaving", [SystemExit, GeneratorExit, RuntimeError])
@pytest.mark.parametrize("hook", ["leased", "responded", "settled", "load"])
def test_a_hook_that_cannot_be_looked_up_costs_no_request(hook, leaving):
    def raises(policy):
        raise leaving("no")

    pool, told = pool_of(type("Hooked", (Fewest,), {hook: property(raises)}), "a:80")
    pool.settle(claim(pool), Outcome.OK, 0.0)
    assert f"{hook}() raised {leaving.__name__}: no" in told_by(pool, told)[0]


def test_it_is_made_anew_with_its_last_object():
    class Counting(Fewest):
        def __init__(self, members, previous=None):
            super().__init__(members)
            self.picks = previous.picks if previous else 0

        def pick(self, ask, now, rng, tried):
            self.picks += 1
            return super().pick(ask, now, rng, tried)

    pool, _ = pool_of(Counting, "a:80", "b:80")
    for _ in range(3):
        claim(pool)
    pool.update(specs("a:80", "b:80", "c:80"), 1.0)
    claim(pool)
    assert pool._selection.picker._made.picks == 4
    pool.choose_by(own_policy(Counting, "Counting", 9.0))  # another budget
    claim(pool)
    assert pool._selection.picker._made.picks == 5
    pool.choose_by(own_policy(Fewest, "Fewest", 9.0))
    claim(pool)
    pool.choose_by(own_policy(Counting, "Counting", 9.0))  # what was before is another one's
    claim(pool)
    assert pool._selection.picker._made.picks == 1


def test_what_is_equal_is_not_made_anew():
    pool, _ = pool_of(Fewest, "a:80")
    claim(pool)
    picker = pool._selection.picker
    pool.choose_by(own_policy(Fewest, "Fewest", 0.0005))
    claim(pool)
    assert pool._selection.picker is picker


def test_a_policy_without_previous_is_made_without():
    class Plain:
        def __init__(self, members):
            self.members = members

        def pick(self, ask, now, rng, tried):
            return self.members[-1]

    pool, _ = pool_of(Plain, "a:80", "b:80")
    assert claim(pool).backend.name == "b:80"


def test_where_it_cannot_be_made_anew_p2c_picks_and_the_last_object_comes_back():
    class Picky(Fewest):
        def __init__(self, members, previous=None):
            super().__init__(members)
            self.round = previous.round + 1 if previous else 1
            if len(members) == 3:
                raise ValueError("three are too many")

    pool, told = pool_of(Picky, "a:80", "b:80")
    claim(pool)
    pool.update(specs("a:80", "b:80", "c:80"), 1.0)
    for _ in range(9):
        lease = claim(pool, 1.0)
    lines = [line for line in told_by(pool, told, 1.0) if "policy" in line]
    assert len(lines) == 1
    assert lines[0].startswith(
        "pool p: policy Picky cannot be made: it raised ValueError: three are too many (test_own_policies.py:"
    )
    assert "picked by p2c instead" in recalled(lease).rule
    pool.update(specs("a:80", "b:80"), 2.0)
    claim(pool, 2.0)
    assert pool._selection.picker._made.round == 2
    assert dict(pool.minded.own["policy"].faults) == {"not_made": 9}


class Hearing(Fewest):
    """Has a load of its own."""

    def __init__(self, members, previous=None):
        super().__init__(members)
        self.heard = previous.heard if previous else []

    def leased(self, member, cost, now):
        self.heard.append(("leased", member.name, cost, now))

    def responded(self, member, elapsed_s, now):
        self.heard.append(("responded", member.name, elapsed_s, now))

    def settled(self, member, cost, outcome, elapsed_s, now):
        self.heard.append(("settled", member.name, cost, outcome, elapsed_s, now))

    def load(self, member, now):
        return len(self.heard)


def test_it_hears_of_its_leases_also_across_rebuilds():
    pool, _ = pool_of(Hearing, "a:80")
    lease = pool.claim(Ask(cost=5), 1.0)
    assert isinstance(lease, Lease)
    pool.responded(lease, 1.5)
    pool.update(specs("b:80"), 2.0)
    other = claim(pool, 2.0)
    pool.settle(lease, Outcome.OK, 3.0)
    made = pool._selection.picker._made
    assert made.heard == [
        ("leased", "a:80", 5, 1.0),
        ("responded", "a:80", 0.5, 1.5),
        ("leased", "b:80", 1, 2.0),
        ("settled", "a:80", 5, Outcome.OK, 2.0, 3.0),
    ]
    assert other.backend.load.value(1, 3.0) == 4.0
    assert [rank for _, rank in pool._selection.picker.ranking(ANY, 3.0)] == [4.0]


@pytest.mark.parametrize("error", [KeyError("zone"), SystemExit("zone")], ids=["KeyError", "SystemExit"])
@pytest.mark.parametrize("hook", ["leased", "responded", "settled", "load"])
def test_a_hook_that_raises_harms_nobody(hook, error):
    def fails(self, *_):
        raise error

    pool, told = pool_of(type("Bad", (Hearing,), {hook: fails}), "a:80", "b:80")
    for _ in range(4):
        lease = claim(pool)
        pool.responded(lease, 1.0)
        assert lease.backend.load.value(1, 1.0) >= 0
        pool.settle(lease, Outcome.OK, 1.0)
    [line] = told_by(pool, told, 1.0)
    assert line.startswith(f"pool p: policy Bad {hook}() raised {type(error).__name__}: {error} (test_own_policies.py:")
    assert "picked" not in line
    assert dict(pool.minded.own["policy"].faults) == {"hook": 4}
    assert pool.broken() == []


def test_leases_of_before_are_none_of_its_business():
    pool, _ = make_pool("a:80", policy="least")
    before = claim(pool)
    pool.choose_by(own_policy(Hearing, "Hearing", 9.0))
    own = pool.claim_on(pool.backends["a:80"], ANY, 1.0)  # before it has picked anybody
    claim(pool, 1.0)
    for lease in (before, own):
        pool.settle(lease, Outcome.OK, 2.0)
    assert [event[0] for event in pool._selection.picker._made.heard] == ["leased"]


class Watch:
    """A stopwatch that says that each pick takes so long."""

    def __init__(self, seconds):
        self.seconds = seconds
        self._now = 0.0

    def __call__(self):
        self._now += self.seconds
        return self._now


def test_a_late_pick_is_used_and_counted():
    pool, told = pool_of(Fewest, "a:80", "b:80", stopwatch=Watch(0.000501))
    assert [claim(pool, now).backend.name for now in range(4)] == ["a:80", "b:80"] * 2
    assert (pool.minded.own["policy"].late, told_by(pool, told)) == (4, [])


def test_a_pick_within_its_budget_is_not_late():
    pool, _ = pool_of(Fewest, "a:80", "b:80", stopwatch=Watch(0.000499))
    for _ in range(50):
        claim(pool)
    assert pool.minded.own["policy"].late == 0


def test_ten_late_picks_in_a_second_hand_over_for_ten_seconds():
    watch = Watch(0.001)
    pool, told = pool_of(Fewest, "a:80", "b:80", "c:80", stopwatch=watch)
    for index in range(MOST_LATE):
        claim(pool, index * 0.1)
    lease = claim(pool, 1.0)
    assert "rests: 10 picks within 1 s took more than 500 µs each; picked by p2c instead" in recalled(lease).rule
    [event] = (pool.tick(1.0), told.take())[1]
    assert isinstance(event, PolicyHandedOver)
    assert str(event) == (
        "pool p: p2c picks for 10 s in place of policy Fewest: 10 picks within 1 s took more than 500 µs each"
    )
    assert pool.minded.own["policy"].resting
    watch.seconds = 0.0
    claim(pool, 0.9 + HANDED_OVER_S - 0.01)
    assert pool.minded.own["policy"].late == MOST_LATE
    pool.tick(0.9 + HANDED_OVER_S)
    assert [type(one) for one in told.take()] == [PolicyTakenBack]
    assert recalled(claim(pool, 0.9 + HANDED_OVER_S)).rule == "policy Fewest"
    assert not pool.minded.own["policy"].resting


def test_nine_in_a_second_do_not():
    pool, told = pool_of(Fewest, "a:80", stopwatch=Watch(0.001))
    for index in range(100):
        claim(pool, index * 0.112)
    assert (told_by(pool, told, 12.0), pool.minded.own["policy"].handed_over) == ([], 0)


def test_without_a_stopwatch_nothing_is_late():
    pool, _ = pool_of(Fewest, "a:80", budget_s=0.0)
    for _ in range(20):
        claim(pool)
    assert pool.minded.own["policy"].late == 0


class Drawing(Fewest):
    """Has state and draws: what it picks next follows from both."""

    def __init__(self, members, previous=None):
        super().__init__(members)
        self.before = []
        self.why = ""

    def pick(self, ask, now, rng, tried):
        chosen = rng.choice([one for one in self.members if one.open_to(tried) and one not in self.before[-1:]])
        self.before.append(chosen)
        self.why = f"number {len(self.before)}"
        return chosen


def test_what_is_explained_is_what_the_next_claim_does_and_changes_nothing():
    pool, told = pool_of(Drawing, "a:80", "b:80", "c:80")
    for number in range(1, 30):
        foreseen = [pool.explain(ANY, 0.0) for _ in range(2)]
        lease = claim(pool)
        assert foreseen[0] == foreseen[1]
        assert foreseen[0].picked == lease.backend.name
        assert foreseen[0].rule == recalled(lease).rule == f"policy Drawing: number {number}"
    assert [one for one in told_by(pool, told) if "policy" in one] == []


@pytest.mark.parametrize("kind", [Fewest, Drawing, Hearing])
def test_explaining_a_stale_pool_makes_no_difference(kind):
    pool, _ = pool_of(kind, "a:80", "b:80", "c:80")
    claim(pool)
    pool.update(specs("a:80", "b:80", "c:80", "d:80"), 0.0)
    foreseen = pool.explain(ANY, 0.0)
    assert foreseen.picked == claim(pool).backend.name


def test_where_it_cannot_be_copied_nobody_knows_what_it_would_pick():
    class Locked(Fewest):
        def __init__(self, members, previous=None):
            super().__init__(members)
            self.generator = (one for one in members)

    pool, _ = pool_of(Locked, "a:80", "b:80")
    claim(pool)
    decision = pool.explain(ANY, 0.0)
    assert decision.picked is None
    assert not decision.waits
    assert decision.rule.startswith("policy Locked cannot be copied to see what it would pick: raised TypeError: ")
    assert claim(pool).backend.name == "b:80"


def test_a_policy_that_says_own_is_not_taken_for_a_connection_of_the_client():
    class Own(Fewest):
        why = "own"

    pool, _ = pool_of(Own, "a:80")
    assert recalled(claim(pool)).rule == "policy Own: own"


def test_a_policy_that_is_not_eager_is_built_at_a_tick():
    made = []

    class Slow(Fewest):
        eager = False

        def __init__(self, members, previous=None):
            super().__init__(members)
            made.append(len(members))

    pool, _ = pool_of(Slow, "a:80")
    claim(pool)
    pool.update(specs("a:80", "b:80"), 1.0)
    claim(pool)
    assert made == [1]
    pool.tick(1.0)
    assert made == [1, 2]


def not_callable(name):
    return type("Bad", (), {"__init__": lambda self, members: None, "pick": name})


class Async(Fewest):
    async def pick(self, ask, now, rng, tried):
        return None


class Yields(Fewest):
    def pick(self, ask, now, rng, tried):
        yield


class Short(Fewest):
    def pick(self, ask):
        return None


class BadHook(Fewest):
    def settled(self, member):
        pass


class NoPick:
    def __init__(self, members):
        pass


class NoMembers:
    def pick(self, ask, now, rng, tried):
        return None


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (5, "x is no class: 5 cannot be called"),
        (NoPick, "x has no method pick(ask, now, rng, tried)"),
        (not_callable(5), "x has no method pick(ask, now, rng, tried)"),
        (Async, "x: pick is async or a generator: it has to answer at once"),
        (Yields, "x: pick is async or a generator: it has to answer at once"),
        (Short, "x: pick(self, ask) is called as pick(ask, now, rng, tried)"),
        (BadHook, "x: settled(self, member) is called as settled(member, cost, outcome, elapsed_s, now)"),
        (NoMembers, "x() cannot be called with (members, previous), nor with (members)"),
        (lambda: None, "x() cannot be called with (members, previous), nor with (members)"),
        (lambda a, b, c: None, "x(a, b, c) cannot be called with (members, previous), nor with (members)"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_policy_is_said_before_it_is_asked(target, said):
    with pytest.raises(ValueError, match="x") as caught:
        own_policy(target, "x", 1.0)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: None, "cannot be made: it raised TypeError: None has no method pick(ask, now, rng, tried)"),
        (lambda: Short(()), "pick(ask) is called as pick(ask, now, rng, tried)"),
        (lambda: 1 / 0, "cannot be made: it raised ZeroDivisionError: division by zero (test_own_policies.py:"),
        (lambda: Fewest(()), ""),
    ],
)  # fmt: skip
def test_what_a_function_makes_is_looked_at_once_it_is_made(made, said):
    pool, _ = make_pool("a:80")
    policy = own_policy(lambda members, previous: made(), "x", 1.0)
    found = policy.try_out(list(pool.backends.values()))
    assert found.startswith(said)
    assert bool(found) is bool(said)


def test_policies_are_equal_where_they_would_do_the_same():
    one = own_policy(Fewest, "x", 1.0)
    assert one == own_policy(Fewest, "x", 1.0)
    assert len({one, own_policy(Fewest, "x", 1.0)}) == 1
    assert one not in (own_policy(Hearing, "x", 1.0), own_policy(Fewest, "y", 1.0), own_policy(Fewest, "x", 2.0))
    assert one != POLICIES["rr"]
    assert repr(one) == "<OwnPolicy x>"
