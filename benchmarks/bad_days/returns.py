"""The only backend goes away and comes back: what its clients get meanwhile, and how soon they are served again."""

import dataclasses
import time
from collections.abc import Callable
from functools import partial

from bad_days.load import Answer, Seen, asked_anew, errors_of, steady
from bad_days.proxies import Contender, Proxy
from bad_days.recipes import Patience
from bad_days.results import Case, Result, result_of, side_by_side
from bad_days.stage import Backend, Stage, until

ASKED_EVERY_S = 0.5
# How long it is asked after the return, again and again, before it counts as never.
PATIENCE_S = 30.0
NO_CHECKS = Case(cannot="has no active checks")


def away(
    stage: Stage, contender: Contender, patience: Patience, *, outages_s: tuple[float, ...], checks_s: tuple[float, ...]
) -> Result:
    """Outages of several lengths, without checks (0) and with them; each has its own proxy, and all are at the same time.

    Requests come at even times while the backend is away, and as fast as they are answered once it is back.
    """
    cases: dict[str, Callable[[], Case]] = {}
    for check_s in checks_s:
        for outage_s in outages_s:
            title = f"{_outage(outage_s)}, {_checks(check_s)}"
            asked = dataclasses.replace(patience, check_s=check_s)
            cases[title] = prepared(stage, contender, asked, partial(one_outage, outage_s=outage_s))
    return result_of(side_by_side(cases))


def restarted(
    stage: Stage,
    contender: Contender,
    patience: Patience,
    *,
    checks_s: tuple[float, ...],
    away_s: float,
    times: int,
    rest_s: float,
) -> Result:
    """Restarts of the only backend under even load, with several intervals of checks at the same time."""
    restarts = partial(several_restarts, away_s=away_s, times=times, rest_s=rest_s)
    cases = {}
    for check_s in checks_s:
        asked = dataclasses.replace(patience, check_s=check_s)
        cases[_checks(check_s)] = prepared(stage, contender, asked, restarts)
    return result_of(side_by_side(cases))


def _outage(outage_s: float) -> str:
    return f"{outage_s:g} s" if outage_s else "0 s (one request)"


def _checks(check_s: float) -> str:
    return f"checks every {check_s:g} s" if check_s else "no checks"


def prepared(
    stage: Stage, contender: Contender, patience: Patience, run: Callable[[Backend, Proxy], Case]
) -> Callable[[], Case]:
    """What runs one case, on a proxy that is up and has served."""
    if patience.check_s and not contender.checks:
        return lambda: NO_CHECKS
    wing = stage.wing()
    backend = wing.backend("a")
    proxy = contender.start(wing, [[backend.address]], patience)
    until(lambda: not asked_anew(proxy.port).error, "it serves")
    return partial(run, backend, proxy)


def one_outage(backend: Backend, proxy: Proxy, *, outage_s: float) -> Case:
    """How long after the return the first good answer came, and what failed until then."""
    backend.prepare()
    if not outage_s:
        backend.process.kill()
        asked_anew(proxy.port)
        backend.appear()
        return case_of(*back(proxy, []))
    with steady(proxy.port, ASKED_EVERY_S) as meanwhile:
        # Half a step: else one's patience of a whole second would end at the very moment of the return.
        time.sleep(ASKED_EVERY_S / 2)
        backend.process.kill()
        time.sleep(outage_s)
        backend.appear()
        back_at, answers = back(proxy, meanwhile.answers)
    return case_of(back_at, answers + meanwhile.answers)


def back(proxy: Proxy, others: list[Answer]) -> tuple[float, list[Answer]]:
    """From now on ask until there is a good answer, to whomever: the moment of the return, and the answers."""
    back_at = time.monotonic()
    answers: list[Answer] = []
    while time.monotonic() < back_at + PATIENCE_S:
        answers.append(asked_anew(proxy.port))
        if _first_good([*answers, *others], back_at) is not None:
            break
        time.sleep(0.02)
    return back_at, answers


def _first_good(answers: list[Answer], since: float) -> float | None:
    return min((one.ended_at for one in answers if one.ended_at > since and not one.error), default=None)


def case_of(back_at: float, answers: list[Answer]) -> Case:
    first = _first_good(answers, back_at)
    after = [one for one in answers if one.ended_at > back_at]
    note = "" if first is not None else f"not in {PATIENCE_S:g} s"
    return Case(len(answers), errors_of(after), None if first is None else round(first - back_at, 2), note=note)


def several_restarts(backend: Backend, proxy: Proxy, *, away_s: float, times: int, rest_s: float) -> Case:
    """What failed of a request every 0.1 s, while it was away and afterwards."""
    back_s = []
    with steady(proxy.port, 0.1) as seen:
        seen.wait_for_answers(3)
        for _ in range(times):
            backend.prepare()
            backend.process.kill()
            time.sleep(away_s)
            back_s.append(_back_in_s(seen, backend))
            time.sleep(rest_s)
    return Case(len(seen.answers), seen.errors, slowest_s=round(seen.slowest_s, 2), back_s=back_s)


def _back_in_s(seen: Seen, backend: Backend) -> float:
    """It comes back: seconds until one of those who ask, or who wait already, has its answer."""
    before = len(seen.answers)
    backend.appear()
    back_at = time.monotonic()

    def answered() -> list[float]:
        return [one.ended_at for one in seen.answers[before:] if one.backend == backend.name]

    until(lambda: bool(answered()), f"{backend.name} answers")
    return round(max(0.0, answered()[0] - back_at), 2)
