"""Whose fault a connect error is: every errno there is, for TCP and for unix sockets."""

import errno
import itertools
import os

import pytest

from twisted_lb.core.connect_errors import outcome_of, together
from twisted_lb.core.outcome import CONSEQUENCE, Blame, Outcome, Retry

OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC}
NO_PORT = {errno.EADDRNOTAVAIL, errno.EAGAIN}
# What connect(2), bind(2), socket(2), tcp(7), ip(7), ipv6(7), unix(7) and netfilter's REJECT have beside those.
OTHERS = [
    "ECONNREFUSED",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "EHOSTDOWN",
    "ENETDOWN",
    "ENONET",
    "ECONNRESET",
    "ECONNABORTED",
    "EACCES",
    "EPERM",
    "ENOENT",
    "ENOTDIR",
    "ELOOP",
    "ENAMETOOLONG",
    "EPROTOTYPE",
    "EAFNOSUPPORT",
    "EPROTONOSUPPORT",
    "ENOPROTOOPT",
    "EPROTO",
    "EINVAL",
    "EADDRINUSE",
    "EISCONN",
    "ENOTSOCK",
    "EBADF",
    "EFAULT",
    "ENOTCONN",
    "EROFS",
    "EIO",
    "EPIPE",
    "EOPNOTSUPP",
    "ENODEV",
    "EMSGSIZE",
    "ENETRESET",
    "ESHUTDOWN",
    "EDESTADDRREQ",
]


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize("reached", [False, True], ids=["never reached", "reached before"])
def test_an_errno_is_ours_or_speaks_of_the_address(reached, unix):
    for code in (0, *errno.errorcode):
        if code in OURS:
            expected = Outcome.LOCAL_FAILURE
        elif unix and code == errno.EAGAIN:
            expected = Outcome.BACKLOG_FULL
        elif code == errno.ETIMEDOUT:
            expected = Outcome.CONNECT_TIMEOUT
        elif code in NO_PORT and reached and not unix:
            expected = Outcome.NO_PORT
        else:
            expected = Outcome.REFUSED
        assert outcome_of(code, unix=unix, reached=reached) is expected, errno.errorcode.get(code)


@pytest.mark.parametrize("name", OTHERS)
def test_what_the_manuals_name_beside_our_own_faults_ejects(name):
    code = getattr(errno, name)
    assert os.strerror(code)
    for unix, reached in itertools.product([False, True], repeat=2):
        assert CONSEQUENCE[outcome_of(code, unix=unix, reached=reached)].blame is Blame.EJECT


def test_a_port_that_is_missing_is_looked_for_elsewhere_and_blames_nobody():
    consequence = CONSEQUENCE[Outcome.NO_PORT]
    assert (consequence.retry, consequence.blame, consequence.alive) == (Retry.ALWAYS, Blame.NONE, None)
    assert not consequence.new_connection


@pytest.mark.parametrize(
    ("heard", "outcome"),
    [
        ([Outcome.REFUSED], Outcome.REFUSED),
        ([Outcome.REFUSED, Outcome.CONNECT_TIMEOUT], Outcome.CONNECT_TIMEOUT),
        ([Outcome.NO_PORT, Outcome.REFUSED], Outcome.NO_PORT),
        ([Outcome.CONNECT_TIMEOUT, Outcome.NO_PORT], Outcome.NO_PORT),
        ([Outcome.BACKLOG_FULL, Outcome.NO_PORT, Outcome.CONNECT_TIMEOUT], Outcome.BACKLOG_FULL),
    ],
)
def test_of_several_addresses_the_mildest_counts(heard, outcome):
    assert together(heard) is outcome
    assert together(reversed(heard)) is outcome
