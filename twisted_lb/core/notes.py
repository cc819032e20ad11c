"""Notes: what is kept of requests that have ended, so that somebody may ask later why; the recent, the failed, the slowest."""

import heapq
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.core.agreed import Agreed
from twisted_lb.core.attempts import Attempt, Story, smooth
from twisted_lb.core.backend import Backend
from twisted_lb.core.flow import Flow
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome, Refusal, Reply
from twisted_lb.core.scene import Scene

# How many requests are held, each kind for itself.
RECENT: Final = 1024
FAILED: Final = 256
SLOWEST: Final = 64
# The slowest of so long, and of as long before.
SLOWEST_OF_S: Final = 3600.0
# So much of a target, a method and an id is kept: what clients may make long.
TARGET_BYTES: Final = 1024
# A request line that is shorter is kept as it is.
SHORT_BYTES: Final = 1024
WORD_BYTES: Final = 128
_SWITCHED: Final = 101


@mypyc_attr(acyclic=True)
class Note:
    """A note of one request: references to what was there anyway, and numbers. Its head, its buffers and its connections are
    not among them. Whoever makes it fills in all of it.

    Moments are monotonic seconds as in `Record`, `head_at` that of the head of the answer; `ended_at` is NEVER while the
    request runs. `attempt` is the last one, and leads to those before; `story` is kept only where more is to be told than the
    one attempt at a request that went well. `client` is an address, `agreed` what is known of its connection, `target` as the client sent it. `number`: what it is
    called by who asks, where it has no id; 0 before.
    """

    __slots__ = (
        "agreed", "attempt", "began", "client", "detail", "ended_at", "ended_by", "head_at", "listener", "local_reply",
        "method", "number", "pool", "request_id", "response_bytes", "route", "status", "story", "target", "waited_s",
    )  # fmt: skip

    listener: str
    route: str
    pool: str
    client: bytes
    agreed: Agreed | None
    method: bytes
    target: bytes
    request_id: bytes
    status: int
    response_bytes: int
    began: float
    head_at: float
    ended_at: float
    waited_s: float
    attempt: Attempt | None
    story: Story | None
    local_reply: Refusal | Outcome | Reply | None
    ended_by: Refusal | Outcome | Reply | None
    detail: str
    number: int

    def __lt__(self, other: "Note") -> bool:
        return self.took_s < other.took_s

    @property
    def took_s(self) -> float:
        """How long it took, in seconds; infinite while it lasts."""
        return self.ended_at - self.began

    @property
    def plain(self) -> bool:
        """Whether the client simply got the answer of the first backend that was asked, or of its hedge, or the one that its route gives."""
        return isinstance(self.ended_by, Reply) or (self.ended_by is Outcome.OK and smooth(self.attempt))

    @property
    def turned_away(self) -> bool:
        """Whether the request was refused for what its client sent, or how often."""
        if isinstance(self.ended_by, Refusal):
            return self.ended_by.status < 500
        return self.ended_by is Outcome.CLIENT_FAULT

    @property
    def left(self) -> bool:
        """Whether the client has left, and nothing had gone wrong before."""
        return self.ended_by is Outcome.CLIENT_GONE and (self.attempt is None or self.attempt.before is None)


@mypyc_attr(acyclic=True)
class Plain:
    """What is kept of a request that went well at the first backend, on a connection that was there, with an answer that came
    whole in one moment, `ended_at`: a note in the making, which `Notes` fills in anew again and again. At `began` it had its
    lease, of which `scene`, `mark` and `loads` are; `stream` is that of its attempt.
    """

    __slots__ = (
        "agreed", "backend", "began", "client", "ended_at", "flow", "loads", "mark", "method", "request_id", "response_bytes",
        "scene", "status", "stream", "target",
    )  # fmt: skip

    def __init__(self, flow: Flow, lease: Lease) -> None:
        self.flow: Flow = flow
        self.backend: Backend = lease.backend
        self.scene: Scene = lease.scene
        self.mark: object = lease.mark
        self.loads: tuple[int, ...] = lease.loads
        self.client: bytes = b""
        self.agreed: Agreed | None = None
        self.method: bytes = b""
        self.target: bytes = b""
        self.request_id: bytes = b""
        self.status: int = 0
        self.stream: int = 0
        self.response_bytes: int = 0
        self.began: float = NEVER
        self.ended_at: float = NEVER


class Notes:
    """The notes of a process, each kind bounded for itself: a flood of one kind takes no room of another.

    `recent` are all, `failed` those that went wrong at a backend or here, `refused` those that were turned away, and the
    slowest are those of this hour and the one before; tunnels are not among these. Requests without an id are numbered from `first`
    in steps of `step`, so that no other process has the same numbers.
    """

    __slots__ = (
        "_before", "_hour_ends", "_kept", "_next", "_number", "_plain", "_recent", "_slow", "_step", "failed", "refused",
        "slow_from_s",
    )  # fmt: skip

    def __init__(self, first: int = 1, step: int = 1) -> None:
        # Notes, with how many plain ones were kept before each since these were looked at; and plain ones, a ring.
        self._recent: Final[deque[tuple[int, Note]]] = deque(maxlen=RECENT)
        self._plain: Final[list[Plain]] = []
        self._next: int = 0  # its place in the ring, once that is full
        self._kept: int = 0
        self.failed: Final[deque[Note]] = deque(maxlen=FAILED)
        self.refused: Final[deque[Note]] = deque(maxlen=FAILED)
        self.slow_from_s: float = 0.0
        self._slow: list[Note] = []  # a heap, the fastest first
        self._before: list[Note] = []
        self._hour_ends: float = -NEVER
        self._number: int = first - step
        self._step: Final = step

    def add(self, note: Note) -> None:
        """Keep the note of a request that has ended. Of a plain one a `Plain` is as good: see `plain`."""
        self._recent.append((self._kept, note))
        if note.took_s > self.slow_from_s:
            self._add_slow(note)
        if note.plain or note.left:
            return
        if note.turned_away:
            self.refused.append(note)
        else:
            self.failed.append(note)

    def plain(self, flow: Flow, lease: Lease) -> Plain:
        """The `Plain` of a request that has ended, to be filled in; where it took longer than `slow_from_s`, `add_slow` is
        told. Nothing is made for it but the first times: the oldest one is taken.
        """
        ring, at = self._plain, self._next
        self._kept += 1
        if len(ring) < RECENT:
            plain = Plain(flow, lease)
            ring.append(plain)
            return plain
        self._next = at + 1 if at + 1 < RECENT else 0
        plain = ring[at]
        plain.flow = flow
        plain.backend = lease.backend
        plain.scene = lease.scene
        plain.mark = lease.mark
        plain.loads = lease.loads
        return plain

    def add_slow(self, plain: Plain) -> None:
        """Keep a plain one that was slow."""
        self._add_slow(_note_of(plain))

    def _add_slow(self, note: Note) -> None:
        if note.status == _SWITCHED:
            return
        if len(self._slow) < SLOWEST:
            heapq.heappush(self._slow, note)
        else:
            heapq.heapreplace(self._slow, note)
            self.slow_from_s = self._slow[0].took_s

    def tick(self, now: float) -> None:
        """Forget the slowest of the hour before the last, when an hour is over. To be called now and then."""
        if now >= self._hour_ends:
            if self._hour_ends > -NEVER:
                self._before, self._slow = self._slow, []
                self.slow_from_s = 0.0
            self._hour_ends = now + SLOWEST_OF_S

    def of_kind(self, kind: str) -> list[Note]:
        """The notes of a kind, the newest first; of the slowest the slowest first. KeyError for what is no kind."""
        if kind == "slowest":
            return self.slowest
        if kind == "recent":
            return self.recent[::-1]
        return list({"failed": self.failed, "refused": self.refused}[kind])[::-1]

    @property
    def recent(self) -> list[Note]:
        """The recent ones, the oldest first: O(notes). All are notes from now on."""
        if self._plain:
            plain = self._plain[self._next :] + self._plain[: self._next]
            # The number of each among all that were kept: a note stands behind as many.
            kept = [(self._kept - len(plain) + at, 1, _note_of(one)) for at, one in enumerate(plain, start=1)]
            known = [(before, 2, note) for before, note in self._recent]
            self._recent.clear()
            for _, _, note in heapq.merge(kept, known, key=lambda one: one[:2]):
                self._recent.append((0, note))  # of which the last ones stay
            self._plain.clear()
            self._next = self._kept = 0
        return [note for _, note in self._recent]

    def identified(self) -> Iterator[Note]:
        """All that have an id, in no order, and some of them twice; what is kept stays as it is."""
        for _, note in self._recent:
            if note.request_id:
                yield note
        for plain in self._plain:
            if plain.request_id:
                yield _note_of(plain)
        for note in chain(self.failed, self._slow, self._before):
            if note.request_id:
                yield note

    @property
    def slowest(self) -> list[Note]:
        """The slowest, the slowest of all first."""
        return sorted([*self._slow, *self._before], reverse=True)

    def of(self, request_id: bytes) -> Note | None:
        """The last request with this id, or called so by `named`; None when it is not held any more. O(notes)."""
        found: Note | None = None
        for note in self._all():
            if request_id in (note.request_id, _called(note.number)) and (
                found is None or note.ended_at > found.ended_at
            ):
                found = note
        return found

    def named(self, note: Note) -> bytes:
        """The id of a request, or, where it has none, a name that no id can be: a number, given to it now."""
        if note.request_id:
            return note.request_id
        if not note.number:
            self._number += self._step
            note.number = self._number
        return _called(note.number)

    def _all(self) -> Iterator[Note]:
        return chain(self.recent, self.failed, self.refused, self._slow, self._before)

    def __repr__(self) -> str:
        return f"<Notes {len(self._recent) + len(self._plain)} recent, {len(self.failed)} failed, {len(self.refused)} refused>"


def _note_of(plain: Plain) -> Note:
    lease = Lease(plain.backend, plain.began, plain.scene, plain.mark, plain.loads)
    lease.open = False
    attempt = Attempt(lease, plain.began, None)
    attempt.connected_at = plain.began
    attempt.stream = plain.stream
    attempt.outcome = Outcome.OK
    note = Note()
    note.listener, note.route, note.pool = plain.flow.listener, plain.flow.route, plain.flow.pool
    note.client = plain.client
    note.agreed = plain.agreed
    note.method = plain.method
    note.target = plain.target
    note.request_id = plain.request_id
    note.status = plain.status
    note.response_bytes = plain.response_bytes
    note.began = plain.began
    note.head_at = plain.ended_at
    note.ended_at = plain.ended_at
    note.waited_s = 0.0
    note.attempt = attempt
    note.ended_by = Outcome.OK
    note.story = note.local_reply = None
    note.detail = ""
    note.number = 0
    return note


def _called(number: int) -> bytes:
    # No id has a tilde: see `safe_id`.
    return b"~%d" % number if number else b"~"
