"""Panic in a town: where so few backends are usable that others are asked too, and whom that never means, in words of our own."""

import random
from collections.abc import Iterable

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.pools import PanicConfig
from twisted_lb.core.backend import BACKUP, AdminState, Backend

# 5 in 7 of a level bear everything: levels are made with room to spare.
SPARE_PERCENT = 140


def with_panic(seed: int, config: LoadBalancerConfig) -> LoadBalancerConfig:
    """These settings, in one town of three with panic."""
    rng = random.Random(f"{seed}/panic")
    if rng.random() > 0.35:
        return config
    panic = PanicConfig(threshold_percent=rng.choice([30, 50, 100, 100]), even_down=rng.random() < 0.5)
    return config.model_copy(update={"panic": panic})


def panicked(backends: Iterable[Backend], rules: PanicConfig) -> list[Backend]:
    """Those that are not usable, and may be asked now all the same.

    Nobody is where there is no threshold. Else, of each level in panic, whoever the operator wants, has a weight, and has not asked for
    rest; who is down, by checks or its own word, only if that is set.
    """
    if not rules.threshold_percent:
        return []
    levels: dict[int, list[Backend]] = {}
    for one in backends:
        if one.weighing.configured:
            levels.setdefault(one.level, []).append(one)
    backups = levels.pop(BACKUP, [])
    counted = list(levels.values())
    if not any(one.usable for members in counted for one in members):
        served = any(_may_panic(one, rules) for members in counted for one in members)
        if any(one.usable for one in backups) or not served:
            counted = [backups]
    bears = sum(_bears(members) for members in counted)
    return [
        one
        for members in counted
        if bears < 100 and _are_few(members, rules.threshold_percent)
        for one in members
        if not one.usable and _may_panic(one, rules)
    ]


def _may_panic(one: Backend, rules: PanicConfig) -> bool:
    well = one.health.up and not one.agent.down
    return _is_wanted(one) and (well or rules.even_down)


def _is_wanted(one: Backend) -> bool:
    return one.admin is AdminState.READY and not one.agent.withdrawn


def _bears(members: list[Backend]) -> int:
    """How many percent of all requests a level can bear. Whoever is drained, or in maintenance, is missing there."""
    if not members:
        return 0
    return min(SPARE_PERCENT * sum(one.usable for one in members) // len(members), 100)


def _are_few(members: list[Backend], percent: int) -> bool:
    wanted = [one for one in members if _is_wanted(one)]
    return not wanted or 100 * sum(one.usable for one in wanted) < percent * len(wanted)
