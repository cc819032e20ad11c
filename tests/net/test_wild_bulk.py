"""Relays in the hands of chance: pieces of any size both ways at once, pauses, slow readers, FINs and resets at any moment, by splice and
without. Whatever a side was sent is what the other one said, and whoever sees an orderly end has got all of it.
"""

import contextlib
import random

import pytest
from joined import Joined, open_descriptors
from some import some
from wires import SIP_BYTES
from world import Peer

from twisted_lb.net.transport import RECEIVE_BYTES

STEPS = 120
SEEDS = range(60)
PATTERN = random.Random(7).randbytes(1 << 16) * 40


class Side:
    """A peer that does what chance says, and what it knows of it."""

    def __init__(self, peer: Peer, rng: random.Random) -> None:
        self.peer = peer
        self.rng = rng
        self.sent = 0
        self.shut = False  # it has said all, in order
        self.gone = False

    def step(self) -> None:
        if self.gone:
            return
        rng = self.rng
        what = rng.choices(["send", "flood", "sip", "read", "shut", "reset", "close"], [30, 12, 20, 30, 1, 0.6, 0.6])[0]
        if what in ("send", "flood") and not self.shut:
            size = rng.choice([1, 100, 5000, 16_384, 70_000, 200_000]) if what == "send" else RECEIVE_BYTES
            for _ in range(1 if what == "send" else rng.randrange(1, 12)):
                self._send(size)
        elif what == "sip":
            self._sip()
        elif what == "read":
            self.take()
        elif what == "shut" and not self.shut:
            self.shut = True
            with contextlib.suppress(OSError):
                self.peer.sock.shutdown(1)
        elif what == "reset":
            self.gone = True
            self.peer.reset()
        elif what == "close":
            self.take()
            self.gone = self.shut = True
            self.peer.sock.close()

    def _send(self, size: int) -> None:
        at = self.sent % (1 << 16)
        try:
            self.sent += self.peer.offer(PATTERN[at : at + size])
        except BlockingIOError:
            pass
        except OSError:
            self.peer.was_reset = True
            self.gone = True

    def _sip(self) -> None:
        if self.done:
            return
        try:
            if not self.peer.sip(SIP_BYTES):
                self.peer.closed = True
        except BlockingIOError:
            pass
        except OSError:
            self.peer.was_reset = True
            self.gone = True

    @property
    def done(self) -> bool:
        return self.gone or self.peer.closed or self.peer.was_reset

    def take(self) -> None:
        """Read what is there."""
        if not self.done:
            self.peer.read()


def judge(name: str, reader: Side, writer: Side) -> None:
    got = reader.peer.received
    whole = (PATTERN * (len(got) // len(PATTERN) + 1))[: len(got)]
    assert got == whole, f"{name}: other bytes came than were sent"
    assert len(got) <= writer.sent
    if reader.peer.closed:
        assert writer.shut, f"{name}: an end that nobody has said"
        assert len(got) == writer.sent, f"{name}: {len(got)} of {writer.sent} bytes, and an orderly end"


@pytest.mark.parametrize("most_pipes", [0, 1, 2])
@pytest.mark.parametrize("seed", some(20, SEEDS))
def test_every_byte_is_delivered_or_visibly_cut(seed, most_pipes):
    rng = random.Random(f"{seed}")
    before = open_descriptors()
    joined = Joined(most_pipes=most_pipes).begin()
    client, backend = Side(joined.client, rng), Side(joined.backend, rng)
    for _ in range(STEPS):
        rng.choice([client, backend]).step()
        if rng.random() < 0.8:
            joined.world.run()
        if rng.random() < 0.2 and not joined.over:
            joined.relay.splice(joined.near[rng.randrange(2)].protocol)
        if rng.random() < 0.05:
            joined.world.advance(0.5)
    ended = client.done or backend.done or joined.over
    for side in (client, backend):
        if not side.gone and not side.shut and not ended:
            side.shut = True
            side.peer.sock.shutdown(1)
    for _ in range(400):
        joined.world.advance(0.2)
        client.take()
        backend.take()
        if joined.over and client.done and backend.done:
            break
    judge("up", backend, client)
    judge("down", client, backend)
    if not (client.gone or backend.gone or client.peer.was_reset or backend.peer.was_reset):
        assert len(backend.peer.received) == client.sent
        assert len(client.peer.received) == backend.sent
    assert joined.over
    joined.close()
    assert open_descriptors() == before
