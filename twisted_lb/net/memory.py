"""The memory of a process for bodies that it holds for slow clients (buffering), and what of it one exchange has."""

from collections.abc import Callable
from typing import Final

from twisted_lb.core.tallies import Amount
from twisted_lb.net.clock import Soon
from twisted_lb.net.deadlines import Deadline

# Of responses it is taken in steps: how long they are is often not known.
_STEP_BYTES: Final = 65536

# A wait that is shorter is 0.00 s.
_SEEN_S: Final = 0.005


class Memory:
    """The memory for bodies that all exchanges of a process hold together (buffering), bounded by `most` bytes.

    What is wanted is taken before it is filled, so that whoever has begun to hold a body can go on. Who gets none may wait in a
    line, first come, first served: nobody who comes later is before him. A single body is always held, however small `most` is.
    Counted for metrics: `waits`, who had to wait, and `denied`, who went on without.

    `shared`: what several processes hold, which is bounded together; `taken` is what this one holds. Lines are each one's own, and
    what others give back is seen by `look_elsewhere`.
    """

    __slots__ = ("_serving", "_shared", "_soon", "_waiting", "denied", "most", "taken", "waits")

    def __init__(self, soon: Soon, most: int = 1 << 62, shared: Amount | None = None) -> None:
        self.most: int = most
        self.taken: int = 0
        self.waits: int = 0
        self.denied: int = 0
        self._shared: Final = shared
        self._soon: Final = soon
        self._waiting: Final[dict[Holding, None]] = {}  # an ordered set
        self._serving: bool = False

    def take(self, wanted: int) -> bool:
        """Take so many bytes, at once or not at all; False where there is no room, or others wait."""
        return not self._waiting and self._claim(wanted)

    def _claim(self, wanted: int) -> bool:
        """Take so many bytes, if there is room, whoever waits."""
        shared = self._shared
        if shared is None:
            if self.taken and self.taken + wanted > self.most:
                return False
        elif not shared.take(wanted, self.most):
            if self.taken or shared.elsewhere:
                return False
            shared.add(wanted)
        self.taken += wanted
        return True

    def hold(self, more: int) -> None:
        """So many bytes more are here, whether there is room or not."""
        self.taken += more
        if self._shared is not None:
            self._shared.add(more)

    def look_elsewhere(self) -> None:
        """Other processes may have given something back."""
        if self._waiting:
            self._serve_soon()

    def give(self, taken: int) -> None:
        """Give back what was taken: those who wait are served when all others had their turn."""
        self.hold(-taken)
        if self._waiting:
            self._serve_soon()

    def _serve_soon(self) -> None:
        if not self._serving:
            self._serving = True
            self._soon(self._serve)

    def _serve(self) -> None:
        self._serving = False
        while self._waiting:
            first = next(iter(self._waiting))
            if not self._claim(first.wanted):
                return
            del self._waiting[first]
            first.granted()

    def bound(self, most: int) -> None:
        """Replace the bound; what is held stays."""
        self.most = most
        if self._waiting:
            self._serve_soon()

    @property
    def waiting(self) -> int:
        """How many wait for room."""
        return len(self._waiting)

    def wait(self, one: "Holding") -> None:
        """Wait in the line for what this one wants."""
        self.waits += 1
        self._waiting[one] = None

    def leave(self, one: "Holding") -> None:
        """Leave the line; harmless when it is not in it. Those behind may have room where it had none."""
        if self._waiting.pop(one, one) is None and self._waiting:
            self._serve_soon()

    def __repr__(self) -> str:
        return f"<Memory {self.taken} of {self.most} bytes, {len(self._waiting)} waiting>"


class Holding:
    """What one exchange holds of the memory for bodies: of its request, and of its response, which is in the buffer of its client.

    `wanted` is how much of the request it gathers; it is `gathering` until that, or all of it, is here. `ready` is called once there is
    room for it, after a wait in the line; `tired` ends that wait. `denied`: there was no room for it. `told`: the client was told to send
    its body (100).
    """

    __slots__ = (
        "_ahead",
        "_memory",
        "_ready",
        "_request",
        "_response",
        "denied",
        "gathering",
        "tired",
        "told",
        "wanted",
    )

    def __init__(self, memory: Memory, ready: Callable[[], None]) -> None:
        self.wanted: int = 0
        self.gathering: bool = False
        self.denied: bool = False
        self.told: bool = False
        self.tired: Final = Deadline(_nothing)
        self._memory: Final = memory
        self._ready: Callable[[], None] = ready
        self._request: int = 0
        self._response: int = 0
        self._ahead: int = 0  # how much of the response came while the client took none

    def gather(self, wanted: int, *, waits: bool) -> bool:
        """Begin to gather a request body of this size at most; False where there is no room, and then it is in the line, if it may wait."""
        self.wanted = wanted
        if self._memory.take(wanted):
            self._request = wanted
            self.gathering = True
        elif waits:
            self._memory.wait(self)
        else:
            self.denied = True
            self._memory.denied += 1
        return self.gathering

    def granted(self) -> None:
        """There is room after a wait; the memory has counted it."""
        self.tired.end()
        self._request = self.wanted
        self.gathering = True
        self._ready()

    def give_up(self) -> None:
        """Wait for room no more: the body is not gathered."""
        self.denied = True
        self._memory.denied += 1
        self._memory.leave(self)

    def fill(self, held: int) -> None:
        """So many bytes of the request are held: what came with the last piece beyond what was wanted counts too."""
        if held > self._request:
            self._memory.hold(held - self._request)
            self._request = held

    @property
    def gathers(self) -> bool:
        """Whether the request is not with a backend yet, since its body is gathered, or waits for room."""
        return self.gathering or self.tired.armed

    def let_go(self) -> None:
        """The request is not held any more."""
        if self._request:
            self._memory.give(self._request)
            self._request = 0

    def read_ahead(self, count: int, most: int) -> bool:
        """So many bytes of the response came while the client takes none; whether more may, `most` of them at a time. Memory is taken
        step by step.
        """
        self._ahead += count
        if self._ahead >= most:
            return False
        missing = self._ahead - self._response
        if missing < 0:
            return True
        step = min(max(missing, 0) + _STEP_BYTES, most - self._response)
        if not self._memory.take(step):
            self._memory.denied += 1
            return False
        self._response += step
        return True

    def delivered(self) -> None:
        """The client has taken what was read ahead."""
        self._ahead = 0
        if self._response:
            self._memory.give(self._response)
            self._response = 0

    def told_of(self, held: int, gathered_s: float) -> str:
        """What is to be told of it, in words; empty for nothing. `held`: of the request, `gathered_s`: for how long it was gathered."""
        if self.gathering:
            return f"its body is gathered before a backend is asked: {held} of {self.wanted} bytes are here"
        if self.tired.armed:
            return "its body waits until there is room for it among those that are held (limits.memory_bytes)"
        # What came with its head, or nearly so, is not worth a line.
        return (
            f"its body was gathered for {gathered_s:.2f} s before a backend was asked" if gathered_s >= _SEEN_S else ""
        )

    def end(self) -> None:
        """The exchange is over: nothing is held. Harmless a second time."""
        self.tired.end()
        self._ready = _nothing
        self.gathering = False
        self._memory.leave(self)
        self.let_go()
        self.delivered()


def _nothing() -> None:
    """Whom an exchange that is over tells nothing."""
