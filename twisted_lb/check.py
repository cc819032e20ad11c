"""`twistd lb --check`: what is wrong and what is doubtful about a configuration, without binding or starting anything."""

import time
from collections.abc import Sequence

from twisted_lb.certificate_doubts import certificate_doubts
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.doubts import doubts
from twisted_lb.config.load import Source
from twisted_lb.config.objects import objects_of
from twisted_lb.config.problems import Code, Problem, Severity, as_json, report
from twisted_lb.errors import START_ERROR, USAGE_ERROR, ConfigError
from twisted_lb.plan import plan_of
from twisted_lb.plan_diff import PlanDiff, of_process, plan_diff
from twisted_lb.planned import Plan
from twisted_lb.process import cpus, descriptor_limit, room_for_clients

# What cannot be read is neither right nor wrong.
UNREADABLE = 3


def check(source: Source, *, strict: bool = False, json: bool = False) -> tuple[int, str]:
    """Look at a configuration, with the files that it names, and look no name up. The status to end with: 0 fine, 1 errors, or
    warnings where it is `strict`, 2 flags that are wrong, 3 a file that cannot be read; and what to say.
    """
    found = problems_of(source)
    status = _status(found, strict=strict)
    if json:
        return status, as_json(found)
    what = source.file or "the command line"
    ending = f"{what} is refused" if status else f"{what} can be loaded"
    return status, report(found, ending)


def problems_of(source: Source) -> list[Problem]:
    """All errors of a command line and its file, or, where there are none, all warnings."""
    try:
        config = source.load()
    except ConfigError as error:
        return list(error.problems)
    loaded = source.loaded
    assert loaded is not None
    try:
        plan = plan_of(config)
    except ConfigError as error:
        return loaded.placed([*error.problems, *_doubts(config), *loaded.warnings])
    flawed = [one.problem() for one in certificate_doubts(config, plan, time.time())]
    return loaded.placed([*_doubts(config), *flawed, *loaded.warnings])


def compared(before: Source, after: Source) -> PlanDiff:
    """What one configuration would do in place of another one, with the files that both name; no name is looked up. ConfigError
    with everything that is wrong in one of them, with its places.
    """
    config, plan = _planned(before, None)
    other, instead = _planned(after, plan)
    return plan_diff(plan, instead).beside(of_process(config, other))


def _planned(source: Source, before: Plan | None) -> tuple[LoadBalancerConfig, Plan]:
    config = source.load()
    try:
        return config, plan_of(config, before)
    except ConfigError as error:
        raise ConfigError(source.placed(config, error.problems)) from None


def _doubts(config: LoadBalancerConfig) -> list[Problem]:
    limit = descriptor_limit()
    backends = sum(len(pool.backends) for pool in objects_of(config).pools.values())
    return [one.problem() for one in doubts(config, limit, room_for_clients(limit, backends), cpus=cpus())]


def _status(found: Sequence[Problem], *, strict: bool) -> int:
    errors = [one for one in found if one.severity is Severity.ERROR]
    if not errors:
        return START_ERROR if strict and found else 0
    if any(one.code == Code.UNREADABLE for one in errors):
        return UNREADABLE
    return START_ERROR if any(one.place is not None for one in errors) else USAGE_ERROR
