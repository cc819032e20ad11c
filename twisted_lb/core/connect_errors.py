"""Connect errors: whose fault an errno of `socket` or `connect` is, as an outcome. Nothing here is looked up by its text."""

import errno
from collections.abc import Iterable
from typing import Final

from twisted_lb.core.outcome import Outcome

# This machine has nothing left to connect with, wherever to (connect(2), socket(2), epoll_ctl(2)). The list of our own
# faults is short and known; whatever is in no list speaks of the address that was tried.
_OURS: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC))
# Every port between this machine and that address is in use (ephemeral port exhaustion). The kernel says the same where
# there is no way to the address at all, such as to ::1 where IPv6 is switched off.
_NO_PORT: Final = frozenset((errno.EADDRNOTAVAIL, errno.EAGAIN))

# What was heard of several addresses of one backend amounts to what says least against it: as long as one of them could
# not be asked, or was only silent, it is not known that nobody is there.
_MILDEST_FIRST: Final = (Outcome.BACKLOG_FULL, Outcome.NO_PORT, Outcome.CONNECT_TIMEOUT)


def outcome_of(code: int, *, unix: bool, reached: bool) -> Outcome:
    """The outcome of an attempt that ended with this errno. `reached`: whether a connect to this address ever succeeded.

    Of a unix socket EAGAIN is the server's full backlog: the outcome is for one that stays full.
    """
    if code in _OURS:
        return Outcome.LOCAL_FAILURE
    if unix and code == errno.EAGAIN:
        return Outcome.BACKLOG_FULL
    if code == errno.ETIMEDOUT:
        return Outcome.CONNECT_TIMEOUT
    if code in _NO_PORT and not unix and reached:
        return Outcome.NO_PORT
    return Outcome.REFUSED


def together(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome of an attempt whose addresses all failed, each with one of these; at least one."""
    heard = set(outcomes)
    return next((outcome for outcome in _MILDEST_FIRST if outcome in heard), Outcome.REFUSED)
