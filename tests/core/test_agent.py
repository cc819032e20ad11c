"""Agents: the words of HAProxy's agent-check, and what holds of them in a pool, on time that the test moves."""

import pytest
from builders import Told, claim, make_pool, specs
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.core.agent import MOST_BYTES, Agent, line_in, read_agent
from twisted_lb.core.ask import ANY
from twisted_lb.core.backend import AdminState
from twisted_lb.core.events import AgentChanged, AgentGarbled, BackendDown, PoolExhausted, PoolRecovered
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.standing import Skipped

# HAProxy 2.6, configuration.txt 5.2 `agent-check`, and the function that reads it, `tcpcheck_agent_expect_reply`:
# health, wish, percent, weight, limit, comment, the first word that is none.
WORDS = [
    (b"up", ("up", "", -1, -1, -1, "", "")),
    (b"down", ("down", "", -1, -1, -1, "", "")),
    (b"fail", ("fail", "", -1, -1, -1, "", "")),
    (b"stopped", ("stopped", "", -1, -1, -1, "", "")),
    (b"ready", ("", "ready", -1, -1, -1, "", "")),
    (b"drain", ("", "drain", -1, -1, -1, "", "")),
    (b"maint", ("", "maint", -1, -1, -1, "", "")),
    (b"75%", ("", "", 75, -1, -1, "", "")),
    (b"0%", ("", "", 0, -1, -1, "", "")),
    (b"150%", ("", "", 150, -1, -1, "", "")),
    (b"99999999%", ("", "", 25600, -1, -1, "", "")),  # the bound of `server_parse_weight_change_request`
    (b"maxconn:30", ("", "", -1, -1, 30, "", "")),
    (b"maxconn:0", ("", "", -1, -1, 0, "", "")),
    # Of its own regression test, checks/agent-check.vtc.
    (b"75%,maxconn:30,maint,down", ("down", "maint", 75, -1, 30, "", "")),
    # In any order, parted by spaces, tabs or commas, in any case (`strcasecmp`); the last of a kind wins.
    (b"Ready\tUP, 50% MaxConn:2", ("up", "ready", 50, -1, 2, "", "")),
    (b" ,\t drain,,up ", ("up", "drain", -1, -1, -1, "", "")),
    (b"up down", ("down", "", -1, -1, -1, "", "")),
    (b"drain ready 10% 20% maxconn:1 maxconn:3", ("", "ready", 20, -1, 3, "", "")),
    # A comment begins where a word would.
    (b"down # disk is full, again", ("down", "", -1, -1, -1, "disk is full, again", "")),
    (b"down #disk", ("down", "", -1, -1, -1, "disk", "")),
    (b"#up", ("", "", -1, -1, -1, "up", "")),
    (b"down#disk up", ("up", "", -1, -1, -1, "", "down#disk")),
    # What is none of its words is told, and the rest holds.
    (b"well up", ("up", "", -1, -1, -1, "", "well")),
    (b"-5% 75%x maxconn: maxconn:-1 maxconn:2x %", ("", "", -1, -1, -1, "", "-5%")),
    (b"maxconn: 30", ("", "", -1, 30, -1, "", "maxconn:")),
    (b"", ("", "", -1, -1, -1, "", "")),
    # Ours: a number without a sign is a weight, which HAProxy ignores.
    (b"12", ("", "", -1, 12, -1, "", "")),
    (b"256 257", ("", "", -1, 256, -1, "", "257")),
    (b"50% 12", ("", "", -1, 12, -1, "", "")),
    (b"up\x00", ("", "", -1, -1, -1, "", "up?")),
    ("drain # für Wartung".encode(), ("", "drain", -1, -1, -1, "f??r Wartung", "")),
]


@pytest.mark.parametrize(("line", "means"), WORDS, ids=repr)
def test_a_line_is_read_as_haproxy_reads_it(line, means):
    said = read_agent(line)
    assert (said.health, said.wish, said.percent, said.weight, said.limit, said.comment, said.garbled) == means


@given(st.binary(max_size=3000))
def test_whatever_an_agent_says_is_read_and_bounded(line):
    said = read_agent(line)
    agent = Agent()
    agent.hear(said)
    assert all(32 <= ord(char) < 127 for char in said.comment + said.garbled if char != "\t")
    assert len(said.comment) <= 200
    assert len(said.garbled) <= 200
    assert 0 <= agent.part_of(3) * 3 <= 256.0001


@pytest.mark.parametrize(
    ("received", "line"),
    [
        (b"up", None),
        (b"up\n", b"up"),
        (b"up\r\ndown\n", b"up"),
        (b"up\rdown", b"up"),
        (b"\n", b""),
        (b"x" * MOST_BYTES + b"\n", b"x" * MOST_BYTES),
        (b"x" * (MOST_BYTES + 1) + b"\n", None),
    ],
    ids=lambda one: repr(one)[:20],
)
def test_a_line_ends_at_the_first_cr_or_lf(received, line):
    assert line_in(received) == line


# In a pool.


def agents(*texts, told=None, **options):
    """A pool whose agents are heard; `told` hears its events."""
    pool, events = make_pool(*texts, agents=True, **options)
    if told is not None:
        told.events = events
    return pool


class Heard:
    """The events of a pool, as far as they were not taken."""

    events: Told

    def take(self):
        return self.events.take()


def say(pool, name, line, now=1.0):
    pool.hear_agent(pool.backends[name], None if line is None else read_agent(line), now)


def picks(pool, times, now=2.0):
    found = [claim(pool, now=now).backend.name for _ in range(times)]
    return {name: found.count(name) for name in pool.backends}


def test_half_of_its_weight_is_half_of_the_requests():
    pool = agents("a:1,weight=2", "b:1,weight=2")
    say(pool, "a:1", b"50%")
    assert picks(pool, 30) == {"a:1": 10, "b:1": 20}
    say(pool, "a:1", b"up")  # of what it does not speak, that holds which it said
    assert pool.backends["a:1"].weighing.effective == 1.0
    say(pool, "a:1", b"100%")
    assert picks(pool, 30) == {"a:1": 15, "b:1": 15}


def test_a_weight_stands_in_place_of_the_configured_one_within_its_bounds():
    pool = agents("a:1,weight=2", "b:1,weight=0")
    say(pool, "a:1", b"6")
    assert (pool.backends["a:1"].weight, pool.backends["a:1"].weighing.effective) == (2, 6.0)
    pool.update(specs("a:1,weight=3", "b:1,weight=0"), 2.0)
    assert pool.backends["a:1"].weighing.effective == 6.0
    say(pool, "a:1", b"20000%")
    assert pool.backends["a:1"].weighing.effective == pytest.approx(256.0)
    say(pool, "b:1", b"100")
    assert not pool.backends["b:1"].usable


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (b"drain", "drain"),
        (b"maint", "maint"),
        (b"down", "down"),
        (b"fail", "fail"),
        (b"stopped", "stopped"),
        (b"0%", "drain"),
        (b"0", "drain"),
    ],
)
def test_who_wants_no_requests_gets_none_and_keeps_what_runs(line, word):
    told = Heard()
    pool = agents("a:1", "b:1", told=told)
    running = claim(pool)
    say(pool, running.backend.name, line)
    [event] = told.take()
    assert (event.word, event.before, event.backend_name) == (word, "", running.backend.name)
    assert picks(pool, 10)[running.backend.name] == 0
    pool.settle(running, Outcome.OK, 3.0)
    say(pool, running.backend.name, b"ready up 100%")
    [event] = told.take()
    assert (event.word, event.before) == ("", word)
    assert picks(pool, 10)[running.backend.name] > 0


def test_what_holds_is_told_once_with_its_reason():
    told = Heard()
    pool = agents("a:1", "b:1", told=told)
    say(pool, "a:1", b"drain # deploy 17")
    say(pool, "a:1", b"drain # deploy 17")
    say(pool, "a:1", b"ready")
    say(pool, "a:1", b"ready 50%")
    say(pool, "b:1", b"stopped")
    assert [str(event).partition("/")[2] for event in told.take()] == [
        "a:1 is drained by its agent: deploy 17",
        "a:1 is not drained by its agent any more: its agent says ready",
        "b:1 is down by its agent",
    ]


def test_an_agent_takes_the_last_one_out_and_requests_may_wait_for_it():
    told = Heard()
    pool = agents("a:1", told=told, max_queued=1, queue_timeout_s=5.0, no_backend_s=5.0)
    say(pool, "a:1", b"drain")
    assert [type(event) for event in told.take()] == [AgentChanged, PoolExhausted]
    ticket = pool.claim(ANY, 1.0)
    say(pool, "a:1", b"ready", 2.0)
    assert [type(event) for event in told.take()] == [AgentChanged, PoolRecovered]
    [(served, lease)] = pool.grants(2.0)
    assert (served, lease.backend.name) == (ticket, "a:1")


@pytest.mark.parametrize("admin", [AdminState.DRAIN, AdminState.MAINT])
def test_what_the_operator_wants_is_not_undone_by_an_agent(admin):
    pool = agents("a:1", "b:1")
    pool.command(pool.backends["a:1"], admin, 1.0, "by alice")
    say(pool, "a:1", b"ready up 100%")
    assert (pool.backends["a:1"].admin, pool.backends["a:1"].usable) == (admin, False)
    [one] = pool.explain(ANY, 2.0).skipped
    assert (one.skipped, one.reason, one.agent) == (Skipped.ADMIN, "by alice", "")


def test_what_the_agent_wants_is_not_undone_by_the_operator_and_told_apart():
    pool = agents("a:1", "b:1")
    say(pool, "a:1", b"drain # deploy")
    pool.command(pool.backends["a:1"], AdminState.DRAIN, 1.0)
    pool.command(pool.backends["a:1"], AdminState.READY, 1.0)
    assert not pool.backends["a:1"].usable
    [one] = pool.explain(ANY, 2.0).skipped
    assert (one.skipped, one.admin, one.agent, one.reason) == (Skipped.AGENT, "ready", "drain", "drain: deploy")


def test_an_agent_brings_nobody_up_whom_checks_found_down_nor_the_other_way_round():
    pool = agents("a:1", "b:1")
    backend = pool.backends["a:1"]
    pool.observe_probe(backend, False, "status 500", 1.0)
    say(pool, "a:1", b"up ready")
    assert (backend.health.up, backend.usable) == (False, False)
    say(pool, "a:1", b"down")
    for _ in range(2):
        pool.observe_probe(backend, True, "status 200", 2.0)
    assert (backend.health.up, backend.usable) == (True, False)
    say(pool, "a:1", b"up")
    assert backend.usable


def test_the_smaller_limit_counts():
    pool = agents("a:1", max_in_flight=5)
    backend = pool.backends["a:1"]
    for line, limit in ((b"maxconn:2", 2), (b"maxconn:9", 5), (b"maxconn:3", 3), (b"maxconn:0", 5)):
        say(pool, "a:1", line)
        assert (backend.most, backend.limit) == (limit, limit)
    say(pool, "a:1", b"maxconn:2")
    leases = [claim(pool), claim(pool)]
    assert not backend.available
    say(pool, "a:1", b"maxconn:4")
    assert backend.available
    for lease in leases:
        pool.settle(lease, Outcome.OK, 2.0)
    assert pool.broken() == []


def test_without_a_limit_of_file_or_operator_the_agents_holds_alone():
    pool = agents("a:1")
    say(pool, "a:1", b"maxconn:1")
    lease = claim(pool)
    assert not pool.backends["a:1"].available
    say(pool, "a:1", b"maxconn:0")
    assert pool.backends["a:1"].available
    pool.settle(lease, Outcome.OK, 2.0)
    assert pool.broken() == []


def test_an_agent_that_is_not_heard_fall_times_in_a_row_has_said_nothing():
    told = Heard()
    pool = agents("a:1", "b:1", told=told)
    say(pool, "a:1", b"drain 50% maxconn:2")
    for _ in range(2):
        say(pool, "a:1", None)
    say(pool, "a:1", b"")  # which is an answer
    for _ in range(2):
        say(pool, "a:1", None)
    assert not pool.backends["a:1"].usable
    told.take()
    say(pool, "a:1", None)
    one = pool.backends["a:1"]
    assert (one.usable, one.weighing.effective, one.most) == (True, 1.0, 0)
    assert [str(event).rpartition(": ")[2] for event in told.take()] == ["its agent is not heard"]
    say(pool, "a:1", None)
    assert told.take() == []


@pytest.mark.parametrize("off", [{"agents": False}, {"agents": True, "checked": False}])
def test_what_it_has_said_is_forgotten_when_nobody_asks_any_more(off):
    pool = agents("a:1", "b:1")
    say(pool, "a:1", b"drain 50% maxconn:2")
    pool.configure(type(pool.settings)(**off), 2.0)
    one = pool.backends["a:1"]
    assert (one.usable, one.weighing.effective, one.most, one.agent.words) == (True, 1.0, 0, "")
    say(pool, "a:1", b"down")
    assert one.usable is not off["agents"] or one.agent.down == "down"


def test_it_is_forgotten_in_maintenance_where_nobody_asks():
    pool = agents("a:1", "b:1", busy=True)
    backend = pool.backends["a:1"]
    say(pool, "a:1", b"drain 50%")
    pool.hear_busy(backend, True, "status 429, which means busy", 1.0)
    pool.command(backend, AdminState.MAINT, 1.0)
    pool.command(backend, AdminState.READY, 2.0)
    assert (backend.usable, backend.agent.words) == (True, "")


def test_an_update_keeps_what_it_has_said_where_the_record_stays():
    pool = agents("a:1", "b:1")
    say(pool, "a:1", b"drain 50% maxconn:2")
    pool.update(specs("a:1,weight=4", "b:1", "c:1"), 2.0)
    one = pool.backends["a:1"]
    assert (one.agent.words, one.weighing.steady, one.most, one.usable) == ("drain 50% maxconn:2", 2.0, 2, False)
    pool.update(specs("b:1"), 3.0)
    pool.update(specs("a:1", "b:1"), 4.0)
    assert pool.backends["a:1"].agent.words == ""


def test_panic_does_not_use_who_wants_nothing_and_who_is_down_by_its_agent_only_if_told_to():
    for even_down in (False, True):
        pool = agents("a:1", "b:1", "c:1", panic_percent=90, panic_even_down=even_down)
        say(pool, "a:1", b"drain")
        say(pool, "b:1", b"down")
        found = picks(pool, 20)
        assert found["a:1"] == 0
        assert (found["b:1"] > 0) is even_down
        assert pool.panics is even_down


def test_words_that_are_none_are_counted_and_told_once():
    told = Heard()
    pool = agents("a:1", told=told)
    for _ in range(3):
        say(pool, "a:1", b"<html> 50%")
    assert [type(event) for event in told.take()] == [AgentGarbled]
    assert pool.backends["a:1"].agent.garbled == 3


def test_a_busy_backend_gets_no_new_requests_and_is_up():
    pool, told = make_pool("a:1", "b:1", busy=True)
    backend = pool.backends["a:1"]
    pool.hear_busy(backend, True, "status 429, which means busy", 1.0)
    pool.observe_probe(backend, True, "status 429, which means busy", 1.0)
    assert (backend.health.up, backend.usable, picks(pool, 6)["a:1"]) == (True, False, 0)
    [one] = pool.explain(ANY, 2.0).skipped
    assert (one.skipped, one.reason) == (Skipped.BUSY, "status 429, which means busy")
    pool.hear_busy(backend, False, "status 200", 3.0)
    assert backend.usable
    assert [type(event) for event in told] == [AgentChanged, AgentChanged]
    assert [str(event).partition("/")[2] for event in told] == [
        "a:1 is busy: status 429, which means busy",
        "a:1 is not busy any more: status 200",
    ]
    pool.observe_probe(backend, False, "status 500", 4.0)
    assert not any(isinstance(event, BackendDown) for event in told)
