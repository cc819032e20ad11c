"""What is known of a request when it ends."""

from builders import make_pool

from twisted_lb.core.ask import ANY
from twisted_lb.core.attempts import Attempts
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.record import Observer, Observers, Record
from twisted_lb.core.retry import RetryRules


def test_what_has_not_happened_is_never_and_nothing():
    record = Record(3.0)
    moments = (record.connected_at, record.head_at, record.first_byte_at, record.last_byte_at, record.ended_at)
    assert moments == (NEVER,) * 5
    assert (record.took_s, record.queued_s, record.request_bytes, record.response_bytes) == (NEVER, 0.0, 0, 0)
    assert (record.status, record.local_reply, record.outcome, record.backend_name) == (0, None, None, "")


def test_the_last_attempt_says_how_it_went():
    pool, _ = make_pool("a:1", "b:1")
    attempts = Attempts(pool, RetryRules(2, frozenset()), ANY, idempotent=True)
    attempts.begin(0.0)
    attempts.ended(attempts.current, Outcome.REFUSED, 1.0, "connection refused")
    attempts.again(Outcome.REFUSED, 1.0, replayable=True)
    attempts.ended(attempts.current, Outcome.OK, 2.0)
    record = Record(0.0)
    record.method, record.target, record.status = b"GET", b"/", 200
    record.last = attempts.current
    record.ended_at = 2.0
    assert [(one.outcome, one.detail) for one in record.attempts] == [
        (Outcome.REFUSED, "connection refused"),
        (Outcome.OK, ""),
    ]
    assert (record.outcome, record.backend_name) == (Outcome.OK, attempts.current.lease.backend.name)
    assert record.took_s == 2.0
    assert repr(record) == "<Record GET / 200, 2 attempts>"


def test_an_observer_is_anybody_who_takes_a_record():
    seen: list[Record] = []
    observer: Observer = seen.append
    record = Record(0.0)
    observer(record)
    assert seen == [record]


def test_clients_that_just_leave_are_of_interest_to_whoever_hears_of_all_and_to_whom_of_failures_who_says_so():
    def heed(record: Record) -> None:
        """Take it."""

    assert not Observers().leavers
    assert not Observers((), (heed,), leavers=False).leavers
    assert Observers((), (heed,)).leavers
    assert Observers((heed,), leavers=False).leavers
