"""Changes of a pool's backends, as events: of its members by an update, of an ejection by the outcome of an attempt."""

from collections.abc import Collection, Mapping, Sequence

from twisted_lb.core.address import Address, TcpAddress
from twisted_lb.core.backend import BACKUP, Backend, BackendSpec, limit_said
from twisted_lb.core.ejection import EjectionRule
from twisted_lb.core.events import (
    BackendAdded,
    BackendChanged,
    BackendEjected,
    BackendRemoved,
    BackendReturned,
    EjectionWithheld,
    Event,
)
from twisted_lb.core.outcome import CONSEQUENCE, Blame, Outcome
from twisted_lb.core.outliers import Ended, Outliers
from twisted_lb.core.succession import Succession


def membership_changes(
    pool: str, wanted: Sequence[BackendSpec], old: Mapping[str, Backend], now: float, succession: Succession
) -> list[Event]:
    """The events of an update from the old backends to the wanted ones: first what is new or changed, then removals."""
    news: list[Event] = []
    for spec in wanted:
        backend = old.get(spec.name)
        if backend is None:
            news.append(BackendAdded(pool, spec.name, now, succession.reasons.get(spec.name, "")))
        elif _difference(backend, spec):
            news.append(BackendChanged(pool, spec.name, _difference(backend, spec), now))
    names = {spec.name for spec in wanted}
    reasons = succession.reasons
    news.extend(BackendRemoved(pool, name, now, reasons.get(name, "")) for name in old if name not in names)
    return news


def _difference(backend: Backend, spec: BackendSpec) -> str:
    """In what a backend differs from its new spec: `address a:1 -> b:1, weight 1 -> 2`; empty where it does not."""
    parts = []
    if str(backend.address) != str(spec.address):
        parts.append(f"address {backend.address} -> {spec.address}")
    elif backend.address != spec.address:
        parts.append(f"family {_family(backend.address)} -> {_family(spec.address)}")
    if backend.weight != spec.weight:
        parts.append(f"weight {backend.weight} -> {spec.weight}")
    if backend.own_limit != spec.limit and not _has_it_already(backend, spec):
        now = "that of its pool" if spec.limit is None else limit_said(spec.limit)
        parts.append(f"limit {'adaptive' if backend.learns else backend.most} -> {now}")
    if backend.level != spec.level:
        parts.append(f"{_level(backend.level)} -> {_level(spec.level)}")
    return ", ".join(parts)


def _has_it_already(backend: Backend, spec: BackendSpec) -> bool:
    """Whether a limit of its own is the one that it has as its pool's, which has become so a moment before."""
    return backend.own_limit is None and not backend.learns and backend.most == spec.limit


def _level(level: int) -> str:
    return "backup" if level == BACKUP else f"priority {level}"


def _family(address: Address) -> str:
    return (address.family if isinstance(address, TcpAddress) else "") or "auto"


def apply_outcome(
    pool: str, ended: Ended, outliers: Outliers, members: Collection[Backend], *, checked: bool
) -> BackendEjected | BackendReturned | EjectionWithheld | None:
    """Apply the outcome of an attempt to its backend: passive ejection, or the end of one by a trial request; None when nothing
    is to be told. `checked`: see `Ejection.eject`.
    """
    lease, outcome, now = ended.lease, ended.outcome, ended.at
    backend, consequence = lease.backend, CONSEQUENCE[outcome]
    ejection = backend.ejection
    if lease.spared and not lease.trial:
        return None
    if consequence.blame is not Blame.NONE:
        backend.failures += 1
    refused = ejection.rule is EjectionRule.REFUSED
    if consequence.blame is Blame.EJECT or (lease.trial and refused and consequence.alive is False):
        if ejection.eject(now, checked=checked, trial=lease.trial, began_at=lease.opened_at):
            backend.streak = None
            until = None if checked else ejection.until
            ejected = BackendEjected(pool, backend.name, outcome, ended.detail, until, checked, now)
            backend.remember(lease.opened_at, now, f"ejected {ejected.how_long}: {ejected.because}")
            return ejected
    elif lease.trial and not refused and ejection.on_trial:
        return outliers.judge_trial(ended, checked=checked)
    elif lease.trial and refused and ejection.end_trial(now, listens=consequence.alive is True, checked=checked):
        reason = "a trial request found it busy" if outcome is Outcome.BACKLOG_FULL else "a trial request was answered"
        backend.remember(lease.opened_at, now, f"used again: {reason}")
        return BackendReturned(pool, backend.name, reason, now)
    elif consequence.in_a_row:
        return outliers.judge(ended, members, checked=checked)
    return None
