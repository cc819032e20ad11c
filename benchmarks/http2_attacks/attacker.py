"""Who attacks: as many pieces a second as the attack has, on its connections; who is sent away comes again."""

import collections
import contextlib
import json
import os
import selectors
import socket
import sys
import time

from yardstick.http2 import ACK, GOAWAY, SETTINGS, Frames, begun, frame
from yardstick.machine import LOAD_CORE

from http2_attacks.attacks import ATTACKS, Attack

TICK_S = 0.001
# No faster than this after it was sent away, on each connection: what is measured is not how many connections can be made.
AGAIN_S = 0.05


class Connection:
    """One connection of the attacker."""

    def __init__(self, attack: Attack, address: str, port: int) -> None:
        self.sock = socket.create_connection((address, port), timeout=5)
        self.sock.setblocking(False)
        self.pieces = 0
        self.told = -1
        """The code in its GOAWAY; -1: it has heard none."""
        self._attack = attack
        self._out = begun(*([attack.settings] if attack.settings else [])) + attack.first
        self._frames = Frames()

    @property
    def done(self) -> bool:
        """It has sent what it wants to."""
        return bool(self._attack.pieces) and self.pieces >= self._attack.pieces

    @property
    def stuck(self) -> bool:
        """It is not read from."""
        return len(self._out) > 65536

    def push(self, pieces: int) -> None:
        """Send so many more. OSError: it is closed."""
        if self._attack.pieces:
            pieces = min(pieces, self._attack.pieces - self.pieces)
        self._out += b"".join(self._attack.piece(self.pieces + at) for at in range(pieces))
        self.pieces += pieces
        with contextlib.suppress(BlockingIOError):
            self._out = self._out[self.sock.send(self._out) :]

    def hear(self) -> bool:
        """Read what has come; False: it is over. OSError: it was reset."""
        with contextlib.suppress(BlockingIOError):
            data = self.sock.recv(262144)
            if not data:
                return False
            for kind, flags, _, payload in self._frames.feed(data):
                if kind == SETTINGS and not flags & ACK:
                    self._out += frame(SETTINGS, ACK, 0)
                elif kind == GOAWAY:
                    self.told = int.from_bytes(payload[4:8], "big")
                    return False
        return True


def attack(one: Attack, address: str, port: int, seconds: float) -> dict[str, object]:
    """Attack for so long; what became of the connections."""
    ends: list[tuple[int, int]] = []
    connections: list[Connection] = []
    begin_at = [0.0] * one.connections
    with selectors.DefaultSelector() as selector:
        began = now = time.monotonic()
        sent = turn = 0
        while (now := time.monotonic()) < began + seconds:
            while len(connections) < one.connections and now >= min(begin_at):
                begin_at[begin_at.index(min(begin_at))] = now + AGAIN_S
                with contextlib.suppress(OSError):
                    connections.append(Connection(one, address, port))
                    selector.register(connections[-1].sock, selectors.EVENT_READ, connections[-1])
            due = int((now - began) * one.per_s)
            able = [each for each in connections if not (each.done or each.stuck)]
            over: dict[Connection, None] = {}
            if able:
                share, more = divmod(due - sent, len(able))
                for at, each in enumerate(able):
                    try:
                        each.push(share + ((at + turn) % len(able) < more))
                    except OSError:
                        over[each] = None
                turn += more
            else:
                for each in connections:
                    with contextlib.suppress(OSError):
                        each.push(0)
            sent = due  # what nobody takes is not made up for
            for key, _ in selector.select(TICK_S):
                try:
                    going = key.data.hear()
                except OSError:
                    going = False
                if not going:
                    over[key.data] = None
            for each in over:
                ends.append((each.pieces * one.frames, each.told))
                selector.unregister(each.sock)
                each.sock.close()
                connections.remove(each)
            if not selector.get_map():
                time.sleep(TICK_S)
        left = [each.pieces * one.frames for each in connections]
    return {
        "ends": len(ends),
        "codes": dict(collections.Counter(code for _, code in ends)),
        "frames_until": sorted(frames for frames, _ in ends),
        "frames_left": left,
        "frames": sum(frames for frames, _ in ends) + sum(left),
    }


def main() -> None:
    """In a process of its own: NAME ADDRESS PORT SECONDS; what was found goes to the standard output as JSON."""
    name, address, port, seconds = sys.argv[1:]
    os.sched_setaffinity(0, {LOAD_CORE})
    os.nice(5)  # behind the honest client and the backends
    print(json.dumps(attack(ATTACKS[name], address, int(port), float(seconds))))


if __name__ == "__main__":
    main()
