"""Rehearsals: what has sockets of a service manager is not bound anew."""

import pytest

from twisted_lb.openings import STATUS
from twisted_lb.service.rehearsal import _given


@pytest.mark.parametrize(
    ("names", "listeners", "given"),
    [
        (set(), ["web"], set()),
        ({"web"}, ["web", "side"], {"web"}),
        # The one listener has what has no name of ours, whatever it is called by now.
        ({"old"}, ["web"], {"old", "web"}),
        ({"old"}, ["web", "side"], {"old"}),
        ({STATUS}, ["web"], {STATUS}),
    ],
)
def test_sockets_of_a_service_manager_go_by_names(names, listeners, given):
    assert _given(names, listeners) == given
