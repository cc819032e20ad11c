"""The pulse of workers: whether anything moves in them, by how often they have gone round.

One that is only slow moves: with thousands of backends it answers late, and is needed all the more.
"""

from enum import Enum
from typing import Final

from twisted.logger import Logger

from twisted_lb.workers.life import Life
from twisted_lb.workers.table import BEAT, SERVES, Table

# A worker in which nothing has moved when it was looked at so often, once a second, hangs; and is killed so long afterwards, in seconds.
_MOST_STILL: Final = 3
HANGS_S: Final = 30.0

_log: Final = Logger(namespace="twisted_lb.workers")


class Pulse(Enum):
    """What has changed in a worker since it was looked at last."""

    NOTHING = "nothing"
    HANGS = "hangs"
    MOVES = "moves again"


def look_at(life: Life, table: Table) -> Pulse:
    """See whether anything moves in a worker; once a second. Nobody hands connections on to one that hangs."""
    if life.row is None:
        return Pulse.NOTHING  # it beats elsewhere
    beat = table.slots[life.slot][BEAT]
    moves, life.beat = beat != life.beat, beat
    life.still = 0 if moves else life.still + 1
    if life.silent and moves:
        _log.warn("worker {slot} (process {pid}) moves again", slot=life.slot, pid=life.pid)
        life.silent = False
        life.be_patient()
        return Pulse.MOVES
    if life.still == _MOST_STILL and not life.silent:
        _log.error(
            "nothing moves in worker {slot} (process {pid}): killed in {s:g} s", slot=life.slot, pid=life.pid, s=HANGS_S
        )
        life.silent = True
        table.slots[life.slot][SERVES] = 0
        return Pulse.HANGS
    return Pulse.NOTHING
