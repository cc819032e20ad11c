"""Slow start in a pool: who is on its way back, and where nobody is spared since nearly all are cold. The ramp of one backend, and its
rules, are in `weighing`.
"""

from collections.abc import Collection

from twisted_lb.core.backend import Backend
from twisted_lb.core.weighing import SlowStart


def follow_ramps(backends: Collection[Backend], rules: SlowStart, now: float) -> tuple[list[Backend], bool]:
    """Go on with slow start; or end it in levels of which fewer than half of the usable weight is past it: where nearly all are
    cold, to spare some is to burden others that are as cold. Whose weight is another one by that, and whether somebody is still on
    its way. O(backends).
    """
    whole: dict[int, float] = {}
    warm: dict[int, float] = {}
    for one in backends:
        if one.usable:
            weight = one.weighing.steady
            whole[one.level] = whole.get(one.level, 0.0) + weight
            warm[one.level] = warm.get(one.level, 0.0) + (0.0 if one.weighing.ramping else weight)
    others: list[Backend] = []
    ramping = False
    for one in backends:
        weighing = one.weighing
        if not weighing.ramping:
            continue
        cold = one.usable and warm[one.level] * 2 < whole[one.level]
        if weighing.end() if cold else weighing.follow(now, rules):
            others.append(one)
        ramping = ramping or weighing.ramping
    return others, ramping
