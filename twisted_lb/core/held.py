"""What became of the binding of a request (affinity), as it is counted."""

import enum


class Held(enum.IntEnum):
    """What became of a request's binding at a claim. All but `KEPT` went by the policy."""

    KEPT = 0  # it is at the backend that it is bound to
    NEW = 1  # it brought nothing that could bind it
    UNKNOWN = 2  # what it brought is nothing that is known, or not any more: forged, too old, forgotten
    REMOVED = 3  # the backend that it was bound to is no member any more
    ADMIN = 4  # the operator has taken that one out, or its time in drain is over
    WEIGHT = 5  # it has weight 0, and its time is over
    DOWN = 6  # it is down by its checks
    AGENT = 7  # its agent, or a check that found it busy, has taken it out
    EJECTED = 8  # traffic has ejected it
    STANDBY = 9  # its level is not in use
    FULL = 10  # it has as many in flight as it may have: another one serves this request, and it stays bound
    FAILED = 11  # it has failed this request
